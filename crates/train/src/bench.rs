//! The time of a training step and of an evaluation, stage by stage, on made-up images.

use std::time::Instant;

use burn::tensor::Device;
use deim_data::{Batch, Draws, Target};
use deim_model::Detector;
use deim_model::outputs::Outputs;
use deim_spec::Config;
use serde::Serialize;

use crate::criterion::Losses;
use crate::denoising;
use crate::ema::Ema;
use crate::evaluate::images;
use crate::optimizer::NamedGradients;
use crate::schedule::FlatCosine;
use crate::step::{Learner, Lesson, StepError, Watch};

/// Classes of the detectors that are timed: COCO's.
pub const CLASSES: usize = 80;

/// Milliseconds of one training step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct StepTimes {
    /// Denoising queries and the detector.
    pub forward: f64,
    /// Matching and losses, up to their values.
    pub criterion: f64,
    pub backward: f64,
    /// Clipping and AdamW.
    pub optimizer: f64,
    pub ema: f64,
}

impl StepTimes {
    pub fn total(&self) -> f64 {
        self.forward + self.criterion + self.backward + self.optimizer + self.ema
    }
}

/// Why a detector could not be timed.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    #[error(transparent)]
    Step(#[from] StepError),
    #[error("optimizer.groups: {0}")]
    Groups(#[from] regex::Error),
}

/// A batch of noise with eight to twelve boxes an image.
pub fn batch(size: usize, images: usize) -> Batch {
    let mut draws = Draws::new(0, "bench", &[]);
    let targets = (0..images).map(|image| {
        // Ten on average over five images, and for a single one.
        let count = if images > 1 { 8 + image * 3 % 5 } else { 10 };
        let labels = (0..count).map(|_| draws.below(CLASSES) as u32).collect();
        let boxes = (0..count).map(|_| {
            let [width, height] = [0; 2].map(|_| (0.05 + 0.35 * draws.unit()) as f32);
            let mut centre = |side: f32| side / 2.0 + (1.0 - side) * draws.unit() as f32;
            [centre(width), centre(height), width, height]
        });
        Target { boxes: boxes.collect(), labels }
    });
    let targets: Vec<Target> = targets.collect();
    let mut draws = Draws::new(0, "bench", &[1]);
    Batch {
        images: (0..images * 3 * size * size).map(|_| draws.unit() as f32).collect(),
        size,
        targets,
        image_ids: (0..images as i64).collect(),
        original_sizes: vec![[size as u32; 2]; images],
        dropped_boxes: 0,
    }
}

/// A detector and what trains it.
pub struct Training<'a> {
    config: &'a Config,
    device: Device,
    learner: Learner,
    schedule: FlatCosine,
    step: u64,
}

impl<'a> Training<'a> {
    /// A fresh detector on a device without gradients, and what trains it.
    pub fn new(config: &'a Config, device: &Device) -> Result<Self, BenchError> {
        let with_gradients = device.clone().autodiff();
        let detector = Detector::new(config, CLASSES, 0, &with_gradients);
        let averaged = Detector::new(config, CLASSES, 0, device);
        Ok(Self {
            config,
            learner: Learner::new(config, CLASSES, detector, averaged)?,
            schedule: FlatCosine::new(config, 1000),
            device: with_gradients,
            step: 0,
        })
    }

    /// A step of the training loop, with a clock.
    pub fn step(&mut self, batch: &Batch) -> Result<StepTimes, BenchError> {
        let mut stopwatch = Stopwatch { clock: Clock::start(), times: StepTimes::default() };
        let denoising = denoising::prepare(
            &batch.targets,
            CLASSES,
            self.learner.detector().queries([batch.size; 2]),
            &self.config.denoising,
            &mut Draws::new(0, "denoising", &[0, self.step]),
            &self.device,
        );
        let lesson = Lesson {
            images: images(batch, &self.device),
            targets: &batch.targets,
            denoising: denoising.as_ref(),
        };
        self.learner.step(lesson, &self.schedule, self.step, &mut stopwatch)?;
        self.step += 1;
        Ok(stopwatch.times)
    }
}

/// Takes the time of each stage of a step.
struct Stopwatch {
    clock: Clock,
    times: StepTimes,
}

impl Watch for Stopwatch {
    fn outputs(&mut self, _: &Outputs) {
        self.times.forward = self.clock.lap();
    }
    fn losses(&mut self, _: &Losses) {
        self.times.criterion = self.clock.lap();
    }
    fn gradients(&mut self, _: &NamedGradients) {
        self.times.backward = self.clock.lap();
    }
    fn updated(&mut self, _: &Detector) {
        self.times.optimizer = self.clock.lap();
    }
    fn averaged(&mut self, _: &Ema) {
        self.times.ema = self.clock.lap();
    }
}

/// A detector in evaluation mode.
pub struct Inference {
    detector: Detector,
    device: Device,
}

impl Inference {
    /// With random weights: they do not change the time.
    pub fn new(config: &Config, classes: usize, device: &Device) -> Self {
        Self { detector: Detector::new(config, classes, 0, device), device: device.clone() }
    }

    /// Milliseconds from images to logits and boxes.
    pub fn forward(&self, batch: &Batch) -> f64 {
        let mut clock = Clock::start();
        let prediction = self.detector.infer(images(batch, &self.device));
        // Wait for a device that works behind our back.
        drop((prediction.logits.into_data(), prediction.boxes.into_data()));
        clock.lap()
    }
}

struct Clock(Instant);

impl Clock {
    fn start() -> Self {
        Self(Instant::now())
    }

    /// Milliseconds since the last call.
    fn lap(&mut self) -> f64 {
        let milliseconds = 1000.0 * self.0.elapsed().as_secs_f64();
        *self = Self::start();
        milliseconds
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_has_ten_targets_an_image_inside_it() {
        let batch = batch(32, 5);
        let counts: usize = batch.targets.iter().map(|target| target.boxes.len()).sum();
        assert_eq!(counts, 50);
        for [x, y, width, height] in batch.targets.iter().flat_map(|target| &target.boxes) {
            for (centre, side) in [(x, width), (y, height)] {
                assert!(centre - side / 2.0 > -1e-6 && centre + side / 2.0 < 1.0 + 1e-6);
            }
        }
        assert_eq!(batch.images.len(), 5 * 3 * 32 * 32);
    }
}
