//! `deim eval`: the twelve COCO numbers of a trained detector, and its detections.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, bail};
use deim_data::readers::open_val;
use deim_data::{Dataset, EvalLoader};
use deim_eval::{Detection, Evaluation, Metrics, detections_to_json};
use deim_lab::FinishedCell;
use deim_report::figures::detections::Picture;
use deim_report::figures::raster::picture_png;
use deim_train::evaluate::{Evaluator, coco_set};
use serde_json::json;

use crate::coco_eval;
use crate::data;
use crate::output::{DONE, Outcome};
use crate::progress::{count, percent};
use crate::subject::{Subject, SubjectArgs, write};

/// Measure a trained detector on the validation images of its data set.
///
/// A cell is measured with the averaged weights after its last epoch, as its result in the ledger
/// was, and the two are compared. With --model, any weights on any data set.
#[derive(clap::Args)]
#[command(after_help = "Example: deim eval gamma --row 2 --seed 0 --dt gamma-1.5.json\n\
                  Example: deim eval 1a2b3c4d --scenes scenes --dt 1a2b3c4d.json\n\
                  Example: deim eval --model r18 --weights rtdetrv2_r18.pth --data ../data/coco")]
pub struct Args {
    /// Id of a finished cell, or name or path of an experiment.
    #[arg(value_name = "CELL|EXPERIMENT", required_unless_present = "model")]
    cell: Option<String>,
    #[command(flatten)]
    subject: SubjectArgs,
    /// Images in a batch; changes time and memory alone.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    batch: Option<u16>,
    /// Write the detections in COCO's result format.
    #[arg(long, value_name = "DT.json", help_heading = OUTPUT)]
    dt: Option<PathBuf>,
    /// Write the ground truth in COCO's annotation format.
    #[arg(long, value_name = "GT.json", help_heading = OUTPUT)]
    gt: Option<PathBuf>,
    /// Write drawn scenes as a COCO data set: images and annotations.
    #[arg(long, value_name = "DIR", help_heading = OUTPUT)]
    scenes: Option<PathBuf>,
    /// Print one JSON document, with the numbers of every class.
    #[arg(long, help_heading = OUTPUT)]
    json: bool,
}

const OUTPUT: &str = "Output";

/// The split to measure on.
struct Validation {
    dataset: Arc<dyn Dataset>,
    /// Whether the cell's result was measured on it; false without a cell.
    is_own: bool,
    is_drawn: bool,
}

pub fn run(args: &Args) -> Outcome {
    let subject = args.subject.find(args.cell.as_deref())?;
    let threads = args.subject.compute();
    let validation = validation(args, &subject)?;
    let Validation { dataset, .. } = &validation;
    if args.scenes.is_some() && !validation.is_drawn {
        bail!("--scenes: the images of this data set are files already");
    }
    let mut config = subject.config.clone();
    config.data.eval_batch_size = args.batch.map_or(config.data.eval_batch_size, usize::from);
    let loader = EvalLoader::new(Arc::clone(dataset), &config, threads / 2)?;
    let evaluator = Evaluator::new(&**dataset, loader, config.eval.detections)?;
    let trained = subject.load(dataset.classes().len(), args.subject.device)?;

    let bar = data::progress("images", dataset.len());
    let device = args.subject.device.open()?;
    let detections =
        evaluator.detect(&trained.detector, &device, &mut |images| bar.inc(images as u64))?;
    bar.finish_and_clear();
    let evaluation = evaluator.score(&detections)?;

    let against = subject.cell.as_ref().map(|cell| against(cell, &subject, &validation));
    let mut out = std::io::stdout().lock();
    if args.json {
        let mut document = coco_eval::document(&evaluation);
        document["subject"] = json!(subject.title());
        document["cell"] = json!(subject.cell.as_ref().map(|cell| &cell.id));
        document["weights"] = json!(subject.file.path);
        document["part"] = json!(subject.part(&trained));
        document["images"] = json!(dataset.len());
        document["device"] = json!(args.subject.device.describe());
        document["threads"] = json!(threads);
        document["ledger"] = json!(against.as_ref().map(|against| against.json(&evaluation)));
        writeln!(out, "{}", serde_json::to_string_pretty(&document)?)?;
    } else {
        writeln!(out, "subject  {}", subject.title())?;
        let part = subject.part(&trained);
        writeln!(out, "weights  {} ({part})", subject.file.path.display())?;
        let classes = count(dataset.classes().len(), "class");
        let what = if validation.is_drawn { "synthetic scenes" } else { "images of files" };
        writeln!(out, "data     {what}, {}, {classes}", count(dataset.len(), "image"))?;
        write!(out, "{}", coco_eval::table(&evaluation.metrics))?;
        if let Some(against) = &against {
            writeln!(out, "ledger   {}", against.text(&evaluation))?;
        }
    }
    for (note, count) in evaluation.notes.iter().chain(&dataset.notes()) {
        eprintln!("note: {count} {note}");
    }
    files(args, &subject, &validation, &detections)?;
    Ok(ExitCode::from(DONE))
}

fn validation(args: &Args, subject: &Subject) -> anyhow::Result<Validation> {
    let place = args.subject.data.place();
    let Some(cell) = &subject.cell else {
        let place = place.context("--model needs --data DIR, the data set to measure on")?;
        let dataset = Arc::new(open_val(&place)?);
        return Ok(Validation { dataset, is_own: false, is_drawn: false });
    };
    let splits = cell.open(place.as_ref())?;
    let is_own = splits.manifest() == cell.provenance.manifest;
    Ok(Validation { dataset: splits.val, is_own, is_drawn: cell.is_synthetic() })
}

/// What the ledger says about the same detector.
struct Against<'a> {
    measured: &'a Metrics,
    /// Why the two have nothing to do with each other, if so.
    differs: Option<String>,
}

fn against<'a>(cell: &'a FinishedCell, subject: &Subject, validation: &Validation) -> Against<'a> {
    let theirs = cell.provenance.numerics;
    let differs = match (subject.is_measured, validation.is_own, theirs == deim_train::NUMERICS) {
        (false, ..) => Some("other weights".to_owned()),
        (_, false, _) => Some("another data set".to_owned()),
        (.., false) => {
            Some(format!("it has numerics version {theirs}, this program {}", deim_train::NUMERICS))
        }
        (true, true, true) => None,
    };
    Against { measured: &cell.result.summary.last, differs }
}

impl Against<'_> {
    fn is_same(&self, evaluation: &Evaluation) -> Option<bool> {
        self.differs.is_none().then(|| evaluation.metrics == *self.measured)
    }

    fn text(&self, evaluation: &Evaluation) -> String {
        let told = format!("AP {} after the last epoch", percent(self.measured.ap));
        let pairs = self.measured.stats().into_iter().zip(evaluation.metrics.stats());
        let largest = pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
        match (&self.differs, self.is_same(evaluation)) {
            (Some(why), _) => format!("{told}; not compared: {why}"),
            (None, Some(true)) => format!("{told}: all twelve numbers are the same"),
            (None, _) => format!("{told}: not the same, a number differs by {largest:.2e}"),
        }
    }

    fn json(&self, evaluation: &Evaluation) -> serde_json::Value {
        json!({
            "metrics": self.measured,
            "same": self.is_same(evaluation),
            "not_compared": self.differs,
        })
    }
}

/// Writes what was asked for.
fn files(
    args: &Args,
    subject: &Subject,
    validation: &Validation,
    detections: &[Detection],
) -> anyhow::Result<()> {
    if let Some(path) = &args.dt {
        write(path, detections_to_json(detections).as_bytes())?;
    }
    if args.gt.is_none() && args.scenes.is_none() {
        return Ok(());
    }
    let of = match &subject.cell {
        Some(cell) => cell.ledger.clone(),
        None => "a data set".to_owned(),
    };
    let truth = coco_set(&*validation.dataset)?.to_json(&format!("Validation images of {of}"));
    if let Some(path) = &args.gt {
        write(path, truth.as_bytes())?;
    }
    if let Some(folder) = &args.scenes {
        scenes(folder, &truth, &*validation.dataset)?;
    }
    Ok(())
}

/// Writes scenes as a folder that every command with --data reads.
fn scenes(folder: &Path, truth: &str, dataset: &dyn Dataset) -> anyhow::Result<()> {
    let (annotations, images) = (folder.join("annotations"), folder.join("val"));
    for made in [&annotations, &images] {
        std::fs::create_dir_all(made)
            .with_context(|| format!("cannot create {}", made.display()))?;
    }
    for index in 0..dataset.len() {
        let sample = dataset.sample(index)?;
        let [width, height] = sample.original_size;
        let picture = Picture { width, height, rgb: sample.image.pixels.clone() };
        let path = images.join(dataset.file_name(index));
        deim_report::write_file(&path, &picture_png(&picture)?)?;
    }
    write(&annotations.join("instances_val.json"), truth.as_bytes())?;
    eprintln!("wrote {} in {}", count(dataset.len(), "image"), images.display());
    Ok(())
}
