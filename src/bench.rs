//! `deim bench`: how long a training step and an evaluation of a detector take, how fast the detectors
//! of an experiment are, how fast images are made, what bf16 changes, and how far equal runs are apart.

mod data;
mod latency;
mod measure;
mod noise;
mod precision;
mod trial;

use std::path::Path;
use std::process::ExitCode;

use anyhow::bail;
use clap::Subcommand;
use deim_lab::{DeviceChoice, kernels};
use deim_spec::Config;
use deim_spec::config::Precision;
use deim_spec::official::{self, Recipe};

use crate::output::{DONE, Outcome};
use measure::{Measured, measure};

/// Time a training step or an evaluation of a detector, on images of noise, or the making of batches;
/// compare precisions, and runs of one seed.
#[derive(clap::Args)]
#[command(after_help = "Example: deim bench train --model r18 --size 320 --batch 4 --threads 2")]
pub struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Forward with denoising, matching and losses, backward, AdamW, moving average.
    Train(Options),
    /// From images to logits and boxes, in evaluation mode.
    Infer(Options),
    Latency(latency::Args),
    Data(data::Args),
    Precision(Box<precision::Args>),
    Noise(Box<noise::Args>),
}

#[derive(clap::Args)]
struct Options {
    /// The detector.
    #[arg(long, default_value = "r18", value_name = "NAME")]
    model: String,
    /// Device to compute on: cpu, cuda, cuda:N, vulkan or vulkan:N.
    #[arg(long, default_value_t = DeviceChoice::Cpu)]
    device: DeviceChoice,
    /// Side of the square images, a multiple of 32.
    #[arg(long, default_value_t = 320, value_name = "PIXELS")]
    size: usize,
    /// Take a batch of each size that training at --size draws from, in turn.
    #[arg(long)]
    multi_scale: bool,
    /// Images in a batch.
    #[arg(long, default_value_t = 4, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    batch: u16,
    /// Steps that are timed, after --warmup others.
    #[arg(long, default_value_t = 10, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    steps: u16,
    /// Steps of each size before the first timed one.
    #[arg(long, default_value_t = 3, value_name = "N")]
    warmup: u16,
    /// Threads to compute with; by default all cores.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    threads: Option<u16>,
    /// What the device's makers promise, in 10^12 operations a second, to print the limit beside the
    /// measurement.
    #[arg(long, value_name = "RATE")]
    peak_tflops: Option<f64>,
    /// What they promise of its memory, in 10^9 bytes a second.
    #[arg(long, value_name = "RATE")]
    bandwidth_gbs: Option<f64>,
    /// Set a configuration key, over the official recipe; may be repeated.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Print one line of JSON.
    #[arg(long)]
    json: bool,
}

pub fn run(args: Args) -> Outcome {
    let (what, options) = match &args.what {
        What::Train(options) => ("train", options),
        What::Infer(options) => ("infer", options),
        What::Latency(args) => return latency::run(args),
        What::Data(args) => return data::run(args),
        What::Precision(args) => return precision::run(args),
        What::Noise(args) => return noise::run(args),
    };
    if options.size == 0 || !options.size.is_multiple_of(32) {
        bail!("--size: expected a multiple of 32, found {}", options.size);
    }
    for (name, rate) in
        [("--peak-tflops", options.peak_tflops), ("--bandwidth-gbs", options.bandwidth_gbs)]
    {
        if rate.is_some_and(|rate| !(rate > 0.0 && rate.is_finite())) {
            bail!("{name}: expected a rate above zero");
        }
    }
    let config = model(options)?;
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = options.threads.map_or(cores, usize::from);
    deim_train::threads::compute_with(threads);
    if options.device != DeviceChoice::Cpu {
        kernels::keep_in(&Path::new("runs").join(kernels::FOLDER));
    }
    let device = options.device.open()?;
    let measured = measure(what, &config, options, &device, threads)?;
    if options.json {
        println!("{}", serde_json::to_string(&measured)?);
    } else {
        print(&measured);
    }
    Ok(ExitCode::from(DONE))
}

/// The official recipe of a detector.
fn model(options: &Options) -> anyhow::Result<Config> {
    let name = &options.model;
    let Some(official) = official::model(name) else {
        let names: Vec<_> = official::models().iter().map(|model| model.name).collect();
        bail!("--model: expected one of {}, found '{name}'", names.join(", "));
    };
    Ok(official.config_with(Recipe::Deim, &options.set)?)
}

fn print(measured: &Measured) {
    let Measured { what, model, size, batch, threads, median_ms, fastest_ms, .. } = measured;
    let device = &measured.device;
    let precision = match measured.precision {
        Precision::F32 => "",
        Precision::Bf16 => " in bf16",
    };
    println!(
        "{what} {model}{precision}: {batch} images of {size}x{size}, {threads} threads, {device}"
    );
    println!("  {median_ms:8.2} ms  median of {}, fastest {fastest_ms:.2}", measured.steps);
    println!("  {:8.2} images a second", measured.images_per_second);
    if let Some(stages) = &measured.stages_ms {
        for (name, time) in [
            ("forward", stages.forward),
            ("matching", stages.matching),
            ("criterion", stages.criterion),
            ("backward", stages.backward),
            ("optimizer", stages.optimizer),
            ("ema", stages.ema),
        ] {
            println!("  {time:8.2} ms  {name}");
        }
    }
    if let Some(peak) = measured.peak_mib {
        println!("  {peak:8} MiB of the host at most");
    }
    match &measured.device_memory {
        Some(memory) => println!(
            "  {:8} MiB of the device after the first step, {} after the last; {} and {} reserved",
            memory.used_first_mib,
            memory.used_last_mib,
            memory.reserved_first_mib,
            memory.reserved_last_mib
        ),
        None if measured.device_class != "cpu" => {
            println!("  memory of the device: not available");
        }
        None => {}
    }
    let or_not = |limit: Option<f64>| match limit {
        Some(limit) => format!("{limit:8.2} ms"),
        None => "   not given".to_owned(),
    };
    println!("  {}  at least for its operations", or_not(measured.limit_operations_ms));
    println!("  {}  at least for its parameters' memory", or_not(measured.limit_memory_ms));
}
