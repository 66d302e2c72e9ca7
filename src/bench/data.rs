//! `deim bench data`: images a second on the way from files to batches.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use comfy_table::{CellAlignment, Table, presets};
use deim_data::bench::{Rate, Stage, measure};
use deim_data::readers::{self, Options};
use deim_data::{Dataset, RealDataset};
use deim_spec::Config;
use serde_json::json;

use crate::output::{DONE, Outcome};

/// Time how fast images are decoded, augmented and stacked, on one core.
///
/// Augmentation is the official one (photometric distortion, zoom-out, IoU crop, flip, resize), with
/// and without Dense O2O (mosaic, mixup, multi-scale). No image is kept decoded.
#[derive(clap::Args)]
#[command(
    after_help = "Example: deim bench data ../shared/data/coco-tiny --json\nThe same in PyTorch: python tools/peers/data_pipeline.py DIR"
)]
pub struct Args {
    /// The folder of the data set; its first split is used.
    #[arg(value_name = "DIR")]
    folder: PathBuf,
    /// Side of the square images.
    #[arg(long, default_value_t = 640, value_name = "PIXELS")]
    size: usize,
    /// Images in a batch.
    #[arg(long, default_value_t = 8, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    batch: u16,
    /// Probability of mosaic.
    #[arg(long, default_value_t = 0.5, value_name = "P")]
    mosaic: f64,
    /// How long each stage is timed at least.
    #[arg(long, default_value_t = 5.0, value_name = "SECONDS")]
    seconds: f64,
    /// Print one line of JSON.
    #[arg(long)]
    json: bool,
}

pub fn run(args: &Args) -> Outcome {
    let reading = readers::read(&args.folder, &Options::default())?;
    let Some(index) = reading.splits.into_iter().next() else {
        anyhow::bail!("{}: no split to read", args.folder.display())
    };
    let split = index.annotations.display().to_string();
    let dataset: Arc<dyn Dataset> = Arc::new(RealDataset::open(index)?);
    let mut config = Config::default();
    config.data.input_size = args.size;
    config.data.batch_size = usize::from(args.batch);
    config.data.eval_batch_size = usize::from(args.batch);
    config.augment.mosaic = args.mosaic;
    config.augment.mosaic_tile = args.size / 2;
    let at_least = Duration::try_from_secs_f64(args.seconds)
        .map_err(|error| anyhow::anyhow!("--seconds {}: {error}", args.seconds))?;
    let rates = Stage::ALL.map(|stage| measure(&dataset, &config, stage, at_least));
    let rates: Vec<Rate> = rates.into_iter().collect::<Result<_, _>>()?;
    if args.json {
        let stages: serde_json::Map<String, serde_json::Value> = rates
            .iter()
            .map(|rate| (rate.stage.name().to_owned(), json!(rounded(rate.per_second()))))
            .collect();
        println!(
            "{}",
            json!({
                "what": "data", "split": split, "images": dataset.len(), "size": args.size,
                "batch": args.batch, "mosaic": args.mosaic, "threads": 1,
                "images_per_second": stages, "version": env!("CARGO_PKG_VERSION"),
            })
        );
    } else {
        println!("{split}: {} images, {} px, one core", dataset.len(), args.size);
        let mut table = Table::new();
        table.load_style(presets::NOTHING).force_no_tty();
        table.set_header(["stage", "images / s", "ms / image", "images"]);
        for rate in &rates {
            table.add_row([
                rate.stage.name().to_owned(),
                format!("{:.1}", rate.per_second()),
                format!("{:.2}", 1e3 / rate.per_second()),
                rate.images.to_string(),
            ]);
        }
        for column in 1..4 {
            if let Some(column) = table.column_mut(column) {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        println!("{table}");
    }
    Ok(ExitCode::from(DONE))
}

fn rounded(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}
