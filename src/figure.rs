//! `deim figure`: figures that need a data set or detections, which no ledger holds.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};
use deim_data::readers::{self, Index, Options};
use deim_report::write_figure;

use crate::output::{self, Outcome};

mod detections;
pub mod export;
mod matches;
pub mod paper;
mod precision_recall;

/// Draw what no ledger holds: matches, precision and recall, detections.
///
/// `deim report` draws everything else. A figure becomes what its name ends with: .svg or .png.
#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    Matches(MatchesArgs),
    PrecisionRecall(PrecisionRecallArgs),
    Detections(DetectionsArgs),
}

/// Positives an image under one-to-one and one-to-many matching (the paper's Fig. 3).
///
/// Runs the Hungarian matcher and SimOTA over the ground truth of a data set. No detector is involved:
/// the predictions are those of one that has learned nothing and of one that is right everywhere.
#[derive(clap::Args)]
#[command(after_help = "Example: deim figure matches ../data/coco --out matches.svg")]
struct MatchesArgs {
    /// The folder of the data set.
    #[arg(value_name = "DIR")]
    data: PathBuf,
    /// One split's annotations, in place of the first split that is found.
    #[arg(long, value_name = "PATH")]
    annotations: Option<PathBuf>,
    /// Side of the square that images enter as, in pixels.
    #[arg(long, value_name = "PIXELS", default_value_t = 640)]
    input: usize,
    /// The figure.
    #[arg(long, value_name = "FIG.svg|FIG.png")]
    out: PathBuf,
}

/// Precision over recall of one or more detection files, at IoU 0.50, 0.75 and over all.
#[derive(clap::Args)]
#[command(
    after_help = "Example: deim figure precision-recall --gt val.json base.json deim.json --out pr.svg"
)]
struct PrecisionRecallArgs {
    /// Detections in COCO's result format; each is called what its file is called.
    #[arg(value_name = "DT.json", required = true)]
    detections: Vec<PathBuf>,
    /// Ground truth in COCO's format.
    #[arg(long, value_name = "GT.json")]
    gt: PathBuf,
    /// The figure.
    #[arg(long, value_name = "FIG.svg|FIG.png")]
    out: PathBuf,
}

/// What two or more detectors find in one image (the paper's Fig. 7).
#[derive(clap::Args)]
#[command(
    after_help = "Example: deim figure detections --data ../data/coco base.json deim.json --out pair.png"
)]
struct DetectionsArgs {
    /// Detections in COCO's result format; each is called what its file is called.
    #[arg(value_name = "DT.json", required = true)]
    detections: Vec<PathBuf>,
    /// The folder of the data set, with its images.
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// One split's annotations, in place of the last split that is found.
    #[arg(long, value_name = "PATH")]
    annotations: Option<PathBuf>,
    /// Id of the image; absent: the first with objects.
    #[arg(long, value_name = "ID")]
    image: Option<i64>,
    /// Leave out detections with a lower score.
    #[arg(long, value_name = "SCORE", default_value_t = 0.4)]
    score: f64,
    /// The figure.
    #[arg(long, value_name = "FIG.svg|FIG.png")]
    out: PathBuf,
}

pub fn run(args: Args) -> Outcome {
    let out = match &args.command {
        Command::Matches(args) => {
            draw_matches(args)?;
            &args.out
        }
        Command::PrecisionRecall(args) => {
            write_figure(&args.out, &precision_recall::draw(&args.gt, &args.detections)?)?;
            &args.out
        }
        Command::Detections(args) => {
            let order = detections::Order {
                data: &args.data,
                annotations: args.annotations.as_deref(),
                image: args.image,
                score: args.score,
                files: &args.detections,
            };
            detections::write(&order, &args.out)?;
            &args.out
        }
    };
    eprintln!("wrote {}", out.display());
    Ok(ExitCode::from(output::DONE))
}

fn draw_matches(args: &MatchesArgs) -> anyhow::Result<()> {
    if args.input < 32 {
        bail!("--input: expected at least 32 pixels, found {}", args.input);
    }
    let options = Options { annotations: args.annotations.clone(), ..Options::default() };
    let splits = readers::read(&args.data, &options)?.splits;
    let split = splits.first().with_context(|| nothing(&args.data))?;
    let scenes = split.images.iter().map(|image| scene(split, image));
    let name = format!("{} ({})", name(&args.data), split.split);
    let svg = matches::draw(scenes, split.categories.len(), args.input, &name)?;
    Ok(write_figure(&args.out, &svg)?)
}

fn nothing(folder: &Path) -> String {
    format!("{} has no split", folder.display())
}

fn name(folder: &Path) -> String {
    folder.file_name().unwrap_or(folder.as_os_str()).to_string_lossy().into_owned()
}

fn scene(split: &Index, image: &readers::IndexImage) -> anyhow::Result<matches::Scene> {
    let size = image.size.with_context(|| {
        format!("{}: the size of {} is unknown", split.annotations.display(), image.name)
    })?;
    let objects = image.objects.iter().filter(|object| !object.ignored);
    let objects = objects.map(|object| deim_data::TruthObject {
        bbox: object.bbox,
        class: object.class,
        area: object.area,
        crowd: object.crowd,
    });
    Ok(matches::Scene { size, objects: objects.collect() })
}
