//! What every data set offers, whatever its files look like.

use std::sync::Arc;

use deim_spec::config::{Data, Source};

use crate::error::DataError;
use crate::sample::Sample;
use crate::synthetic::{Split, SyntheticScenes};

/// The annotated images of one split.
pub trait Dataset: Send + Sync {
    /// Number of images.
    fn len(&self) -> usize;

    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The image at `index` with its boxes, untransformed.
    fn sample(&self, index: usize) -> Result<Arc<Sample>, DataError>;

    /// What evaluation measures detections of the image at `index` against.
    fn truth(&self, index: usize) -> Result<Truth, DataError>;

    /// Names of the classes, in the order of their indices.
    fn classes(&self) -> &[String];

    /// The data set's own id of each class.
    fn category_ids(&self) -> &[i64];

    /// A hash that changes whenever a pixel or an annotation may have changed.
    fn manifest(&self) -> &str;
}

/// The annotations of one image as evaluation needs them: unclamped by any transform.
#[derive(Clone, Debug, PartialEq)]
pub struct Truth {
    pub image_id: i64,
    /// Width and height of the image.
    pub size: [u32; 2],
    pub objects: Vec<TruthObject>,
}

/// One annotated object.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TruthObject {
    /// `[x, y, width, height]` in pixels.
    pub bbox: [f64; 4],
    /// Index of the class, not its category id.
    pub class: u32,
    /// Pixels of the object, which decide whether COCO calls it small, medium or large.
    pub area: f64,
    /// A crowd region, which detections may hit without being counted as wrong.
    pub crowd: bool,
}

/// The two splits of a data set.
#[derive(Clone)]
pub struct Splits {
    pub train: Arc<dyn Dataset>,
    pub val: Arc<dyn Dataset>,
}

impl Splits {
    /// One hash for both splits.
    pub fn manifest(&self) -> String {
        let both = format!("train {}\nval {}\n", self.train.manifest(), self.val.manifest());
        blake3::hash(both.as_bytes()).to_hex().to_string()
    }
}

/// Opens the data set that `config` names.
pub fn open(config: &Data) -> Result<Splits, DataError> {
    match config.source {
        Source::Synthetic => Ok(Splits {
            train: Arc::new(SyntheticScenes::new(&config.synthetic, Split::Train)?),
            val: Arc::new(SyntheticScenes::new(&config.synthetic, Split::Val)?),
        }),
    }
}
