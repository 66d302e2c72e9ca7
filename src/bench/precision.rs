//! `deim bench precision`: how far training in bf16 strays from training in float32.

use std::process::ExitCode;

use deim_spec::Config;
use deim_spec::config::Precision;
use serde::Serialize;

use super::trial::{Drift, Subject, Trial, Which, difference, drift, mean};
use crate::output::{DONE, FAILED, Outcome};

/// Train the first steps of a cell in float32 and in bf16, from the same weights and on the same draws,
/// and compare the losses.
///
/// A single step's loss is noise: compared are means over some steps.
#[derive(clap::Args)]
#[command(
    after_help = "Example: deim bench precision gamma --row 2 --steps 200 --within 0.01 --json"
)]
pub struct Args {
    #[command(flatten)]
    which: Which,
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
    /// Print one line of JSON.
    #[arg(long)]
    json: bool,
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
    f32: Trial,
    bf16: Trial,
    #[serde(skip_serializing_if = "Option::is_none")]
    control: Option<Control>,
    version: &'static str,
}

/// Float32 once more, started a little otherwise.
#[derive(Serialize)]
struct Control {
    #[serde(flatten)]
    drift: Drift,
    #[serde(flatten)]
    run: Trial,
}

/// What the control's learning rate is multiplied with.
const NEXT_TO_NOTHING: f64 = 1.0 + 1e-6;

pub fn run(args: &Args) -> Outcome {
    let mut subject = Subject::open(&args.which)?;
    // Nothing is measured but losses.
    subject.config.eval.every = u32::MAX;
    let steps = args.steps as usize;
    let train = |change: &dyn Fn(&mut Config)| {
        let mut config = subject.config.clone();
        change(&mut config);
        subject.train(&config, Some(steps))
    };
    let f32 = train(&|config| config.model.precision = Precision::F32)?;
    let window = (args.window as usize).min(steps);
    let control = args.control.then(|| {
        let run = train(&|config| {
            config.model.precision = Precision::F32;
            config.optimizer.lr *= NEXT_TO_NOTHING;
        })?;
        anyhow::Ok(Control { drift: drift(&f32.losses, &run.losses, window), run })
    });
    let control = control.transpose()?;
    let bf16 = train(&|config| config.model.precision = Precision::Bf16)?;
    let compared = Compared {
        what: "precision",
        experiment: subject.experiment,
        scale: subject.scale,
        row: subject.row,
        seed: args.which.seed,
        device: args.which.variant.device.to_string(),
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
