//! What can go wrong between a data set and a batch.

use std::path::PathBuf;

use crate::decode::PictureError;
use crate::readers::ReadError;

/// Why a sample or a batch could not be made.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// A value of the configuration that no data can follow.
    #[error("`{key}`: expected {expected}, found {found}")]
    Config { key: &'static str, expected: String, found: String },
    /// The last incomplete batch is dropped, so an epoch of this set would have no step at all.
    #[error(
        "the training split has {images} images, fewer than one batch: expected at least \
         `data.batch_size` = {batch_size}"
    )]
    FewerThanABatch { images: usize, batch_size: usize },
    #[error("sample {index} was asked of a split of {len} images")]
    Index { index: usize, len: usize },
    #[error("step {step} was asked of an epoch of {steps} steps")]
    Step { step: u64, steps: u64 },
    /// A synthetic scene could not hold the objects it must.
    #[error(
        "{split} scene {index}: only {placed} objects fit into {size} x {size} pixels, \
         `data.synthetic.min_objects` asks for {wanted}; lower it or raise `data.synthetic.scene_size`"
    )]
    Crowded { split: &'static str, index: usize, placed: usize, wanted: usize, size: usize },
    #[error(
        "a mosaic of the images with the ids {images:?} needs a canvas of {width} x {height} pixels, expected at \
         most {most} in all: one is too long and another too tall to stand in one mosaic; leave them out, or set `augment.mosaic = 0`"
    )]
    Mosaic { images: [i64; 4], width: usize, height: usize, most: usize },
    /// A panic while a batch was made, in a worker or inline.
    #[error("making batch {step} panicked: {message}")]
    Panicked { step: u64, message: String },
    /// A worker went away without an answer.
    #[error("the loader worker that makes batch {step} ended without it")]
    WorkerLost { step: u64 },
    #[error("cannot start a loader worker: {0}")]
    Thread(#[from] std::io::Error),
    #[error(
        "this experiment trains on image files (`data.source = \"folder\"`) and nobody said where \
         they are: add --data DIR, the folder of the data set"
    )]
    NoPlace,
    #[error(
        "--data {}: nothing here reads a folder, because the images are drawn \
         (`data.source = \"synthetic\"`): leave --data out, or choose a scale of real images", folder.display()
    )]
    PlaceNotUsed { folder: PathBuf },
    /// A data set of files that cannot be used.
    #[error(transparent)]
    Files(#[from] ReadError),
    #[error("{}: {source}", path.display())]
    Picture { path: PathBuf, source: PictureError },
}

impl DataError {
    /// A configuration error whose found value prints itself.
    pub(crate) fn config(
        key: &'static str,
        expected: impl Into<String>,
        found: impl std::fmt::Display,
    ) -> Self {
        Self::Config { key, expected: expected.into(), found: found.to_string() }
    }
}
