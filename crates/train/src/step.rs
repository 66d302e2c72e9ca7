//! One training step: forward, criterion, backward, clipping and AdamW, moving average.

use std::collections::BTreeMap;

use burn::tensor::{Device, Tensor};
use deim_data::Target;
use deim_model::Detector;
use deim_model::outputs::Outputs;
use deim_spec::Config;
use deim_spec::config::Precision;

use crate::criterion::{Criterion, CriterionError, Losses, Matches};
use crate::denoising::Denoising;
use crate::ema::Ema;
use crate::optimizer::{NamedGradients, Optimizer};
use crate::pass::{Learnt, learn, look};
use crate::plan::Counts;
use crate::ranks::{Ranks, Share, together};
use crate::schedule::FlatCosine;

/// Everything that a step changes.
pub struct Learner {
    /// `None` only within a step, while the optimizer rebuilds it.
    detector: Option<Detector>,
    pub ema: Ema,
    criterion: Criterion,
    pub optimizer: Optimizer,
    /// The devices beside the detector's.
    ranks: Ranks,
    precision: Precision,
}

/// What a step learns from.
#[derive(Clone, Debug)]
pub struct Lesson<'a> {
    /// `[batch, 3, h, w]` on the detector's device.
    pub images: Tensor<4>,
    pub targets: &'a [Target],
    /// The denoising queries made from the targets.
    pub denoising: Option<&'a Denoising>,
}

/// What a step gave.
#[derive(Clone, Debug, PartialEq)]
pub struct StepResult {
    /// The sum of the terms.
    pub loss: f64,
    /// Each weighted loss by its official name.
    pub terms: Vec<(String, f64)>,
    /// Queries of the last layer that were matched to a target.
    pub positives: usize,
    /// What did not go as usual, with its count.
    pub notes: BTreeMap<String, u64>,
}

/// Why a step could not be made.
#[derive(Debug, thiserror::Error)]
pub enum StepError {
    #[error(transparent)]
    Criterion(#[from] CriterionError),
    #[error("the loss is not finite: {0}")]
    NotFinite(String),
    #[error("reading the losses back from the device: {0}")]
    Device(String),
    #[error("a device that shares the batch is lost; its own message stands above")]
    RankLost,
    #[error("the devices that share the batch were not at the same batch norm")]
    Apart,
}

/// Sees a step's stages as they pass: to time them, or to compare them with a reference.
///
/// Each method is called when its stage is done; all of them do nothing unless overridden.
pub trait Watch {
    /// What the step sees, before its first stage.
    fn images(&mut self, _images: &Tensor<4>) {}
    /// The backbone's levels, finest first.
    fn features(&mut self, _levels: &[Tensor<4>]) {}
    /// The encoder's levels.
    fn encoded(&mut self, _levels: &[Tensor<4>]) {}
    /// The predictions of every head.
    fn outputs(&mut self, _outputs: &Outputs) {}
    /// Who learns from which target; a watcher may put other matches in their place.
    fn matches(&mut self, _matches: &mut Matches) {}
    /// The losses, with their values read back.
    fn losses(&mut self, _losses: &Losses) {}
    /// The gradients before clipping.
    fn gradients(&mut self, _gradients: &NamedGradients) {}
    /// The detector after the optimizer.
    fn updated(&mut self, _detector: &Detector) {}
    /// The moving average after the step.
    fn averaged(&mut self, _ema: &Ema) {}
}

/// Looks away.
impl Watch for () {}

impl Learner {
    /// What trains a detector on a device with gradients; `averaged` is the same on a device without.
    pub fn new(
        config: &Config,
        classes: usize,
        detector: Detector,
        averaged: Detector,
    ) -> Result<Self, regex::Error> {
        Ok(Self {
            ema: Ema::new(&config.ema, averaged),
            criterion: Criterion::new(config, classes),
            optimizer: Optimizer::new(&config.optimizer, &detector)?,
            ranks: Ranks::default(),
            precision: config.model.precision,
            detector: Some(detector),
        })
    }

    /// The same with other devices, without gradients, that share every batch with the detector's.
    pub fn with_devices(self, config: &Config, others: &[Device]) -> Self {
        let first = self.ema.device();
        let ranks = Ranks::start(config, self.criterion.classes(), &first, others);
        Self { ranks, ..self }
    }

    /// The detector that trains.
    pub fn detector(&self) -> &Detector {
        self.detector.as_ref().expect("a detector between two steps")
    }

    /// Puts another detector in its place, for example one from a checkpoint.
    pub fn replace<E>(
        &mut self,
        change: impl FnOnce(Detector) -> Result<Detector, E>,
    ) -> Result<(), E> {
        self.detector = Some(change(self.detector().clone())?);
        Ok(())
    }

    /// Makes a step. An error leaves everything as it was, but for the batch norms' statistics.
    pub fn step(
        &mut self,
        lesson: Lesson<'_>,
        schedule: &FlatCosine,
        iteration: u64,
        watch: &mut dyn Watch,
    ) -> Result<StepResult, StepError> {
        self.step_together(lesson, Vec::new(), schedule, iteration, watch)
    }

    /// Makes a step on all devices, each with its part of the batch; the first is watched. After an
    /// error the other devices take part in no further step.
    pub(crate) fn step_together(
        &mut self,
        lesson: Lesson<'_>,
        shares: Vec<Share>,
        schedule: &FlatCosine,
        iteration: u64,
        watch: &mut dyn Watch,
    ) -> Result<StepResult, StepError> {
        assert_eq!(shares.len(), self.ranks.len(), "a share for each device beside the first");
        let (detector, criterion, ranks) = (self.detector(), &self.criterion, &self.ranks);
        let attendee = ranks.look(detector, shares)?;
        let seen = attendee.attend(|| look(detector, criterion, self.precision, lesson, watch))?;
        let mut counts = vec![seen.counts];
        counts.extend(ranks.counts()?);
        let counts = Counts::mean(&counts);
        ranks.learn(counts)?;
        let learnt = learn(detector, criterion, seen, counts, watch)?;
        let learnt = together(learnt, ranks.learnt()?);
        if attendee.failed() {
            return Err(StepError::Apart);
        }
        let Learnt { terms, positives, notes, gradients } = learnt;
        watch.gradients(&gradients);

        let detector = self.detector.take().expect("a detector between two steps");
        let detector = self.optimizer.update(detector, gradients, schedule, iteration);
        watch.updated(&detector);
        self.ema.update(&detector);
        self.detector = Some(detector);
        watch.averaged(&self.ema);
        let loss = terms.iter().map(|(_, value)| value).sum();
        Ok(StepResult { loss, terms, positives, notes })
    }
}
