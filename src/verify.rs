//! `deim verify`: reference cases, a line a case.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::bail;
use burn::tensor::Device;
use deim_spec::config::Precision;
use deim_verify::CaseReport;

use crate::output::{DONE, FAILED, Outcome};

/// Compare this program's numbers with reference cases of the official code.
///
/// Looks for cases (folders with a case.toml) below each folder and prints one line for each: PASS, FAIL
/// or SKIP, its name, and its worst error as a share of what its tolerance allows. A skipped case is
/// one of a kind that this version cannot verify; like a failure it makes the exit code 1.
///
/// With --precision bf16 only cases that run a detector are computed, in bf16, and printed as INFO with
/// the worst error of each part: in standard deviations of the reference (levels, logits, boxes), or as a
/// share of the reference (tokens, losses, norm). Tolerances are for float32 and judge nothing there.
#[derive(clap::Args)]
#[command(after_help = "Example: deim verify tests/reference/cases")]
pub struct Args {
    /// Folders that are cases or hold cases.
    #[arg(required = true, value_name = "DIR")]
    folders: Vec<PathBuf>,
    /// Device to compute on.
    #[arg(long, default_value = "cpu", value_name = "DEVICE")]
    device: String,
    /// Precision of the detectors: f32 is judged, bf16 is measured.
    #[arg(long, default_value = "f32", value_name = "f32|bf16")]
    precision: Precision,
    /// Print one JSON document instead of lines.
    #[arg(long)]
    json: bool,
}

pub fn run(args: Args) -> Outcome {
    let device = device(&args.device)?;
    let mut out = std::io::stdout().lock();
    let each = |case: &CaseReport| {
        if !args.json {
            // A closed pipe is no reason to stop: the exit code still counts.
            let _ = writeln!(out, "{}", case.line());
        }
    };
    if args.precision == Precision::Bf16 {
        let report = deim_verify::measure_in_bf16(&args.folders, &device, each)?;
        if report.cases.is_empty() {
            bail!("--precision bf16: no case below these folders runs a detector");
        }
        if args.json {
            writeln!(out, "{}", serde_json::to_string_pretty(&report)?)?;
        }
        return Ok(ExitCode::from(if report.all_measured() { DONE } else { FAILED }));
    }
    let report = deim_verify::run_each(&args.folders, &device, each)?;
    let [passed, failed, skipped] = report.counts();
    if args.json {
        writeln!(out, "{}", serde_json::to_string_pretty(&report)?)?;
    } else {
        writeln!(out, "{passed} passed, {failed} failed, {skipped} skipped")?;
    }
    Ok(ExitCode::from(if report.all_passed() { DONE } else { FAILED }))
}

fn device(name: &str) -> anyhow::Result<Device> {
    match name {
        "cpu" => Ok(Device::flex()),
        other => bail!("--device: expected cpu, the one device of this build, found '{other}'"),
    }
}
