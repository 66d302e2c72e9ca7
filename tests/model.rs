//! Detectors as the trainer uses them: where they start, and that they train through odd batches.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use burn::tensor::{Device, Tensor, TensorData};
use deim_data::{Draws, Target};
use deim_model::{Detector, weights};
use deim_spec::{Config, Options};
use deim_train::denoising;
use deim_train::schedule::FlatCosine;
use deim_train::step::{Learner, Lesson, StepResult};

const SIDE: usize = 64;
const CLASSES: usize = 3;

/// The mini detector of a scale of the experiment `components`.
fn mini(scale: &str) -> Config {
    let options = Options { scale: Some(scale.into()), seeds: Some(1), set: vec![] };
    let experiment = deim_spec::load("experiments".as_ref(), "components", &options).unwrap();
    experiment.rows[0].config.clone()
}

#[test]
fn a_detector_of_another_seed_starts_from_other_weights_and_one_of_the_same_seed_does_not() {
    for scale in ["mini", "mini-dfine"] {
        let config = mini(scale);
        let first = |seed| {
            weights::read(&Detector::new(&config, CLASSES, seed, &Device::flex())).swap_remove(0)
        };
        assert_eq!(first(7), first(7));
        assert_ne!(first(7), first(8));
    }
}

fn target(count: usize) -> Target {
    let boxes = (0..count).map(|at| [0.3 + 0.04 * at as f32, 0.5, 0.2, 0.1 + 0.02 * at as f32]);
    Target { labels: (0..count).map(|at| (at % CLASSES) as u32).collect(), boxes: boxes.collect() }
}

/// Three steps on images of noise with so many targets each; the learner and the last step's result.
fn train(config: &Config, counts: &[usize]) -> (Learner, StepResult) {
    let plain = Device::flex();
    let device = plain.clone().autodiff();
    let targets: Vec<Target> = counts.iter().map(|&count| target(count)).collect();
    let detector = Detector::new(config, CLASSES, 0, &device);
    let averaged = Detector::new(config, CLASSES, 0, &plain);
    let mut learner = Learner::new(config, CLASSES, detector, averaged).unwrap();
    let schedule =
        FlatCosine { warmup: 0, flat: 9, tail: 0, total: 9, gamma: 1.0, first_divisor: 1 };
    let mut result = None;
    for step in 0..3 {
        let mut draws = Draws::new(0, "test", &[step]);
        let pixels: Vec<f32> =
            (0..counts.len() * 3 * SIDE * SIDE).map(|_| draws.unit() as f32).collect();
        let images =
            Tensor::from_data(TensorData::new(pixels, [counts.len(), 3, SIDE, SIDE]), &device);
        let queries = learner.detector().queries([SIDE; 2]);
        let noised =
            denoising::prepare(&targets, CLASSES, queries, &config.denoising, &mut draws, &device);
        let lesson = Lesson { images, targets: &targets, denoising: noised.as_ref() };
        result = Some(learner.step(lesson, &schedule, step, &mut ()).unwrap());
    }
    (learner, result.unwrap())
}

#[test]
fn both_families_train_through_empty_images_empty_batches_and_more_targets_than_queries() {
    for scale in ["mini", "mini-dfine"] {
        let mut config = mini(scale);
        config.model.queries = 5;
        for counts in [&[2, 0][..], &[0, 0], &[9, 1]] {
            let (learner, result) = train(&config, counts);
            assert!(result.loss.is_finite(), "{scale} {counts:?}: {result:?}");
            let matched: usize = counts.iter().map(|&count| count.min(5)).sum();
            assert_eq!(result.positives, matched, "{scale} {counts:?}");
            let left_out = result.notes.get("targets_without_query").copied();
            assert_eq!(left_out, (counts[0] > 5).then_some(4), "{scale} {counts:?}");
            let denoising = result.terms.iter().any(|(name, _)| name.contains("_dn_"));
            assert_eq!(denoising, matched > 0, "{scale} {counts:?}");
            let fresh = Detector::new(&config, CLASSES, 0, &Device::flex());
            for ((name, after), (_, before)) in
                weights::read(learner.detector()).into_iter().zip(weights::read(&fresh))
            {
                assert!(after.iter::<f32>().all(f32::is_finite), "{scale} {counts:?}: {name}");
                // The class heads learn from every image, with targets or without.
                if name.starts_with("decoder.dec_score_head") && name.ends_with("bias") {
                    assert_ne!(after, before, "{scale} {counts:?}: {name} did not train");
                }
            }
        }
    }
}

#[test]
fn only_the_family_with_edges_has_edge_losses() {
    for (scale, edges) in [("mini", false), ("mini-dfine", true)] {
        let (_, result) = train(&mini(scale), &[2, 1]);
        for name in ["loss_fgl", "loss_ddf_aux_0", "loss_bbox_pre", "loss_bbox_dn_pre"] {
            let found = result.terms.iter().any(|(term, _)| term == name);
            assert_eq!(found, edges, "{scale}: {name}");
        }
    }
}
