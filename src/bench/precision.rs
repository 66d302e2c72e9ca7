//! `deim bench precision`: how far training in bf16 strays from training in float32.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use anyhow::{Context, bail};
use burn::tensor::Device;
use deim_data::Splits;
use deim_spec::Config;
use deim_spec::config::Precision;
use deim_train::events::Event;
use deim_train::run::{Job, run as train};
use serde::Serialize;

use crate::output::{DONE, FAILED, Outcome};
use crate::selection::Variant;

/// Train the first steps of a cell in float32 and in bf16, from the same weights and on the same draws,
/// and compare the losses.
///
/// A single step's loss is noise: compared are means over some steps.
#[derive(clap::Args)]
#[command(
    after_help = "Example: deim bench precision gamma --row 2 --steps 200 --within 0.01 --json"
)]
pub struct Args {
    /// Name of an experiment, or path of its file.
    name: String,
    /// Row of the experiment, counted from 1.
    #[arg(long, default_value_t = 1, value_name = "N")]
    row: usize,
    /// Seed of the weights and draws.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Steps to train in each precision.
    #[arg(long, default_value_t = 200, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    steps: u32,
    /// Steps whose mean is compared.
    #[arg(long, default_value_t = 20, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    window: u32,
    /// Train float32 once more, with a learning rate that is a millionth larger: how far runs drift apart
    /// that differ by next to nothing.
    #[arg(long)]
    control: bool,
    /// Fail (exit code 1) where two means differ by more than this share, for example 0.01.
    #[arg(long, value_name = "SHARE")]
    within: Option<f64>,
    /// Threads to compute with; by default all cores.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    threads: Option<u16>,
    /// Print one line of JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    variant: Variant,
}

/// What was measured.
#[derive(Serialize)]
struct Compared {
    what: &'static str,
    experiment: String,
    scale: String,
    row: String,
    seed: u64,
    device: String,
    steps: usize,
    window: usize,
    #[serde(flatten)]
    drift: Drift,
    f32: Trained,
    bf16: Trained,
    #[serde(skip_serializing_if = "Option::is_none")]
    control: Option<Control>,
    version: &'static str,
}

/// How far a run is from that in float32.
#[derive(Serialize)]
struct Drift {
    /// The largest difference of two means over a window, as a share of float32's.
    largest_difference: f64,
    /// The step that this window ends with, counted from 1.
    at_step: usize,
    /// The difference of the means over all steps.
    difference_of_means: f64,
}

/// Float32 once more, started a little otherwise.
#[derive(Serialize)]
struct Control {
    #[serde(flatten)]
    drift: Drift,
    #[serde(flatten)]
    run: Trained,
}

/// What the control's learning rate is multiplied with.
const NEXT_TO_NOTHING: f64 = 1.0 + 1e-6;

/// The first steps of a run.
#[derive(Serialize)]
struct Trained {
    /// The whole loss of each step.
    losses: Vec<f64>,
    /// A step with everything around it: its batch, and starting up.
    mean_ms: f64,
}

pub fn run(args: &Args) -> Outcome {
    let experiment = args.variant.load(&args.name, Some(1))?;
    let count = experiment.rows.len();
    let Some(row) = args.row.checked_sub(1).and_then(|index| experiment.rows.get(index)) else {
        bail!("--row {}: expected 1 to {count}, the rows of {}", args.row, experiment.name);
    };
    let inputs = args.variant.inputs.inputs()?;
    let mut config = inputs.settle(&row.config)?;
    // Nothing is measured but losses.
    config.eval.every = u32::MAX;
    let place = inputs.place_of(&config.data);
    let splits = deim_data::open(&config.data, place.as_ref())?;
    let pretrained = inputs.weights_of(&config)?;
    let devices = args.variant.device.open()?;
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    deim_train::threads::compute_with(args.threads.map_or(cores, usize::from));

    let steps = args.steps as usize;
    let train_first = |config: &Config| {
        first_steps(config, args.seed, &devices, &splits, pretrained.as_deref(), steps)
    };
    config.model.precision = Precision::F32;
    let f32 = train_first(&config)?;
    let window = (args.window as usize).min(steps);
    let control = args.control.then(|| {
        let mut config = config.clone();
        config.optimizer.lr *= NEXT_TO_NOTHING;
        let run = train_first(&config)?;
        anyhow::Ok(Control { drift: drift(&f32.losses, &run.losses, window), run })
    });
    let control = control.transpose()?;
    config.model.precision = Precision::Bf16;
    let bf16 = train_first(&config)?;
    let compared = Compared {
        what: "precision",
        experiment: experiment.name.clone(),
        scale: experiment.scale.clone(),
        row: row.title(),
        seed: args.seed,
        device: args.variant.device.to_string(),
        steps,
        window,
        drift: drift(&f32.losses, &bf16.losses, window),
        f32,
        bf16,
        control,
        version: env!("CARGO_PKG_VERSION"),
    };
    if args.json {
        println!("{}", serde_json::to_string(&compared)?);
    } else {
        print(&compared);
    }
    // What is not a number is not within anything.
    let holds = args.within.is_none_or(|within| compared.drift.largest_difference <= within);
    Ok(ExitCode::from(if holds { DONE } else { FAILED }))
}

/// Trains so many steps, as `deim run` would, and leaves nothing behind.
fn first_steps(
    config: &Config,
    seed: u64,
    devices: &[Device],
    splits: &Splits,
    pretrained: Option<&Path>,
    steps: usize,
) -> anyhow::Result<Trained> {
    let folder = Scratch::new()?;
    let stop = AtomicBool::new(false);
    let job = Job {
        config,
        seed,
        cell: "precision",
        devices: devices.to_vec(),
        directory: &folder.0,
        workers: 1,
        pretrained,
        stop: &stop,
        splits,
    };
    let mut losses = Vec::with_capacity(steps);
    let start = Instant::now();
    train(&job, &mut |event| {
        if let Event::Step { loss, .. } = event {
            losses.push(*loss);
            if losses.len() == steps {
                stop.store(true, Ordering::SeqCst);
            }
        }
    })?;
    if losses.len() < steps {
        bail!("--steps {steps}: the cell has {} steps", losses.len());
    }
    let mean_ms = 1000.0 * start.elapsed().as_secs_f64() / steps as f64;
    Ok(Trained { losses, mean_ms: (100.0 * mean_ms).round() / 100.0 })
}

/// A folder for the checkpoint that a stopped run writes, gone when this is.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> anyhow::Result<Self> {
        let path = std::env::temp_dir().join(format!("deim-precision-{}", std::process::id()));
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

/// How far the losses of another run are from those in float32, by means over `window` steps.
fn drift(f32: &[f64], other: &[f64], window: usize) -> Drift {
    let means = f32.windows(window).zip(other.windows(window));
    let differences = means.map(|(f32, other)| difference(mean(f32), mean(other)));
    let largest = differences.zip(window..).max_by(|a, b| a.0.total_cmp(&b.0));
    let (largest_difference, at_step) = largest.unwrap_or((f64::NAN, 0));
    let difference_of_means = difference(mean(f32), mean(other));
    Drift { largest_difference, at_step, difference_of_means }
}

/// As a share of the first.
fn difference(f32: f64, other: f64) -> f64 {
    (other - f32).abs() / f32.abs()
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

fn print(compared: &Compared) {
    let Compared { experiment, scale, row, seed, device, steps, window, .. } = compared;
    println!("{experiment}, scale {scale}: {row}, seed {seed}, {steps} steps on {device}");
    println!("  mean loss of the last {window} steps up to");
    let every = steps.div_ceil(10).max(1);
    for end in (1..=*steps).filter(|end| end % every == 0 && end >= window) {
        let [f32, bf16] =
            [&compared.f32, &compared.bf16].map(|run| mean(&run.losses[end - window..end]));
        let share = 100.0 * difference(f32, bf16);
        println!("  {end:6}  f32 {f32:9.4}  bf16 {bf16:9.4}  {share:6.3} %");
    }
    let control = compared.control.iter().map(|control| ("f32 again", &control.drift));
    for (name, drift) in [("bf16", &compared.drift)].into_iter().chain(control) {
        let [largest, all] =
            [drift.largest_difference, drift.difference_of_means].map(|share| 100.0 * share);
        println!(
            "  {name}: at most {largest:.3} % off (up to step {}), {all:.3} % over all steps",
            drift.at_step
        );
    }
    let Compared { f32, bf16, .. } = compared;
    println!("  a step took {:.1} ms in f32, {:.1} ms in bf16", f32.mean_ms, bf16.mean_ms);
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
