//! `deim verify`: reference cases, a line a case.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::bail;
use deim_lab::{DeviceChoice, kernels};
use deim_verify::{Arithmetic, CaseReport, Setting};

use crate::output::{DONE, FAILED, Outcome};

/// Compare this program's numbers with reference cases of the official code.
///
/// Looks for cases (folders with a case.toml) below each folder and prints one line for each: PASS, FAIL
/// or SKIP, its name, and its worst error as a share of what its tolerance allows. A skipped case is
/// one of a kind that this version cannot verify; like a failure it makes the exit code 1.
///
/// With --precision tf32 or bf16 only cases that run a detector are computed, in that arithmetic, and
/// printed as INFO with the worst error of each part: in standard deviations of the reference (levels,
/// logits, boxes), or as a share of the reference (tokens, losses, norm). Tolerances are for float32 and
/// judge nothing there. TF32 is what an NVIDIA GPU may multiply float32 numbers in: here the factors of
/// all such products are rounded to its 11 bits of mantissa, whatever the device. With --precision all
/// there are three lines a case: f32 in the same measure, tf32 and bf16.
///
/// An NVIDIA GPU cannot be told not to use TF32. On any device but the CPU, float32 is therefore computed
/// by products of split factors, which are as good as float32's even there: they decide, by the
/// tolerances of the cases, and the lines of detectors end with (products split). What the device's own
/// products give, with which it trains, follows as INFO, as it trains, and decides nothing.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  deim verify tests/reference/cases
  deim verify --precision tf32 tests/reference/cases/model_eval")]
pub struct Args {
    /// Folders that are cases or hold cases.
    #[arg(required = true, value_name = "DIR")]
    folders: Vec<PathBuf>,
    /// Device to compute on: cpu, cuda, cuda:N, vulkan or vulkan:N. Tolerances stay those of the cases.
    #[arg(long, default_value_t = DeviceChoice::Cpu)]
    device: DeviceChoice,
    /// Precision of the detectors: f32 is judged, the others are measured.
    #[arg(
        long,
        default_value = "f32",
        value_name = "f32|tf32|bf16|all",
        hide_possible_values = true
    )]
    precision: Precision,
    /// Print one JSON document instead of lines.
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Precision {
    F32,
    Tf32,
    Bf16,
    All,
}

impl Precision {
    /// What is measured; nothing where cases are judged.
    fn measured(self, setting: &Setting) -> Vec<Arithmetic> {
        match self {
            Self::F32 => Vec::new(),
            Self::Tf32 => vec![Arithmetic::Tf32],
            Self::Bf16 => vec![Arithmetic::Bf16],
            Self::All => setting.arithmetics(),
        }
    }
}

pub fn run(args: Args) -> Outcome {
    if args.device != DeviceChoice::Cpu {
        kernels::keep_in(&Path::new("runs").join(kernels::FOLDER));
    }
    let setting = Setting::of(args.device.open()?);
    let mut out = std::io::stdout().lock();
    let each = |case: &CaseReport| {
        if !args.json {
            // A closed pipe is no reason to stop: the exit code still counts.
            let _ = writeln!(out, "{}", case.line());
        }
    };
    let measured = args.precision.measured(&setting);
    if !measured.is_empty() {
        let report = deim_verify::measure(&args.folders, &measured, &setting, each)?;
        if report.cases.is_empty() {
            bail!("--precision: no case below these folders runs a detector");
        }
        if args.json {
            writeln!(out, "{}", serde_json::to_string_pretty(&report)?)?;
        }
        return Ok(ExitCode::from(if report.all_measured() { DONE } else { FAILED }));
    }
    let report = deim_verify::run_each(&args.folders, &setting, each)?;
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
