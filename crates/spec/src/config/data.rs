//! Where the images come from.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

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
    /// The scenes drawn where `source = "synthetic"`; a folder's images leave these keys unused.
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

/// The kinds of data set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Source {
    /// Scenes drawn from a seed; nothing to download.
    Synthetic,
    /// Image files and their annotations: COCO, Objects365, CrowdHuman, VOC or YOLO. Where they lie is
    /// said on the command line (`--data DIR`); the cell's id holds their manifest, not their place.
    Folder,
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
