//! What happens to training images.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

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
