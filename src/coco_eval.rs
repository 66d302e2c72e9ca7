//! `deim coco-eval`: the twelve COCO numbers of a detection file.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use deim_eval::{Evaluation, GroundTruth, Metrics, evaluate, read_detections};
use serde_json::json;

use crate::output::{DONE, Outcome};

/// Compute the COCO metrics of detections, equal to pycocotools.
#[derive(clap::Args)]
#[command(after_help = "Example: deim coco-eval --gt instances_val.json --dt detections.json")]
pub struct Args {
    /// Ground truth in COCO's annotation format.
    #[arg(long, value_name = "GT.json")]
    gt: PathBuf,
    /// Detections in COCO's result format.
    #[arg(long, value_name = "DT.json")]
    dt: PathBuf,
    /// Print one JSON document, with the numbers of every class.
    #[arg(long)]
    json: bool,
}

/// What each number is, in pycocotools' order and wording: metric, thresholds, area, detections.
const ROWS: [(&str, &str, &str, u32); 12] = [
    ("Precision", "0.50:0.95", "all", 100),
    ("Precision", "0.50", "all", 100),
    ("Precision", "0.75", "all", 100),
    ("Precision", "0.50:0.95", "small", 100),
    ("Precision", "0.50:0.95", "medium", 100),
    ("Precision", "0.50:0.95", "large", 100),
    ("Recall", "0.50:0.95", "all", 1),
    ("Recall", "0.50:0.95", "all", 10),
    ("Recall", "0.50:0.95", "all", 100),
    ("Recall", "0.50:0.95", "small", 100),
    ("Recall", "0.50:0.95", "medium", 100),
    ("Recall", "0.50:0.95", "large", 100),
];

pub fn run(args: Args) -> Outcome {
    let truth = GroundTruth::from_file(&args.gt)?;
    let detections = read_detections(&args.dt)?;
    let evaluation = evaluate(&truth, &detections)
        .map_err(|error| anyhow::Error::new(error).context(args.dt.display().to_string()))?;
    let mut out = std::io::stdout().lock();
    if args.json {
        writeln!(out, "{}", serde_json::to_string_pretty(&document(&evaluation))?)?;
    } else {
        write!(out, "{}", table(&evaluation.metrics))?;
    }
    for (note, count) in &evaluation.notes {
        eprintln!("note: {count} {note}");
    }
    Ok(ExitCode::from(DONE))
}

/// The numbers as pycocotools prints them.
pub fn table(metrics: &Metrics) -> String {
    let rows = ROWS.iter().zip(metrics.stats());
    let row = |((metric, ious, area, limit), value): (&(&str, &str, &str, u32), f64)| {
        let (name, short) = (format!("Average {metric}"), &metric[..1]);
        format!(
            " {name:<18} (A{short}) @[ IoU={ious:<9} | area={area:>6} | maxDets={limit:>3} ] = {value:.3}\n"
        )
    };
    rows.map(row).collect()
}

/// The numbers for a script, with those of every class.
pub fn document(evaluation: &Evaluation) -> serde_json::Value {
    json!({
        "metrics": evaluation.metrics,
        "stats": evaluation.metrics.stats(),
        "classes": evaluation.classes,
        "notes": evaluation.notes,
    })
}
