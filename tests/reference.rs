//! The official code's numbers, and proof that a case notices when something is wrong.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use burn::tensor::Device;
use deim_verify::{CaseReport, Outcome};

fn cases() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/reference/cases")
}

fn verify(folder: &Path) -> Vec<CaseReport> {
    deim_verify::run(&[folder.to_owned()], &Device::flex()).expect("there are cases").cases
}

fn assert_all_pass(reports: &[CaseReport]) {
    let wrong: Vec<String> =
        reports.iter().filter(|case| case.outcome != Outcome::Pass).map(CaseReport::line).collect();
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), reports.len(), wrong.join("\n"));
}

#[test]
fn every_vendored_case_passes() {
    let reports = verify(&cases());
    assert!(reports.len() > 80, "only {} cases", reports.len());
    assert_all_pass(&reports);
}

/// The whole collection is too large to be committed; where it lies beside the workspace, it counts.
#[test]
fn every_case_of_the_whole_collection_passes() {
    let all = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/reference/cases");
    if !all.is_dir() {
        println!("not checked: the whole collection of cases is not here");
        return;
    }
    for section in [
        "losses",
        "matcher",
        "denoising",
        "dfine_math",
        "schedule",
        "coco_eval",
        "model_eval",
        "train_step",
    ] {
        assert_all_pass(&verify(&all.join(section)));
    }
}

/// A copy of a case in which one thing can be changed.
struct Copy {
    folder: tempfile::TempDir,
}

impl Copy {
    fn of(case: &str) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        for entry in fs::read_dir(cases().join(case)).expect("the case") {
            let entry = entry.expect("the case's files");
            fs::copy(entry.path(), folder.path().join(entry.file_name())).expect("a copy");
        }
        Self { folder }
    }

    fn path(&self, file: &str) -> PathBuf {
        self.folder.path().join(file)
    }

    /// The names of all arrays.
    fn arrays(&self) -> Vec<String> {
        let bytes = fs::read(self.path("tensors.safetensors")).expect("the arrays");
        let (header, _) = header(&bytes);
        let names = header.as_object().expect("an object").keys();
        names.filter(|name| *name != "__metadata__").cloned().collect()
    }

    /// Gives an array another name of the same length.
    fn rename(&self, from: &str, to: &str) {
        assert_eq!(from.len(), to.len());
        let path = self.path("tensors.safetensors");
        let mut bytes = fs::read(&path).expect("the arrays");
        let place = bytes.windows(from.len()).position(|window| window == from.as_bytes());
        let place = place.expect("an array of this name");
        bytes[place..place + to.len()].copy_from_slice(to.as_bytes());
        fs::write(&path, bytes).expect("the renamed array");
    }

    /// Adds to the chosen values of an array where they lie in the file.
    fn change(&self, tensor: &str, chosen: impl Fn(usize) -> bool, by: f64) {
        let path = self.path("tensors.safetensors");
        let mut bytes = fs::read(&path).expect("the arrays");
        let (header, data) = header(&bytes);
        let entry = &header[tensor];
        let offset =
            |end: usize| data + entry["data_offsets"][end].as_u64().expect("an offset") as usize;
        let values = &mut bytes[offset(0)..offset(1)];
        fn edit<const N: usize>(
            values: &mut [u8],
            chosen: impl Fn(usize) -> bool,
            change: impl Fn([u8; N]) -> [u8; N],
        ) {
            for (place, word) in values.as_chunks_mut::<N>().0.iter_mut().enumerate() {
                if chosen(place) {
                    *word = change(*word);
                }
            }
        }
        match entry["dtype"].as_str().expect("a type") {
            "F32" => edit(values, chosen, |w| (f32::from_le_bytes(w) + by as f32).to_le_bytes()),
            "F64" => edit(values, chosen, |w| (f64::from_le_bytes(w) + by).to_le_bytes()),
            "I64" => edit(values, chosen, |w| (i64::from_le_bytes(w) + by as i64).to_le_bytes()),
            "U8" => edit(values, chosen, |[byte]| [byte ^ 1]),
            other => panic!("{tensor} has type {other}"),
        }
        fs::write(&path, bytes).expect("the changed arrays");
    }

    fn replace(&self, file: &str, from: &str, to: &str) {
        let text = fs::read_to_string(self.path(file)).expect("the file");
        assert!(text.contains(from), "{file} does not contain {from}");
        fs::write(self.path(file), text.replacen(from, to, 1)).expect("the changed file");
    }

    fn report(&self) -> CaseReport {
        verify(self.folder.path()).remove(0)
    }

    fn assert_fails(&self) {
        let report = self.report();
        assert!(matches!(report.outcome, Outcome::Fail { .. }), "{}", report.line());
    }
}

/// The header of a safetensors file, and where its data begins.
fn header(bytes: &[u8]) -> (serde_json::Value, usize) {
    let length = u64::from_le_bytes(bytes[..8].try_into().expect("a length")) as usize;
    (serde_json::from_slice(&bytes[8..8 + length]).expect("a header"), 8 + length)
}

/// A changed input, or a changed expected value, is seen in a case of every kind.
#[test]
fn one_changed_value_fails_its_case() {
    for (case, tensor, index, by) in [
        ("losses/mal_gamma1.5", "pred_logits", 0, 0.5),
        ("losses/vfl_a0.75_g2.0", "target.0.boxes", 0, 0.01),
        ("losses/boxes", "loss_giou.grad_boxes", 3, 1e-3),
        ("losses/single_logit_grid", "p", 4, 0.01),
        ("losses/criterion_rtdetr_mal", "in.aux_0.pred_boxes", 2, 0.02),
        ("losses/criterion_dfine_mal", "in.dn_1.pred_corners", 7, 0.5),
        ("losses/criterion_dfine_mal", "in.ref_points", 1, 0.05),
        ("matcher/b2_q50", "pred_boxes", 1, 0.001),
        ("matcher/b1_ties", "pred_boxes", 0, 0.05),
        ("matcher/simota_n5", "gt_boxes_cxcywh", 0, 1.0),
        ("dfine_math/weighting_function", "reg_max32_reg_scale8_up0.25", 3, 1e-3),
        ("dfine_math/integral", "x", 5, 0.5),
        ("dfine_math/distance2bbox", "rs8.distance", 2, 0.1),
        ("dfine_math/bbox2distance", "gt_xyxy", 4, 0.01),
        ("dfine_math/translate_gt", "rs4.value", 60, 0.05),
        ("dfine_math/fgl_ddf", "ref_points", 3, 0.05),
        ("dfine_math/fgl_ddf", "teacher_corners", 7, 0.5),
        ("dfine_math/go_union_c", "layer.2.1.tgt", 4, 1.0),
        ("dfine_math/lqe", "pred_corners", 9, 0.5),
        ("dfine_math/inverse_sigmoid", "x", 4, 0.01),
        ("dfine_math/box_ops", "b_cxcywh", 2, 0.01),
        ("dfine_math/pos_embed", "w12_h8_dim64", 40, 1e-3),
        ("dfine_math/anchors", "s16_32_at_320.anchors", 90, 1e-3),
        ("dfine_math/deform_attn_d_fine", "sampling_locations", 11, 0.05),
        ("dfine_math/deform_attn_4pts_discrete", "attention_weights", 5, 0.5),
        ("denoising/n3_5", "draw.box_u", 0, 0.1),
        ("denoising/n3_5", "target.1.labels", 0, 1.0),
        ("schedule/deim_r50", "iterations", 5, 7.0),
        ("schedule/ema_decay", "updates", 3, 1.0),
        ("schedule/ema_steps", "model.3.0.weight", 5, 0.1),
        ("coco_eval/edge_crowd", "recall", 0, 0.01),
        ("transforms/annotation_conversion", "boxes", 3, 0.5),
        ("transforms/resize_shapes", "output_wh_320", 4, 1.0),
        ("transforms/sanitize", "boxes", 1, -10.5),
        ("transforms/scale_lists", "base640_repeat3", 5, 32.0),
        ("model_eval/n", "pred_logits", 1234, 1e-3),
        ("model_eval/n", "probe.encoder.1.samples", 5, 0.1),
        ("model_eval/n", "probe.decoder.decoder.layers.1.self_attn.1.samples", 5, 1e-3),
        ("model_eval/n", "enc_topk_indices", 7, 1.0),
        ("model_eval/r18", "post.boxes", 6, 0.5),
        ("train_step/r18_vfl", "step0.target.1.labels", 2, 1.0),
        ("train_step/r18_vfl", "step0.target.0.boxes", 2, 0.2),
        ("train_step/r18_vfl", "step0.grad_samples", 8 * 100, 0.5),
        ("train_step/r18_vfl", "step0.ema_samples", 8 * 100, 0.01),
    ] {
        let copy = Copy::of(case);
        let before = copy.report();
        assert_eq!(before.outcome, Outcome::Pass, "{case} unchanged: {}", before.line());
        copy.change(tensor, |place| place == index, by);
        let after = copy.report();
        let fails = matches!(after.outcome, Outcome::Fail { .. });
        assert!(fails, "{case} with another {tensor}[{index}]: {}", after.line());
    }
}

/// Everything a case holds matters, but for inputs its result does not depend on.
#[test]
fn every_array_of_a_case_is_used() {
    for (case, unused) in [
        ("losses/mal_gamma1.5", &[][..]),
        // Box losses depend on neither classes nor labels.
        ("losses/boxes", &["pred_logits", "target.0.labels", "target.1.labels"]),
        // The reference boxes belong to edge losses, which RT-DETR has not; nor has it a union set.
        (
            "losses/criterion_rtdetr_mal",
            &[
                "in.ref_points",
                "indices.go.0.src",
                "indices.go.0.tgt",
                "indices.go.1.src",
                "indices.go.1.tgt",
            ],
        ),
        ("losses/criterion_dfine_mal", &[]),
        ("matcher/b2_q50", &[]),
        ("matcher/simota_n5", &[]),
        ("denoising/n3_5", &[]),
        ("dfine_math/weighting_function", &[]),
        ("dfine_math/integral", &[]),
        ("dfine_math/distance2bbox", &[]),
        ("dfine_math/bbox2distance", &[]),
        ("dfine_math/translate_gt", &[]),
        // Edge losses have no classes.
        ("dfine_math/fgl_ddf", &["target.0.labels", "target.1.labels"]),
        ("dfine_math/go_union_a", &["ambiguous_queries.0", "ambiguous_queries.1"]),
        ("dfine_math/lqe", &[]),
        ("dfine_math/inverse_sigmoid", &[]),
        ("dfine_math/box_ops", &[]),
        ("dfine_math/pos_embed", &[]),
        ("dfine_math/anchors", &[]),
        ("dfine_math/deform_attn_d_fine", &[]),
        ("dfine_math/deform_attn_4pts_discrete", &[]),
        ("schedule/small_r50_500_images", &[]),
        ("schedule/ema_decay", &[]),
        ("coco_eval/edge_crowd", &[]),
        ("transforms/annotation_conversion", &[]),
        ("transforms/resize_shapes", &[]),
        ("transforms/sanitize", &[]),
        ("transforms/scale_lists", &[]),
    ] {
        for tensor in Copy::of(case).arrays() {
            let copy = Copy::of(case);
            // Not all of them: a softmax does not notice a constant.
            copy.change(&tensor, |place| place % 2 == 0, 1.0);
            let passes = copy.report().outcome == Outcome::Pass;
            assert!(!passes || unused.contains(&tensor.as_str()), "{case} with another {tensor}");
        }
    }
}

/// The modules inside a detector: no probe of a case is left out.
#[test]
fn every_probe_of_a_detector_is_compared_or_missed() {
    for case in ["model_eval/n", "model_eval/r18"] {
        let copy = Copy::of(case);
        let samples: Vec<String> = copy
            .arrays()
            .into_iter()
            .filter(|name| name.starts_with("probe.") && name.ends_with(".samples"))
            .collect();
        assert!(samples.len() >= 50, "{case}: only {} probes", samples.len());
        for name in &samples {
            copy.change(name, |place| place == 40, 100.0);
        }
        let report = copy.report();
        for name in &samples {
            let noticed = report.beyond.iter().any(|worst| worst.tensor == *name);
            assert!(noticed, "{case} with another {name}: {}", report.line());
        }
    }
    let copy = Copy::of("model_eval/n");
    copy.rename("probe.encoder.fpn_blocks.0.stat", "probe.encoder.fpn_blocks.7.stat");
    let report = copy.report();
    let Outcome::Fail { reason } = &report.outcome else { panic!("{}", report.line()) };
    assert_eq!(reason, "probe.encoder.fpn_blocks.7: the detector gave no such output");
}

#[test]
fn another_course_of_aps_fails_the_stages() {
    let copy = Copy::of("schedule/stage_a");
    copy.replace("case.toml", "0.29", "0.325");
    copy.assert_fails();
}

#[test]
fn another_operation_in_an_epoch_fails_the_schedule() {
    for (from, to) in [
        ("\"from_epoch\": 4", "\"from_epoch\": 3"),
        ("\"RandomZoomOut\"", "\"Mosaic\""),
        ("\"mixup_possible\": true", "\"mixup_possible\": false"),
        ("\"multi_scale\": false", "\"multi_scale\": true"),
    ] {
        let copy = Copy::of("schedule/deim_r50");
        copy.replace("phases.json", from, to);
        copy.assert_fails();
    }
}

#[test]
fn a_moved_detection_fails_the_metrics() {
    let copy = Copy::of("coco_eval/edge_crowd");
    copy.replace("dt.json", "118.0,121.0", "318.0,121.0");
    copy.assert_fails();
}

#[test]
fn broken_files_fail_with_a_reason_and_never_panic() {
    let cut = Copy::of("losses/mal_gamma1.5");
    let path = cut.path("tensors.safetensors");
    let bytes = fs::read(&path).expect("the arrays");
    fs::write(&path, &bytes[..bytes.len() / 2]).expect("half of them");

    let missing = Copy::of("coco_eval/edge_crowd");
    fs::remove_file(missing.path("gt.json")).expect("there was one");

    let label = Copy::of("matcher/b2_q50");
    label.change("target.0.labels", |place| place == 0, 1000.0);

    let pair = Copy::of("losses/mal_gamma1.5");
    pair.change("indices.0.src", |place| place == 0, 1000.0);

    let shape = Copy::of("denoising/n3_5");
    shape.replace("case.toml", "num_queries = 20", "num_queries = 21");

    let text = Copy::of("schedule/deim_r50");
    fs::write(text.path("case.toml"), "kind = \"schedule").expect("half a line");

    let key = Copy::of("schedule/stage_a");
    key.replace("case.toml", "stop_epoch", "stop_epochs");

    for (copy, reason) in [
        (cut, "tensors.safetensors"),
        (missing, "gt.json"),
        (label, "label"),
        (pair, "outside"),
        (shape, ""),
        (text, "case.toml"),
        (key, "stop_epoch"),
    ] {
        let report = copy.report();
        let Outcome::Fail { reason: found } = &report.outcome else { panic!("{}", report.line()) };
        assert!(found.contains(reason) && !found.contains("panicked"), "{found}");
    }
}

fn deim(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_deim")).args(arguments).output().expect("the binary runs")
}

#[test]
fn the_command_says_what_failed_and_exits_with_one() {
    let good = cases().join("schedule/ema_decay");
    let output = deim(&["verify", &good.to_string_lossy()]);
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.starts_with("PASS  schedule/ema_decay"), "{text}");
    assert_eq!(output.status.code(), Some(0));

    let changed = Copy::of("schedule/ema_decay");
    changed.change("updates", |place| place == 3, 1.0);
    let output = deim(&["verify", &good.to_string_lossy(), &changed.path("").to_string_lossy()]);
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("FAIL  ") && text.contains("1 passed, 1 failed, 0 skipped"), "{text}");
    assert_eq!(output.status.code(), Some(1));

    let output = deim(&["verify", "--json", &changed.path("").to_string_lossy()]);
    let document: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(document["cases"][0]["outcome"], "fail");
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn in_bf16_detectors_are_measured_and_not_judged() {
    let folders = ["model_eval/n", "train_step/r18_vfl", "schedule/ema_decay"]
        .map(|case| cases().join(case).to_string_lossy().into_owned());
    let [detector, step, other] = folders.each_ref().map(String::as_str);
    let output = deim(&["verify", "--json", "--precision", "bf16", detector, step, other]);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let document: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let cases = document["cases"].as_array().expect("cases");
    // The third runs no detector.
    assert_eq!(cases.len(), 2);
    for (case, parts) in cases.iter().zip([5, 4]) {
        assert_eq!(case["outcome"], "info");
        let found = case["parts"].as_array().expect("parts");
        assert_eq!(found.len(), parts);
        for part in found {
            // Rounding that is seen, and less than a standard deviation: the worst of some hundred
            // samples of a tensor that has nothing to do with the other is several.
            let worst = part["worst"]["of_tolerance"].as_f64().expect("finite");
            let least = if part["name"] == "tokens chosen otherwise" { 0.0 } else { 1e-5 };
            assert!((least..1.0).contains(&worst), "{}: {part}", case["name"]);
        }
    }
    let output = deim(&["verify", "--precision", "bf16", other]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("no case"), "{output:?}");
}

#[test]
fn errors_in_tf32_lie_between_those_in_float32_and_in_bf16() {
    let folders = ["model_eval/n", "model_eval/r18", "train_step/r18_vfl"]
        .map(|case| cases().join(case).to_string_lossy().into_owned());
    let [n, r18, step] = folders.each_ref().map(String::as_str);
    let output = deim(&["verify", "--json", "--precision", "all", n, r18, step]);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let document: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let reports = document["cases"].as_array().expect("cases");
    assert_eq!(reports.len(), 9);
    for of_case in reports.chunks(3) {
        let precisions: Vec<_> = of_case.iter().map(|case| case["precision"].as_str()).collect();
        assert_eq!(precisions, [Some("f32"), Some("tf32"), Some("bf16")]);
        let parts = |case: &serde_json::Value| -> Vec<(String, f64)> {
            let parts = case["parts"].as_array().expect("parts").iter();
            parts
                .map(|part| {
                    let worst = part["worst"]["of_tolerance"].as_f64().expect("finite");
                    (part["name"].as_str().expect("a name").to_owned(), worst)
                })
                .collect()
        };
        let [single, tf32, half] = [0, 1, 2].map(|index| parts(&of_case[index]));
        for ((name, single), ((_, tf32), (_, half))) in single.iter().zip(tf32.iter().zip(&half)) {
            let case = &of_case[0]["name"];
            // Few tokens change places, perhaps none.
            if name == "tokens chosen otherwise" {
                assert!(single <= tf32 && tf32 <= half, "{case}: {name}: {single} {tf32} {half}");
                continue;
            }
            // Losses and their gradients hang on matches, which change all at once.
            let apart = if name == "losses" || name == "gradient norm" { 1.0 } else { 3.0 };
            let between = apart * single < *tf32 && apart * tf32 < *half;
            assert!(between, "{case}: {name}: {single} {tf32} {half}");
        }
    }
    let output = deim(&["verify", "--precision", "tf32", n]);
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.starts_with("INFO  model_eval/n  tf32: backbone 0.0"), "{text}");
    // It is nothing that a configuration could ask for.
    let output = deim(&["plan", "gamma", "--scale", "mini", "--set", "model.precision=tf32"]);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
}

#[test]
fn a_kind_that_cannot_be_verified_is_skipped_and_does_not_count_as_passed() {
    let copy = Copy::of("schedule/ema_decay");
    copy.replace("case.toml", "ema_decay", "telepathy");
    let output = deim(&["verify", &copy.path("").to_string_lossy()]);
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.starts_with("SKIP") && text.contains("telepathy"), "{text}");
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn a_folder_without_a_case_is_wrong_input() {
    let empty = tempfile::tempdir().expect("a temporary folder");
    let empty_path = empty.path().to_string_lossy();
    for folder in [empty_path.as_ref(), "no/such/folder"] {
        let output = deim(&["verify", folder]);
        assert_eq!(output.status.code(), Some(2));
        assert!(String::from_utf8_lossy(&output.stderr).contains(folder));
    }
    let output = deim(&["verify", "--device", "abacus", &cases().to_string_lossy()]);
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn coco_eval_prints_the_twelve_numbers_and_names_a_bad_file() {
    let case = cases().join("coco_eval/edge_crowd");
    let path = |file: &str| case.join(file).to_string_lossy().into_owned();
    let output = deim(&["coco-eval", "--gt", &path("gt.json"), "--dt", &path("dt.json")]);
    let text = String::from_utf8_lossy(&output.stdout);
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 12, "{text}");
    assert_eq!(
        lines[0],
        " Average Precision  (AP) @[ IoU=0.50:0.95 | area=   all | maxDets=100 ] = 0.576"
    );
    assert_eq!(output.status.code(), Some(0));

    let output = deim(&["coco-eval", "--gt", &path("dt.json"), "--dt", &path("dt.json")]);
    assert_eq!(output.status.code(), Some(2));
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(text.contains("dt.json") && text.contains("line 1"), "{text}");
}
