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
    /// Where a mosaic's other three images come from.
    pub mosaic_source: MosaicSource,
    /// Images that wait for `mosaic_source = "cache"` at most.
    pub mosaic_cache: usize,
    /// Which image leaves a full cache.
    pub mosaic_cache_pop: CachePop,
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
            mosaic_source: MosaicSource::Others,
            mosaic_cache: 50,
            mosaic_cache_pop: CachePop::Random,
            mixup: 0.5,
            photometric: 0.5,
            zoom_out: 0.5,
            iou_crop: 0.8,
            flip: 0.5,
            multi_scale_repeat: 3,
        }
    }
}

/// Where a mosaic's other three images come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum MosaicSource {
    /// Drawn from the whole data set, with replacement.
    Others,
    /// Drawn, with replacement, from the mosaics' own images since the epoch began, of which a
    /// cache keeps a few: the official `use_cache`, but with one cache for all workers.
    Cache,
    /// The image itself, four times (paper, Figure 2c).
    Itself,
}

/// Which image leaves a full cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum CachePop {
    /// Any but the newest.
    Random,
    /// The oldest.
    Oldest,
}
