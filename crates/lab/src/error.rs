//! What can keep a laboratory from working, in the words its user needs.

use std::path::{Path, PathBuf};

use deim_data::error::DataError;
use deim_spec::SpecError;
use deim_train::pretrained::StartError;
use thiserror::Error;

/// Why a plan, a ledger or a run could not be had.
#[derive(Debug, Error)]
pub enum LabError {
    #[error("cannot {doing} {}: {source}", path.display())]
    File { doing: &'static str, path: PathBuf, source: std::io::Error },
    /// A complete line that is not a ledger line: never repaired, never overwritten.
    #[error(
        "{}:{number}: expected a ledger line, found {found:?}: {source}; nothing was changed",
        path.display()
    )]
    Line { path: PathBuf, number: usize, found: String, source: serde_json::Error },
    #[error(transparent)]
    Spec(#[from] SpecError),
    #[error(transparent)]
    Data(#[from] DataError),
    /// A device that does not exist or that this program was not built for.
    #[error("{0}")]
    Device(String),
    /// Files that were not given, or that nothing reads.
    #[error("{0}")]
    Input(String),
    #[error(transparent)]
    Start(#[from] StartError),
    /// A cell that cannot be found.
    #[error("{0}")]
    Cell(String),
    /// Two processes of this program do not understand each other.
    #[error("{0}")]
    Worker(String),
}

impl LabError {
    pub(crate) fn file(doing: &'static str, path: &Path, source: std::io::Error) -> Self {
        Self::File { doing, path: path.to_owned(), source }
    }
}
