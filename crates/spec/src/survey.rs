//! Checking files without training from them: experiments at every scale, parts, published tables.

use std::path::{Path, PathBuf};

use crate::alias;
use crate::error::{Diagnostic, SpecError};
use crate::experiment::{Options, load, names};
use crate::paper;
use crate::parts::{Parts, toml_files_below};

/// What a file turned out to hold.
#[derive(Clone, Debug, PartialEq)]
pub enum Holds {
    /// An experiment: for each scale its name, rows and seeds.
    Experiment(Vec<(String, usize, usize)>),
    /// A part that others extend.
    Part,
    /// A published table and its number of rows.
    Paper(usize),
}

/// Checks one experiment, by name or path, or one file below the experiments directory.
pub fn check(experiments_dir: &Path, name_or_path: &str) -> Result<Holds, SpecError> {
    match below(experiments_dir, name_or_path) {
        None => check_experiment(experiments_dir, name_or_path),
        Some(inside) if inside.starts_with("paper") => {
            let mut parts = Parts::new(experiments_dir);
            paper::read(&inside.to_string_lossy(), None, &mut parts)
                .map(|table| Holds::Paper(table.rows.len()))
                .map_err(|error| SpecError::new(vec![error], parts.sources))
        }
        Some(inside) => {
            let mut parts = Parts::new(experiments_dir);
            let read = parts.outermost(&experiments_dir.join(inside));
            read.and_then(|node| parts.fragment(node))
                .map(|_| Holds::Part)
                .map_err(|error| SpecError::new(vec![error], parts.sources))
        }
    }
}

/// The path of a file in a subdirectory of the experiments directory, relative to it.
fn below(experiments_dir: &Path, name_or_path: &str) -> Option<PathBuf> {
    let path = Path::new(name_or_path);
    let canonical = |path: &Path| path.canonicalize().ok();
    let inside = canonical(path)?.strip_prefix(canonical(experiments_dir)?).ok()?.to_owned();
    (inside.components().count() > 1).then_some(inside)
}

fn check_experiment(experiments_dir: &Path, name: &str) -> Result<Holds, SpecError> {
    let first = load(experiments_dir, name, &Options::default())?;
    alias::check(experiments_dir, &first.name, &first.aliases)
        .map_err(|error| SpecError::new(vec![error], Default::default()))?;
    let mut found = Vec::new();
    let scales = if first.scales.is_empty() { vec![first.scale] } else { first.scales };
    for scale in scales {
        let options = Options { scale: Some(scale.clone()), ..Options::default() };
        let experiment = load(experiments_dir, name, &options)?;
        found.push((scale, experiment.rows.len(), experiment.seeds.len()));
    }
    Ok(Holds::Experiment(found))
}

/// Everything there is to check: the experiments' names, then the paths of all other TOML files.
pub fn everything(experiments_dir: &Path) -> Result<Vec<String>, SpecError> {
    let mut found = names(experiments_dir)?;
    let failed = |error: std::io::Error| {
        let title = format!("cannot read {}: {error}", experiments_dir.display());
        SpecError::new(vec![Diagnostic::new(title)], Default::default())
    };
    let mut folders: Vec<PathBuf> = Vec::new();
    for entry in std::fs::read_dir(experiments_dir).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if path.is_dir() {
            folders.push(path);
        }
    }
    folders.sort();
    for folder in folders {
        let files = toml_files_below(&folder).map_err(failed)?;
        found.extend(files.into_iter().map(|file| file.display().to_string()));
    }
    Ok(found)
}
