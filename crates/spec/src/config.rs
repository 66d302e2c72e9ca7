//! What decides a number: the resolved configuration of one cell, without its seed.
//!
//! Every field carries a default, and every default is the official DEIM-RT-DETRv2-R50 recipe
//! (deim-facts section 2), so that a spec only says where it differs. The doc comments here are
//! what `deim spec explain` and the JSON schema print.

mod augment;
mod data;
mod loss;
mod model;
mod optimizer;
mod pretrained;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use augment::{Augment, CachePop, MosaicSource};
pub use data::{Data, Source, Synthetic};
pub use loss::{ClassLoss, Denoising, Loss, Matcher};
pub use model::{
    Activation, Backbone, BackboneKind, Block, Decoder, DecoderKind, Encoder, EncoderVersion,
    HgNet, HgStage, Model, Precision, QueryPos, Sampling,
};
pub use optimizer::{Ema, Optimizer, ParamGroup, Schedule};
pub use pretrained::{Pretrained, PretrainedPart};

/// Everything that decides a number, and nothing else: no paths, no worker counts, no device.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Length of training in epochs; the boundaries of the recipe derive from it.
    pub epochs: u32,
    pub data: Data,
    pub augment: Augment,
    pub model: Model,
    /// Weights that training starts from; absent: random ones, drawn from the seed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pretrained: Option<Pretrained>,
    pub loss: Loss,
    pub matcher: Matcher,
    pub denoising: Denoising,
    pub optimizer: Optimizer,
    pub schedule: Schedule,
    pub ema: Ema,
    pub eval: Eval,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            epochs: 60,
            data: Data::default(),
            augment: Augment::default(),
            model: Model::default(),
            pretrained: None,
            loss: Loss::default(),
            matcher: Matcher::default(),
            denoising: Denoising::default(),
            optimizer: Optimizer::default(),
            schedule: Schedule::default(),
            ema: Ema::default(),
            eval: Eval::default(),
        }
    }
}

/// Evaluation of the averaged model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Eval {
    /// Evaluate every so many epochs, and always after the last of each stage.
    pub every: u32,
    /// Detections kept per image.
    pub detections: usize,
}

impl Default for Eval {
    fn default() -> Self {
        Self { every: 1, detections: 300 }
    }
}

/// The epochs at which the recipe changes, derived from the budget or set by hand.
///
/// `[0, augment_start)`: flip and resize only. `[augment_start, flat)`: Dense O2O.
/// `[flat, augment_end)`: strong augmentation without mosaic and mixup, and flip and resize only
/// after it. Multi-scale ends and stage 2 begins at `stop`, which is `augment_end` in all official
/// recipes but one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Phases {
    pub augment_start: u32,
    pub flat: u32,
    pub augment_end: u32,
    pub stop: u32,
    pub end: u32,
}

impl Config {
    /// The recipe's boundaries: rule of deim-facts section 2, unless set by hand.
    pub fn phases(&self) -> Phases {
        let schedule = &self.schedule;
        let stop =
            schedule.stop_epoch.unwrap_or(self.epochs.saturating_sub(schedule.no_aug_epochs));
        let derived = schedule.augment_start.saturating_add(stop / 2);
        let flat = schedule.flat_epoch.unwrap_or(derived);
        let augment_end = schedule.augment_end.unwrap_or(stop);
        Phases { augment_start: schedule.augment_start, flat, augment_end, stop, end: self.epochs }
    }
}
