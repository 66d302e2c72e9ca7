//! How it is minimised: AdamW, the schedule, the moving average.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

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
