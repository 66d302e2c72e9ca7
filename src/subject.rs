//! What `deim eval` and `deim predict` look through: a detector with the weights of a finished cell
//! or of a file.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::ValueEnum;
use deim_lab::{DeviceChoice, FinishedCell, Ledger};
use deim_model::pretrained::Choice;
use deim_spec::{Config, Options};
use deim_train::trained::{self, Trained};
use deim_weights::{Part, WeightFile};

use crate::inputs::DataArgs;
use crate::plan::short;
use crate::run;
use crate::selection::Folders;
use crate::weights::architecture;

/// Which detector, which weights, on what.
#[derive(clap::Args)]
pub struct SubjectArgs {
    /// Row of the experiment, counted from 1; needed where it has several.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..), requires = "cell")]
    row: Option<u32>,
    /// Seed of the cell [default: 0].
    #[arg(long, requires = "cell")]
    seed: Option<u64>,
    /// Scale of the experiment; by default `mini`, else the first one in the file.
    #[arg(long, requires = "cell")]
    scale: Option<String>,
    /// A detector that is no cell's: an official name (`deim models`), or the path of a model part.
    #[arg(long, value_name = "NAME|FILE", conflicts_with = "cell", requires = "weights")]
    model: Option<String>,
    /// Its weights (.pth or safetensors); of a cell, in place of those that it was measured with.
    #[arg(long, value_name = "FILE")]
    weights: Option<PathBuf>,
    /// Weights to take of a file that holds several: by default the average if there is one.
    #[arg(long, value_enum, requires = "weights")]
    part: Option<PartName>,
    /// What to compute on: cpu, cuda, cuda:N, vulkan or vulkan:N.
    #[arg(long, default_value_t = DeviceChoice::Cpu)]
    pub device: DeviceChoice,
    /// Threads to compute with; by default all cores.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    threads: Option<u16>,
    #[command(flatten)]
    pub data: DataArgs,
    #[command(flatten)]
    folders: Folders,
}

#[derive(Clone, Copy, ValueEnum)]
enum PartName {
    Ema,
    Model,
}

/// A detector before its weights are loaded.
pub struct Subject {
    pub config: Config,
    /// The cell, where it is one.
    pub cell: Option<FinishedCell>,
    pub file: WeightFile,
    /// Whether these are the weights that the cell's result was measured with.
    pub is_measured: bool,
    choice: Choice,
    /// What it was called on the command line.
    model: String,
}

impl SubjectArgs {
    /// The threads that are computed with from now on.
    pub fn compute(&self) -> usize {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let threads = self.threads.map_or(cores, usize::from);
        deim_train::threads::compute_with(threads);
        threads
    }

    /// Finds the cell that is meant, or the model, and opens the weights.
    pub fn find(&self, target: Option<&str>) -> anyhow::Result<Subject> {
        // A device that is not there is known before anything is read.
        self.device.open()?;
        let choice = match self.part {
            None => Choice::Best,
            Some(PartName::Ema) => Choice::Part(Part::Ema),
            Some(PartName::Model) => Choice::Part(Part::Model),
        };
        let cell = target.map(|target| self.cell(target)).transpose()?;
        let (config, model) = match (&cell, &self.model) {
            (Some(cell), _) => (cell.config.clone(), String::new()),
            (None, Some(model)) => (architecture(model, &self.folders.experiments)?, model.clone()),
            (None, None) => bail!("expected a cell or --model"),
        };
        let path = match (&self.weights, &cell) {
            (Some(path), _) => path.clone(),
            (None, Some(cell)) => cell.weights(&self.folders.runs)?,
            (None, None) => bail!("--model needs --weights FILE"),
        };
        let file = deim_weights::open(&path)?;
        Ok(Subject { config, cell, file, is_measured: self.weights.is_none(), choice, model })
    }

    fn cell(&self, target: &str) -> anyhow::Result<FinishedCell> {
        let Folders { experiments, results, .. } = &self.folders;
        if !run::is_experiment(experiments, target)? {
            if self.row.is_some() || self.seed.is_some() || self.scale.is_some() {
                bail!(
                    "--row, --seed and --scale choose a cell of an experiment; {target} is the id \
                     of a cell"
                );
            }
            return Ok(FinishedCell::by_id(results, target)?);
        }
        let options = Options { scale: self.scale.clone(), ..Options::default() };
        let experiment = deim_spec::load(experiments, target, &options)?;
        let row = run::row(target, experiment.rows.len(), self.row)?;
        let ledger = Ledger::new(results, &experiment.name, &experiment.scale);
        let seed = self.seed.unwrap_or(0);
        Ok(FinishedCell::by_row(&experiment, &ledger, deim_train::NUMERICS, row, seed)?)
    }
}

impl Subject {
    /// "cell 0123abcd (gamma/mini, loss.gamma 1.5, seed 0)", "r18 with weights of FILE".
    pub fn title(&self) -> String {
        match &self.cell {
            Some(cell) => format!("cell {} ({})", short(&cell.id), cell.title()),
            None => format!("{} with the weights of {}", self.model, file_name(&self.file.path)),
        }
    }

    /// How many classes its weights tell apart.
    pub fn classes(&self) -> anyhow::Result<usize> {
        Ok(trained::classes(&self.file, self.choice)?)
    }

    /// Which weights of the file are taken: a run's own file holds the average and says nothing of it.
    pub fn part<'a>(&self, trained: &'a Trained) -> &'a str {
        if self.is_measured { Part::Ema.name() } else { &trained.part }
    }

    /// The detector for so many classes.
    pub fn load(&self, classes: usize, device: DeviceChoice) -> anyhow::Result<Trained> {
        let trained =
            trained::load(&self.config, classes, &self.file, self.choice, &device.open()?)?;
        for (note, count) in &self.file.notes {
            eprintln!("note: {}: {note} ({count})", self.file.path.display());
        }
        if trained.rounded > 0 {
            eprintln!("note: {} tensors were rounded to 32 bits", trained.rounded);
        }
        Ok(trained)
    }
}

/// The last part of a path.
pub fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}

/// Writes a file and says so.
pub fn write(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    deim_report::write_file(path, bytes)
        .with_context(|| format!("cannot write {}", path.display()))?;
    eprintln!("wrote {}", path.display());
    Ok(())
}
