//! `deim data preview`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, bail};
use deim_data::preview::{Request, Shown, Transform, preview};
use deim_data::readers::{Index, RealDataset};
use deim_data::{Dataset, open};
use deim_report::data::{Picture, contact_sheet};
use deim_report::write_file;
use deim_spec::config::Source;
use deim_spec::{Config, Options};

use super::Manner;
use crate::output::{DONE, Outcome};
use crate::progress::count;

/// Draw images with their boxes, as one transform or all of training makes them.
///
/// Transforms: none, resize, shorter, flip, photometric, zoom-out, iou-crop, tiles, affine, mosaic,
/// mixup, multi-scale; policy is everything that happens to an image in an epoch, and batch the
/// images of a training step. A transform that a recipe applies now and then is applied to every
/// image here, with the draws that training makes for the same seed, epoch and image.
#[derive(clap::Args)]
#[command(
    after_help = "Example: deim data preview ../data/coco --transform mosaic --out grid.png\n\
                        Example: deim data preview --experiment gamma --transform batch --out grid.png"
)]
pub struct Args {
    /// The folder of the data set; without one, the synthetic scenes.
    #[arg(value_name = "DIR")]
    folder: Option<PathBuf>,
    #[command(flatten)]
    manner: Manner,
    /// The PNG to draw into.
    #[arg(long, value_name = "GRID.png")]
    out: PathBuf,
    #[arg(long, value_name = "NAME", default_value_t = Transform::Policy, help = "What to apply")]
    transform: Transform,
    /// Images on the sheet.
    #[arg(long, value_name = "N", default_value_t = 9, value_parser = clap::value_parser!(u16).range(1..=144))]
    count: u16,
    /// The first image, counted from 0; of `batch`, the step.
    #[arg(long, value_name = "INDEX", default_value_t = 0)]
    first: usize,
    /// Seed of the draws: that of a cell.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Epoch of the draws and of the policy, counted from 0; by default the first with Dense O2O.
    #[arg(long, value_name = "N")]
    epoch: Option<u32>,
    /// The split, by its name or a part of it [default: train].
    #[arg(long, value_name = "NAME")]
    split: Option<String>,
    /// The experiment whose recipe is shown; else the built-in one, that of DEIM on RT-DETRv2-R50.
    #[arg(long, value_name = "NAME")]
    experiment: Option<String>,
    /// Scale of the experiment; by default `mini`, else the first one in the file.
    #[arg(long, requires = "experiment")]
    scale: Option<String>,
    /// Row of the experiment, counted from 1.
    #[arg(long, value_name = "N", default_value_t = 1, requires = "experiment")]
    row: usize,
    /// Set a configuration key of the experiment; may be repeated.
    #[arg(long = "set", value_name = "KEY=VALUE", requires = "experiment")]
    set: Vec<String>,
    /// Folder of the experiments.
    #[arg(long, value_name = "DIR", default_value = "experiments")]
    experiments: PathBuf,
}

/// A split to show, with what its images are called.
struct Shelf {
    name: String,
    dataset: Arc<dyn Dataset>,
    images: Vec<String>,
}

pub fn run(args: &Args) -> Outcome {
    if args.out.extension().is_none_or(|extension| extension != "png") {
        bail!("--out {}: expected a name in .png", args.out.display());
    }
    let config = config(args)?;
    let shelf = match &args.folder {
        Some(folder) => files(args, folder)?,
        None => scenes(args, &config)?,
    };
    let epoch = args.epoch.unwrap_or(config.phases().augment_start);
    if epoch >= config.epochs {
        bail!(
            "--epoch {epoch}: expected 0 to {}, the recipe has {} epochs",
            config.epochs - 1,
            config.epochs
        );
    }
    let request = Request {
        transform: args.transform,
        seed: args.seed,
        epoch,
        first: args.first,
        count: usize::from(args.count),
    };
    let shown = preview(&shelf.dataset, &config, request)?;
    let boxes: usize = shown.iter().map(|shown| shown.boxes.len()).sum();
    let dropped: usize = shown.iter().map(|shown| shown.dropped).sum();
    let title = title(args, &config, &shelf, epoch);
    let lost = if dropped == 0 { "none".to_owned() } else { dropped.to_string() };
    let (images, boxes) = (count(shown.len(), "image"), count(boxes, "box"));
    let sums = format!("{images} with {boxes}, {lost} dropped.");
    let note = format!("{} {sums}", args.transform.meaning());
    let pictures: Vec<Picture> = shown.into_iter().map(|shown| picture(shown, &shelf)).collect();
    let png = contact_sheet(&title, &note, &pictures, shelf.dataset.classes())?;
    write_file(&args.out, &png)?;
    println!("{title}: {sums} {}", args.out.display());
    Ok(ExitCode::from(DONE))
}

fn config(args: &Args) -> anyhow::Result<Config> {
    let Some(name) = &args.experiment else { return Ok(Config::default()) };
    let options = Options { scale: args.scale.clone(), seeds: None, set: args.set.clone() };
    let experiment = deim_spec::load(&args.experiments, name, &options)?;
    let rows = experiment.rows.len();
    let row = args.row.checked_sub(1).and_then(|at| experiment.rows.into_iter().nth(at));
    let row =
        row.with_context(|| format!("--row {}: {name} has {}", args.row, count(rows, "row")))?;
    Ok(row.config)
}

fn files(args: &Args, folder: &Path) -> anyhow::Result<Shelf> {
    let mut splits = args.manner.read(folder)?.splits;
    let names: Vec<String> = splits.iter().map(|index| index.split.clone()).collect();
    let place = match &args.split {
        Some(wanted) => names
            .iter()
            .position(|name| name == wanted)
            .or_else(|| names.iter().position(|name| name.contains(wanted.as_str())))
            .with_context(|| format!("--split {wanted}: expected one of {}", names.join(", ")))?,
        None => names.iter().position(|name| name.contains("train")).unwrap_or(0),
    };
    let index: Index = splits.swap_remove(place);
    let images = index.images.iter().map(|image| image.name.clone()).collect();
    let whole = folder.canonicalize().unwrap_or_else(|_| folder.to_owned());
    let called = whole.file_name().unwrap_or(whole.as_os_str()).to_string_lossy();
    let name = format!("{called}, {}", index.split);
    Ok(Shelf { name, dataset: Arc::new(RealDataset::open(index)?), images })
}

fn scenes(args: &Args, config: &Config) -> anyhow::Result<Shelf> {
    if config.data.source != Source::Synthetic {
        bail!("the experiment trains on image files: name the folder of the data set");
    }
    let splits = open(&config.data, None)?;
    let (name, dataset) = match args.split.as_deref() {
        None | Some("train") => ("train", splits.train),
        Some("val") => ("val", splits.val),
        Some(other) => bail!("--split {other}: expected one of train, val"),
    };
    let images = (0..dataset.len()).map(|index| format!("scene {index}")).collect();
    Ok(Shelf { name: format!("synthetic scenes, {name}"), dataset, images })
}

/// What is on the sheet, in one line.
fn title(args: &Args, config: &Config, shelf: &Shelf, epoch: u32) -> String {
    let what = match args.transform {
        Transform::None => return format!("No transform: {}", shelf.name),
        Transform::Policy => format!("Policy of epoch {epoch} of {}", config.epochs),
        Transform::Batch => format!("Step {} of epoch {epoch} of {}", args.first, config.epochs),
        other => format!("Transform {other}, epoch {epoch}"),
    };
    let recipe = match &args.experiment {
        Some(name) => format!(", recipe of {name}"),
        None => String::new(),
    };
    format!("{what}, seed {}: {}{recipe}", args.seed, shelf.name)
}

fn picture(shown: Shown, shelf: &Shelf) -> Picture {
    let Shown { index, image, boxes, labels, own, dropped, from, drawn } = shown;
    let size = [image.width as u32, image.height as u32];
    let mut line = match size == from {
        true => format!("{} x {}", size[0], size[1]),
        false => format!("{} x {} to {} x {}", from[0], from[1], size[0], size[1]),
    };
    line.push_str(&format!(", {}", count(boxes.len(), "box")));
    if dropped > 0 {
        line.push_str(&format!(", {dropped} dropped"));
    }
    let drawn = drawn.split("; ").filter(|line| !line.is_empty()).map(str::to_owned);
    let lines = std::iter::once(line).chain(drawn).collect();
    let name = shelf.images.get(index).map_or("", String::as_str);
    Picture {
        image,
        boxes,
        classes: labels,
        scores: Vec::new(),
        dashed_from: own,
        title: format!("#{index} {name}"),
        lines,
    }
}
