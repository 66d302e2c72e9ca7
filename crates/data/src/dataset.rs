//! What every data set offers, whatever its files look like.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use deim_spec::config::{Data, Source};

use crate::error::DataError;
use crate::place::Place;
use crate::readers::{self, Kind};
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

    /// What the file of an image is called, relative to the folder of the images: where there is no
    /// file, what one would be called.
    fn file_name(&self, index: usize) -> String {
        format!("{:06}.png", index + 1)
    }

    /// A hash that changes whenever a pixel or an annotation may have changed.
    fn manifest(&self) -> &str;

    /// What reading left out or changed and what decoding has found so far, with counts.
    fn notes(&self) -> BTreeMap<String, u64> {
        BTreeMap::new()
    }

    /// What decoding has found so far.
    fn seen(&self) -> Seen {
        Seen::new()
    }

    /// Takes over what an earlier process of the same run had found, so that a run that went on from
    /// a checkpoint notes what an uninterrupted one does.
    fn remember(&self, _seen: &Seen) {}
}

/// The images in which decoding found something, by what it was.
pub type Seen = BTreeMap<Kind, BTreeSet<usize>>;

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

    /// The notes of both splits: `train: box_clamped`.
    pub fn notes(&self) -> BTreeMap<String, u64> {
        let of = |name: &'static str, split: &Arc<dyn Dataset>| {
            split.notes().into_iter().map(move |(note, count)| (format!("{name}: {note}"), count))
        };
        of("train", &self.train).chain(of("val", &self.val)).collect()
    }

    /// What decoding has found so far in each.
    pub fn seen(&self) -> [Seen; 2] {
        [self.train.seen(), self.val.seen()]
    }

    /// Takes over what an earlier process found.
    pub fn remember(&self, [train, val]: &[Seen; 2]) {
        self.train.remember(train);
        self.val.remember(val);
    }
}

/// Opens the data set that `config` asks for; a folder's is at the place that the user names.
pub fn open(config: &Data, place: Option<&Place>) -> Result<Splits, DataError> {
    match (config.source, place) {
        (Source::Synthetic, None) => Ok(Splits {
            train: Arc::new(SyntheticScenes::new(&config.synthetic, Split::Train)?),
            val: Arc::new(SyntheticScenes::new(&config.synthetic, Split::Val)?),
        }),
        (Source::Synthetic, Some(place)) => {
            Err(DataError::PlaceNotUsed { folder: place.folder.clone() })
        }
        (Source::Folder, None) => Err(DataError::NoPlace),
        (Source::Folder, Some(place)) => Ok(readers::open(place)?),
    }
}
