//! What decides a number: the resolved configuration of one cell, without its seed.
//!
//! Every field carries a default, and every default is the official DEIM-RT-DETRv2-R50 recipe
//! (deim-facts section 2), so that a spec only says where it differs. The doc comments here are
//! what `deim spec explain` and the JSON schema print.

mod model;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use model::{
    Activation, Backbone, BackboneKind, Block, Decoder, DecoderKind, Encoder, EncoderVersion,
    HgNet, HgStage, InitialWeights, Model, QueryPos, Sampling,
};

/// Everything that decides a number, and nothing else: no paths, no worker counts, no device.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Length of training in epochs; the boundaries of the recipe derive from it.
    pub epochs: u32,
    pub data: Data,
    pub augment: Augment,
    pub model: Model,
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

/// Where the images come from and in which portions they are used.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Data {
    /// The kind of data set.
    pub source: Source,
    /// Images in one optimizer step.
    pub batch_size: usize,
    /// Images in one evaluation forward pass (changes speed, not results).
    pub eval_batch_size: usize,
    /// Side of the square input of the model, in pixels; evaluation always uses it.
    pub input_size: usize,
    /// The scenes drawn when `source = "synthetic"`.
    pub synthetic: Synthetic,
}

impl Default for Data {
    fn default() -> Self {
        Self {
            source: Source::Synthetic,
            batch_size: 16,
            eval_batch_size: 16,
            input_size: 640,
            synthetic: Synthetic::default(),
        }
    }
}

/// The kinds of data set that exist today.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Source {
    /// Scenes drawn from a seed; nothing to download.
    Synthetic,
}

/// Synthetic scenes: textured shapes of many sizes, clutter and overlap, drawn from a seed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Synthetic {
    /// Seed of the scenes. All cells of an experiment see the same scenes, whatever their own seed.
    pub seed: u64,
    /// Images in the training split.
    pub train_images: usize,
    /// Images in the validation split, which shares no scene with the training split.
    pub val_images: usize,
    /// Side of the square scene in pixels, before any resize; COCO areas are counted at this size.
    pub scene_size: usize,
    /// Fewest objects in a scene.
    pub min_objects: usize,
    /// Most objects in a scene.
    pub max_objects: usize,
}

impl Default for Synthetic {
    fn default() -> Self {
        Self {
            seed: 0,
            train_images: 512,
            val_images: 128,
            scene_size: 256,
            min_objects: 1,
            max_objects: 15,
        }
    }
}

/// Augmentation of training images (deim-facts 3.2 to 3.4). When it applies is in `schedule`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Augment {
    /// Probability that a sample is a mosaic of four images while Dense O2O is on; 0 is off.
    pub mosaic: f64,
    /// Shorter side of a mosaic tile in pixels (320 for inputs of 640).
    pub mosaic_tile: usize,
    /// Probability that a batch is blended with itself rolled by one while Dense O2O is on; 0 is off.
    pub mixup: f64,
    /// Probability of photometric distortion, and of each of its parts.
    pub photometric: f64,
    /// Probability of zooming out onto a larger black canvas.
    pub zoom_out: f64,
    /// Probability of an IoU-constrained crop.
    pub iou_crop: f64,
    /// Probability of a horizontal flip; the only operation that is always on.
    pub flip: f64,
    /// How often the base size stands in the list of multi-scale sizes; 0 turns multi-scale off.
    pub multi_scale_repeat: usize,
}

impl Default for Augment {
    fn default() -> Self {
        Self {
            mosaic: 0.5,
            mosaic_tile: 320,
            mixup: 0.5,
            photometric: 0.5,
            zoom_out: 0.5,
            iou_crop: 0.8,
            flip: 0.5,
            multi_scale_repeat: 3,
        }
    }
}

/// The training losses and their weights (deim-facts 3.11).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Loss {
    /// Classification loss: `mal` (DEIM), `vfl` (the baselines) or `focal`.
    pub class: ClassLoss,
    /// Exponent: of the quality target and of the negatives' weight in MAL, of the negatives' weight in VFL and focal.
    pub gamma: f64,
    /// Weight of the negatives in VFL, balance of focal. MAL does not use it.
    pub alpha: f64,
    /// Weight of the negatives in MAL; absent (weight 1) in every official config.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mal_alpha: Option<f64>,
    /// Weight of the classification loss in the total.
    pub weight_class: f64,
    /// Weight of the L1 box loss in the total.
    pub weight_bbox: f64,
    /// Weight of the GIoU loss in the total.
    pub weight_giou: f64,
    /// Boxes and edges learn from the union of all heads' matches (the official `use_uni_set`).
    pub union_set: bool,
    /// Weight of the fine-grained localisation loss of D-FINE; RT-DETRv2 has no edges to apply it to.
    pub weight_fgl: f64,
    /// Weight of the decoupled distillation loss of D-FINE; RT-DETRv2 has no edges to apply it to.
    pub weight_ddf: f64,
}

impl Default for Loss {
    fn default() -> Self {
        Self {
            class: ClassLoss::Mal,
            gamma: 1.5,
            alpha: 0.75,
            mal_alpha: None,
            weight_class: 1.0,
            weight_bbox: 5.0,
            weight_giou: 2.0,
            union_set: false,
            weight_fgl: 0.15,
            weight_ddf: 1.5,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ClassLoss {
    Mal,
    Vfl,
    Focal,
}

/// Costs of the Hungarian matcher (deim-facts 3.10).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Matcher {
    /// Weight of the focal classification cost.
    pub class: f64,
    /// Weight of the L1 cost.
    pub bbox: f64,
    /// Weight of the GIoU cost.
    pub giou: f64,
    /// Balance of the focal cost.
    pub alpha: f64,
    /// Exponent of the focal cost.
    pub gamma: f64,
}

impl Default for Matcher {
    fn default() -> Self {
        Self { class: 2.0, bbox: 5.0, giou: 2.0, alpha: 0.25, gamma: 2.0 }
    }
}

/// Contrastive denoising (deim-facts 3.9).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Denoising {
    /// Denoising queries aimed at: `max(1, queries / most targets)` groups are made; 0 turns denoising off.
    pub queries: usize,
    /// Labels are replaced with half this probability.
    pub label_noise: f64,
    /// Size of the box noise, relative to half the box.
    pub box_noise: f64,
    /// Train the vector of padded denoising queries, which fill up images with fewer targets than
    /// others. The official code keeps it at zero (false); cells trained before this key did not.
    pub train_padding: bool,
}

impl Default for Denoising {
    fn default() -> Self {
        Self { queries: 100, label_noise: 0.5, box_noise: 1.0, train_padding: false }
    }
}

/// AdamW with parameter groups and clipping of the global gradient norm.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Optimizer {
    /// Learning rate of parameters in no group.
    pub lr: f64,
    /// Decoupled weight decay of parameters in no group.
    pub weight_decay: f64,
    /// Decay of the running mean of the gradient.
    pub beta1: f64,
    /// Decay of the running mean of its square.
    pub beta2: f64,
    /// Added to the square root of that mean, so that no step divides by zero.
    pub eps: f64,
    /// Largest global L2 norm of the gradient.
    pub clip_norm: f64,
    /// Parameter groups; the first that matches a parameter's official name takes it.
    pub groups: Vec<ParamGroup>,
}

impl Default for Optimizer {
    fn default() -> Self {
        Self {
            lr: 2e-4,
            weight_decay: 1e-4,
            beta1: 0.9,
            beta2: 0.999,
            eps: 1e-8,
            clip_norm: 0.1,
            groups: vec![
                ParamGroup {
                    all: vec!["backbone".into()],
                    none: vec!["norm".into()],
                    lr: Some(2e-5),
                    weight_decay: None,
                },
                ParamGroup {
                    all: vec!["norm|bn".into()],
                    none: vec![],
                    lr: None,
                    weight_decay: Some(0.0),
                },
            ],
        }
    }
}

/// The official look-around patterns, written as two lists: `^(?=.*backbone)(?!.*norm).*$` is
/// `all = ["backbone"], none = ["norm"]`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ParamGroup {
    /// Regular expressions that must all be found in the parameter's name.
    pub all: Vec<String>,
    /// Regular expressions of which none may be found in the parameter's name.
    pub none: Vec<String>,
    /// Learning rate of the group; absent: the base rate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lr: Option<f64>,
    /// Weight decay of the group; absent: the base decay.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weight_decay: Option<f64>,
}

/// FlatCosine learning rate and the epochs at which the recipe changes (deim-facts 2, 3.2, 3.5, 3.8).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Schedule {
    /// Iterations of the quadratic warm-up.
    pub warmup_iterations: u64,
    /// Warm-up as a share of all iterations, for runs too short for `warmup_iterations`; 0: use the iterations.
    pub warmup_fraction: f64,
    /// The first iteration runs at the learning rate divided by this (a quirk of the official warm-up, deim-facts 3.5).
    pub first_iteration_divisor: u64,
    /// The rate after the cosine, as a share of the base rate; 1 keeps it constant.
    pub lr_gamma: f64,
    /// Epoch at which strong augmentation and Dense O2O begin (4 officially).
    pub augment_start: u32,
    /// Last epochs, with neither strong augmentation nor multi-scale.
    pub no_aug_epochs: u32,
    /// Epoch at which Dense O2O ends and the cosine begins; absent: `augment_start + stop_epoch / 2`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub flat_epoch: Option<u32>,
    /// Epoch at which strong augmentation ends and stage 2 begins; absent: `epochs - no_aug_epochs`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stop_epoch: Option<u32>,
    /// Epoch at which strong augmentation ends, where that is not `stop_epoch` (official R18 baseline).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub augment_end: Option<u32>,
    /// At `stop_epoch`, go back to the best checkpoint of stage 1 (the official two-stage logic).
    pub reload_best: bool,
}

impl Default for Schedule {
    fn default() -> Self {
        Self {
            warmup_iterations: 2000,
            warmup_fraction: 0.0,
            first_iteration_divisor: 2000,
            lr_gamma: 0.5,
            augment_start: 4,
            no_aug_epochs: 2,
            flat_epoch: None,
            stop_epoch: None,
            augment_end: None,
            reload_best: true,
        }
    }
}

/// Exponential moving average of the weights and buffers (deim-facts 3.7).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Ema {
    /// Decay reached after the warm-up.
    pub decay: f64,
    /// Updates over which the decay rises: `decay * (1 - exp(-n / warmups))`; 0: constant.
    pub warmups: u64,
    /// The decay announced for stage 2. The official code stores it and goes on with `decay`
    /// (deim-facts 3.7), and so it has no effect unless `use_restart_decay` is on.
    pub restart_decay: f64,
    /// Do what the official code meant: stage 2 averages with `restart_decay`, and with 0.0001 less after each way back.
    pub use_restart_decay: bool,
}

impl Default for Ema {
    fn default() -> Self {
        Self { decay: 0.9999, warmups: 2000, restart_decay: 0.9999, use_restart_decay: false }
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
