//! `deim bench`: how long a training step and an evaluation of a detector take, how fast its images
//! are made, and what bf16 changes.

mod data;
mod precision;

use std::process::ExitCode;

use anyhow::bail;
use burn::tensor::Device;
use clap::Subcommand;
use deim_spec::Config;
use deim_spec::config::Precision;
use deim_spec::official::{self, Recipe};
use deim_train::bench::{Inference, StepTimes, Training, batch};
use serde::Serialize;

use crate::output::{DONE, Outcome};

/// Time a training step or an evaluation of a detector, on images of noise, or the making of batches;
/// compare precisions.
#[derive(clap::Args)]
#[command(after_help = "Example: deim bench train --model r18 --size 320 --batch 4 --threads 2")]
pub struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Forward with denoising, matching and losses, backward, AdamW, moving average.
    Train(TrainOptions),
    /// From images to logits and boxes, in evaluation mode.
    Infer(Options),
    Data(data::Args),
    Precision(Box<precision::Args>),
}

#[derive(clap::Args)]
struct TrainOptions {
    #[command(flatten)]
    options: Options,
    /// What the detector's layers compute in; see `model.precision`.
    #[arg(long, default_value = "f32", value_name = "f32|bf16")]
    precision: Precision,
}

#[derive(clap::Args)]
struct Options {
    /// The detector.
    #[arg(long, default_value = "r18", value_name = "NAME")]
    model: String,
    /// Side of the square images, a multiple of 32.
    #[arg(long, default_value_t = 320, value_name = "PIXELS")]
    size: usize,
    /// Images in a batch.
    #[arg(long, default_value_t = 4, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    batch: u16,
    /// Steps that are timed, after --warmup others.
    #[arg(long, default_value_t = 10, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    steps: u16,
    /// Steps before the first timed one.
    #[arg(long, default_value_t = 3, value_name = "N")]
    warmup: u16,
    /// Threads to compute with; by default all cores.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    threads: Option<u16>,
    /// Print one line of JSON.
    #[arg(long)]
    json: bool,
}

/// What was measured. Times are medians in milliseconds.
#[derive(Serialize)]
struct Measured<'a> {
    what: &'static str,
    model: &'a str,
    precision: Precision,
    size: usize,
    batch: usize,
    threads: usize,
    steps: usize,
    median_ms: f64,
    fastest_ms: f64,
    /// Only of a training step.
    #[serde(skip_serializing_if = "Option::is_none")]
    stages_ms: Option<StepTimes>,
    /// The most memory that the process ever held, in MiB; only where the system tells.
    #[serde(skip_serializing_if = "Option::is_none")]
    peak_mib: Option<u64>,
    version: &'static str,
}

pub fn run(args: Args) -> Outcome {
    let (what, options, precision) = match &args.what {
        What::Train(train) => ("train", &train.options, train.precision),
        // Evaluation is in float32.
        What::Infer(options) => ("infer", options, Precision::F32),
        What::Data(args) => return data::run(args),
        What::Precision(args) => return precision::run(args),
    };
    if options.size == 0 || !options.size.is_multiple_of(32) {
        bail!("--size: expected a multiple of 32, found {}", options.size);
    }
    let mut config = model(&options.model)?;
    config.model.precision = precision;
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = options.threads.map_or(cores, usize::from);
    deim_train::threads::compute_with(threads);
    let device = Device::flex();
    let images = batch(options.size, usize::from(options.batch));
    let (warmup, steps) = (usize::from(options.warmup), usize::from(options.steps));
    let mut totals = Vec::with_capacity(steps);
    let mut stages = Vec::with_capacity(steps);
    if what == "train" {
        let mut training = Training::new(&config, &device)?;
        for step in 0..warmup + steps {
            let times = training.step(&images)?;
            if step >= warmup {
                totals.push(times.total());
                stages.push(times);
            }
        }
    } else {
        let inference = Inference::new(&config, &device);
        for step in 0..warmup + steps {
            let time = inference.forward(&images);
            if step >= warmup {
                totals.push(time);
            }
        }
    }
    let measured = Measured {
        what,
        model: &options.model,
        precision,
        size: options.size,
        batch: usize::from(options.batch),
        threads,
        steps,
        fastest_ms: rounded(totals.iter().copied().fold(f64::INFINITY, f64::min)),
        median_ms: median(totals),
        stages_ms: (!stages.is_empty()).then(|| StepTimes {
            forward: median(stages.iter().map(|times| times.forward).collect()),
            criterion: median(stages.iter().map(|times| times.criterion).collect()),
            backward: median(stages.iter().map(|times| times.backward).collect()),
            optimizer: median(stages.iter().map(|times| times.optimizer).collect()),
            ema: median(stages.iter().map(|times| times.ema).collect()),
        }),
        peak_mib: peak_mib(),
        version: env!("CARGO_PKG_VERSION"),
    };
    if options.json {
        println!("{}", serde_json::to_string(&measured)?);
    } else {
        print(&measured);
    }
    Ok(ExitCode::from(DONE))
}

/// The official recipe of a detector.
fn model(name: &str) -> anyhow::Result<Config> {
    let Some(official) = official::model(name) else {
        let names: Vec<_> = official::models().iter().map(|model| model.name).collect();
        bail!("--model: expected one of {}, found '{name}'", names.join(", "));
    };
    Ok(official.config(Recipe::Deim)?)
}

fn print(measured: &Measured) {
    let Measured { what, model, size, batch, threads, median_ms, fastest_ms, .. } = measured;
    let precision = match measured.precision {
        Precision::F32 => "",
        Precision::Bf16 => " in bf16",
    };
    println!("{what} {model}{precision}: {batch} images of {size}x{size}, {threads} threads");
    println!("  {median_ms:8.2} ms  median of {}, fastest {fastest_ms:.2}", measured.steps);
    if let Some(stages) = &measured.stages_ms {
        for (name, time) in [
            ("forward", stages.forward),
            ("criterion", stages.criterion),
            ("backward", stages.backward),
            ("optimizer", stages.optimizer),
            ("ema", stages.ema),
        ] {
            println!("  {time:8.2} ms  {name}");
        }
    }
    if let Some(peak) = measured.peak_mib {
        println!("  {peak:8} MiB at most");
    }
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    let middle = times.len() / 2;
    rounded(match times.len() % 2 {
        0 => (times[middle - 1] + times[middle]) / 2.0,
        _ => times[middle],
    })
}

fn rounded(milliseconds: f64) -> f64 {
    (milliseconds * 100.0).round() / 100.0
}

/// The high-water mark of this process's memory, as Linux counts it.
fn peak_mib() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib / 1024)
}
