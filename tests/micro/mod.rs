//! A laboratory in a temporary folder: a model of some thousand parameters that trains in seconds.

#![allow(dead_code)] // every test binary uses its part

use std::path::Path;
use std::process::{Command, Output, Stdio};

use deim_lab::history::{History, of_cell};
use deim_lab::plan::{self, Plan};
use deim_lab::record::{Finished, Line, Provenance, Record};
use deim_lab::{Cell, Devices, Ledger, Setting};
use deim_spec::Options;
use deim_train::events::{EpochRecord, Seconds, Summary};
use tempfile::TempDir;

const RECIPE: &str = r#"
epochs = 3

[data]
source = "synthetic"
batch_size = 2
eval_batch_size = 4
input_size = 64

[data.synthetic]
train_images = 10
val_images = 4
scene_size = 96
min_objects = 1
max_objects = 3

[augment]
mosaic_tile = 32

[model]
queries = 10
backbone = { block = "basic", blocks = [1, 1, 1, 1], stem = [4, 4, 8], widths = [8, 8, 16, 16] }
encoder = { hidden = 16, heads = 2, feedforward = 16, expansion = 0.5, depth_mult = 0.34 }
decoder = { hidden = 16, heads = 2, feedforward = 16, layers = 2, points = [2, 2, 2] }

[denoising]
queries = 4

[schedule]
warmup_fraction = 0.1
augment_start = 1
no_aug_epochs = 1

[ema]
decay = 0.9
warmups = 5

[seeds]
count = 1
"#;

/// Two experiments of two rows; they share the cell of MAL with gamma 1.5.
const EXPERIMENTS: [(&str, &str); 2] = [
    ("micro", "key = \"loss.gamma\"\nvalues = [1.5, 2.0]\n"),
    ("other", "key = \"loss.class\"\nvalues = [\"mal\", \"vfl\"]\n"),
];

pub struct Lab {
    folder: TempDir,
}

impl Lab {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let experiments = folder.path().join("experiments");
        std::fs::create_dir(&experiments).unwrap();
        for (name, axis) in EXPERIMENTS {
            let text = format!(
                "title = \"{name}\"\nquestion = \"Does it run?\"\n{RECIPE}\n[[axis]]\n{axis}"
            );
            std::fs::write(experiments.join(format!("{name}.toml")), text).unwrap();
        }
        Self { folder }
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// `deim` with these arguments, in this laboratory.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_deim"));
        command
            .args(arguments)
            .current_dir(self.path())
            .env("COLUMNS", "100")
            .env_remove("RUST_BACKTRACE")
            .stdin(Stdio::null());
        command
    }

    /// Runs it to its end.
    pub fn deim(&self, arguments: &[&str]) -> Told {
        let output = self.command(arguments).output().unwrap();
        Told::from(output)
    }

    pub fn setting(&self) -> Setting {
        Setting {
            results: self.path().join("results"),
            runs: self.path().join("runs"),
            device: Devices::default(),
            numerics: deim_train::NUMERICS,
            inputs: Default::default(),
        }
    }

    pub fn plan(&self, name: &str) -> Plan {
        let options = Options::default();
        let experiment = deim_spec::load(&self.path().join("experiments"), name, &options).unwrap();
        plan::make(&experiment, &self.setting()).unwrap()
    }

    pub fn ledger(&self, name: &str) -> Ledger {
        Ledger::new(&self.path().join("results"), name, "default")
    }

    /// What the ledger says about a cell.
    pub fn history(&self, name: &str, cell: &str) -> History {
        of_cell(&self.ledger(name).read().unwrap().lines, cell)
    }

    /// The files of a run that its training wrote, with their content.
    pub fn files(&self, cell: &str) -> Vec<(String, Vec<u8>)> {
        let folder = self.path().join("runs").join(cell);
        let mut files: Vec<(String, Vec<u8>)> = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.extension().is_some_and(|end| end == "safetensors"))
            .map(|path| (name(&path), std::fs::read(&path).unwrap()))
            .collect();
        files.sort();
        files
    }

    /// Writes the lines of a cell that never was trained.
    pub fn pretend_finished(&self, experiment: &str, cell: &Cell, ap: f64) {
        let lines = finished_lines(experiment, cell, ap);
        self.ledger(experiment).extend(|_| Ok(lines)).unwrap();
    }
}

fn name(path: &Path) -> String {
    path.file_name().unwrap().to_string_lossy().into_owned()
}

pub fn finished_lines(experiment: &str, cell: &Cell, ap: f64) -> Vec<Line> {
    let metrics = deim_eval::Metrics { ap: Some(ap), ap50: Some(ap), ..Default::default() };
    let provenance = Provenance {
        experiment: experiment.into(),
        scale: "default".into(),
        settings: cell.settings.clone(),
        seed: cell.seed,
        config: deim_spec::Recorded::from(&cell.config),
        manifest: cell.manifest.clone(),
        data: None,
        pretrained: None,
        numerics: deim_train::NUMERICS,
        device_class: "cpu".into(),
        device: "a processor".into(),
        threads: 1,
        program: "deim test".into(),
        resumed_at: None,
        reused_from: None,
    };
    let epoch = EpochRecord {
        metrics: Some(metrics.clone()),
        seconds: Seconds { train: 50.0, evaluate: 10.0, wait: 0.0 },
        ..Default::default()
    };
    let summary = Summary {
        last: metrics.clone(),
        best: metrics,
        best_epoch: 0,
        steps: 15,
        parameters: 1000,
        weights: "0".repeat(64),
        kernels: None,
        notes: Default::default(),
    };
    [
        Record::Started(Box::new(provenance)),
        Record::Epoch(Box::new(epoch)),
        Record::Finished(Box::new(Finished { summary, seconds: 60.0 })),
    ]
    .map(|record| Line { at: "2025-01-01T00:00:00Z".into(), cell: cell.id.clone(), record })
    .into()
}

/// What a command printed, and its exit code.
pub struct Told {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

impl From<Output> for Told {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code(),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

impl std::fmt::Display for Told {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let code = self.code.map_or("a signal".to_owned(), |code| code.to_string());
        write!(formatter, "exit {code}\n--- stdout\n{}--- stderr\n{}", self.out, self.err)
    }
}
