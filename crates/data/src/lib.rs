//! Data sets, transforms, Dense O2O and the deterministic loader. Nothing here knows of tensors.

pub mod batches;
pub mod bench;
mod cached;
pub mod check;
mod coco_classes;
pub mod dataset;
pub mod decode;
pub mod draws;
pub mod error;
pub mod loader;
pub mod place;
mod planes;
pub mod policy;
pub mod preview;
pub mod readers;
mod rotation;
pub mod sample;
mod simd;
pub mod synthetic;
pub mod transforms;

pub use batches::Batches;
pub use coco_classes::COCO_CLASSES;
pub use dataset::{Dataset, Seen, Splits, Truth, TruthObject, open};
pub use draws::Draws;
pub use error::DataError;
pub use loader::{EvalLoader, TrainLoader, single};
pub use place::{Place, SplitPlace};
pub use planes::Planes;
pub use policy::Policy;
pub use readers::RealDataset;
pub use sample::{Batch, Bytes, Image, Sample, Target};

/// What tells two files apart.
pub fn content_hash(bytes: &[u8]) -> [u8; 32] {
    *blake3::hash(bytes).as_bytes()
}
