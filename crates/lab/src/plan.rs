//! Which cells an experiment has, what became of them, and what the rest will cost.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use deim_spec::config::Precision;
use deim_spec::{Config, Experiment, Recorded, Row, cell_id};
use serde::Serialize;

use crate::cost::Costs;
use crate::device::Devices;
use crate::differences::{self, Difference};
use crate::error::LabError;
use crate::history::{self, History};
use crate::identity::{self, Identity};
use crate::inputs::Inputs;
use crate::ledger::Ledger;
use crate::lock::{self, Holder};
use crate::shelf::{Owner, Shelf};

/// Where results and run folders are, what to train on, and which code would train.
#[derive(Clone, Debug)]
pub struct Setting {
    pub results: PathBuf,
    pub runs: PathBuf,
    pub device: Devices,
    /// Version of the numerics of this program.
    pub numerics: u32,
    /// Where images and weights to start from are.
    pub inputs: Inputs,
}

impl Setting {
    /// The folder of a cell's checkpoints.
    pub fn run(&self, cell: &str) -> PathBuf {
        self.runs.join(cell)
    }
}

/// All cells of an experiment at one scale.
#[derive(Clone, Debug, Serialize)]
pub struct Plan {
    pub experiment: String,
    pub scale: String,
    pub device_class: String,
    pub numerics: u32,
    /// Row by row, and within a row seed by seed.
    pub cells: Vec<Cell>,
    /// What the reader should know about the ledgers.
    pub notes: Vec<String>,
    #[serde(skip)]
    pub ledger: Ledger,
}

/// One training run: a row of the experiment and a seed.
#[derive(Clone, Debug, Serialize)]
pub struct Cell {
    pub id: String,
    /// Index of the row in the experiment.
    pub row: usize,
    /// The row's settings as one line.
    pub title: String,
    /// The values of the axes, by name.
    pub settings: BTreeMap<String, String>,
    pub seed: u64,
    #[serde(flatten)]
    pub state: State,
    /// Seconds it still needs; 0 when it is done, none where nothing like it has finished.
    pub seconds_left: Option<f64>,
    #[serde(skip)]
    pub config: Config,
    #[serde(skip)]
    pub manifest: String,
}

/// What became of a cell.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "state", rename_all = "kebab-case")]
pub enum State {
    Done {
        ap: Option<f64>,
        seconds: f64,
        /// `experiment/scale` that trained it, where that is another.
        #[serde(skip_serializing_if = "Option::is_none")]
        reused_from: Option<String>,
    },
    /// Not finished. With epochs done, it goes on from its checkpoint.
    Missing { epochs_done: u32 },
    /// Another process trains it now.
    Running { holder: Option<Holder>, epochs_done: u32 },
    /// It ended in an error and waits for `deim retry`.
    Failed { reason: String },
    /// A cell of the same settings and seed is finished, but it no longer is this one.
    Stale { finished: String, differences: Vec<Difference> },
}

impl State {
    pub fn name(&self) -> &'static str {
        match self {
            Self::Done { .. } => "done",
            Self::Missing { .. } => "missing",
            Self::Running { .. } => "running",
            Self::Failed { .. } => "failed",
            Self::Stale { .. } => "stale",
        }
    }
}

/// How many cells are in each state, and the seconds that the others still need.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Totals {
    pub cells: usize,
    pub done: usize,
    pub missing: usize,
    pub running: usize,
    pub failed: usize,
    pub stale: usize,
    /// Seconds of one worker for all cells whose cost can be estimated.
    pub seconds_left: f64,
    /// Unfinished cells whose cost nothing tells.
    pub unknown: usize,
}

/// Looks at the ledgers and the locks; changes nothing.
pub fn make(experiment: &Experiment, setting: &Setting) -> Result<Plan, LabError> {
    let ledger = Ledger::new(&setting.results, &experiment.name, &experiment.scale);
    let contents = ledger.read()?;
    let own = history::by_cell(&contents.lines);
    let shelf = Shelf::load(&setting.results, &ledger);
    let mut notes: Vec<String> = contents.note(ledger.path()).into_iter().collect();
    notes.extend(shelf.notes.iter().cloned());

    if setting.device.is_cpu() && experiment.rows.iter().any(in_bf16) {
        notes.push(
            "model.precision = \"bf16\" is for GPUs: a CPU computes it in float32 and rounds, which \
             is slower than f32"
                .to_owned(),
        );
    }

    let mut costs = Costs::default();
    let mut elsewhere: BTreeMap<String, (String, History)> = BTreeMap::new();
    for (name, cell, history) in shelf.histories() {
        learn(&mut costs, &history);
        if history.finished.is_some() {
            elsewhere.entry(cell).or_insert((name.to_owned(), history));
        }
    }
    own.values().for_each(|history| learn(&mut costs, history));

    let device_class = setting.device.class();
    let mut cells = Vec::new();
    let identities = identity::of_files(experiment, &setting.inputs)?;
    for (row, (spec, identity)) in experiment.rows.iter().zip(identities).enumerate() {
        let Identity { config, manifest } = identity;
        let settings: BTreeMap<String, String> = spec.settings.iter().cloned().collect();
        for &seed in &experiment.seeds {
            let id = cell_id(&config, seed, &manifest, setting.numerics, &device_class);
            let mut cell = Cell {
                row,
                title: spec.title(),
                settings: settings.clone(),
                seed,
                state: State::Missing { epochs_done: 0 },
                seconds_left: None,
                config: config.clone(),
                manifest: manifest.clone(),
                id,
            };
            cell.state = state(&cell, &own, &elsewhere, setting)?;
            cell.seconds_left = left(&cell, &costs, &device_class);
            cells.push(cell);
        }
    }
    Ok(Plan {
        experiment: experiment.name.clone(),
        scale: experiment.scale.clone(),
        device_class,
        numerics: setting.numerics,
        cells,
        notes,
        ledger,
    })
}

fn in_bf16(row: &Row) -> bool {
    row.config.model.precision == Precision::Bf16
}

impl Plan {
    pub fn totals(&self) -> Totals {
        let mut totals = Totals { cells: self.cells.len(), ..Totals::default() };
        for cell in &self.cells {
            match cell.state {
                State::Done { .. } => totals.done += 1,
                State::Missing { .. } => totals.missing += 1,
                State::Running { .. } => totals.running += 1,
                State::Failed { .. } => totals.failed += 1,
                State::Stale { .. } => totals.stale += 1,
            }
            match cell.seconds_left {
                Some(seconds) => totals.seconds_left += seconds,
                None => totals.unknown += 1,
            }
        }
        totals
    }

    /// The cells for which `wanted` holds, all rows of the first seed before any of the second:
    /// what is there when a run is stopped early is then a balanced table of fewer seeds.
    pub fn seed_by_seed(&self, wanted: impl Fn(&State) -> bool) -> Vec<Cell> {
        let seeds: BTreeSet<u64> = self.cells.iter().map(|cell| cell.seed).collect();
        seeds
            .into_iter()
            .flat_map(|seed| self.cells.iter().filter(move |cell| cell.seed == seed))
            .filter(|cell| wanted(&cell.state))
            .cloned()
            .collect()
    }

    /// Takes over what other experiments have finished; returns how many cells that were.
    pub fn adopt(&self, results: &Path) -> Result<usize, LabError> {
        let wanted: Vec<&Cell> = self.cells.iter().filter(|cell| self.is_elsewhere(cell)).collect();
        if wanted.is_empty() {
            return Ok(0);
        }
        let own = history::by_cell(&self.ledger.read()?.lines);
        let shelf = Shelf::load(results, &self.ledger);
        let mut adopted = 0;
        for cell in wanted {
            let known = own.get(&cell.id).is_some_and(|history| history.finished.is_some());
            let owner = Owner {
                experiment: &self.experiment,
                scale: &self.scale,
                settings: &cell.settings,
            };
            if !known && shelf.adopt(&self.ledger, &cell.id, &owner)? {
                adopted += 1;
            }
        }
        Ok(adopted)
    }

    fn is_elsewhere(&self, cell: &Cell) -> bool {
        matches!(&cell.state, State::Done { reused_from: Some(_), .. })
    }
}

fn learn(costs: &mut Costs, history: &History) {
    if let (Some(provenance), Some(finished)) = (&history.provenance, &history.finished) {
        costs.add(provenance, finished);
    }
}

fn state(
    cell: &Cell,
    own: &BTreeMap<String, History>,
    elsewhere: &BTreeMap<String, (String, History)>,
    setting: &Setting,
) -> Result<State, LabError> {
    let history = own.get(&cell.id);
    let done = |history: &History, from: Option<String>| {
        history.finished.as_ref().map(|finished| State::Done {
            ap: finished.summary.last.ap,
            seconds: finished.seconds,
            reused_from: from,
        })
    };
    if let Some(history) = history {
        let from = history.provenance.as_ref().and_then(|known| known.reused_from.clone());
        if let Some(state) = done(history, from) {
            return Ok(state);
        }
    }
    if let Some((name, history)) = elsewhere.get(&cell.id)
        && let Some(state) = done(history, Some(name.clone()))
    {
        return Ok(state);
    }
    let epochs_done = history.map_or(0, History::epochs_done);
    if let Some(holder) = lock::holder(&setting.run(&cell.id))? {
        return Ok(State::Running { holder, epochs_done });
    }
    if let Some(failure) = history.and_then(|history| history.failed.as_ref())
        && !failure.killed
    {
        return Ok(State::Failed { reason: failure.reason.clone() });
    }
    if history.is_some() {
        return Ok(State::Missing { epochs_done });
    }
    Ok(stale(cell, own, setting).unwrap_or(State::Missing { epochs_done: 0 }))
}

/// The last finished cell of the same settings, seed and device class, and why it is another.
fn stale(cell: &Cell, own: &BTreeMap<String, History>, setting: &Setting) -> Option<State> {
    let candidates = own.iter().filter_map(|(id, history)| {
        let provenance = history.provenance.as_ref()?;
        let same = provenance.settings == cell.settings
            && provenance.seed == cell.seed
            && provenance.device_class == setting.device.class();
        (same && history.finished.is_some()).then_some((&history.last, id, provenance))
    });
    let (_, id, provenance) = candidates.max_by_key(|(last, id, _)| (*last, *id))?;
    // What changes every cell stands first.
    let mut differences = Vec::new();
    if provenance.numerics != setting.numerics {
        differences.push(Difference::new("numerics", provenance.numerics, setting.numerics));
    }
    if provenance.manifest != cell.manifest {
        let short = |manifest: &str| manifest.chars().take(8).collect::<String>();
        let (before, after) = (short(&provenance.manifest), short(&cell.manifest));
        differences.push(Difference::new("data set", before, after));
    }
    differences.extend(differences::between(&provenance.config, &Recorded::from(&cell.config)));
    Some(State::Stale { finished: id.clone(), differences })
}

/// Seconds until a cell is done; what an interrupted one has behind it is not counted again.
fn left(cell: &Cell, costs: &Costs, device_class: &str) -> Option<f64> {
    let share = match cell.state {
        State::Done { .. } => return Some(0.0),
        State::Missing { epochs_done } | State::Running { epochs_done, .. } => {
            1.0 - f64::from(epochs_done) / f64::from(cell.config.epochs.max(1))
        }
        State::Failed { .. } | State::Stale { .. } => 1.0,
    };
    Some(costs.estimate(&cell.config, device_class)? * share.clamp(0.0, 1.0))
}
