//! Weights of a file in the place of random ones, before the first step.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use burn::tensor::Device;
use deim_model::Detector;
use deim_model::pretrained::{Choice, PretrainedError, Report, compare, expected, load_pretrained};
use deim_spec::Config;
use deim_spec::config::PretrainedPart;
use deim_weights::{FileError, Layout};
use serde::{Deserialize, Serialize};

/// What training started from, for its record.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Fitted {
    /// Where the file was.
    pub file: PathBuf,
    /// The part of the file that was read: `ema`, `model`.
    pub part: String,
    /// Tensors that were taken.
    pub loaded: usize,
    /// Tensors of more than 32 bits a number, which were rounded.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub rounded: usize,
    /// Every tensor that was not taken or not there, and why.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub unfit: BTreeMap<String, String>,
}

fn is_zero(count: &usize) -> bool {
    *count == 0
}

/// Why training cannot start from a file.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("`pretrained.part` asks for weights to start from, and no file was given")]
    NoFile,
    #[error("{}: cannot read: {source}", path.display())]
    Read { path: PathBuf, source: std::io::Error },
    #[error(
        "{} is not the file that the cell was planned with: expected blake3 {expected}, found {found}",
        path.display()
    )]
    OtherFile { path: PathBuf, expected: String, found: String },
    #[error("{}: expected a whole detector (`pretrained.part`), found a backbone alone", .0.display())]
    BackboneOnly(PathBuf),
    #[error("{} is of another {part}: {account}; for example {example}", path.display())]
    Unfit { path: PathBuf, part: &'static str, account: String, example: String },
    #[error(transparent)]
    File(#[from] FileError),
    #[error(transparent)]
    Weights(#[from] PretrainedError),
}

/// The hash of a file, as `pretrained.blake3` has it.
pub fn hash(path: &Path) -> Result<String, StartError> {
    let failed = |source| StartError::Read { path: path.to_owned(), source };
    let mut hasher = blake3::Hasher::new();
    hasher.update_reader(std::fs::File::open(path).map_err(failed)?).map_err(failed)?;
    Ok(hasher.finalize().to_hex().to_string())
}

/// Puts the weights that the configuration asks for into the two copies of a detector; none where it
/// starts from random ones.
pub fn start(
    config: &Config,
    path: Option<&Path>,
    [detector, averaged]: [Detector; 2],
) -> Result<([Detector; 2], Option<Fitted>), StartError> {
    let wanted = config.pretrained.as_ref().filter(|one| one.part != PretrainedPart::None);
    let Some(wanted) = wanted else { return Ok(([detector, averaged], None)) };
    let path = path.ok_or(StartError::NoFile)?;
    let found = hash(path)?;
    if let Some(expected) = wanted.blake3.as_ref().filter(|expected| **expected != found) {
        let (path, expected) = (path.to_owned(), expected.clone());
        return Err(StartError::OtherFile { path, expected, found });
    }
    let file = deim_weights::open(path)?;
    let choice = choice(wanted.part);
    if choice == Choice::Best && file.layout == Layout::Backbone {
        return Err(StartError::BackboneOnly(path.to_owned()));
    }
    let (detector, report) = load_pretrained(detector, config, &file, choice)?;
    let unfit = unfit(&report);
    if !fits(choice, &report) {
        let example = unfit.iter().next();
        return Err(StartError::Unfit {
            path: path.to_owned(),
            part: if choice == Choice::Backbone { "backbone" } else { "detector" },
            account: report.line(),
            example: example.map(|(name, why)| format!("`{name}`: {why}")).unwrap_or_default(),
        });
    }
    let (averaged, _) = load_pretrained(averaged, config, &file, choice)?;
    let fitted = Fitted {
        file: path.to_owned(),
        part: report.part.clone(),
        loaded: report.loaded.len(),
        rounded: report.rounded,
        unfit,
    };
    Ok(([detector, averaged], Some(fitted)))
}

fn choice(part: PretrainedPart) -> Choice {
    match part {
        PretrainedPart::Detector => Choice::Best,
        PretrainedPart::Backbone | PretrainedPart::None => Choice::Backbone,
    }
}

fn fits(choice: Choice, report: &Report) -> bool {
    match choice {
        // A classifier that stands on the backbone is not wanted here.
        Choice::Backbone => report.missing.is_empty() && report.mismatched.is_empty(),
        _ => report.fits_but_for_classes(),
    }
}

/// The files, by position, that a configuration could start from: those of its own architecture.
pub fn fitting(config: &Config, paths: &[&Path]) -> Result<Vec<usize>, StartError> {
    let Some(wanted) = &config.pretrained else { return Ok(Vec::new()) };
    let choice = choice(wanted.part);
    // Heads of any class count fit, so that any will do.
    let names = expected(&Detector::new(config, 1, 0, &Device::flex()));
    let mut fitting = Vec::new();
    for (at, path) in paths.iter().enumerate() {
        let file = deim_weights::open(path)?;
        let whole = choice == Choice::Backbone || file.layout != Layout::Backbone;
        match compare(&names, config, &file, choice) {
            Ok(report) if whole && fits(choice, &report) => fitting.push(at),
            Ok(_) | Err(PretrainedError::NoPart { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(fitting)
}

/// Every name that was not simply loaded, and why.
pub(crate) fn unfit(report: &Report) -> BTreeMap<String, String> {
    let mut unfit = BTreeMap::new();
    for (name, shape) in &report.missing {
        unfit.insert(name.clone(), format!("{shape:?} in the model, not in the file"));
    }
    for (name, shape) in &report.unexpected {
        unfit.insert(name.clone(), format!("{shape:?} in the file, not in the model"));
    }
    for one in &report.mismatched {
        let why = format!("{:?} in the model, {:?} in the file", one.expected, one.found);
        unfit.insert(one.name.clone(), why);
    }
    for (name, expected, found) in &report.contradictions {
        unfit.insert(name.clone(), format!("the model has {expected}, the file {found}"));
    }
    unfit
}
