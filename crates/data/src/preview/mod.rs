//! One transform, a whole policy or a whole batch on chosen images: what `deim data preview` draws.
//!
//! Everything goes through the functions and the draws of training. A transform that a recipe
//! applies now and then is applied always, with the parameters that training would draw for the
//! same seed, epoch and image.

mod stage;

use std::fmt;
use std::sync::Arc;

use deim_spec::config::Config;

use crate::dataset::Dataset;
use crate::error::DataError;
use crate::policy::Policy;
use crate::sample::Image;
use stage::Stage;

/// What is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transform {
    None,
    Resize,
    Shorter,
    Flip,
    Photometric,
    ZoomOut,
    IouCrop,
    Tiles,
    Affine,
    Mosaic,
    Mixup,
    MultiScale,
    Policy,
    Batch,
}

impl Transform {
    pub const ALL: [Self; 14] = [
        Self::None,
        Self::Resize,
        Self::Shorter,
        Self::Flip,
        Self::Photometric,
        Self::ZoomOut,
        Self::IouCrop,
        Self::Tiles,
        Self::Affine,
        Self::Mosaic,
        Self::Mixup,
        Self::MultiScale,
        Self::Policy,
        Self::Batch,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Resize => "resize",
            Self::Shorter => "shorter",
            Self::Flip => "flip",
            Self::Photometric => "photometric",
            Self::ZoomOut => "zoom-out",
            Self::IouCrop => "iou-crop",
            Self::Tiles => "tiles",
            Self::Affine => "affine",
            Self::Mosaic => "mosaic",
            Self::Mixup => "mixup",
            Self::MultiScale => "multi-scale",
            Self::Policy => "policy",
            Self::Batch => "batch",
        }
    }

    /// What it does, in one sentence.
    pub fn meaning(self) -> &'static str {
        match self {
            Self::None => "Images and boxes as they are read, before any transform.",
            Self::Resize => "Resized to the square that the model reads, as evaluation does it.",
            Self::Shorter => "The shorter side at the size of a mosaic's tile, its aspect kept.",
            Self::Flip => "Mirrored left to right, then resized.",
            Self::Photometric => {
                "Brightness, contrast, saturation, hue and the order of channels, then resized."
            }
            Self::ZoomOut => "At a random place of a larger black canvas, then resized.",
            Self::IouCrop => {
                "A crop that keeps some box well in sight, then resized. Boxes whose centre is \
                 outside go, the others are clipped."
            }
            Self::Tiles => "Four images, each at the top left of its cell: a mosaic's first half.",
            Self::Affine => {
                "Turned, scaled and shifted: a mosaic's second half, on an image alone. A box \
                 becomes the hull of its turned corners."
            }
            Self::Mosaic => "Four images as tiles, then turned, scaled and shifted.",
            Self::Mixup => {
                "Each image blended with the one before it, with the boxes of both; those of the \
                 other are dashed."
            }
            Self::MultiScale => {
                "Resized to the model's square, then by nearest pixels to the size \
                                 that is drawn for a whole batch."
            }
            Self::Policy => "Everything that happens to a single image in this epoch.",
            Self::Batch => {
                "The images of one training step, with mixup and multi-scale. Boxes that \
                            came with mixup are dashed."
            }
        }
    }
}

impl fmt::Display for Transform {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.name())
    }
}

impl std::str::FromStr for Transform {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let names = Self::ALL.map(Self::name).join(", ");
        Self::ALL
            .into_iter()
            .find(|transform| transform.name() == name)
            .ok_or_else(|| format!("expected one of {names}, found `{name}`"))
    }
}

/// Which images are shown, and with which draws.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    pub transform: Transform,
    pub seed: u64,
    pub epoch: u32,
    /// The first image of the data set; of a batch, its step.
    pub first: usize,
    pub count: usize,
}

/// One image as it became.
#[derive(Clone, Debug, PartialEq)]
pub struct Shown {
    /// Position in the data set.
    pub index: usize,
    pub image: Image,
    /// Corners `[x1, y1, x2, y2]` in pixels of `image`.
    pub boxes: Vec<[f32; 4]>,
    pub labels: Vec<u32>,
    /// The first so many boxes are its own; the others came with another image by mixup.
    pub own: usize,
    /// Boxes that went in and did not come out.
    pub dropped: usize,
    /// Width and height before.
    pub from: [u32; 2],
    /// What was drawn, in parts with `; ` between them.
    pub drawn: String,
}

/// The images of a request in order: fewer than asked for where the data set or the batch ends.
pub fn preview(
    dataset: &Arc<dyn Dataset>,
    config: &Config,
    request: Request,
) -> Result<Vec<Shown>, DataError> {
    let policy = Policy::new(config, request.seed)?;
    let stage = Stage { dataset, config, request, policy };
    if request.transform == Transform::Batch {
        return stage.batch();
    }
    let (first, len) = (request.first, dataset.len());
    if first >= len {
        return Err(DataError::Index { index: first, len });
    }
    let range = first..first.saturating_add(request.count).min(len);
    match request.transform {
        Transform::Mixup => stage.mixed(range),
        _ => range.map(|index| stage.single(index)).collect(),
    }
}

#[cfg(test)]
mod tests;
