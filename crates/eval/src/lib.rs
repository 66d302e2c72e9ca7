//! COCO metrics, equal to pycocotools, paired statistics over seeds, and what a detector costs.
//!
//! [`evaluate`] compares detections with a [`GroundTruth`]; [`paired`] says whether a difference
//! between two rows of an ablation is larger than its seeds can explain; [`cost`] counts parameters
//! and operations.

pub mod coco_set;
pub mod cost;
pub mod detections;
pub mod error;
pub mod evaluate;
pub mod ground_truth;
mod json;
pub mod metrics;
pub mod paired;
pub mod student;

pub use coco_set::{CocoSet, ListedImage, detections_to_json};
pub use cost::{Cost, cost};
pub use detections::{detections_from_json, read_detections};
pub use error::EvalError;
pub use evaluate::{ClassMetrics, Curves, Evaluation, evaluate};
pub use ground_truth::{Annotation, Category, GroundTruth};
pub use metrics::{Detection, Metrics};
