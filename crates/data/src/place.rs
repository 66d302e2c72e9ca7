//! Where a data set of files lies, in the words of the user.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::readers::Format;

/// A folder, and what of it cannot be guessed. It is never part of a cell's id: the manifest is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    pub folder: PathBuf,
    /// The format to read; absent: the first that the files look like.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format: Option<Format>,
    #[serde(default, skip_serializing_if = "SplitPlace::is_empty")]
    pub train: SplitPlace,
    #[serde(default, skip_serializing_if = "SplitPlace::is_empty")]
    pub val: SplitPlace,
}

/// Where one split is, as far as the user says it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SplitPlace {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub annotations: Option<PathBuf>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub images: Option<PathBuf>,
}

impl SplitPlace {
    pub fn is_empty(&self) -> bool {
        self.annotations.is_none() && self.images.is_none()
    }
}
