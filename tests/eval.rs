//! `deim eval` and `deim predict`: a trained cell, looked at.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod micro;

use std::fs;
use std::path::Path;

use insta::assert_snapshot;
use micro::{Lab, Told};
use serde_json::Value;

/// The model of the experiment `micro` as a part of its own.
const PART: &str = r#"
[data]
input_size = 64
[model]
queries = 10
backbone = { block = "basic", blocks = [1, 1, 1, 1], stem = [4, 4, 8], widths = [8, 8, 16, 16] }
encoder = { hidden = 16, heads = 2, feedforward = 16, expansion = 0.5, depth_mult = 0.34 }
decoder = { hidden = 16, heads = 2, feedforward = 16, layers = 2, points = [2, 2, 2] }
[denoising]
queries = 4
"#;

/// A laboratory with one trained cell, and its id; `changes` are made to the experiment's file.
fn trained(changes: &[(&str, &str)]) -> (Lab, String) {
    let lab = Lab::new();
    let path = lab.path().join("experiments/micro.toml");
    let mut text = fs::read_to_string(&path).unwrap();
    for (before, after) in changes {
        assert!(text.contains(before), "the experiment has no {before:?}");
        text = text.replacen(before, after, 1);
    }
    fs::write(&path, text).unwrap();
    fs::write(lab.path().join("part.toml"), PART).unwrap();
    done(lab.deim(&["run", "micro", "--row", "1", "--threads", "1"]));
    let id = lab.plan("micro").cells[0].id.clone();
    (lab, id)
}

fn done(told: Told) -> Told {
    assert_eq!(told.code, Some(0), "{told}");
    told
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

fn read(lab: &Lab, path: &str) -> Value {
    json(&fs::read_to_string(lab.path().join(path)).unwrap())
}

#[test]
fn help_of_each_command() {
    let lab = Lab::new();
    for command in [&["eval"][..], &["predict"], &["bench", "latency"]] {
        let told = done(lab.deim(&[command, &["--help"]].concat()));
        assert!(told.out.contains("Example: deim"), "{command:?} has no example");
        assert_snapshot!(format!("help_{}", command.join("_")), told.out);
    }
}

#[test]
fn a_cells_files_give_the_numbers_of_its_ledger_again() {
    let (lab, id) = trained(&[
        ("epochs = 3", "epochs = 40"),
        ("train_images = 10", "train_images = 40"),
        ("val_images = 4", "val_images = 16"),
        ("\nbatch_size = 2", "\nbatch_size = 4"),
        ("[ema]", "[optimizer]\nlr = 5e-3\n\n[ema]"),
    ]);
    let eval = |arguments: &[&str]| done(lab.deim(&[&["eval"], arguments].concat()));
    let files = ["--dt", "dt.json", "--gt", "gt.json", "--scenes", "scenes"];
    let own = json(&eval(&[&["micro", "--row", "1", "--json"], &files[..]].concat()).out);
    assert_eq!(own["cell"], id.as_str());
    assert_eq!(own["ledger"]["same"], true, "{own}");
    assert_eq!(own["part"], "ema");
    let ap = own["metrics"]["ap"].as_f64().unwrap();
    assert!(ap > 0.0, "the cell learnt nothing, so that nothing is compared: {own}");
    let recorded = lab.history("micro", &id).finished.unwrap().summary.last;
    assert_eq!(own["metrics"], serde_json::to_value(recorded).unwrap());

    // The files, without the detector.
    for truth in ["gt.json", "scenes/annotations/instances_val.json"] {
        let told = done(lab.deim(&["coco-eval", "--gt", truth, "--dt", "dt.json", "--json"]));
        assert_eq!(json(&told.out)["metrics"], own["metrics"], "{truth}");
        assert_eq!(told.err, "", "{truth}");
    }
    done(lab.deim(&[
        "figure",
        "precision-recall",
        "--gt",
        "gt.json",
        "dt.json",
        "--out",
        "pr.svg",
    ]));
    let told = ["--data", "scenes", "dt.json", "--score", "0.1", "--out", "pair.svg"];
    done(lab.deim(&[&["figure", "detections"], &told[..]].concat()));
    let pair = fs::read_to_string(lab.path().join("pair.svg")).unwrap();
    assert!(pair.contains("Image 1 of val") && pair.contains("data:image/png"), "no picture");

    // By its id, in other batches, on other threads.
    let text = eval(&[&id[..8], "--batch", "1", "--threads", "2"]).out;
    assert!(text.contains(&format!("cell {} (micro/default, loss.gamma 1.5, seed 0)", &id[..8])));
    assert!(text.contains("all twelve numbers are the same"), "{text}");
    assert!(text.contains("(AP) @[ IoU=0.50:0.95 | area=   all | maxDets=100 ] = "), "{text}");

    // The same weights as a file of a model, on the scenes as a data set of files.
    let weights = format!("runs/{id}/weights.safetensors");
    let model = ["--model", "part.toml", "--weights", &weights];
    let other = json(&eval(&[&model[..], &["--data", "scenes", "--json"]].concat()).out);
    assert_eq!(other["metrics"], own["metrics"]);
    assert_eq!(other["ledger"], Value::Null);

    // The checkpoint holds the same average, and the weights that training moved.
    let checkpoint = format!("runs/{id}/last.safetensors");
    let of_part = |part: &str| {
        json(&eval(&[&id[..8], "--weights", &checkpoint, "--part", part, "--json"]).out)
    };
    assert_eq!(of_part("ema")["metrics"], own["metrics"]);
    let moved = of_part("model");
    assert_eq!(moved["ledger"]["not_compared"], "other weights");
    assert_ne!(moved["metrics"], own["metrics"]);
}

#[test]
fn weights_that_are_not_the_cells_are_refused() {
    let (lab, id) = trained(&[]);
    let refused = |arguments: &[&str]| {
        let told = lab.deim(&[&["eval"], arguments].concat());
        assert_eq!(told.code, Some(2), "{arguments:?}: {told}");
        assert!(told.out.is_empty(), "{arguments:?}: {told}");
        told.err
    };
    let weights = lab.path().join(format!("runs/{id}/weights.safetensors"));
    let whole = fs::read(&weights).unwrap();
    let mut other = whole.clone();
    *other.last_mut().unwrap() ^= 1;
    fs::write(&weights, &other).unwrap();
    assert!(refused(&[&id]).contains("is not the file that cell"));
    fs::remove_file(&weights).unwrap();
    assert!(refused(&[&id]).contains("--runs DIR says where runs are"));

    fs::write(lab.path().join("w.safetensors"), &whole).unwrap();
    let coco = ["--data", "scenes"];
    done(lab.deim(&["eval", &id, "--weights", "w.safetensors", "--scenes", "scenes"]));
    let of_model = |model: &str| {
        refused(&[&["--model", model, "--weights", "w.safetensors"], &coco[..]].concat())
    };
    assert!(of_model("n").contains("holds other weights than those of this detector"));
    let part = fs::read_to_string(lab.path().join("part.toml")).unwrap();
    fs::write(lab.path().join("other.toml"), part.replace("layers = 2", "layers = 3")).unwrap();
    let told = of_model("other.toml");
    assert!(
        told.contains("30 not in the file") && told.contains("`decoder.dec_bbox_head.2."),
        "{told}"
    );

    assert!(refused(&["micro"]).contains("say which with --row 1 to --row 2"));
    let told = refused(&["micro", "--row", "2"]);
    assert!(told.contains("micro/default has no finished cell of row 2 with seed 0"), "{told}");
    assert!(refused(&[&id, "--row", "1"]).contains("choose a cell of an experiment"));
    let told = refused(&["--model", "part.toml", "--weights", "w.safetensors"]);
    assert!(told.contains("--model needs --data DIR"), "{told}");
}

#[test]
fn heads_of_other_classes_are_refused_with_both_numbers() {
    let (lab, id) = trained(&[]);
    done(lab.deim(&["eval", &id, "--scenes", "scenes"]));
    let path = lab.path().join("scenes/annotations/instances_val.json");
    let mut truth = json(&fs::read_to_string(&path).unwrap());
    let category = serde_json::json!({ "id": 90, "name": "one more" });
    truth["categories"].as_array_mut().unwrap().push(category);
    fs::write(path, truth.to_string()).unwrap();
    let weights = format!("runs/{id}/weights.safetensors");
    let model = ["eval", "--model", "part.toml", "--weights", &weights, "--data", "scenes"];
    let told = lab.deim(&model);
    assert_eq!(told.code, Some(2), "{told}");
    assert!(told.err.contains("has heads for 8 classes, and the data set has 9"), "{told}");
}

/// Width, height and number of colours of a PNG.
fn png(path: &Path) -> (u32, u32, usize) {
    let image = image::open(path).unwrap().to_rgb8();
    let colours: std::collections::BTreeSet<_> = image.pixels().map(|pixel| pixel.0).collect();
    (image.width(), image.height(), colours.len())
}

#[test]
fn a_broken_image_is_named_and_the_others_are_drawn() {
    let (lab, id) = trained(&[("epochs = 3", "epochs = 30")]);
    done(lab.deim(&["eval", &id, "--scenes", "scenes", "--dt", "dt.json"]));
    let cell = ["--cell", &id[..8], "--threshold", "0.02", "--out"];
    let predict = |arguments: &[&str], out: &str| {
        lab.deim(&[&["predict"], arguments, &cell[..], &[out]].concat())
    };
    let scenes = done(predict(&["--synthetic", "2"], "drawn"));
    assert!(scenes.out.contains("drawn/scene-000001-detections.png"), "{scenes}");
    let drawn = read(&lab, "drawn/detections.json");
    let drawn = drawn.as_array().unwrap();
    assert!(!drawn.is_empty(), "the cell finds nothing, so that nothing is compared");

    // Detections are those of the evaluation.
    let evaluated = read(&lab, "dt.json");
    for one in drawn {
        let near = |a: &Value, b: &Value| (a.as_f64().unwrap() - b.as_f64().unwrap()).abs() < 1e-3;
        let same = |other: &&Value| {
            other["image_id"] == one["image_id"]
                && other["category_id"] == one["category_id"]
                && near(&other["score"], &one["score"])
                && (0..4).all(|side| near(&other["bbox"][side], &one["bbox"][side]))
        };
        assert_eq!(evaluated.as_array().unwrap().iter().filter(same).count(), 1, "{one}");
        assert!(one["score"].as_f64().unwrap() >= 0.02, "{one}");
    }

    let (good, bad) = ("scenes/val/000001.png", "scenes/val/bad.jpg");
    fs::write(lab.path().join(bad), b"\xff\xd8\xff\xe0 cut short").unwrap();
    let told = predict(&[bad, good, "nowhere.png"], "found");
    assert_eq!(told.code, Some(1), "{told}");
    for named in ["error: scenes/val/bad.jpg: ", "error: nowhere.png: ", "2 of 3 images failed"] {
        assert!(told.err.contains(named), "{named} is not told: {told}");
    }
    let found = read(&lab, "found/detections.json");
    let first = |one: &&Value| one["image_id"] == 1;
    let same = |one: &Value| [one["bbox"].clone(), one["score"].clone(), one["category"].clone()];
    let of_scene: Vec<_> = drawn.iter().filter(first).map(same).collect();
    let of_file: Vec<_> = found.as_array().unwrap().iter().map(same).collect();
    assert_eq!(of_file, of_scene, "a scene and its file are one picture");
    assert!(found.as_array().unwrap().iter().all(|one| one["file"] == good));
    let names: Vec<_> = fs::read_dir(lab.path().join("found")).unwrap().collect();
    assert_eq!(names.len(), 2, "a drawing and detections.json");
    let (width, height, colours) = png(&lab.path().join("found/000001-detections.png"));
    assert!(width == 2100 && height > 2000 && colours > 100, "{width} x {height}, {colours}");
}

#[test]
fn recorded_latencies_reach_the_tables_and_later_ones_replace_them() {
    let lab = Lab::new();
    let plan = lab.plan("micro");
    for cell in &plan.cells {
        lab.pretend_finished("micro", cell, 0.25);
    }
    let table = || fs::read_to_string(lab.path().join("results/micro/default/table.md")).unwrap();
    let report = || {
        done(lab.deim(&["report", "micro"]));
        done(lab.deim(&["report", "--check"]));
        table()
    };
    let without = report();
    assert!(without.contains("latency was not measured"), "{without}");

    let measure = |runs: &str, more: &[&str]| {
        let quick =
            ["bench", "latency", "micro", "--warmup", "0", "--threads", "1", "--runs", runs];
        done(lab.deim(&[&quick, more].concat()))
    };
    let lines = || lab.ledger("micro").read().unwrap().lines.len();
    let before = lines();
    measure("3", &[]);
    assert_eq!(lines(), before, "nobody asked for a record");
    assert_eq!(report(), without);

    let told = measure("3", &["--record", "--json"]);
    assert_eq!(lines(), before + 2, "{told}");
    let timed = json(&told.out);
    let median = |row: usize| timed[row]["latency"]["median_ms"].as_f64().unwrap();
    // One architecture, timed once.
    assert!(median(0) > 0.0 && timed[0]["latency"] == timed[1]["latency"], "{timed}");
    assert_eq!(timed[0]["latency"]["runs"], 3);
    let with = report();
    assert!(with.contains("| latency, ms |") && with.contains("(cpu, 1 thread)"), "{with}");
    let cell = &plan.cells[0].id;
    let told = done(lab.deim(&["why", &cell[..8]]));
    assert!(told.out.contains(&format!("latency     {} ms, ", median(0))), "{told}");

    measure("4", &["--row", "1", "--record"]);
    let replaced = report();
    assert!(replaced.contains("median of 4 forward passes"), "{replaced}");
    assert!(replaced.contains("median of 3 forward passes"), "row 2 lost its own: {replaced}");
    assert_eq!(lab.history("micro", cell).latency.unwrap().runs, 4);
    // A measurement is no result: the cell is as old and as finished as before.
    assert!(lab.deim(&["plan", "micro"]).out.contains("2 done"));
}

#[test]
fn nothing_is_timed_for_rows_that_nobody_trained() {
    let lab = Lab::new();
    let told = lab.deim(&["bench", "latency", "micro"]);
    assert_eq!(told.code, Some(2), "{told}");
    assert!(told.err.contains("micro/default has no finished cell to measure for"), "{told}");
}
