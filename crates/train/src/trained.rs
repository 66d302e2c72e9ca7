//! A trained detector out of a file of weights, for whoever only looks at what it finds.

use burn::tensor::Device;
use deim_model::Detector;
use deim_model::pretrained::{Choice, PretrainedError, chosen, load_pretrained};
use deim_spec::Config;
use deim_weights::{Layout, WeightFile};

use crate::pretrained::unfit;

/// A detector without gradients, and where its weights came from.
pub struct Trained {
    pub detector: Detector,
    /// The part of the file that was read: `ema`, `model`.
    pub part: String,
    /// Tensors of more than 32 bits a number, which were rounded.
    pub rounded: usize,
}

/// Why a file gives no trained detector.
#[derive(Debug, thiserror::Error)]
pub enum TrainedError {
    #[error("{0}: expected a whole detector, found a backbone alone")]
    BackboneOnly(String),
    #[error(
        "{file} holds other weights than those of this detector with {classes} classes: {account}; \
         for example {example}"
    )]
    Unfit { file: String, classes: usize, account: String, example: String },
    #[error("{file} has heads for {found} classes, and the data set has {expected}")]
    Classes { file: String, expected: usize, found: usize },
    #[error("{file} has no class head `{HEAD}`, so that its classes cannot be counted")]
    NoHead { file: String },
    #[error(transparent)]
    Weights(#[from] PretrainedError),
}

/// A head that every detector has.
const HEAD: &str = "decoder.dec_score_head.0.weight";

/// How many classes the weights tell apart.
pub fn classes(file: &WeightFile, choice: Choice) -> Result<usize, TrainedError> {
    let (_, entries) = chosen(file, choice)?;
    let found = entries.get(HEAD).and_then(|head| head.shape.first());
    found.copied().ok_or_else(|| match file.layout {
        Layout::Backbone => TrainedError::BackboneOnly(file.path.display().to_string()),
        _ => TrainedError::NoHead { file: file.path.display().to_string() },
    })
}

/// The detector of a configuration with the weights of a file: all of them and no others.
///
/// Training may start from a file that fits in part; a number that is measured with weights which are
/// random in part would be a number about nothing.
pub fn load(
    config: &Config,
    classes: usize,
    file: &WeightFile,
    choice: Choice,
    device: &Device,
) -> Result<Trained, TrainedError> {
    let found = self::classes(file, choice)?;
    let name = || file.path.display().to_string();
    if found != classes {
        return Err(TrainedError::Classes { file: name(), expected: classes, found });
    }
    let fresh = Detector::new(config, classes, 0, device);
    let (detector, report) = load_pretrained(fresh, config, file, choice)?;
    if !report.fits() {
        let example = unfit(&report).into_iter().next();
        let example = example.map(|(name, why)| format!("`{name}`: {why}")).unwrap_or_default();
        return Err(TrainedError::Unfit { file: name(), classes, account: report.line(), example });
    }
    Ok(Trained { detector, part: report.part, rounded: report.rounded })
}
