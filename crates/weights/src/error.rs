//! Why a weight file cannot be used.

use std::path::PathBuf;

/// What is wrong with a weight file, and with which.
#[derive(Debug, thiserror::Error)]
#[error("`{}`: {problem}", path.display())]
pub struct FileError {
    pub path: PathBuf,
    pub problem: Problem,
}

/// What is wrong with a weight file.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    #[error("{0}")]
    Unreadable(#[from] std::io::Error),
    /// The bytes contradict themselves: cut short, damaged, or made up.
    #[error("damaged or cut short: {0}")]
    Broken(String),
    /// The file asks for something that reading weights never needs.
    #[error("refused: {0}")]
    Refused(String),
    /// A sound file of a kind that is not read here.
    #[error("{0}")]
    Unsupported(String),
}

/// A damaged file, as an error.
pub(crate) fn broken<T>(what: impl Into<String>) -> Result<T, Problem> {
    Err(Problem::Broken(what.into()))
}

/// A file over one of the limits, or asking for what it should not, as an error.
pub(crate) fn refused<T>(what: impl Into<String>) -> Result<T, Problem> {
    Err(Problem::Refused(what.into()))
}

/// A file of a kind that is not read, as an error.
pub(crate) fn unsupported<T>(what: impl Into<String>) -> Result<T, Problem> {
    Err(Problem::Unsupported(what.into()))
}
