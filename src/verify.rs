//! `deim verify`: reference cases, a line a case.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use deim_lab::{DeviceChoice, kernels};

use crate::output::{DONE, FAILED, Outcome};

/// Compare this program's numbers with reference cases of the official code.
///
/// Looks for cases (folders with a case.toml) below each folder and prints one line for each: PASS, FAIL
/// or SKIP, its name, and its worst error as a share of what its tolerance allows. A skipped case is
/// one of a kind that this version cannot verify; like a failure it makes the exit code 1.
#[derive(clap::Args)]
#[command(after_help = "Example: deim verify tests/reference/cases")]
pub struct Args {
    /// Folders that are cases or hold cases.
    #[arg(required = true, value_name = "DIR")]
    folders: Vec<PathBuf>,
    /// Device to compute on: cpu, cuda, cuda:N, vulkan or vulkan:N. Tolerances stay those of the cases.
    #[arg(long, default_value_t = DeviceChoice::Cpu)]
    device: DeviceChoice,
    /// Print one JSON document instead of lines.
    #[arg(long)]
    json: bool,
}

pub fn run(args: Args) -> Outcome {
    if args.device != DeviceChoice::Cpu {
        kernels::keep_in(&Path::new("runs").join(kernels::FOLDER));
    }
    let device = args.device.open()?;
    let mut out = std::io::stdout().lock();
    let report = deim_verify::run_each(&args.folders, &device, |case| {
        if !args.json {
            // A closed pipe is no reason to stop: the exit code still counts.
            let _ = writeln!(out, "{}", case.line());
        }
    })?;
    let [passed, failed, skipped] = report.counts();
    if args.json {
        writeln!(out, "{}", serde_json::to_string_pretty(&report)?)?;
    } else {
        writeln!(out, "{passed} passed, {failed} failed, {skipped} skipped")?;
        if let (true, Some((case, worst))) = (args.device != DeviceChoice::Cpu, report.worst()) {
            let share = worst.of_tolerance;
            writeln!(
                out,
                "on {}: at worst {share:.3} of its tolerance, {}",
                args.device, case.name
            )?;
        }
    }
    Ok(ExitCode::from(if report.all_passed() { DONE } else { FAILED }))
}
