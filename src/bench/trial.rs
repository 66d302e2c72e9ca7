//! A cell trained apart from the ledger, to compare one run of it with another.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use anyhow::{Context, bail};
use burn::tensor::Device;
use deim_data::Splits;
use deim_spec::Config;
use deim_train::events::Event;
use deim_train::run::{Ending, Job, run as train};
use serde::Serialize;

use crate::selection::Variant;

/// Which cell, and on what.
#[derive(clap::Args)]
pub struct Which {
    /// Name of an experiment, or path of its file.
    pub name: String,
    /// Row of the experiment, counted from 1.
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub row: usize,
    /// Seed of the weights and draws.
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Threads to compute with; by default all cores.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub threads: Option<u16>,
    #[command(flatten)]
    pub variant: Variant,
}

/// The cell, and all that its runs need.
pub struct Subject {
    pub experiment: String,
    pub scale: String,
    pub row: String,
    pub config: Config,
    seed: u64,
    devices: Vec<Device>,
    splits: Splits,
    pretrained: Option<PathBuf>,
}

/// A run, or its first steps.
#[derive(Clone, Debug, Serialize)]
pub struct Trial {
    /// The whole loss of each step.
    pub losses: Vec<f64>,
    /// A step with everything around it: its batch, and starting up.
    pub mean_ms: f64,
    /// AP of a whole run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ap: Option<f64>,
    /// What tells the weights of a whole run apart.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weights: Option<String>,
}

impl Subject {
    pub fn open(which: &Which) -> anyhow::Result<Self> {
        let &Which { ref name, row, seed, threads, ref variant } = which;
        let experiment = variant.load(name, Some(1))?;
        let count = experiment.rows.len();
        let Some(chosen) = row.checked_sub(1).and_then(|index| experiment.rows.get(index)) else {
            bail!("--row {row}: expected 1 to {count}, the rows of {}", experiment.name);
        };
        let inputs = variant.inputs.inputs()?;
        let config = inputs.settle(&chosen.config)?;
        let place = inputs.place_of(&config.data);
        let splits = deim_data::open(&config.data, place.as_ref())?;
        let pretrained = inputs.weights_of(&config)?;
        let devices = variant.device.open()?;
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        deim_train::threads::compute_with(threads.map_or(cores, usize::from));
        let row = chosen.title();
        let (experiment, scale) = (experiment.name, experiment.scale);
        Ok(Self { experiment, scale, row, config, seed, devices, splits, pretrained })
    }

    /// Trains so many steps, or all, as `deim run` would, and leaves nothing behind.
    pub fn train(&self, config: &Config, steps: Option<usize>) -> anyhow::Result<Trial> {
        let folder = Scratch::new()?;
        let stop = AtomicBool::new(false);
        let job = Job {
            config,
            seed: self.seed,
            cell: "trial",
            devices: self.devices.clone(),
            directory: &folder.0,
            workers: 1,
            pretrained: self.pretrained.as_deref(),
            stop: &stop,
            splits: &self.splits,
        };
        let mut losses = Vec::new();
        let start = Instant::now();
        let ending = train(&job, &mut |event| {
            if let Event::Step { loss, .. } = event {
                losses.push(*loss);
                if steps == Some(losses.len()) {
                    stop.store(true, Ordering::SeqCst);
                }
            }
        })?;
        if let Some(steps) = steps.filter(|&steps| losses.len() < steps) {
            bail!("--steps {steps}: the cell has {} steps", losses.len());
        }
        let mean_ms = 1000.0 * start.elapsed().as_secs_f64() / losses.len() as f64;
        let (ap, weights) = match ending {
            Ending::Finished(summary) => (summary.last.ap, Some(summary.weights)),
            Ending::Stopped => (None, None),
        };
        Ok(Trial { losses, mean_ms: (100.0 * mean_ms).round() / 100.0, ap, weights })
    }
}

/// A folder for the checkpoint that a stopped run writes, gone when this is.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> anyhow::Result<Self> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("deim-trial-{}-{count}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir(&path).with_context(|| format!("cannot create {}", path.display()))?;
        Ok(Self(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            eprintln!("note: {} was left behind: {error}", self.0.display());
        }
    }
}

/// How far a run's losses are from another's.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Drift {
    /// The largest difference of two means over a window, as a share of the other run's.
    pub largest_difference: f64,
    /// The step that this window ends with, counted from 1.
    pub at_step: usize,
    /// The difference of the means over all steps.
    pub difference_of_means: f64,
}

/// How far the losses of a run are from those of `first`, by means over `window` steps.
pub fn drift(first: &[f64], other: &[f64], window: usize) -> Drift {
    let means = first.windows(window).zip(other.windows(window));
    let differences = means.map(|(first, other)| difference(mean(first), mean(other)));
    let largest = differences.zip(window..).max_by(|a, b| a.0.total_cmp(&b.0));
    let (largest_difference, at_step) = largest.unwrap_or((f64::NAN, 0));
    let difference_of_means = difference(mean(first), mean(other));
    Drift { largest_difference, at_step, difference_of_means }
}

/// As a share of the first.
pub fn difference(first: f64, other: f64) -> f64 {
    (other - first).abs() / first.abs()
}

pub fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_difference_is_of_means_and_not_of_single_steps() {
        let f32 = [2.0, 4.0, 2.0, 4.0, 2.0];
        // The steps swap places and differ by half; the means only where one is new.
        let bf16 = [4.0, 2.0, 4.0, 2.0, 2.3];
        let found = drift(&f32, &bf16, 2);
        assert_eq!(found.at_step, 5);
        assert!((found.largest_difference - (3.0 - 2.15) / 3.0).abs() < 1e-12);
        assert!((found.difference_of_means - 0.3 / 14.0).abs() < 1e-12);
        assert!(drift(&[1.0, f64::NAN], &[1.0, 1.0], 1).largest_difference.is_nan());
    }
}
