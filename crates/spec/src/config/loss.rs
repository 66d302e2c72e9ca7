//! What training minimises: losses, matching costs, denoising.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

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
}

impl Default for Denoising {
    fn default() -> Self {
        Self { queries: 100, label_noise: 0.5, box_noise: 1.0 }
    }
}
