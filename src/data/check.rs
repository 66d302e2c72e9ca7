//! `deim data check`.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use deim_data::check::check;
use deim_report::data::{check_document, check_text};
use deim_report::terminal_width;

use super::{Manner, images, progress, threads};
use crate::output::{DONE, FAILED, Outcome};

/// Find everything that is wrong with a data set, decoding every image.
///
/// Prints one table: errors would spoil a run, so that training refuses the data; warnings change
/// what is trained on; notes are worth knowing. Exits with 1 on errors.
#[derive(clap::Args)]
pub struct Args {
    /// The folder of the data set.
    #[arg(value_name = "DIR")]
    folder: PathBuf,
    #[command(flatten)]
    manner: Manner,
    /// Print one JSON document.
    #[arg(long)]
    json: bool,
}

pub fn run(args: &Args) -> Outcome {
    let reading = args.manner.read(&args.folder)?;
    let bar = progress("images decoded", images(&reading));
    let report = check(&reading.splits, threads(), &|done| bar.set_position(done));
    bar.finish_and_clear();
    let mut out = std::io::stdout().lock();
    if args.json {
        let document = check_document(&args.folder, &reading, &report);
        writeln!(out, "{}", serde_json::to_string_pretty(&document)?)?;
    } else {
        write!(out, "{}", check_text(&args.folder, &reading, &report, terminal_width()))?;
    }
    Ok(ExitCode::from(if report.passed() { DONE } else { FAILED }))
}
