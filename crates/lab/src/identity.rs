//! What identifies the cells of each row, beside seed, numerics and device: from the files themselves,
//! or from what a ledger says about them.

use std::collections::BTreeSet;

use deim_spec::config::{Pretrained, Source};
use deim_spec::{Config, Experiment, Recorded};
use serde_json::Value;

use crate::error::LabError;
use crate::history;
use crate::inputs::{Inputs, starts_from};
use crate::record::{Line, Provenance};

/// A row's configuration with nothing left open, and the manifest of its data set.
#[derive(Clone, Debug, PartialEq)]
pub struct Identity {
    pub config: Config,
    pub manifest: String,
}

/// The identities that training would have: every file must be there.
pub fn of_files(experiment: &Experiment, inputs: &Inputs) -> Result<Vec<Identity>, LabError> {
    inputs.check_used(experiment.rows.iter().map(|row| &row.config))?;
    let rows = experiment.rows.iter().map(|row| &row.config);
    rows.map(|config| {
        let manifest = inputs.manifest(&config.data)?;
        Ok(Identity { config: inputs.settle(config)?, manifest })
    })
    .collect()
}

/// The identities of finished cells: a file that was not given is the one that they were made with.
///
/// A table follows from its ledger alone, so that whoever checks it needs neither images nor weights.
pub fn of_ledger(
    experiment: &Experiment,
    inputs: &Inputs,
    lines: &[Line],
    device_class: &str,
) -> Result<Vec<Identity>, LabError> {
    let histories = history::by_cell(lines);
    let finished: Vec<&Provenance> = histories
        .values()
        .filter(|history| history.finished.is_some())
        .filter_map(|history| history.provenance.as_ref())
        .filter(|provenance| provenance.device_class == device_class)
        .collect();
    let rows = experiment.rows.iter().map(|row| &row.config);
    rows.map(|config| {
        let manifest = match (config.data.source, &inputs.data) {
            (Source::Folder, None) => manifest(&finished)?,
            _ => inputs.manifest(&config.data)?,
        };
        let config = match starts_from(config) {
            Some(Pretrained { blake3: None, .. }) if inputs.weights.is_empty() => {
                with_hash(config, &finished)?
            }
            _ => inputs.settle(config)?,
        };
        Ok(Identity { config, manifest })
    })
    .collect()
}

/// The data set of files that the finished cells saw; an empty text where there are none, which
/// identifies no cell.
fn manifest(finished: &[&Provenance]) -> Result<String, LabError> {
    let folder = |provenance: &&&Provenance| {
        provenance.config.get("data.source").and_then(Value::as_str) == Some("folder")
    };
    let found = finished.iter().filter(folder).map(|provenance| provenance.manifest.as_str());
    only(found, "data sets", "--data DIR")
}

/// A row with the hash that its finished cells have.
fn with_hash(config: &Config, finished: &[&Provenance]) -> Result<Config, LabError> {
    let wanted = Recorded::from(config);
    let found = finished.iter().filter_map(|provenance| {
        let hash = provenance.config.get("pretrained.blake3")?.as_str()?;
        let mut value = provenance.config.as_value().clone();
        value.get_mut("pretrained")?.as_object_mut()?.remove("blake3");
        (value == *wanted.as_value()).then_some(hash)
    });
    let hash = only(found, "pretrained weights", "--pretrained FILE")?;
    let mut config = config.clone();
    if let Some(pretrained) = config.pretrained.as_mut().filter(|_| !hash.is_empty()) {
        pretrained.blake3 = Some(hash);
    }
    Ok(config)
}

fn only<'a>(
    found: impl Iterator<Item = &'a str>,
    what: &str,
    option: &str,
) -> Result<String, LabError> {
    let found: BTreeSet<&str> = found.collect();
    if found.len() > 1 {
        let short: Vec<&str> = found.iter().map(|one| one.get(..8).unwrap_or(one)).collect();
        return Err(LabError::Input(format!(
            "the ledger holds finished cells of several {what} ({}): say which with {option}",
            short.join(", ")
        )));
    }
    Ok(found.first().copied().unwrap_or_default().to_owned())
}
