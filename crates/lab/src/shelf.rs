//! The ledgers of all experiments under one results folder.
//!
//! A cell's id says everything that decides its number, so that a cell which two experiments share
//! is one run: the second takes over the lines of the first and trains nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crate::error::LabError;
use crate::history::{self, History};
use crate::ledger::Ledger;
use crate::record::{Line, Record};

/// What the other experiments know.
#[derive(Debug, Default)]
pub struct Shelf {
    /// `experiment/scale` and its lines, in that order.
    ledgers: BTreeMap<String, Vec<Line>>,
    /// What could not be used, for the user.
    pub notes: Vec<String>,
}

/// Whose cell a copied line becomes.
#[derive(Clone, Debug)]
pub struct Owner<'a> {
    pub experiment: &'a str,
    pub scale: &'a str,
    /// The values of its axes, by name.
    pub settings: &'a BTreeMap<String, String>,
}

impl Shelf {
    /// Reads every `results/EXPERIMENT/SCALE/ledger.jsonl` but one's own. A ledger that cannot be
    /// read is another experiment's trouble: noted, and nothing of it is used.
    pub fn load(results: &Path, own: &Ledger) -> Self {
        Self::read(results, Some(own.path()))
    }

    /// Reads all of them.
    pub fn all(results: &Path) -> Self {
        Self::read(results, None)
    }

    fn read(results: &Path, except: Option<&Path>) -> Self {
        let mut shelf = Self::default();
        for experiment in folders(results) {
            for scale in folders(&experiment) {
                let ledger = Ledger::at(scale.join("ledger.jsonl"));
                if Some(ledger.path()) == except || !ledger.path().is_file() {
                    continue;
                }
                let name = [&experiment, &scale].map(|path| file_name(path)).join("/");
                match ledger.read() {
                    Ok(contents) => {
                        shelf.notes.extend(contents.note(ledger.path()));
                        shelf.ledgers.insert(name, contents.lines);
                    }
                    Err(error) => shelf.notes.push(format!("nothing is reused from it: {error}")),
                }
            }
        }
        shelf
    }

    /// The histories of all cells, each with the `experiment/scale` it is from.
    pub fn histories(&self) -> impl Iterator<Item = (&str, String, History)> {
        self.ledgers.iter().flat_map(|(name, lines)| {
            history::by_cell(lines)
                .into_iter()
                .map(|(cell, history)| (name.as_str(), cell, history))
        })
    }

    /// Where the lines of a cell are: in the ledger that finished it, else in the one that came
    /// farthest.
    fn lines(&self, cell: &str) -> Option<(&str, Vec<&Line>)> {
        let mut best: Option<(&str, Vec<&Line>, (bool, u32))> = None;
        for (name, lines) in &self.ledgers {
            let mine: Vec<&Line> = lines.iter().filter(|line| line.cell == cell).collect();
            let history = history::of_cell(lines, cell);
            let rank = (history.finished.is_some(), history.epochs_done());
            if !mine.is_empty() && best.as_ref().is_none_or(|(_, _, best)| rank > *best) {
                best = Some((name, mine, rank));
            }
        }
        best.map(|(name, lines, _)| (name, lines))
    }

    /// Copies what other experiments did for a cell into `ledger`, unless it is finished there
    /// already; all lines at once. True if the cell is finished now.
    pub fn adopt(&self, ledger: &Ledger, cell: &str, owner: &Owner<'_>) -> Result<bool, LabError> {
        let lines = ledger.extend(|own| {
            if history::of_cell(own, cell).finished.is_some() {
                return Ok(Vec::new());
            }
            let Some((from, lines)) = self.lines(cell) else { return Ok(Vec::new()) };
            // A copy and its origin may both have gone on; what both have is not copied again.
            let known: BTreeSet<(&str, String)> =
                own.iter().filter(|line| line.cell == cell).map(identity).collect();
            Ok(lines
                .into_iter()
                .filter(|line| !known.contains(&identity(line)))
                .map(|line| relabel(line, from, owner))
                .collect())
        })?;
        Ok(history::of_cell(&lines, cell).finished.is_some())
    }
}

/// When and what: enough to recognise a line of one cell in another ledger.
fn identity(line: &Line) -> (&str, String) {
    let what = match &line.record {
        Record::Started(_) => "started".to_owned(),
        Record::Epoch(epoch) => format!("epoch {}", epoch.epoch),
        Record::Finished(_) => "finished".to_owned(),
        Record::Latency(_) => "latency".to_owned(),
        Record::Failed { .. } => "failed".to_owned(),
    };
    (&line.at, what)
}

fn relabel(line: &Line, from: &str, owner: &Owner<'_>) -> Line {
    let mut line = line.clone();
    if let Record::Started(provenance) = &mut line.record {
        // The first origin stands: a copy of a copy was trained where the first was.
        provenance.reused_from.get_or_insert_with(|| from.to_owned());
        provenance.experiment = owner.experiment.to_owned();
        provenance.scale = owner.scale.to_owned();
        provenance.settings = owner.settings.clone();
    }
    line
}

/// The folders in a folder, in order; none where it does not exist.
fn folders(path: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
    let mut found: Vec<PathBuf> =
        entries.map(|entry| entry.path()).filter(|p| p.is_dir()).collect();
    found.sort();
    found
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples;

    fn owner(settings: &BTreeMap<String, String>) -> Owner<'_> {
        Owner { experiment: "losses", scale: "mini", settings }
    }

    #[test]
    fn a_finished_cell_of_another_experiment_is_copied_once_and_relabelled() {
        let results = tempfile::tempdir().unwrap();
        let gamma = Ledger::new(results.path(), "gamma", "mini");
        gamma.extend(|_| Ok(samples::finished_lines("a", samples::provenance()))).unwrap();
        let losses = Ledger::new(results.path(), "losses", "mini");
        let settings = BTreeMap::from([("loss.class".to_owned(), "mal".to_owned())]);
        for _ in 0..2 {
            let shelf = Shelf::load(results.path(), &losses);
            assert!(shelf.adopt(&losses, "a", &owner(&settings)).unwrap());
            assert!(!shelf.adopt(&losses, "b", &owner(&settings)).unwrap());
        }
        let lines = losses.read().unwrap().lines;
        assert_eq!(lines.len(), 3);
        let history = history::of_cell(&lines, "a");
        let provenance = history.provenance.unwrap();
        assert_eq!(provenance.reused_from.as_deref(), Some("gamma/mini"));
        assert_eq!((provenance.experiment.as_str(), &provenance.settings), ("losses", &settings));
        assert_eq!(history.finished, Some(samples::finished(10.0)));
    }

    #[test]
    fn an_unfinished_cell_brings_its_epochs_along() {
        let results = tempfile::tempdir().unwrap();
        let gamma = Ledger::new(results.path(), "gamma", "mini");
        let lines = samples::finished_lines("a", samples::provenance());
        gamma.extend(|_| Ok(lines[..2].to_vec())).unwrap();
        let losses = Ledger::new(results.path(), "losses", "mini");
        let settings = BTreeMap::new();
        let adopt =
            || Shelf::load(results.path(), &losses).adopt(&losses, "a", &owner(&settings)).unwrap();
        assert!(!adopt());
        assert_eq!(losses.read().unwrap().lines.len(), 2);
        gamma.extend(|_| Ok(lines[2..].to_vec())).unwrap();
        assert!(adopt());
        assert_eq!(losses.read().unwrap().lines.len(), 3);
    }

    #[test]
    fn a_broken_ledger_of_another_experiment_is_noted_and_left_alone() {
        let results = tempfile::tempdir().unwrap();
        let gamma = Ledger::new(results.path(), "gamma", "mini");
        gamma.prepare().unwrap();
        std::fs::write(gamma.path(), "<<<<<<< HEAD\n").unwrap();
        let shelf = Shelf::load(results.path(), &Ledger::new(results.path(), "losses", "mini"));
        assert_eq!(shelf.notes.len(), 1);
        assert!(shelf.notes[0].contains("ledger.jsonl:1"), "{:?}", shelf.notes);
    }
}
