//! What a parent and its worker processes say to each other, one JSON object a line.
//!
//! The parent writes an [`Order`] to the worker's standard input and keeps it open: a later line
//! [`STOP`] asks the worker to save a checkpoint and end, and the end of the input means that the
//! parent is gone. The worker answers with [`Said`] lines on its standard output.

use std::collections::BTreeMap;
use std::path::PathBuf;

use deim_data::Place;
use deim_spec::Config;
use deim_train::events::Event;
use serde::{Deserialize, Serialize};

use crate::error::LabError;
use crate::execute::Crew;
use crate::lock::Holder;
use crate::plan::{Cell, Plan, Setting};

/// The line that asks a worker to stop after saving.
pub const STOP: &str = "stop";

/// Everything a worker must know to train one cell.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Order {
    pub experiment: String,
    pub scale: String,
    pub settings: BTreeMap<String, String>,
    pub cell: String,
    pub seed: u64,
    pub config: Config,
    pub manifest: String,
    pub numerics: u32,
    /// As the command line names it: `cpu`, `cuda:0`.
    pub device: String,
    pub threads: usize,
    pub results: PathBuf,
    pub runs: PathBuf,
    /// Where the images are, if they are files.
    pub data: Option<Place>,
    /// The file that `pretrained` asks for.
    pub pretrained: Option<PathBuf>,
    /// Decoded images to keep, in MiB; changes speed alone.
    pub cache_mb: usize,
}

impl Order {
    pub fn new(plan: &Plan, cell: &Cell, setting: &Setting, crew: &Crew) -> Result<Self, LabError> {
        Ok(Self {
            experiment: plan.experiment.clone(),
            scale: plan.scale.clone(),
            settings: cell.settings.clone(),
            cell: cell.id.clone(),
            seed: cell.seed,
            config: cell.config.clone(),
            manifest: cell.manifest.clone(),
            numerics: setting.numerics,
            device: setting.device.to_string(),
            threads: crew.threads,
            results: setting.results.clone(),
            runs: setting.runs.clone(),
            data: setting.inputs.place_of(&cell.config.data),
            pretrained: setting.inputs.weights_of(&cell.config)?,
            cache_mb: crew.cache_mb,
        })
    }
}

/// One line of a worker.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "said", rename_all = "kebab-case")]
pub enum Said {
    /// Something happened in the training run.
    Event { what: Event },
    /// It is over, and this was the last line.
    End(End),
}

/// How a worker's work on a cell ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "end", rename_all = "kebab-case")]
pub enum End {
    /// The cell is finished; `reused` if it had been already.
    Finished { reused: bool },
    /// A checkpoint is saved; the same command goes on from it.
    Stopped,
    /// The cell ended in an error.
    Failed { reason: String },
    /// A signal ended the process; the same command goes on from the last checkpoint.
    Killed { reason: String },
    /// Another process trains the cell.
    Busy { holder: Option<Holder> },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_is_understood() {
        for said in [
            Said::Event { what: Event::Evaluating { epoch: 3 } },
            Said::End(End::Finished { reused: true }),
            Said::End(End::Failed { reason: "no\nspace".into() }),
            Said::End(End::Busy { holder: None }),
        ] {
            let line = serde_json::to_string(&said).unwrap();
            assert!(!line.contains('\n'));
            assert_eq!(serde_json::from_str::<Said>(&line).unwrap(), said);
        }
    }
}
