//! What all commands about an experiment ask alike: which one, in which variant, and where.

use std::path::PathBuf;

use deim_lab::plan::{self, Plan, Setting};
use deim_lab::{Devices, LabError, kernels};
use deim_spec::{Experiment, Options};

use crate::inputs::InputArgs;

/// An experiment, by name, in one of its variants.
#[derive(clap::Args, Clone)]
pub struct Selection {
    /// Name of an experiment, or path of its file.
    pub name: String,
    /// Train seeds 0 to N-1 of every row, in place of the number that the experiment says.
    #[arg(long, value_name = "N")]
    pub seeds: Option<u64>,
    #[command(flatten)]
    pub variant: Variant,
}

/// Which variant of an experiment, on what, and where its files are.
#[derive(clap::Args, Clone)]
pub struct Variant {
    /// Scale of the experiment; by default `mini`, else the first one in the file.
    #[arg(long)]
    pub scale: Option<String>,
    /// What to train on: cpu, cuda, cuda:N, vulkan, or several that share every batch (cuda:0,1).
    #[arg(long, default_value_t = Devices::default())]
    pub device: Devices,
    /// Set a configuration key, over everything else; may be repeated.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    #[command(flatten)]
    pub inputs: InputArgs,
    #[command(flatten)]
    pub folders: Folders,
}

/// Where things are.
#[derive(clap::Args, Clone)]
pub struct Folders {
    /// Folder of the experiments.
    #[arg(long, value_name = "DIR", default_value = "experiments")]
    pub experiments: PathBuf,
    /// Folder of the ledgers, tables and figures.
    #[arg(long, value_name = "DIR", default_value = "results")]
    pub results: PathBuf,
    /// Folder of the checkpoints.
    #[arg(long, value_name = "DIR", default_value = "runs")]
    pub runs: PathBuf,
}

impl Selection {
    pub fn load(&self) -> Result<Experiment, LabError> {
        self.variant.load(&self.name, self.seeds)
    }
}

impl Variant {
    pub fn load(&self, name: &str, seeds: Option<u64>) -> Result<Experiment, LabError> {
        let options = Options { scale: self.scale.clone(), seeds, set: self.set.clone() };
        Ok(deim_spec::load(&self.folders.experiments, name, &options)?)
    }

    /// An error when this program cannot train on the device.
    pub fn check_device(&self) -> Result<(), LabError> {
        if !self.device.is_cpu() {
            kernels::keep_in(&self.folders.runs.join(kernels::FOLDER));
        }
        self.device.check()
    }

    /// Reads every file of weights that was given.
    pub fn setting(&self) -> Result<Setting, LabError> {
        Ok(Setting {
            results: self.folders.results.clone(),
            runs: self.folders.runs.clone(),
            device: self.device.clone(),
            numerics: deim_train::NUMERICS,
            inputs: self.inputs.inputs()?,
        })
    }

    /// The plan, after telling what is odd about the ledgers.
    pub fn plan(&self, experiment: &Experiment, setting: &Setting) -> Result<Plan, LabError> {
        let plan = plan::make(experiment, setting)?;
        for note in &plan.notes {
            eprintln!("note: {note}");
        }
        Ok(plan)
    }
}
