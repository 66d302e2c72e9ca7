//! The initial weights of the ten official detectors, against the official initialisation.
//!
//! The manifests hold mean and standard deviation of every parameter as the official code drew it
//! with one seed (`shared/reference/FORMAT.md`, 3.11). They lie beside the repository; without them
//! this test prints a note and proves nothing.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::path::Path;

use burn::tensor::{Device, TensorData};
use deim_model::{Detector, weights};
use deim_spec::official::{Official, models};
use serde_json::Value;

/// Standard errors that two samples of one distribution may be apart.
const ERRORS: f64 = 6.0;

/// The manifests print four digits.
const DIGITS: f64 = 6e-4;

fn manifest(name: &str) -> Option<Value> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/reference/cases");
    let path = path.join(format!("manifests/{name}.json"));
    let Ok(text) = std::fs::read_to_string(&path) else {
        eprintln!("note: there is no {}: nothing is compared", path.display());
        return None;
    };
    Some(serde_json::from_str(&text).unwrap())
}

/// Mean and standard deviation of the values themselves.
fn moments(values: &[f32]) -> (f64, f64) {
    let count = values.len() as f64;
    let mean = values.iter().copied().map(f64::from).sum::<f64>() / count;
    let squares: f64 = values.iter().map(|&value| (f64::from(value) - mean).powi(2)).sum();
    (mean, (squares / count).sqrt())
}

/// The parameters as this program draws them, without buffers.
fn drawn(official: &Official) -> BTreeMap<String, TensorData> {
    let config = official.architecture().unwrap_or_else(|error| panic!("{error}"));
    let detector = Detector::new(&config, 80, 0, &Device::flex());
    let tensors = weights::read(&detector).into_iter();
    tensors.filter(|(name, _)| !weights::is_buffer(name)).collect()
}

/// How two samples differ by more than chance and rounding, if they do.
fn difference(values: &[f32], name: &str, mean: f64, deviation: f64) -> Option<String> {
    let (our_mean, our_deviation) = moments(values);
    // Without chance: constants, and offsets that follow from sizes.
    let exact = deviation == 0.0 || name.ends_with("sampling_offsets.bias");
    let error = if exact {
        0.0
    } else {
        // Both are samples.
        ERRORS * 2_f64.sqrt() * deviation.max(our_deviation) / (values.len() as f64).sqrt()
    };
    let mean_off = (our_mean - mean).abs() - error - DIGITS * mean.abs().max(1e-3);
    // The standard error of a standard deviation, as a share of that of the mean: 0.45 for uniform
    // values, 0.71 for normal ones, of which the only tensor is large enough to pass with less.
    let deviation_off = (our_deviation - deviation).abs() - 0.45 * error - DIGITS * deviation;
    (mean_off > 0.0 || deviation_off > 0.0).then(|| {
        format!("{name}: {our_mean:e} +- {our_deviation:e}, officially {mean:e} +- {deviation:e}")
    })
}

#[test]
fn initial_weights_are_distributed_as_the_official_ones() {
    let mut compared = 0;
    for official in models() {
        let Some(manifest) = manifest(official.name) else { continue };
        let ours = drawn(official);
        let mut problems = Vec::new();
        for entry in manifest["state_dict"].as_array().unwrap() {
            let name = entry["name"].as_str().unwrap();
            let (Some(mean), Some(deviation)) =
                (entry["init_mean"].as_f64(), entry["init_std"].as_f64())
            else {
                continue;
            };
            // Constants that some decoders do not keep as tensors are another test's business.
            let Some(data) = ours.get(name) else { continue };
            let values: Vec<f32> = data.iter().collect();
            problems.extend(difference(&values, name, mean, deviation));
            compared += 1;
        }
        assert!(problems.is_empty(), "{}:\n{}", official.name, problems.join("\n"));
    }
    eprintln!("compared {compared} tensors");
}

/// The official decoder makes one layer and copies it.
#[test]
fn the_layers_of_a_dfine_decoder_start_alike_as_the_official_ones_do() {
    let official = models().iter().find(|official| official.name == "n").unwrap();
    let ours = drawn(official);
    let mut layers = 0;
    for (name, data) in &ours {
        let Some((layer, part)) =
            name.strip_prefix("decoder.decoder.layers.").and_then(|rest| rest.split_once('.'))
        else {
            continue;
        };
        assert_eq!(data, &ours[&format!("decoder.decoder.layers.0.{part}")], "{name}");
        layers += usize::from(layer != "0");
    }
    assert!(layers > 0);
    // What is not copied is drawn anew.
    let head = |index| &ours[&format!("decoder.dec_bbox_head.{index}.layers.0.weight")];
    assert_ne!(head(0), head(1));
}

#[test]
fn the_comparison_sees_another_spread_another_mean_and_another_constant() {
    let values: Vec<f32> = (0..1000).map(|index| (index as f32 - 499.5) / 500.0).collect();
    let uniform = 3_f64.sqrt().recip();
    assert_eq!(difference(&values, "weight", 0.0, uniform), None);
    assert!(difference(&values, "weight", 0.0, 1.15 * uniform).is_some());
    assert!(difference(&values, "weight", 0.2, uniform).is_some());
    assert!(difference(&values, "weight", 0.0, 0.0).is_some());
    assert_eq!(difference(&[-99_f32.ln(); 9], "bias", -4.595, 0.0), None);
    assert!(difference(&[-4.5; 9], "bias", -4.595, 0.0).is_some());
}
