//! What one device does in a step: forward, matching, losses and their gradients.

use std::collections::BTreeMap;

use burn::tensor::{DType, Tensor};
use deim_data::Target;
use deim_model::Detector;
use deim_model::outputs::Outputs;
use deim_spec::config::Precision;

use crate::criterion::{Criterion, Matches};
use crate::denoising::Denoising;
use crate::heads::{Gathered, Heads};
use crate::optimizer::{self, NamedGradients};
use crate::plan::Counts;
use crate::step::{Lesson, StepError, Watch};

/// The vectors of the denoising queries' classes.
const CLASS_TABLE: &str = "decoder.denoising_class_embed.weight";

/// A forward pass whose predictions are matched.
pub(crate) struct Seen<'a> {
    targets: &'a [Target],
    denoising: Option<&'a Denoising>,
    outputs: Outputs,
    gathered: Gathered,
    matches: Matches,
    /// What this device alone would divide its losses by.
    pub counts: Counts,
}

/// What a device learnt.
pub(crate) struct Learnt {
    /// Each weighted loss by its official name.
    pub terms: Vec<(String, f64)>,
    pub positives: usize,
    pub notes: BTreeMap<String, u64>,
    pub gradients: NamedGradients,
}

/// From images to matches.
pub(crate) fn look<'a>(
    detector: &Detector,
    criterion: &Criterion,
    precision: Precision,
    lesson: Lesson<'a>,
    watch: &mut dyn Watch,
) -> Result<Seen<'a>, StepError> {
    let Lesson { images, targets, denoising } = lesson;
    watch.images(&images);
    // The detector computes in the precision of its images.
    let images = match precision {
        Precision::F32 => images,
        Precision::Bf16 => images.cast(DType::BF16),
    };
    let features = detector.features(images);
    watch.features(&features);
    let encoded = detector.encode(features);
    watch.encoded(&encoded);
    let outputs = detector.decode(encoded, denoising.map(|made| &made.queries));
    watch.outputs(&outputs);

    let gathered = Gathered::new(&Heads::from(&outputs))?;
    let mut matches = criterion.assign(&gathered, targets)?;
    watch.matches(&mut matches);
    let counts = Counts::of(targets, &matches);
    Ok(Seen { targets, denoising, outputs, gathered, matches, counts })
}

/// From matches to gradients, with losses divided by `counts`. A loss that is not finite is an error
/// before anything follows from it.
pub(crate) fn learn(
    detector: &Detector,
    criterion: &Criterion,
    seen: Seen<'_>,
    counts: Counts,
    watch: &mut dyn Watch,
) -> Result<Learnt, StepError> {
    let Seen { targets, denoising, outputs, gathered, matches, .. } = seen;
    let pairs = denoising.map(|made| &made.positives);
    let losses = criterion.losses_of(&gathered, targets, pairs, matches, counts)?;
    drop(gathered);
    // Read before the backward pass is asked for: little is under way now, and all that follows is
    // then given to the device without a pause.
    let values = deim_ops::read(losses.values.clone()).map_err(StepError::Device)?;
    let values: Vec<f64> = values.iter::<f64>().collect();
    watch.losses(&losses);
    let finite = values.iter().sum::<f64>().is_finite();
    let terms: Vec<(String, f64)> = losses.terms.into_iter().zip(values).collect();
    if !finite {
        let terms = terms.iter().filter(|(_, value)| !value.is_finite());
        let terms: Vec<_> = terms.map(|(name, value)| format!("{name} = {value}")).collect();
        return Err(StepError::NotFinite(terms.join(", ")));
    }

    let mut gradients = losses.total.backward();
    drop(outputs);
    let mut gradients = optimizer::named(detector, &mut gradients);
    keep_padding(&mut gradients, criterion.classes());
    Ok(Learnt { terms, positives: losses.positives, notes: losses.notes, gradients })
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
