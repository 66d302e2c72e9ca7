//! Why a data set cannot be used at all. What is wrong inside of one is a finding.

use std::path::PathBuf;

use super::findings::Kind;

#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    #[error("{}: no such folder", .0.display())]
    NoFolder(PathBuf),
    #[error("{}: no such file or folder", .0.display())]
    NoAnnotations(PathBuf),
    #[error("{}: no data set was found; looked for {looked_for}", root.display())]
    NotADataSet { root: PathBuf, looked_for: String },
    #[error(
        "{}: expected a split called `{wanted}`, found {found}; name its annotations with \
         --{option}-annotations", root.display()
    )]
    NoSplit { root: PathBuf, wanted: String, option: &'static str, found: String },
    #[error(
        "{}: several splits could be the one to {purpose}: {found}; name one's annotations with \
         --{option}-annotations", root.display()
    )]
    SeveralSplits { root: PathBuf, purpose: &'static str, option: &'static str, found: String },
    /// An index with a finding that would spoil a run.
    #[error(
        "{}: {} ({count} times, for example {example}); `deim data check` lists everything",
        annotations.display(), kind.title()
    )]
    Spoiled { annotations: PathBuf, kind: Kind, count: u64, example: String },
    #[error(
        "{}: expected the size in the annotations, {annotated:?}, found {found:?} in the file",
        path.display()
    )]
    SizeMismatch { path: PathBuf, annotated: [u32; 2], found: [u32; 2] },
}
