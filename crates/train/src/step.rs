//! One training step: forward, criterion, backward, clipping and AdamW, moving average.

use std::collections::BTreeMap;

use burn::tensor::{DType, Tensor};
use deim_data::Target;
use deim_model::Detector;
use deim_model::outputs::Outputs;
use deim_spec::Config;
use deim_spec::config::Precision;

use crate::criterion::{Criterion, CriterionError, Losses, Matches};
use crate::denoising::Denoising;
use crate::ema::Ema;
use crate::heads::{Gathered, Heads};
use crate::optimizer::{self, NamedGradients, Optimizer};
use crate::schedule::FlatCosine;

/// Everything that a step changes.
pub struct Learner {
    /// `None` only within a step, while the optimizer rebuilds it.
    detector: Option<Detector>,
    pub ema: Ema,
    criterion: Criterion,
    pub optimizer: Optimizer,
    precision: Precision,
    classes: usize,
}

/// The vectors of the denoising queries' classes.
const CLASS_TABLE: &str = "decoder.denoising_class_embed.weight";

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
            precision: config.model.precision,
            classes,
            detector: Some(detector),
        })
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

    /// Images in the precision of the configuration: the detector computes in that of its images.
    fn in_precision(&self, images: Tensor<4>) -> Tensor<4> {
        match self.precision {
            Precision::F32 => images,
            Precision::Bf16 => images.cast(DType::BF16),
        }
    }

    /// Makes a step. An error leaves everything as it was, but for the batch norms' statistics.
    pub fn step(
        &mut self,
        lesson: Lesson<'_>,
        schedule: &FlatCosine,
        iteration: u64,
        watch: &mut dyn Watch,
    ) -> Result<StepResult, StepError> {
        watch.images(&lesson.images);
        let detector = self.detector();
        let features = detector.features(self.in_precision(lesson.images));
        watch.features(&features);
        let encoded = detector.encode(features);
        watch.encoded(&encoded);
        let outputs = detector.decode(encoded, lesson.denoising.map(|made| &made.queries));
        watch.outputs(&outputs);

        let gathered = Gathered::new(&Heads::from(&outputs))?;
        let mut matches = self.criterion.assign(&gathered, lesson.targets)?;
        watch.matches(&mut matches);
        let pairs = lesson.denoising.map(|made| &made.positives);
        let losses = self.criterion.losses(&gathered, lesson.targets, pairs, matches)?;
        drop(gathered);
        let values: Vec<f64> = losses.values.clone().into_data().iter::<f64>().collect();
        watch.losses(&losses);
        let loss = values.iter().sum::<f64>();
        let terms: Vec<(String, f64)> = losses.terms.into_iter().zip(values).collect();
        if !loss.is_finite() {
            let terms = terms.iter().filter(|(_, value)| !value.is_finite());
            let terms: Vec<_> = terms.map(|(name, value)| format!("{name} = {value}")).collect();
            return Err(StepError::NotFinite(terms.join(", ")));
        }

        let mut gradients = losses.total.backward();
        drop(outputs);
        let mut gradients = optimizer::named(self.detector(), &mut gradients);
        keep_padding(&mut gradients, self.classes);
        watch.gradients(&gradients);
        let detector = self.detector.take().expect("a detector between two steps");
        let detector = self.optimizer.update(detector, gradients, schedule, iteration);
        watch.updated(&detector);
        self.ema.update(&detector);
        self.detector = Some(detector);
        watch.averaged(&self.ema);
        Ok(StepResult { loss, terms, positives: losses.positives, notes: losses.notes })
    }
}

/// The vector of padded queries keeps its zeros: officially the table is an embedding with a padding
/// index, which gives that row no gradient.
fn keep_padding(gradients: &mut NamedGradients, classes: usize) {
    if let Some(gradient) = gradients.remove(CLASS_TABLE) {
        let size = gradient.dims()[0];
        let rows = size / (classes + 1) * classes;
        let zeros = Tensor::zeros([size - rows], (&gradient.device(), gradient.dtype()));
        let kept = Tensor::cat(vec![gradient.narrow(0, 0, rows), zeros], 0);
        gradients.insert(CLASS_TABLE.to_owned(), kept);
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;

    #[test]
    fn the_row_of_padded_queries_has_no_gradient() {
        let gradient = Tensor::from_floats([1.0, 2.0, 3.0, 4.0, 5.0, 6.0], &Device::flex());
        let mut gradients = NamedGradients::from([(CLASS_TABLE.to_owned(), gradient)]);
        keep_padding(&mut gradients, 2);
        let kept: Vec<f32> = gradients[CLASS_TABLE].clone().into_data().iter().collect();
        assert_eq!(kept, [1.0, 2.0, 3.0, 4.0, 0.0, 0.0]);
    }
}
