//! A finished cell found again: what it was computed from, its data set and its weights.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use deim_data::{Place, Splits};
use deim_spec::config::Source;
use deim_spec::{Config, Experiment, Recorded, cell_id};
use deim_train::pretrained::hash;

use crate::error::LabError;
use crate::history::{self, History};
use crate::identity;
use crate::inputs::{Inputs, short};
use crate::ledger::Ledger;
use crate::record::{Finished, Line, Provenance};
use crate::why;

/// What a ledger knows of a finished cell.
#[derive(Clone, Debug)]
pub struct FinishedCell {
    pub id: String,
    /// `experiment/scale` whose ledger has it.
    pub ledger: String,
    /// Its configuration, as this program understands it.
    pub config: Config,
    pub provenance: Provenance,
    pub result: Finished,
}

impl FinishedCell {
    /// The cell whose id begins with `prefix`, from all ledgers under a results folder.
    pub fn by_id(results: &Path, prefix: &str) -> Result<Self, LabError> {
        let found = why::find(results, prefix)?;
        Self::new(found.id, found.ledger, found.history)
    }

    /// The finished cell of a row and a seed, from the experiment's own ledger.
    pub fn by_row(
        experiment: &Experiment,
        ledger: &Ledger,
        numerics: u32,
        row: usize,
        seed: u64,
    ) -> Result<Self, LabError> {
        let lines = ledger.read()?.lines;
        let mut histories = history::by_cell(&lines);
        let ids = ids(experiment, &lines, &Inputs::default(), numerics)?;
        let is_meant = |cell: &&Planned| cell.row == row && cell.seed == seed;
        let ids: Vec<&str> = ids.iter().filter(is_meant).map(|cell| cell.id.as_str()).collect();
        let name = format!("{}/{}", experiment.name, experiment.scale);
        match ids.as_slice() {
            [id] => {
                let history = histories.remove(*id).unwrap_or_default();
                Self::new((*id).to_owned(), name, history)
            }
            [] => Err(LabError::Cell(format!(
                "{name} has no finished cell of row {} with seed {seed}; `deim plan {} --scale {}` \
                 says what it has",
                row + 1,
                experiment.name,
                experiment.scale
            ))),
            several => Err(LabError::Cell(format!(
                "{name} has row {} with seed {seed} from several kinds of devices: give an id, {}",
                row + 1,
                several.join(" or ")
            ))),
        }
    }

    fn new(id: String, ledger: String, history: History) -> Result<Self, LabError> {
        let epochs = history.epochs_done();
        let (Some(provenance), Some(result)) = (history.provenance, history.finished) else {
            return Err(LabError::Cell(format!(
                "cell {id} of {ledger} is not finished ({epochs} epochs so far); `deim run {id}` \
                 goes on with it"
            )));
        };
        let config = config(&id, &provenance)?;
        Ok(Self { id, ledger, config, provenance, result })
    }

    /// "gamma/mini, loss.gamma 1.5, seed 0".
    pub fn title(&self) -> String {
        let settings = self.provenance.settings.iter();
        let settings: String = settings.map(|(name, value)| format!("{name} {value}, ")).collect();
        format!("{}, {settings}seed {}", self.ledger, self.provenance.seed)
    }

    /// The file of its averaged weights after the last epoch, those that its result was measured
    /// with, or why there is none.
    pub fn weights(&self, runs: &Path) -> Result<PathBuf, LabError> {
        let path = runs.join(&self.id).join("weights.safetensors");
        if !path.exists() {
            return Err(LabError::Input(format!(
                "the weights of cell {0} are not here: expected {1}; --runs DIR says where runs are, \
                 --weights FILE takes another file, `deim run {0} --results NEW` trains the cell again",
                short(&self.id),
                path.display()
            )));
        }
        let (found, expected) = (hash(&path)?, &self.result.summary.weights);
        if found != *expected {
            return Err(LabError::Input(format!(
                "{} is not the file that cell {} was measured with: expected blake3 {}, found {}; \
                 --weights FILE takes it all the same",
                path.display(),
                short(&self.id),
                short(expected),
                short(&found)
            )));
        }
        Ok(path)
    }

    /// Its data set, at the place that the user names, else where it was when the cell was trained.
    pub fn open(&self, given: Option<&Place>) -> Result<Splits, LabError> {
        let known = self.provenance.data.as_ref().filter(|_| given.is_none());
        if let Some(place) = known.filter(|place| !place.folder.is_dir()) {
            return Err(LabError::Input(format!(
                "the images of cell {} were in {}, which is not there: add --data DIR",
                short(&self.id),
                place.folder.display()
            )));
        }
        Ok(deim_data::open(&self.config.data, given.or(known))?)
    }

    /// Whether its images are drawn.
    pub fn is_synthetic(&self) -> bool {
        self.config.data.source == Source::Synthetic
    }
}

/// The configuration of a record, if it means to this program what it meant to the one that wrote it.
fn config(id: &str, provenance: &Provenance) -> Result<Config, LabError> {
    let strange = |what: String| {
        LabError::Cell(format!(
            "cell {id} was computed by {} from a configuration that this program does not know: {what}",
            provenance.program
        ))
    };
    let config: Config = serde_json::from_value(provenance.config.as_value().clone())
        .map_err(|error| strange(error.to_string()))?;
    match Recorded::from(&config) == provenance.config {
        true => Ok(config),
        false => Err(strange("some of its keys are not there".to_owned())),
    }
}

/// A finished cell of an experiment's ledger that the experiment still asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Planned {
    pub row: usize,
    pub seed: u64,
    pub device_class: String,
    pub id: String,
}

/// Every finished cell of a ledger that is one of an experiment's rows, row by row. Needs no file but
/// those of rows whose files differ within the ledger.
pub fn ids(
    experiment: &Experiment,
    lines: &[Line],
    inputs: &Inputs,
    numerics: u32,
) -> Result<Vec<Planned>, LabError> {
    let histories: BTreeMap<String, History> = history::by_cell(lines)
        .into_iter()
        .filter(|(_, history)| history.finished.is_some())
        .collect();
    let origins = || histories.values().filter_map(|history| history.provenance.as_ref());
    let classes: BTreeSet<&str> = origins().map(|origin| origin.device_class.as_str()).collect();
    let seeds: BTreeSet<u64> = origins().map(|origin| origin.seed).collect();
    let mut planned = Vec::new();
    for class in classes {
        let identities = identity::of_ledger(experiment, inputs, lines, class)?;
        for (row, one) in identities.iter().enumerate() {
            for &seed in &seeds {
                let id = cell_id(&one.config, seed, &one.manifest, numerics, class);
                if histories.contains_key(&id) {
                    planned.push(Planned { row, seed, device_class: class.to_owned(), id });
                }
            }
        }
    }
    planned.sort_by_key(|cell| (cell.row, cell.seed));
    Ok(planned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples;

    fn cell(provenance: Provenance, runs: &Path, weights: &[u8]) -> FinishedCell {
        let folder = runs.join("abc");
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("weights.safetensors"), weights).unwrap();
        let mut result = samples::finished(1.0);
        result.summary.weights = blake3_of(runs, b"the weights");
        let config = config("abc", &provenance).unwrap();
        FinishedCell { id: "abc".into(), ledger: "gamma/mini".into(), config, provenance, result }
    }

    fn blake3_of(folder: &Path, bytes: &[u8]) -> String {
        let path = folder.join("reference");
        std::fs::write(&path, bytes).unwrap();
        hash(&path).unwrap()
    }

    #[test]
    fn weights_that_were_not_measured_are_refused() {
        let runs = tempfile::tempdir().unwrap();
        let whole = cell(samples::provenance(), runs.path(), b"the weights");
        assert!(whole.weights(runs.path()).unwrap().ends_with("abc/weights.safetensors"));
        let other = cell(samples::provenance(), runs.path(), b"other weights");
        let error = other.weights(runs.path()).unwrap_err().to_string();
        assert!(error.contains("is not the file that cell abc was measured with"), "{error}");
        let error = other.weights(Path::new("nowhere")).unwrap_err().to_string();
        assert!(error.contains("nowhere/abc/weights.safetensors"), "{error}");
        assert_eq!(whole.title(), "gamma/mini, loss.gamma 1.5, seed 0");
    }

    #[test]
    fn images_that_moved_are_asked_for() {
        let runs = tempfile::tempdir().unwrap();
        let mut provenance = samples::provenance();
        provenance.data = Some(Place { folder: "gone".into(), ..Place::default() });
        let mut config = Config::default();
        config.data.source = Source::Folder;
        provenance.config = Recorded::from(&config);
        let cell = cell(provenance, runs.path(), b"the weights");
        let error = cell.open(None).err().unwrap().to_string();
        assert!(error.contains("were in gone") && error.contains("--data DIR"), "{error}");
    }

    #[test]
    fn a_configuration_of_another_age_is_refused_and_never_guessed() {
        let mut provenance = samples::provenance();
        let mut value = provenance.config.as_value().clone();
        value["loss"]["a_key_of_another_age"] = 1.0.into();
        provenance.config = serde_json::from_value(value.clone()).unwrap();
        let error = config("abc", &provenance).unwrap_err().to_string();
        assert!(error.contains("a_key_of_another_age"), "{error}");
        let loss = value["loss"].as_object_mut().unwrap();
        loss.remove("a_key_of_another_age");
        loss.remove("gamma");
        provenance.config = serde_json::from_value(value).unwrap();
        let error = config("abc", &provenance).unwrap_err().to_string();
        assert!(error.contains("some of its keys are not there"), "{error}");
    }

    #[test]
    fn a_cell_that_is_not_finished_says_how_far_it_came() {
        let results = tempfile::tempdir().unwrap();
        let ledger = Ledger::new(results.path(), "gamma", "mini");
        let lines = samples::finished_lines("abc", samples::provenance());
        ledger.extend(|_| Ok(lines[..2].to_vec())).unwrap();
        let error = FinishedCell::by_id(results.path(), "ab").unwrap_err().to_string();
        assert!(error.contains("not finished (1 epochs so far)"), "{error}");
        ledger.extend(|_| Ok(lines[2..].to_vec())).unwrap();
        assert_eq!(FinishedCell::by_id(results.path(), "ab").unwrap().id, "abc");
    }
}
