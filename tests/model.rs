//! The detector against the official code: RT-DETRv2-R18 with given weights and a given image.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::path::Path;

use burn::tensor::{Device, Tensor, TensorData};
use deim_model::{Detector, weights};
use deim_spec::Config;
use deim_spec::config::Block;
use deim_verify::fill::uniform;
use safetensors::SafeTensors;

const CASE: &str = "tests/reference/model_eval_r18";
const SEED: &str = "reference/model_eval/r18/320/0";
const SIDE: usize = 320;

/// DEIM-RT-DETRv2-R18 (deim-facts section 2), as it differs from the defaults.
fn r18() -> Config {
    let mut config = Config::default();
    config.model.backbone.block = Block::Basic;
    config.model.backbone.blocks = [2, 2, 2, 2];
    config.model.encoder.expansion = 0.5;
    config.model.decoder.layers = 3;
    config
}

/// The weights that the cases are made with: a function of each tensor's official name.
fn filled(name: &str, shape: &[usize]) -> Vec<f32> {
    let draws = uniform(name, shape.iter().product());
    let each = |value: &dyn Fn(f32) -> f32| draws.iter().map(|&f| value(f)).collect();
    if name.ends_with("running_var") {
        return each(&|f| 0.5 + f);
    }
    if name.ends_with("running_mean") {
        return each(&|f| 0.2 * (f - 0.5));
    }
    if shape.len() > 1 {
        let gain = if shape.len() == 4 && name.starts_with("encoder.") { 1.2 } else { 1.0 };
        let fan_in: usize = shape[1..].iter().product();
        let scale = (gain * (3.0 / fan_in as f64).sqrt()) as f32;
        return each(&|f| (2.0 * f - 1.0) * scale);
    }
    if !name.ends_with("bias") {
        return each(&|f| 0.75 + 0.5 * f);
    }
    if name.ends_with("enc_output.proj.bias") {
        return each(&|f| 0.001 * (f - 0.5));
    }
    let shift = if name.contains("score_head.") { 4.0 } else { 0.0 };
    each(&|f| 0.1 * (f - 0.5) - shift)
}

/// Blocks of eight by eight pixels with noise on them.
fn image() -> Tensor<4> {
    let blocks = SIDE / 8;
    let base = uniform(&format!("image:{SEED}"), 3 * blocks * blocks);
    let noise = uniform(&format!("noise:{SEED}"), 3 * SIDE * SIDE);
    let pixels: Vec<f32> = noise
        .iter()
        .enumerate()
        .map(|(index, noise)| {
            let (row, column) = (index / SIDE, index % SIDE);
            let block = (row / SIDE * blocks + row % SIDE / 8) * blocks + column / 8;
            0.8 * base[block] + 0.2 * noise
        })
        .collect();
    Tensor::from_data(TensorData::new(pixels, [1, 3, SIDE, SIDE]), &Device::flex())
}

#[test]
fn rtdetrv2_r18_predicts_what_the_official_model_predicts() {
    let detector = Detector::new(&r18(), 80, 0, &Device::flex());
    let tensors: BTreeMap<String, TensorData> = weights::read(&detector)
        .into_iter()
        .map(|(name, data)| {
            let shape = data.shape.to_vec();
            let values = filled(&name, &shape);
            (name, TensorData::new(values, shape))
        })
        .collect();
    let detector = weights::load(detector, &tensors).unwrap();
    let prediction = detector.infer(image());

    let bytes = std::fs::read(Path::new(CASE).join("tensors.safetensors")).unwrap();
    let case = SafeTensors::deserialize(&bytes).unwrap();
    // Tolerances of the case.
    for (name, ours, tolerance) in
        [("pred_logits", prediction.logits, 2e-4_f32), ("pred_boxes", prediction.boxes, 2e-5)]
    {
        let expected = case.tensor(name).unwrap();
        let expected: Vec<f32> = expected
            .data()
            .chunks_exact(4)
            .map(|bytes| f32::from_le_bytes(bytes.try_into().unwrap()))
            .collect();
        let ours: Vec<f32> = ours.into_data().iter().collect();
        assert_eq!(ours.len(), expected.len());
        let worst = ours.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(worst <= tolerance, "{name} is off by {worst}, more than {tolerance}");
    }
}

#[test]
fn a_detector_of_another_seed_starts_from_other_weights_and_one_of_the_same_seed_does_not() {
    let first =
        |seed| weights::read(&Detector::new(&r18(), 3, seed, &Device::flex())).swap_remove(0);
    assert_eq!(first(7), first(7));
    assert_ne!(first(7), first(8));
}
