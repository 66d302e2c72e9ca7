//! `deim data stats`.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use deim_data::check::{Stats, map_in_order};
use deim_data::decode;
use deim_data::readers::Index;
use deim_report::data::{head, stats_figure, stats_text};
use deim_report::{terminal_width, write_figure};
use indicatif::ProgressBar;
use serde_json::json;

use super::{Manner, images, progress, threads};
use crate::output::{DONE, Outcome};

/// Count boxes, areas and classes, as training sees them.
///
/// Also prints the manifest hash that identifies the annotations, and the names and lengths of the
/// image files.
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
    /// Draw the counts into this file.
    #[arg(long, value_name = "FIG.svg|FIG.png")]
    out: Option<PathBuf>,
    /// Hash the contents of the image files for the manifest, not only their lengths.
    #[arg(long)]
    deep: bool,
}

pub fn run(args: &Args) -> Outcome {
    let reading = args.manner.read(&args.folder)?;
    let bar = progress("images hashed", if args.deep { images(&reading) } else { 0 });
    let stats: Vec<Stats> = reading
        .splits
        .iter()
        .map(|split| Ok(Stats::of(split, manifest(split, args.deep, &bar)?)))
        .collect::<anyhow::Result<_>>()?;
    bar.finish_and_clear();
    let mut out = std::io::stdout().lock();
    if args.json {
        let document = json!({
            "folder": args.folder.display().to_string(),
            "format": reading.format,
            "deep": args.deep,
            "splits": stats,
        });
        writeln!(out, "{}", serde_json::to_string_pretty(&document)?)?;
    } else {
        let text = stats_text(&stats, terminal_width());
        write!(out, "{}{text}", head(&args.folder, &reading))?;
    }
    if let Some(path) = &args.out {
        write_figure(path, &stats_figure(&args.folder, &stats)?)?;
    }
    Ok(ExitCode::from(DONE))
}

fn manifest(split: &Index, deep: bool, bar: &ProgressBar) -> anyhow::Result<String> {
    if !deep {
        return Ok(split.manifest(None));
    }
    let before = bar.position();
    let hashes =
        map_in_order(&split.images, threads(), &|done| bar.set_position(before + done), |image| {
            let Some(path) = &image.path else { return Ok([0; 32]) };
            let bytes = decode::read_bytes(path).with_context(|| path.display().to_string())?;
            Ok(deim_data::content_hash(&bytes))
        });
    let hashes = hashes.into_iter().collect::<anyhow::Result<Vec<[u8; 32]>>>()?;
    Ok(split.manifest(Some(&hashes)))
}
