//! `deim data`: what a data set consists of, what is wrong with it, and how training sees it.

mod check;
mod preview;
mod stats;

use std::io::IsTerminal;
use std::path::{Path, PathBuf};

use deim_data::readers::{self, Format, Options, Reading};
use indicatif::{ProgressBar, ProgressStyle};

use crate::output::Outcome;

/// Look at a data set: COCO, Objects365, CrowdHuman, Pascal VOC or YOLO.
#[derive(clap::Args)]
#[command(after_help = "Example: deim data check ../data/coco")]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    Check(check::Args),
    Stats(stats::Args),
    Preview(preview::Args),
}

/// How the files are to be read, where they do not say it themselves.
#[derive(clap::Args)]
struct Manner {
    /// coco, objects365, crowdhuman, voc or yolo, in place of what the files look like.
    #[arg(long, value_name = "FORMAT")]
    format: Option<Format>,
    /// The folder of the images.
    #[arg(long, value_name = "DIR")]
    images: Option<PathBuf>,
    /// One split's annotations: a .json, .odgt or .yaml file, or a folder of .xml or .txt files.
    #[arg(long, value_name = "PATH")]
    annotations: Option<PathBuf>,
}

impl Manner {
    fn read(&self, folder: &Path) -> anyhow::Result<Reading> {
        let Self { format, images, annotations } = self;
        let options =
            Options { format: *format, images: images.clone(), annotations: annotations.clone() };
        Ok(readers::read(folder, &options)?)
    }
}

pub fn run(args: Args) -> Outcome {
    match args.command {
        Command::Check(args) => check::run(&args),
        Command::Stats(args) => stats::run(&args),
        Command::Preview(args) => preview::run(&args),
    }
}

fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

/// A bar on a terminal, nothing elsewhere.
pub fn progress(what: &'static str, images: usize) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style =
        ProgressStyle::with_template("{bar:30.cyan/dim} {msg} {human_pos}/{human_len}, {eta} left")
            .unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(images as u64).with_style(style).with_message(what)
}

fn images(reading: &Reading) -> usize {
    reading.splits.iter().map(|split| split.images.len()).sum()
}
