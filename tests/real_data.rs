//! Training on image files and from weights of a file, as a user does it.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod micro;

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use deim_lab::history::History;
use deim_lab::plan::{self, Plan};
use deim_lab::protocol::Order;
use deim_lab::{Inputs, Setting, WeightsFile};
use deim_spec::Options;
use micro::{Lab, Told};
use serde_json::{Value, json};

const FOLDER: &str = "data.source=\"folder\"";

/// A picture with a bright square; the first of a split has transparency, which training drops.
fn picture(path: &Path, seed: u8, [x, y, side]: [u32; 3], transparent: bool) {
    let inside = |at: u32, from: u32| (from..from + side).contains(&at);
    let value = |px: u32, py: u32| {
        let bright = inside(px, x) && inside(py, y);
        if bright { 230 } else { ((px * 3 + py * 5) % 60) as u8 ^ seed }
    };
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    if transparent {
        image::RgbaImage::from_fn(96, 64, |px, py| {
            let value = value(px, py);
            image::Rgba([value, value, 90, 128])
        })
        .save(path)
        .unwrap();
    } else {
        image::RgbImage::from_fn(96, 64, |px, py| {
            let value = value(px, py);
            image::Rgb([value, value, 90])
        })
        .save(path)
        .unwrap();
    }
}

/// A COCO folder: categories 7 and 90, a box over the edge, a crowd region, an image without boxes.
fn coco(root: &Path) {
    for (split, images) in [("train2017", 9_u32), ("val2017", 4)] {
        let (mut entries, mut annotations): (Vec<Value>, Vec<Value>) = Default::default();
        for image in 0..images {
            let [x, y, side] = [10 + image * 5, 5 + image * 3, 20 + image];
            let name = format!("{image}.png");
            picture(&root.join(split).join(&name), image as u8, [x, y, side], image == 0);
            entries.push(json!({"id": image + 1, "file_name": name, "width": 96, "height": 64}));
            if image == 1 {
                continue;
            }
            let mut annotate = |bbox: Value, category: u32, crowd: u32| {
                annotations.push(json!({
                    "id": annotations.len() + 1, "image_id": image + 1, "category_id": category,
                    "bbox": bbox, "area": side * side, "iscrowd": crowd,
                }));
            };
            annotate(json!([x, y, side, side]), if image % 2 == 0 { 7 } else { 90 }, 0);
            if image == 2 {
                annotate(json!([80, 40, 30, 10]), 90, 0);
                annotate(json!([0, 0, 30, 30]), 7, 1);
            }
        }
        let categories = json!([{"id": 90, "name": "dog"}, {"id": 7, "name": "cat"}]);
        let file = json!({"images": entries, "annotations": annotations, "categories": categories});
        let path = root.join(format!("annotations/instances_{split}.json"));
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, file.to_string()).unwrap();
    }
}

fn setting(lab: &Lab, data: Option<&Path>, weights: &[PathBuf]) -> Setting {
    let place = data.map(|folder| deim_data::Place { folder: folder.into(), ..Default::default() });
    let weights = weights.iter().map(|path| WeightsFile::read(path).unwrap()).collect();
    Setting { inputs: Inputs::new(place, weights), ..lab.setting() }
}

fn plan(lab: &Lab, setting: &Setting, set: &[&str]) -> Plan {
    let set = set.iter().map(|one| (*one).to_owned()).collect();
    let options = Options { set, ..Options::default() };
    let experiment = deim_spec::load(&lab.path().join("experiments"), "micro", &options).unwrap();
    plan::make(&experiment, setting).unwrap()
}

/// The first cell's id with the folder's images.
fn id(lab: &Lab, data: &Path) -> String {
    plan(lab, &setting(lab, Some(data), &[]), &[FOLDER]).cells[0].id.clone()
}

fn run(lab: &Lab, extra: &[&str]) -> Told {
    let told = lab.deim(&[&["run", "micro", "--row", "1", "--threads", "1"], extra].concat());
    assert_eq!(told.code, Some(0), "{told}");
    told
}

fn finished(lab: &Lab, cell: &str) -> History {
    let history = lab.history("micro", cell);
    assert!(history.finished.is_some(), "{cell} is not finished");
    history
}

#[test]
fn images_that_are_not_given_or_not_asked_for_are_one_clear_sentence() {
    let lab = Lab::new();
    coco(&lab.path().join("data"));
    let told = |arguments: &[&str]| {
        let told = lab.deim(arguments);
        assert_eq!(told.code, Some(2), "{arguments:?}: {told}");
        assert_eq!(told.err.matches("error:").count(), 1, "{arguments:?}: {told}");
        told.err
    };
    for command in ["ablation", "status", "retry"] {
        let error = told(&[command, "micro", "--set", FOLDER]);
        assert!(error.contains("add --data DIR"), "{error}");
        let error = told(&[command, "micro", "--data", "data"]);
        assert!(error.contains("leave --data out"), "{error}");
    }
    let error = told(&["run", "micro", "--row", "1", "--set", FOLDER]);
    assert!(error.contains("add --data DIR"), "{error}");
    let error = told(&["ablation", "micro", "--set", FOLDER, "--data", "nowhere"]);
    assert!(error.contains("nowhere: no such folder"), "{error}");
    let error = told(&["ablation", "micro", "--data-format", "coco"]);
    assert!(error.contains("--data <DIR>"), "{error}");
    assert!(!lab.path().join("runs").exists());
}

#[test]
fn a_folder_of_images_trains_and_its_record_says_what_was_left_out() {
    let lab = Lab::new();
    let data = lab.path().join("data");
    coco(&data);
    let told = lab.deim(&["ablation", "micro", "--set", FOLDER, "--data", "data", "--jobs", "1"]);
    assert_eq!(told.code, Some(0), "{told}");
    let history = finished(&lab, &id(&lab, &data));
    let provenance = history.provenance.unwrap();
    assert_eq!(provenance.data.unwrap().folder, Path::new("data"));
    let summary = history.finished.unwrap().summary;
    let note = |name: &str| summary.notes.get(name).copied();
    assert_eq!(note("train: box_clamped"), Some(1));
    assert_eq!(note("train: crowd"), Some(1));
    assert_eq!(note("train: without_boxes"), Some(1));
    // Found while decoding: the first image of each split.
    assert_eq!((note("train: alpha"), note("val: alpha")), (Some(1), Some(1)));
    assert_eq!(note("train: rotated"), None);
    assert!(summary.last.ap.is_some(), "categories with gaps were evaluated");
}

#[test]
fn a_cell_is_what_its_images_are_and_not_where_they_lie() {
    let lab = Lab::new();
    let (here, there) = (lab.path().join("here"), lab.path().join("deep/there"));
    coco(&here);
    coco(&there);
    assert_eq!(id(&lab, &here), id(&lab, &there));
    let file = there.join("annotations/instances_train2017.json");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text.replacen("\"iscrowd\":1", "\"iscrowd\":0", 1)).unwrap();
    assert_ne!(id(&lab, &here), id(&lab, &there));
}

#[test]
fn images_that_changed_since_the_plan_are_refused() {
    let lab = Lab::new();
    let data = lab.path().join("data");
    coco(&data);
    let setting = setting(&lab, Some(&data), &[]);
    let plan = plan(&lab, &setting, &[FOLDER]);
    let crew = deim_lab::execute::Crew {
        command: deim_lab::worker::Command { program: "false".into(), arguments: vec![] },
        jobs: 1,
        threads: 1,
        fail_fast: false,
        cache_mb: 0,
    };
    let order = Order::new(&plan, &plan.cells[0], &setting, &crew).unwrap();
    picture(&data.join("train2017/3.png"), 77, [1, 2, 3], true);
    let train = deim_lab::trainer::train;
    let folder = lab.path().join("runs/cell");
    std::fs::create_dir_all(&folder).unwrap();
    let error = train(&order, &folder, &AtomicBool::new(false), &mut |_| {}).unwrap_err();
    assert!(error.contains("the data set changed since the plan was made"), "{error}");
}

#[test]
fn kept_images_and_more_threads_change_no_bit() {
    let weights = |extra: &[&str]| {
        let lab = Lab::new();
        let data = lab.path().join("data");
        coco(&data);
        let base = ["run", "micro", "--row", "1", "--set", FOLDER, "--data", "data"];
        let told = lab.deim(&[&base, extra].concat());
        assert_eq!(told.code, Some(0), "{told}");
        finished(&lab, &id(&lab, &data)).finished.unwrap().summary
    };
    let kept = weights(&["--threads", "1"]);
    assert_eq!(weights(&["--threads", "1", "--cache-mb", "0"]), kept);
    assert_eq!(weights(&["--threads", "4"]), kept);
}

#[test]
fn a_committed_table_of_real_images_is_checked_without_them() {
    let lab = Lab::new();
    let data = lab.path().join("data");
    coco(&data);
    // The experiment's own file says that it is about files, as scales of real images do.
    let path = lab.path().join("experiments/micro.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text.replace("source = \"synthetic\"", "source = \"folder\"")).unwrap();
    let plan = plan(&lab, &setting(&lab, Some(&data), &[]), &[]);
    plan.cells.iter().for_each(|cell| lab.pretend_finished("micro", cell, 0.25));
    let told = lab.deim(&["report", "micro"]);
    assert_eq!(told.code, Some(0), "{told}");
    let told = lab.deim(&["report", "--check"]);
    assert_eq!(told.code, Some(0), "{told}");
    // A second data set in the ledger is a question.
    let file = data.join("annotations/instances_train2017.json");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text.replacen("\"iscrowd\":1", "\"iscrowd\":0", 1)).unwrap();
    let other = self::plan(&lab, &setting(&lab, Some(&data), &[]), &[]);
    lab.pretend_finished("micro", &other.cells[0], 0.5);
    let told = lab.deim(&["report", "micro"]);
    assert!(told.code != Some(0) && told.err.contains("several data sets"), "{told}");
    let told = lab.deim(&["report", "micro", "--data", "data"]);
    assert_eq!(told.code, Some(0), "{told}");
    assert!(told.out.contains("50.0") && !told.out.contains("25.0"), "{told}");
}

#[test]
fn weights_of_a_run_are_an_official_state_dict_that_another_run_can_start_from() {
    let lab = Lab::new();
    run(&lab, &[]);
    let random = plan(&lab, &lab.setting(), &[]).cells[0].id.clone();
    let file = lab.path().join("runs").join(&random).join("weights.safetensors");
    let bytes = std::fs::read(&file).unwrap();
    let summary = finished(&lab, &random).finished.unwrap().summary;
    assert_eq!(summary.weights, blake3::hash(&bytes).to_hex().as_str());
    let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    for name in
        ["decoder.anchors", "decoder.valid_mask", "backbone.conv1.conv1_1.norm.num_batches_tracked"]
    {
        assert!(tensors.tensor(name).is_ok(), "PyTorch's strict loading wants {name}");
    }

    // A recipe that starts from a file asks for it, and one that does not refuses it.
    let told = lab.deim(&["ablation", "micro", "--set", "pretrained.part=\"backbone\""]);
    assert_eq!(told.code, Some(2), "{told}");
    assert!(told.err.contains("add --pretrained FILE"), "{told}");
    let path = file.to_str().unwrap();
    let told = lab.deim(&["ablation", "micro", "--pretrained", path]);
    assert_eq!(told.code, Some(2), "{told}");
    assert!(told.err.contains("no row starts from a file"), "{told}");

    // Of several files the one of the row's architecture is taken.
    let set = ["pretrained.part=\"backbone\""];
    let alone = plan(&lab, &setting(&lab, None, std::slice::from_ref(&file)), &set);
    let other = lab.path().join("other.safetensors");
    run(&lab, &["--set", "model.backbone.widths=[8, 8, 16, 24]"]);
    let wide = ["model.backbone.widths=[8, 8, 16, 24]"];
    let wide = plan(&lab, &lab.setting(), &wide).cells[0].id.clone();
    std::fs::copy(lab.path().join("runs").join(wide).join("weights.safetensors"), &other).unwrap();
    let both = plan(&lab, &setting(&lab, None, &[other.clone(), file.clone()]), &set);
    assert_eq!(both.cells[0].id, alone.cells[0].id);
    let other = other.to_str().unwrap();
    let told = lab.deim(&["run", "micro", "--row", "1", "--set", set[0], "--pretrained", other]);
    assert_eq!(told.code, Some(1), "{told}");
    assert!(told.err.contains("is of another backbone"), "{told}");

    for part in ["backbone", "detector"] {
        let set = format!("pretrained.part=\"{part}\"");
        run(&lab, &["--set", &set, "--pretrained", path]);
        let with = |path: &PathBuf| {
            let setting = setting(&lab, None, std::slice::from_ref(path));
            plan(&lab, &setting, &[&set]).cells[0].id.clone()
        };
        let cell = with(&file);
        assert_ne!(cell, random, "{part}");
        let history = finished(&lab, &cell);
        let fitted = history.provenance.unwrap().pretrained.unwrap();
        assert!(fitted.loaded > 0 && fitted.unfit.is_empty(), "{part}: {fitted:?}");
        assert_ne!(history.epochs[&0].loss, finished(&lab, &random).epochs[&0].loss);
        // The id follows the content and not the name.
        let copy = lab.path().join(format!("{part}.safetensors"));
        std::fs::write(&copy, &bytes).unwrap();
        assert_eq!(with(&copy), cell);
        let mut changed = bytes.clone();
        *changed.last_mut().unwrap() ^= 1;
        std::fs::write(&copy, changed).unwrap();
        assert_ne!(with(&copy), cell);
    }
}

#[test]
fn fine_tuning_on_other_classes_leaves_the_class_heads_and_lists_them() {
    let lab = Lab::new();
    let data = lab.path().join("data");
    coco(&data);
    run(&lab, &["--set", FOLDER, "--data", "data"]);
    let file = lab.path().join("runs").join(id(&lab, &data)).join("weights.safetensors");
    // From two classes to the eight of the synthetic scenes.
    let set = "pretrained.part=\"detector\"";
    run(&lab, &["--set", set, "--pretrained", file.to_str().unwrap()]);
    let cell = plan(&lab, &setting(&lab, None, &[file]), &[set]).cells[0].id.clone();
    let fitted = finished(&lab, &cell).provenance.unwrap().pretrained.unwrap();
    assert!(fitted.loaded > 50, "{fitted:?}");
    // The encoder's head, two decoder layers' heads and the table of noised classes.
    assert_eq!(fitted.unfit.len(), 2 + 2 * 2 + 1, "{fitted:?}");
    let head = &fitted.unfit["decoder.enc_score_head.weight"];
    assert_eq!(head, "[8, 16] in the model, [2, 16] in the file");
    let told = lab.deim(&["why", &cell]);
    assert!(told.out.contains("7 not taken or not there"), "{told}");
}
