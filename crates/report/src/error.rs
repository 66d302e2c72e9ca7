//! What can keep a report from being made.

use std::io;
use std::path::{Path, PathBuf};

use polars::error::PolarsError;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{path}: {source}")]
    File { path: PathBuf, source: io::Error },
    /// Nothing to show; the text says why.
    #[error("{0}")]
    Nothing(String),
    /// Cells that must not stand in one table, or a ledger that must not be believed.
    #[error("{0}")]
    Refused(String),
    #[error("the frame: {0}")]
    Frame(#[from] PolarsError),
    #[error("drawing: {0}")]
    Drawing(String),
}

impl Error {
    pub(crate) fn file(path: &Path, source: io::Error) -> Self {
        Self::File { path: path.to_owned(), source }
    }

    pub(crate) fn drawing(error: impl std::fmt::Display) -> Self {
        Self::Drawing(error.to_string())
    }
}
