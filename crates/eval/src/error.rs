//! What can be wrong with a ground truth or with detections.

use std::path::PathBuf;

use thiserror::Error;

/// Why no metrics could be computed.
#[derive(Debug, Error)]
pub enum EvalError {
    #[error("cannot read {}: {source}", path.display())]
    Read { path: PathBuf, source: std::io::Error },
    /// The text is not JSON, or JSON of another shape; serde's message has the line and column.
    #[error("{origin}: expected {expected}: {source}")]
    Json { origin: String, expected: &'static str, source: serde_json::Error },
    /// One entry of the ground truth or of the detections cannot be used.
    #[error("{origin}: {what}")]
    Entry { origin: String, what: String },
    /// The metric library refused its input.
    #[error("hotcoco: {0}")]
    Library(#[from] hotcoco::Error),
}
