//! `deim weights`: files that PyTorch wrote, what is told about them, and what is written from them.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod micro;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use burn::tensor::Device;
use deim_model::{Detector, official};
use deim_spec::Config;
use deim_weights::{Layout, Moment, Part, Tensor};
use insta::assert_snapshot;
use micro::Lab;

/// A detector of some thousand numbers, as a model part.
const PART: &str = r#"
[data]
input_size = 64
[model]
queries = 10
backbone = { block = "basic", blocks = [1, 1, 1, 1], stem = [4, 4, 8], widths = [8, 8, 16, 16] }
encoder = { hidden = 16, heads = 2, feedforward = 16, expansion = 0.5, depth_mult = 0.34 }
decoder = { hidden = 16, heads = 2, feedforward = 16, layers = 2, points = [2, 2, 2] }
"#;

/// A laboratory with the files of `tests/weights` and a model part.
fn lab() -> Lab {
    let lab = Lab::new();
    for entry in std::fs::read_dir(fixtures()).unwrap() {
        let from = entry.unwrap().path();
        std::fs::copy(&from, lab.path().join(from.file_name().unwrap())).unwrap();
    }
    std::fs::write(lab.path().join("micro.toml"), PART).unwrap();
    lab
}

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/weights")
}

fn config(lab: &Lab) -> Config {
    deim_spec::official::part(&lab.path().join("experiments"), &lab.path().join("micro.toml"))
        .unwrap()
}

/// All that the weights of the part's detector come to, officially.
fn state_dict(lab: &Lab, classes: usize) -> BTreeMap<String, Tensor> {
    let config = config(lab);
    official::state_dict(&Detector::new(&config, classes, 0, &Device::flex()), &config)
}

fn best(path: &Path) -> BTreeMap<String, Tensor> {
    let file = deim_weights::open(path).unwrap();
    let (_, entries) = file.best().unwrap();
    file.tensors(entries).unwrap()
}

#[test]
fn every_format_of_pytorch_gives_what_pytorch_says_is_in_it() {
    let expected = best(&fixtures().join("expected.safetensors"));
    assert_eq!(expected.len(), 14);
    for name in ["plain.pth", "protocol4.pth", "legacy.pth", "training.pth"] {
        assert_eq!(best(&fixtures().join(name)), expected, "{name}");
    }
}

#[test]
fn a_training_checkpoint_of_pytorch_has_its_parts_and_its_optimizer() {
    let file = deim_weights::open(&fixtures().join("training.pth")).unwrap();
    assert_eq!(file.layout, Layout::Training);
    assert_eq!(file.best().unwrap().0, Part::Ema);
    // The wrapper's `module.` is gone.
    let names = ["decoder.head.bias", "decoder.head.weight"];
    assert!(file.parts[&Part::Model].keys().eq(names));
    let optimizer = file.optimizer.as_ref().unwrap();
    assert_eq!(optimizer.groups[0].parameters, [0, 1]);
    let Moment::Tensor(entry) = &optimizer.state[&0]["exp_avg"] else { panic!("a tensor") };
    // The gradient of a sum is one; its average after a step is a tenth.
    let moment = file.read(entry).unwrap();
    assert_eq!((moment.shape.as_slice(), moment.f32s()), (&[2, 3][..], vec![0.1; 6]));
}

#[test]
fn what_is_in_a_file_fits_a_screen() {
    let lab = lab();
    let told = lab.deim(&["weights", "inspect", "training.pth"]);
    assert_eq!(told.code, Some(0), "{told}");
    assert_snapshot!("inspect_training", told.out);
    let told = lab.deim(&["weights", "inspect", "backbone.pth", "--all"]);
    assert_snapshot!("inspect_backbone", told.out);
    let tensors = state_dict(&lab, 80);
    deim_weights::write(&lab.path().join("micro.safetensors"), &tensors).unwrap();
    let told = lab.deim(&["weights", "inspect", "micro.safetensors", "--model", "micro.toml"]);
    assert_eq!(told.code, Some(0), "{told}");
    assert!(told.out.lines().count() < tensors.len() / 4, "{told}");
    assert_snapshot!("inspect_micro", told.out);
}

#[test]
fn the_json_document_has_what_the_text_has() {
    let lab = lab();
    let told = lab.deim(&["weights", "inspect", "training.pth", "--json"]);
    let value: serde_json::Value = serde_json::from_str(&told.out).unwrap();
    assert_eq!(value["values"]["ema.updates"], 120.0);
    assert_eq!(value["parts"]["ema"]["tensors"].as_array().unwrap().len(), 14);
    assert_eq!(value["optimizer"]["groups"][0]["parameters"], 2);
    assert_eq!(value["fit"], serde_json::Value::Null);
}

#[test]
fn what_does_not_fit_is_told_and_makes_the_exit_code_1() {
    let lab = lab();
    let mut tensors = state_dict(&lab, 5);
    let moved = tensors.remove("encoder.input_proj.0.conv.weight").unwrap();
    tensors.insert("encoder.other.weight".into(), moved);
    let scales = "decoder.decoder.layers.1.cross_attn.num_points_scale";
    tensors.insert(scales.into(), Tensor::from_f32s(&[6], &[0.25, 0.25, 0.25, 0.25, 0.5, 0.5]));
    deim_weights::write(&lab.path().join("other.safetensors"), &tensors).unwrap();
    let arguments =
        ["weights", "inspect", "other.safetensors", "--model", "micro.toml", "--classes", "3"];
    let told = lab.deim(&arguments);
    assert_eq!(told.code, Some(1), "{told}");
    let (_, misfits) = told.out.split_once("\n\nmodel micro.toml").unwrap();
    assert_snapshot!("misfits", misfits);
    let told = lab.deim(&[&arguments[..], &["--json"]].concat());
    assert_eq!(told.code, Some(1), "{told}");
    let value: serde_json::Value = serde_json::from_str(&told.out).unwrap();
    assert_eq!(value["fit"]["fits"], false);
    assert_eq!(value["fit"]["mismatched"].as_array().unwrap().len(), 7);
    // Nothing is written of weights that do not fit.
    let told = lab.deim(&[
        "weights",
        "convert",
        "other.safetensors",
        "new.safetensors",
        "--model",
        "micro.toml",
    ]);
    assert_eq!(told.code, Some(1), "{told}");
    assert!(!lab.path().join("new.safetensors").exists());
    // With its own number of classes, the heads fit.
    let told = lab.deim(&[&arguments[..6], &["5", "--json"]].concat());
    let value: serde_json::Value = serde_json::from_str(&told.out).unwrap();
    assert_eq!(value["fit"]["mismatched"], serde_json::json!([]));
}

#[test]
fn conversion_keeps_every_bit_and_completes_what_pytorch_wants() {
    let lab = lab();
    let told = lab.deim(&["weights", "convert", "training.pth", "ema.safetensors"]);
    assert_eq!(told.code, Some(0), "{told}");
    assert_eq!(told.out, "ema.safetensors: 14 tensors of ema\n");
    let expected = best(&fixtures().join("expected.safetensors"));
    assert_eq!(best(&lab.path().join("ema.safetensors")), expected);
    // Another part, and the backbone alone under its own names.
    lab.deim(&["weights", "convert", "training.pth", "model.safetensors", "--part", "model"]);
    assert_eq!(best(&lab.path().join("model.safetensors")).len(), 2);
    lab.deim(&["weights", "convert", "plain.pth", "part.safetensors", "--part", "backbone"]);
    let names: Vec<String> = best(&lab.path().join("part.safetensors")).into_keys().collect();
    assert_eq!(names, ["channels_last", "parameter", "repeated", "strided", "transposed"]);
    // Weights alone, as a run keeps them: with --model everything that belongs to them is there.
    let whole = state_dict(&lab, 80);
    let mut bare = whole.clone();
    bare.retain(|name, _| !official::is_computed(name));
    assert!(bare.len() < whole.len());
    deim_weights::write(&lab.path().join("bare.safetensors"), &bare).unwrap();
    let told = lab.deim(&[
        "weights",
        "convert",
        "bare.safetensors",
        "whole.safetensors",
        "--model",
        "micro.toml",
    ]);
    assert_eq!(told.code, Some(0), "{told}");
    assert_eq!(best(&lab.path().join("whole.safetensors")), whole);
}

#[test]
fn a_hostile_file_is_refused_by_the_name_of_what_it_calls() {
    let lab = lab();
    let told = lab.deim(&["weights", "inspect", "hostile.pth"]);
    assert_eq!(told.code, Some(2), "{told}");
    assert!(told.err.contains("refused: the file asks to call `posix.system`"), "{told}");
    assert!(!lab.path().join("hostile-was-here").exists());
}

#[test]
fn wrong_input_is_one_clear_message_and_exit_code_2() {
    let lab = lab();
    let whole = std::fs::read(lab.path().join("plain.pth")).unwrap();
    std::fs::write(lab.path().join("cut.pth"), &whole[..whole.len() / 2]).unwrap();
    let told = |arguments: &[&str]| {
        let told = lab.deim(&[&["weights"], arguments].concat());
        assert_eq!(told.code, Some(2), "{arguments:?}: {told}");
        assert_eq!(told.err.matches("error:").count(), 1, "{arguments:?}: {told}");
        told.err
    };
    let errors = [
        told(&["inspect", "nosuch.pth"]),
        told(&["inspect", "cut.pth"]),
        told(&["inspect", "micro.toml"]),
        told(&["inspect", "plain.pth", "--part", "ema"]),
        told(&["inspect", "plain.pth", "--model", "r19"]),
        told(&["convert", "plain.pth", "out.pth"]),
        told(&["convert", "plain.pth", "out.bin"]),
        told(&["convert", "plain.pth", "nosuch/out.safetensors"]),
    ];
    assert_snapshot!("weights_errors", errors.join("\n"));
}

#[test]
fn help_of_each_command() {
    let lab = Lab::new();
    for command in ["inspect", "convert"] {
        let told = lab.deim(&["weights", command, "--help"]);
        assert!(told.out.contains("Example: deim weights"), "{told}");
        assert_snapshot!(format!("help_weights_{command}"), told.out);
    }
}
