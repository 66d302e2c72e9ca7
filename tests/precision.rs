//! A training step in bf16 beside the same in float32: what is in which precision, and how far the
//! losses are apart.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::process::Command;

use burn::tensor::{DType, Device, Tensor, TensorData};
use deim_data::{Draws, Target};
use deim_model::outputs::{DecoderOutputs, Outputs};
use deim_model::{Detector, weights};
use deim_spec::config::Precision;
use deim_spec::{Config, Options};
use deim_train::denoising;
use deim_train::optimizer::NamedGradients;
use deim_train::schedule::FlatCosine;
use deim_train::step::{Learner, Lesson, StepResult, Watch};

const SIDE: usize = 96;
const CLASSES: usize = 3;
const BATCH: usize = 4;
const FAMILIES: [&str; 2] = ["mini", "mini-dfine"];

fn config(scale: &str, precision: Precision) -> Config {
    let options = Options { scale: Some(scale.into()), seeds: Some(1), set: vec![] };
    let experiment = deim_spec::load("experiments".as_ref(), "components", &options).unwrap();
    let mut config = experiment.rows[0].config.clone();
    config.model.precision = precision;
    config
}

/// What a step shows of its tensors.
#[derive(Default)]
struct Seen {
    features: Vec<DType>,
    encoded: Vec<DType>,
    /// Of boxes, logits, corners and references of every head.
    outputs: Vec<DType>,
    boxes: Vec<f32>,
    gradients: NamedGradients,
}

impl Watch for Seen {
    fn features(&mut self, levels: &[Tensor<4>]) {
        self.features = levels.iter().map(Tensor::dtype).collect();
    }
    fn encoded(&mut self, levels: &[Tensor<4>]) {
        self.encoded = levels.iter().map(Tensor::dtype).collect();
    }
    fn outputs(&mut self, outputs: &Outputs) {
        let groups: Vec<&DecoderOutputs> =
            std::iter::once(&outputs.matching).chain(&outputs.denoising).collect();
        let heads = groups.iter().flat_map(|group| group.layers.iter().chain(&group.pre));
        for head in heads.chain([&outputs.encoder]) {
            self.outputs.extend([head.logits.dtype(), head.boxes.dtype()]);
            self.outputs.extend(head.corners.as_ref().map(Tensor::dtype));
            self.boxes.extend(head.boxes.clone().into_data().iter::<f32>());
        }
        let references = groups.iter().filter_map(|group| group.reference.as_ref());
        self.outputs.extend(references.map(Tensor::dtype));
    }
    fn gradients(&mut self, gradients: &NamedGradients) {
        self.gradients = gradients.clone();
    }
}

/// Some steps on images of noise; the last one's results.
fn train(config: &Config, steps: u64) -> (Learner, StepResult, Seen) {
    let plain = Device::flex();
    let device = plain.clone().autodiff();
    let targets: Vec<Target> = (0..BATCH)
        .map(|image| {
            let boxes = (0..=image).map(|at| [0.3 + 0.1 * at as f32, 0.5, 0.2, 0.15]);
            Target {
                labels: (0..=image).map(|at| (at % CLASSES) as u32).collect(),
                boxes: boxes.collect(),
            }
        })
        .collect();
    let detector = Detector::new(config, CLASSES, 0, &device);
    let averaged = Detector::new(config, CLASSES, 0, &plain);
    let mut learner = Learner::new(config, CLASSES, detector, averaged).unwrap();
    let schedule =
        FlatCosine { warmup: 0, flat: 99, tail: 0, total: 99, gamma: 1.0, first_divisor: 1 };
    let mut last = None;
    for step in 0..steps {
        let mut draws = Draws::new(0, "test", &[step]);
        let count = BATCH * 3 * SIDE * SIDE;
        let pixels: Vec<f32> = (0..count).map(|_| draws.unit() as f32).collect();
        let images = Tensor::from_data(TensorData::new(pixels, [BATCH, 3, SIDE, SIDE]), &device);
        let queries = learner.detector().queries([SIDE; 2]);
        let noised =
            denoising::prepare(&targets, CLASSES, queries, &config.denoising, &mut draws, &device);
        let lesson = Lesson { images, targets: &targets, denoising: noised.as_ref() };
        let mut seen = Seen::default();
        let result = learner.step(lesson, &schedule, step, &mut seen).unwrap();
        last = Some((result, seen));
    }
    let (result, seen) = last.unwrap();
    (learner, result, seen)
}

/// The share of numbers that bf16 does not have.
fn finer_than_bf16(values: impl IntoIterator<Item = f32>) -> f64 {
    let (mut finer, mut count) = (0, 0);
    for value in values {
        finer += usize::from(value.to_bits() & 0xFFFF != 0);
        count += 1;
    }
    assert!(count > 0, "no numbers");
    finer as f64 / f64::from(count)
}

#[test]
fn layers_are_in_bf16_and_predictions_are_not() {
    for family in FAMILIES {
        let (_, _, seen) = train(&config(family, Precision::Bf16), 2);
        for levels in [&seen.features, &seen.encoded] {
            assert!(levels.iter().all(|&precision| precision == DType::BF16), "{family}");
        }
        assert!(seen.outputs.iter().all(|&precision| precision == DType::F32), "{family}");
        // Boxes that were rounded on their way would be 8 bits long; a few are by chance.
        let finer = finer_than_bf16(seen.boxes);
        assert!(finer > 0.99, "{family}: bf16 has all but {finer} of the boxes");
    }
}

#[test]
fn everything_that_a_step_in_bf16_keeps_is_in_float32() {
    for family in FAMILIES {
        let (learner, _, seen) = train(&config(family, Precision::Bf16), 2);
        for (name, gradient) in &seen.gradients {
            assert_eq!(gradient.dtype(), DType::F32, "{family}: {name}");
            let data = gradient.clone().into_data();
            assert!(data.iter::<f32>().all(f32::is_finite), "{family}: {name}");
            // A convolution's gradient comes out of bf16 arithmetic, a head's does not.
            let finer = finer_than_bf16(data.iter::<f32>());
            if name.ends_with("conv.weight") {
                assert_eq!(finer, 0.0, "{family}: {name}");
            } else if name.contains("score_head") {
                assert!(finer > 0.9, "{family}: {name} {finer}");
            }
        }
        let (_, moments) = learner.optimizer.state();
        assert!(!moments.is_empty());
        let parameters = weights::read(learner.detector());
        for (name, data) in moments.iter().chain(&parameters) {
            assert_eq!(data.dtype, DType::F32, "{family}: {name}");
        }
        for (name, data) in weights::read(&learner.ema.detector) {
            assert_eq!(data.dtype, DType::F32, "{family}: {name}");
            if weights::is_buffer(&name) {
                let finer = finer_than_bf16(data.iter::<f32>());
                assert!(finer > 0.9, "{family}: {name} {finer}");
            }
        }
    }
}

/// How far a loss may be from float32's, as a share of it.
fn allowed(term: &str) -> f64 {
    match (term.contains("_dn_"), term.starts_with("loss_vfl")) {
        // Nothing is chosen, and boxes are in float32 from the noise on: two roundings of bf16.
        (true, false) => 2_f64.powi(-8),
        // Scores come out of all layers and attention in bf16.
        (true, true) => 0.02,
        // Ten targets, and near-equal queries change places: two of them.
        (false, _) => 0.2,
    }
}

#[test]
fn losses_in_bf16_are_those_in_float32_up_to_its_rounding() {
    for family in FAMILIES {
        let [single, half] = [Precision::F32, Precision::Bf16].map(|precision| {
            let mut config = config(family, precision);
            // All tokens become queries: which ones are chosen decides more about a loss than any
            // rounding does. And the second step, because the heads of boxes start at zero.
            config.model.queries = 1000;
            train(&config, 2).1
        });
        assert_eq!(single.terms.len(), half.terms.len(), "{family}");
        for ((name, single), (other, half)) in single.terms.iter().zip(&half.terms) {
            assert_eq!(name, other, "{family}");
            // The edges of two layers are still nearly alike: their distance is none to speak of.
            let share = (half - single).abs() / single.max(1e-2);
            assert!(share < allowed(name), "{family}: {name}: {half}, in float32 {single}");
        }
        let share = (half.loss - single.loss).abs() / single.loss;
        assert!(share < 0.03, "{family}: {}, in float32 {}", half.loss, single.loss);
        assert!(share > 0.0, "{family}: bf16 changed nothing, so it was not used");
    }
}

#[test]
fn a_plan_in_bf16_on_a_cpu_says_that_it_is_slower() {
    let notes = |precision: &str| {
        let set = format!("model.precision={precision}");
        let arguments = ["plan", "gamma", "--scale", "mini", "--set", &set];
        let output = Command::new(env!("CARGO_BIN_EXE_deim")).args(arguments).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stderr).unwrap()
    };
    assert!(notes("bf16").contains("slower than f32"));
    assert_eq!(notes("f32"), "");
}
