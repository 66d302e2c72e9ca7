//! `deim bench noise`: how far runs of one cell with one seed are apart.

use std::process::ExitCode;

use deim_lab::Devices;
use serde::Serialize;

use super::trial::{Drift, Subject, Trial, Which, drift};
use crate::output::{DONE, FAILED, Outcome};

/// Train one cell several times with the same seed, and say how far the runs are apart.
///
/// On a CPU they are not: every run has the same bits. On a GPU this is the noise below which no
/// difference between two cells means anything. Keep what it prints with
/// `--json >> results/bench/noise.json`.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  deim bench noise gamma --steps 50
  deim bench noise gamma --row 2 --times 3 --device cuda --json >> results/bench/noise.json")]
pub struct Args {
    #[command(flatten)]
    which: Which,
    /// How often to train it.
    #[arg(long, default_value_t = 2, value_name = "N", value_parser = clap::value_parser!(u32).range(2..))]
    times: u32,
    /// Train only the first steps: losses are compared, but there is no AP.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    steps: Option<u32>,
    /// Steps whose mean loss is compared.
    #[arg(long, default_value_t = 20, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    window: u32,
    /// Fail (exit code 1) unless all runs have the same bits.
    #[arg(long)]
    same: bool,
    /// Print one line of JSON.
    #[arg(long)]
    json: bool,
}

/// What was measured.
#[derive(Serialize)]
struct Noise {
    what: &'static str,
    experiment: String,
    scale: String,
    row: String,
    seed: u64,
    device_class: String,
    device: String,
    #[serde(flatten)]
    compared: Compared,
    version: &'static str,
}

/// How far the runs are apart.
#[derive(Serialize)]
struct Compared {
    steps: usize,
    window: usize,
    /// The first step whose loss is not the same in all runs, counted from 1.
    first_difference: Option<usize>,
    /// Of each further run from the first.
    drifts: Vec<Drift>,
    /// AP in points, if whole runs were made.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    ap: Vec<f64>,
    /// Their standard deviation.
    #[serde(skip_serializing_if = "Option::is_none")]
    ap_deviation: Option<f64>,
    /// Whether all runs ended with the same weights.
    #[serde(skip_serializing_if = "Option::is_none")]
    same_weights: Option<bool>,
}

pub fn run(args: &Args) -> Outcome {
    let mut subject = Subject::open(&args.which)?;
    if args.steps.is_some() {
        // Nothing is measured but losses.
        subject.config.eval.every = u32::MAX;
    }
    let steps = args.steps.map(|steps| steps as usize);
    let mut trials = Vec::new();
    for run in 1..=args.times {
        let trial = subject.train(&subject.config, steps)?;
        eprintln!("run {run} of {}: {:.1} ms a step", args.times, trial.mean_ms);
        trials.push(trial);
    }
    let devices: &Devices = &args.which.variant.device;
    let noise = Noise {
        what: "noise",
        experiment: subject.experiment,
        scale: subject.scale,
        row: subject.row,
        seed: args.which.seed,
        device_class: devices.class(),
        device: devices.describe(),
        compared: compare(&trials, args.window as usize),
        version: env!("CARGO_PKG_VERSION"),
    };
    if args.json {
        println!("{}", serde_json::to_string(&noise)?);
    } else {
        print(&noise);
    }
    let Compared { first_difference, same_weights, .. } = noise.compared;
    let same = first_difference.is_none() && same_weights != Some(false);
    Ok(ExitCode::from(if same || !args.same { DONE } else { FAILED }))
}

fn compare(trials: &[Trial], window: usize) -> Compared {
    let (first, others) = trials.split_first().expect("at least two runs");
    let steps = first.losses.len();
    let window = window.min(steps);
    // Bits, for a NaN is the same as itself.
    let differs = |step: &usize| {
        let bits = first.losses[*step].to_bits();
        others.iter().any(|other| other.losses.get(*step).map(|loss| loss.to_bits()) != Some(bits))
    };
    let ap: Vec<f64> = trials.iter().filter_map(|trial| trial.ap).map(|ap| 100.0 * ap).collect();
    let weights: Vec<_> = trials.iter().filter_map(|trial| trial.weights.as_ref()).collect();
    Compared {
        steps,
        window,
        first_difference: (0..steps).find(differs).map(|step| step + 1),
        drifts: others.iter().map(|other| drift(&first.losses, &other.losses, window)).collect(),
        ap_deviation: (ap.len() > 1).then(|| deviation(&ap)),
        ap,
        same_weights: (!weights.is_empty()).then(|| weights.iter().all(|one| *one == weights[0])),
    }
}

/// Of a sample from what might have been.
fn deviation(values: &[f64]) -> f64 {
    let mean = super::trial::mean(values);
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    (squares / (values.len() - 1) as f64).sqrt()
}

fn print(noise: &Noise) {
    let Noise { experiment, scale, row, seed, device, compared, .. } = noise;
    let Compared { steps, window, drifts, .. } = compared;
    let runs = drifts.len() + 1;
    println!(
        "{experiment}, scale {scale}: {row}, seed {seed}, {runs} runs of {steps} steps on {device}"
    );
    match compared.first_difference {
        None => println!("  losses   the same bits in every step of every run"),
        Some(step) => {
            let largest = drifts.iter().map(|drift| drift.largest_difference);
            // What is no number is the largest of all.
            let largest = 100.0 * largest.max_by(f64::total_cmp).unwrap_or(0.0);
            println!(
                "  losses   differ from step {step} on; means of {window} steps by up to {largest:.3} %"
            );
        }
    }
    if let Some(deviation) = compared.ap_deviation {
        let all: Vec<String> = compared.ap.iter().map(|ap| format!("{ap:.2}")).collect();
        println!("  AP       {}: standard deviation {deviation:.2}", all.join(", "));
    }
    match compared.same_weights {
        Some(true) => println!("  weights  the same bits at the end"),
        Some(false) => println!("  weights  not the same at the end"),
        None => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trial(losses: &[f64], ap: Option<f64>) -> Trial {
        let weights = ap.map(|ap| format!("{ap}"));
        Trial { losses: losses.to_vec(), mean_ms: 1.0, ap, weights }
    }

    #[test]
    fn equal_runs_have_no_noise_even_where_a_loss_is_no_number() {
        let run = trial(&[2.0, f64::NAN, 1.0], Some(0.25));
        let noise = compare(&[run.clone(), run], 20);
        assert_eq!((noise.first_difference, noise.same_weights), (None, Some(true)));
        assert_eq!((noise.ap_deviation, noise.window), (Some(0.0), 3));
    }

    #[test]
    fn the_first_step_that_differs_in_any_run_is_found() {
        let runs = [
            trial(&[2.0, 2.0, 2.0], Some(0.20)),
            trial(&[2.0, 2.0, 2.5], Some(0.22)),
            trial(&[2.0, 2.1, 2.0], Some(0.24)),
        ];
        let noise = compare(&runs, 1);
        assert_eq!((noise.first_difference, noise.same_weights), (Some(2), Some(false)));
        assert!((noise.drifts[0].largest_difference - 0.25).abs() < 1e-12);
        assert!((noise.ap_deviation.unwrap() - 2.0).abs() < 1e-9);
    }

    #[test]
    fn steps_alone_give_no_ap() {
        let noise = compare(&[trial(&[1.0], None), trial(&[1.0], None)], 20);
        assert_eq!((noise.ap.len(), noise.ap_deviation, noise.same_weights), (0, None, None));
    }
}
