//! What `deim bench train` and `deim bench infer` measure, and the limits they print beside it.

use std::time::Instant;

use burn::tensor::Device;
use deim_data::Batch;
use deim_data::transforms::multi_scale::generate_scales;
use deim_lab::Devices;
use deim_spec::Config;
use deim_train::bench::{CLASSES, Inference, StepTimes, Training, batch, carried};
use serde::Serialize;

use super::Options;

/// What was measured. Times are medians in milliseconds.
#[derive(Serialize)]
pub struct Measured<'a> {
    pub what: &'static str,
    pub model: &'a str,
    pub device_class: String,
    pub device: String,
    pub size: usize,
    /// Whether the sizes of multi-scale training took turns.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub multi_scale: bool,
    pub batch: usize,
    pub threads: usize,
    pub steps: usize,
    pub median_ms: f64,
    pub fastest_ms: f64,
    /// Over all timed steps together, with the device's work done.
    pub images_per_second: f64,
    /// Only of a training step. Waiting for each stage takes a little more than the step alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stages_ms: Option<StepTimes>,
    /// The most memory that the process ever held, in MiB; only where the system tells.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peak_mib: Option<u64>,
    /// Only where the backend tells.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device_memory: Option<DeviceMemory>,
    /// Operations of one image: a forward pass, and for training twice as many for the backward.
    pub operations_per_image: f64,
    /// What the operations take at the rate that was given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit_operations_ms: Option<f64>,
    /// What reading and writing the parameters, their gradients, moments and averages takes, without
    /// any activation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit_memory_ms: Option<f64>,
    pub version: &'static str,
}

/// Memory of the device in MiB, of tensors and of the pools that hold them.
#[derive(Clone, Copy, Serialize)]
pub struct DeviceMemory {
    pub used_first_mib: u64,
    pub used_last_mib: u64,
    pub reserved_first_mib: u64,
    pub reserved_last_mib: u64,
}

/// A backward pass costs two forward passes: the inputs' gradients and the weights'.
const PASSES_OF_TRAINING: f64 = 3.0;
/// In training a parameter is read forward and backward and its gradient written; clipping reads that,
/// AdamW reads four numbers and writes three, the average reads two and writes one.
const MOVES_OF_TRAINING: f64 = 14.0;
const BYTES: f64 = 4.0;
/// Steps that are made again to time their stages, on a device that works behind the host's back.
const STAGED: usize = 10;

pub fn measure<'a>(
    what: &'static str,
    config: &Config,
    options: &'a Options,
    device: &Device,
    threads: usize,
) -> anyhow::Result<Measured<'a>> {
    let (size, images) = (options.size, usize::from(options.batch));
    let mut sizes = vec![size];
    if options.multi_scale {
        sizes = generate_scales(size, config.augment.multi_scale_repeat.max(1));
        sizes.sort_unstable();
        sizes.dedup();
    }
    let batches: Vec<Batch> =
        sizes.iter().map(|&size| carried(batch(size, images), device)).collect();
    let run = Run { device, batches, options };
    let times = match what {
        "train" => run.train(config)?,
        _ => run.infer(config)?,
    };

    // The sizes take turns.
    let costs: Vec<_> = sizes.iter().map(|&size| deim_eval::cost(config, CLASSES, size)).collect();
    let operations = costs.iter().map(|cost| cost.flops as f64).sum::<f64>() / costs.len() as f64;
    let (passes, moves) = match what {
        "train" => (PASSES_OF_TRAINING, MOVES_OF_TRAINING),
        _ => (1.0, 1.0),
    };
    let operations = passes * operations;
    let bytes = moves * BYTES * costs[0].parameters as f64;
    let at = |amount: f64, rate: f64| rounded(1e3 * amount / rate);
    let devices = Devices::from(options.device);
    Ok(Measured {
        what,
        model: &options.model,
        device_class: devices.class(),
        device: devices.describe(),
        size,
        multi_scale: options.multi_scale,
        batch: images,
        threads,
        steps: times.steps.len(),
        fastest_ms: rounded(times.steps.iter().copied().fold(f64::INFINITY, f64::min)),
        images_per_second: rounded((images * times.steps.len()) as f64 / times.seconds),
        median_ms: median(times.steps),
        stages_ms: (!times.stages.is_empty()).then(|| medians(&times.stages)),
        peak_mib: peak_mib(),
        device_memory: times.memory,
        operations_per_image: operations,
        limit_operations_ms: options
            .peak_tflops
            .map(|rate| at(operations * images as f64, 1e12 * rate)),
        limit_memory_ms: options.bandwidth_gbs.map(|rate| at(bytes, 1e9 * rate)),
        version: env!("CARGO_PKG_VERSION"),
    })
}

struct Run<'a> {
    device: &'a Device,
    /// One of each size.
    batches: Vec<Batch>,
    options: &'a Options,
}

#[derive(Default)]
struct Times {
    /// Milliseconds of each step.
    steps: Vec<f64>,
    /// Seconds of all of them.
    seconds: f64,
    stages: Vec<StepTimes>,
    memory: Option<DeviceMemory>,
}

impl Run<'_> {
    /// The batches in turn, so many in all.
    fn turns(&self, count: usize) -> impl Iterator<Item = &Batch> {
        self.batches.iter().cycle().take(count)
    }

    fn warmup(&self) -> usize {
        usize::from(self.options.warmup) * self.batches.len()
    }

    fn train(&self, config: &Config) -> anyhow::Result<Times> {
        let mut training = Training::new(config, CLASSES, self.device)?;
        for batch in self.turns(self.warmup()) {
            training.step(batch)?;
        }
        let steps = usize::from(self.options.steps);
        let mut times = Times::default();
        // On the CPU a stage is over when it returns, and a step is the sum of its stages.
        if *self.device == Device::flex() {
            for batch in self.turns(steps) {
                let stages = training.step(batch)?;
                times.steps.push(stages.total());
                times.seconds += stages.total() / 1e3;
                times.stages.push(stages);
            }
            return Ok(times);
        }
        training.wait()?;
        let start = Instant::now();
        let mut first = None;
        for batch in self.turns(steps) {
            times.steps.push(training.unwatched_step(batch)?);
            first = first.or_else(|| self.device.memory_pool_usage());
        }
        training.wait()?;
        times.seconds = start.elapsed().as_secs_f64();
        let mib = |bytes: u64| bytes >> 20;
        times.memory =
            first.zip(self.device.memory_pool_usage()).map(|(first, last)| DeviceMemory {
                used_first_mib: mib(first.bytes_in_use),
                used_last_mib: mib(last.bytes_in_use),
                reserved_first_mib: mib(first.bytes_reserved),
                reserved_last_mib: mib(last.bytes_reserved),
            });
        for batch in self.turns(steps.min(STAGED.max(self.batches.len()))) {
            times.stages.push(training.step(batch)?);
        }
        Ok(times)
    }

    fn infer(&self, config: &Config) -> anyhow::Result<Times> {
        let inference = Inference::new(config, CLASSES, self.device);
        for batch in self.turns(self.warmup()) {
            inference.forward(batch)?;
        }
        let mut times = Times::default();
        for batch in self.turns(usize::from(self.options.steps)) {
            let time = inference.forward(batch)?;
            times.steps.push(time);
            times.seconds += time / 1e3;
        }
        Ok(times)
    }
}

fn medians(stages: &[StepTimes]) -> StepTimes {
    let of = |stage: fn(&StepTimes) -> f64| median(stages.iter().map(stage).collect());
    StepTimes {
        forward: of(|times| times.forward),
        matching: of(|times| times.matching),
        criterion: of(|times| times.criterion),
        backward: of(|times| times.backward),
        optimizer: of(|times| times.optimizer),
        ema: of(|times| times.ema),
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

fn rounded(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}

/// The high-water mark of this process's memory, as Linux counts it.
fn peak_mib() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib / 1024)
}
