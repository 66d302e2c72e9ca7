//! Finds cases: folders that hold a `case.toml`.

use std::path::{Path, PathBuf};

use thiserror::Error;

/// Why there is nothing to verify.
#[derive(Debug, Error)]
pub enum FindError {
    #[error("no case.toml in or below {0}")]
    NoCase(String),
    #[error("cannot read {path}: {source}")]
    Unreadable { path: String, source: std::io::Error },
}

/// The file that makes a folder a case.
pub const CASE_FILE: &str = "case.toml";

/// The cases in or below each folder, sorted by path; every folder must hold at least one.
pub fn cases(folders: &[PathBuf]) -> Result<Vec<PathBuf>, FindError> {
    let mut all = Vec::new();
    for folder in folders {
        let before = all.len();
        search(folder, &mut all)?;
        if all.len() == before {
            return Err(FindError::NoCase(folder.display().to_string()));
        }
    }
    Ok(all)
}

fn search(folder: &Path, found: &mut Vec<PathBuf>) -> Result<(), FindError> {
    let unreadable = |source| FindError::Unreadable { path: folder.display().to_string(), source };
    if folder.join(CASE_FILE).is_file() {
        found.push(folder.to_owned());
        return Ok(());
    }
    let mut below = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(unreadable)? {
        let entry = entry.map_err(unreadable)?;
        // Links are not followed: they could form a cycle.
        if entry.file_type().map_err(unreadable)?.is_dir() {
            below.push(entry.path());
        }
    }
    below.sort();
    below.iter().try_for_each(|folder| search(folder, found))
}
