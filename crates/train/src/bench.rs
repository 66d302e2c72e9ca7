//! The time of a training step and of an evaluation, stage by stage, on made-up images.

use std::time::Instant;

use burn::tensor::Device;
use deim_data::{Batch, Bytes, Draws, Planes, Target};
use deim_model::Detector;
use deim_model::outputs::Outputs;
use deim_spec::Config;
use serde::Serialize;

use crate::criterion::{Losses, Matches};
use crate::denoising;
use crate::ema::Ema;
use crate::optimizer::NamedGradients;
use crate::schedule::FlatCosine;
use crate::step::{Learner, Lesson, StepError, Watch};
use crate::upload::{images, wants_bytes};

/// Classes of the detectors that are timed: COCO's.
pub const CLASSES: usize = 80;

/// Milliseconds of one training step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct StepTimes {
    /// Images to the device, denoising queries and the detector.
    pub forward: f64,
    /// Predictions to the host and their matching.
    pub matching: f64,
    /// The losses, up to their values.
    pub criterion: f64,
    pub backward: f64,
    /// Clipping and AdamW.
    pub optimizer: f64,
    pub ema: f64,
}

impl StepTimes {
    pub fn total(&self) -> f64 {
        self.forward + self.matching + self.criterion + self.backward + self.optimizer + self.ema
    }
}

/// Why a detector could not be timed.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    #[error(transparent)]
    Step(#[from] StepError),
    #[error("optimizer.groups: {0}")]
    Groups(#[from] regex::Error),
    #[error("the device failed: {0}")]
    Device(String),
}

/// A batch of noise with eight to twelve boxes an image, of COCO's classes.
pub fn batch(size: usize, images: usize) -> Batch {
    batch_of(size, images, CLASSES)
}

/// The same of so many classes.
pub fn batch_of(size: usize, images: usize, classes: usize) -> Batch {
    let mut draws = Draws::new(0, "bench", &[]);
    let targets = (0..images).map(|image| {
        // Ten on average over five images, and for a single one.
        let count = if images > 1 { 8 + image * 3 % 5 } else { 10 };
        let labels = (0..count).map(|_| draws.below(classes) as u32).collect();
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
        bytes: None,
        size,
        targets,
        image_ids: (0..images as i64).collect(),
        original_sizes: vec![[size as u32; 2]; images],
        dropped_boxes: 0,
    }
}

/// The batch as a loader gives it for this device.
pub fn carried(batch: Batch, device: &Device) -> Batch {
    if !wants_bytes(std::slice::from_ref(device)) {
        return batch;
    }
    let planes = batch.images.iter().map(|share| (share * 255.0).round() as u8).collect();
    let bytes = Bytes { planes, side: batch.size, own_share: None };
    Batch { images: Planes::default(), bytes: Some(bytes), ..batch }
}

/// A detector and what trains it.
pub struct Training<'a> {
    config: &'a Config,
    classes: usize,
    device: Device,
    learner: Learner,
    schedule: FlatCosine,
    step: u64,
}

impl<'a> Training<'a> {
    /// A fresh detector on a device without gradients, and what trains it.
    pub fn new(config: &'a Config, classes: usize, device: &Device) -> Result<Self, BenchError> {
        let with_gradients = device.clone().autodiff();
        let detector = Detector::new(config, classes, 0, &with_gradients);
        let averaged = Detector::new(config, classes, 0, device);
        Ok(Self {
            config,
            classes,
            learner: Learner::new(config, classes, detector, averaged)?,
            schedule: FlatCosine::new(config, 1000),
            device: with_gradients,
            step: 0,
        })
    }

    /// A step of the training loop, with a clock that waits for the device after each stage.
    pub fn step(&mut self, batch: &Batch) -> Result<StepTimes, BenchError> {
        let clock = Clock::start();
        let device = self.device.clone();
        let mut stopwatch = Stopwatch { clock, device, times: StepTimes::default() };
        self.watched(batch, &mut stopwatch)?;
        Ok(stopwatch.times)
    }

    /// Milliseconds of a step that waits for the device only where training does.
    pub fn unwatched_step(&mut self, batch: &Batch) -> Result<f64, BenchError> {
        let mut clock = Clock::start();
        self.watched(batch, &mut ())?;
        Ok(clock.lap())
    }

    /// Waits until the device has done everything.
    pub fn wait(&self) -> Result<(), BenchError> {
        self.device.sync().map_err(|error| BenchError::Device(error.to_string()))
    }

    fn watched(&mut self, batch: &Batch, watch: &mut dyn Watch) -> Result<(), BenchError> {
        let denoising = denoising::prepare(
            &batch.targets,
            self.classes,
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
        self.learner.step(lesson, &self.schedule, self.step, watch)?;
        self.step += 1;
        Ok(())
    }
}

/// Takes the time of each stage of a step.
struct Stopwatch {
    clock: Clock,
    device: Device,
    times: StepTimes,
}

impl Stopwatch {
    /// Milliseconds of the stage that has just been asked for.
    fn lap(&mut self) -> f64 {
        // What fails here fails again, with its reason, where the step reads from the device.
        let _ = self.device.sync();
        self.clock.lap()
    }
}

impl Watch for Stopwatch {
    fn outputs(&mut self, _: &Outputs) {
        self.times.forward = self.lap();
    }
    fn matches(&mut self, _: &mut Matches) {
        self.times.matching = self.lap();
    }
    fn losses(&mut self, _: &Losses) {
        self.times.criterion = self.lap();
    }
    fn gradients(&mut self, _: &NamedGradients) {
        self.times.backward = self.lap();
    }
    fn updated(&mut self, _: &Detector) {
        self.times.optimizer = self.lap();
    }
    fn averaged(&mut self, _: &Ema) {
        self.times.ema = self.lap();
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
    pub fn forward(&self, batch: &Batch) -> Result<f64, BenchError> {
        let mut clock = Clock::start();
        let prediction = self.detector.infer(images(batch, &self.device));
        // Wait for a device that works behind our back.
        deim_ops::read_both(prediction.logits, prediction.boxes).map_err(BenchError::Device)?;
        Ok(clock.lap())
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

    #[test]
    fn a_step_reads_for_its_queries_its_matchings_and_its_losses_and_no_more() {
        // For all matchings, and for the losses; and for the queries, which a GPU finds by itself. Each
        // reading makes a GPU wait.
        let experiments = concat!(env!("CARGO_MANIFEST_DIR"), "/../../experiments");
        for name in ["gamma", "components"] {
            let options = deim_spec::Options::default();
            let experiment = deim_spec::load(experiments.as_ref(), name, &options).unwrap();
            let device = Device::flex();
            let config = &experiment.rows[0].config;
            let mut training = Training::new(config, 3, &device).unwrap();
            let batch = batch_of(64, 2, 3);
            let before = deim_ops::readings();
            training.unwatched_step(&batch).unwrap();
            assert_eq!(deim_ops::readings() - before, 3, "{name}");

            let detector = Detector::new(config, 3, 0, &device);
            let before = deim_ops::readings();
            let prediction = detector.infer(images(&batch, &device));
            crate::postprocess::rank(prediction, &batch.original_sizes, 300);
            assert_eq!(deim_ops::readings() - before, 2, "{name}: evaluation");
        }
    }
}
