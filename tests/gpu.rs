//! The whole program on a GPU-like device: reference cases, a cell from its first step to its record,
//! and two devices for one cell. With the feature `vulkan` on a Vulkan device, for which Mesa's software
//! one will do; with `cuda` alone, or `DEIM_TEST_DEVICE=cuda` beside it, on CUDA.
#![cfg(any(feature = "cuda", feature = "vulkan"))]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod micro;

use std::collections::BTreeMap;
use std::process::Command;

use burn::tensor::{Device, Tensor, TensorData};
use deim_data::{Draws, Target};
use deim_lab::Devices;
use deim_model::Detector;
use deim_model::outputs::Outputs;
use deim_spec::{Config, Options};
use deim_train::denoising;
use deim_train::optimizer::NamedGradients;
use deim_train::schedule::FlatCosine;
use deim_train::step::{Learner, Lesson, Watch};
use micro::Lab;

fn device() -> String {
    let usual = if cfg!(feature = "vulkan") { "vulkan" } else { "cuda" };
    std::env::var("DEIM_TEST_DEVICE").unwrap_or_else(|_| usual.to_owned())
}

/// `deim verify` of some of the committed cases.
fn verify(sections: &[&str]) {
    let cases = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/reference/cases");
    let mut deim = Command::new(env!("CARGO_BIN_EXE_deim"));
    deim.args(["verify", "--device", &device()]);
    deim.args(sections.iter().map(|section| format!("{cases}/{section}")));
    let output = deim.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}\n{errors}");
}

#[test]
fn losses_matching_and_the_decoders_mathematics_equal_the_official_ones() {
    verify(&["losses", "matcher", "denoising", "dfine_math"]);
}

#[test]
fn whole_detectors_equal_the_official_ones() {
    verify(&["model_eval"]);
}

#[test]
fn cells_train_to_their_record_and_are_not_trained_again() {
    let lab = Lab::new();
    let ledger = lab.path().join("results/micro/default/ledger.jsonl");
    let train = || {
        let told = lab.deim(&["ablation", "micro", "--device", &device(), "--jobs", "1"]);
        assert_eq!(told.code, Some(0), "{told}");
        std::fs::read_to_string(&ledger).unwrap()
    };
    let first = train();
    assert_eq!(first.matches("\"event\":\"finished\"").count(), 2, "{first}");
    assert_eq!(train(), first);
}

#[test]
fn two_devices_share_a_cell() {
    let lab = Lab::new();
    let both = match device().as_str() {
        "vulkan" => "vulkan,vulkan".to_owned(),
        other => format!("{other}:0,1"),
    };
    let trained = lab.deim(&["bench", "noise", "micro", "--steps", "3", "--device", &both]);
    assert_eq!(trained.code, Some(0), "{trained}");
    assert!(trained.out.contains("2 runs of 3 steps"), "{trained}");
}

/// Small enough for a software device: Mesa's gives up on a unit that goes through more than 65535 turns
/// of its loops, and says nothing, which is where the gradients of convolutions over larger images end.
const SIDE: usize = 128;
const CLASSES: usize = 3;
const BATCH: usize = 2;

/// What a step computed, by name.
#[derive(Default)]
struct Seen(BTreeMap<String, Vec<f32>>);

impl Seen {
    fn put<const D: usize>(&mut self, name: String, tensor: &Tensor<D>) {
        self.0.insert(name, tensor.clone().detach().into_data().iter::<f32>().collect());
    }
}

impl Watch for Seen {
    fn images(&mut self, images: &Tensor<4>) {
        self.put("images".into(), images);
    }
    fn features(&mut self, levels: &[Tensor<4>]) {
        levels.iter().enumerate().for_each(|(at, level)| self.put(format!("backbone {at}"), level));
    }
    fn encoded(&mut self, levels: &[Tensor<4>]) {
        levels.iter().enumerate().for_each(|(at, level)| self.put(format!("encoder {at}"), level));
    }
    fn outputs(&mut self, outputs: &Outputs) {
        for (at, layer) in outputs.matching.layers.iter().enumerate() {
            self.put(format!("logits {at}"), &layer.logits);
            self.put(format!("boxes {at}"), &layer.boxes);
        }
    }
    fn gradients(&mut self, gradients: &NamedGradients) {
        gradients.iter().for_each(|(name, tensor)| self.put(format!("gradient {name}"), tensor));
    }
}

/// A step on images of noise.
fn step(config: &Config, plain: &Device) -> Seen {
    let device = plain.clone().autodiff();
    let target = |image| {
        let boxes: Vec<[f32; 4]> =
            (0..=image).map(|at| [0.3 + 0.1 * at as f32, 0.5, 0.2, 0.15]).collect();
        Target { labels: (0..=image).map(|at| at as u32).collect(), boxes }
    };
    let targets: Vec<Target> = (0..BATCH).map(target).collect();
    let detector = Detector::new(config, CLASSES, 0, &device);
    let averaged = Detector::new(config, CLASSES, 0, plain);
    let mut learner = Learner::new(config, CLASSES, detector, averaged).unwrap();
    let schedule =
        FlatCosine { warmup: 0, flat: 99, tail: 0, total: 99, gamma: 1.0, first_divisor: 1 };
    let mut draws = Draws::new(0, "test", &[]);
    let count = BATCH * 3 * SIDE * SIDE;
    let pixels: Vec<f32> = (0..count).map(|_| draws.unit() as f32).collect();
    let images = Tensor::from_data(TensorData::new(pixels, [BATCH, 3, SIDE, SIDE]), &device);
    let queries = learner.detector().queries([SIDE; 2]);
    let noised =
        denoising::prepare(&targets, CLASSES, queries, &config.denoising, &mut draws, &device);
    let lesson = Lesson { images, targets: &targets, denoising: noised.as_ref() };
    let mut seen = Seen::default();
    let result = learner.step(lesson, &schedule, 0, &mut seen).unwrap();
    seen.0.extend(result.terms.into_iter().map(|(name, value)| (name, vec![value as f32])));
    seen
}

fn length(values: impl Iterator<Item = f32>) -> f64 {
    values.map(|value| f64::from(value).powi(2)).sum::<f64>().sqrt()
}

/// The length of the difference, and that of the first.
fn apart(one: &[f32], other: &[f32]) -> (f64, f64) {
    assert_eq!(one.len(), other.len());
    (length(one.iter().zip(other).map(|(a, b)| a - b)), length(one.iter().copied()))
}

#[test]
fn a_step_on_the_device_is_that_of_the_cpu() {
    let devices: Devices = device().parse().unwrap();
    let device = devices.first().open().unwrap();
    for scale in ["mini", "mini-dfine"] {
        let options = Options { scale: Some(scale.into()), seeds: Some(1), set: vec![] };
        let experiment = deim_spec::load("experiments".as_ref(), "components", &options).unwrap();
        let config = &experiment.rows[0].config;
        let [expected, found] = [&Device::flex(), &device].map(|device| step(config, device));
        let names = |seen: &Seen| seen.0.keys().cloned().collect::<Vec<_>>();
        assert_eq!(names(&found), names(&expected));
        let gradients = expected.0.iter().filter(|(name, _)| name.starts_with("gradient"));
        let whole = length(gradients.flat_map(|(_, values)| values.iter().copied()));
        for (name, values) in &expected.0 {
            // Points start on the borders between cells, where the slopes of both sides are right.
            if name.contains("sampling_offsets") {
                continue;
            }
            let (difference, size) = apart(values, &found.0[name]);
            // Some gradients are cancellation alone: rounding is all of them.
            let size = if name.starts_with("gradient") { size + 0.01 * whole } else { size };
            assert!(difference <= 2e-4 * size, "{scale}: {name}: {difference:e} of {size:e}");
        }
    }
}
