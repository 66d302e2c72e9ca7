//! `deim why`: where a cell's number comes from.

use std::path::PathBuf;
use std::process::ExitCode;

use comfy_table::{CellAlignment, Table, presets};
use deim_lab::differences::between;
use deim_lab::history::History;
use deim_lab::record::Provenance;
use deim_lab::why::{Found, find};
use deim_spec::{Config, Recorded};

use crate::output::{self, Outcome};
use crate::progress::{count, duration, percent};

/// Show where a cell's number comes from: what it was computed from, by whom, and its epochs.
#[derive(clap::Args)]
#[command(after_help = "Example: deim why 1a2b3c4d")]
pub struct Args {
    /// Id of a cell; its first characters are enough.
    cell: String,
    /// Folder of the ledgers, tables and figures.
    #[arg(long, value_name = "DIR", default_value = "results")]
    results: PathBuf,
}

pub fn run(args: Args) -> Outcome {
    let found = find(&args.results, &args.cell)?;
    print!("{}", text(&found));
    Ok(ExitCode::from(output::DONE))
}

fn text(found: &Found) -> String {
    let history = &found.history;
    let mut text = format!("cell        {}\n", found.id);
    let mut line = |name: &str, value: &str| text.push_str(&format!("{name:<11} {value}\n"));
    line("result", &result(history));
    line("ledger", &ledger(found));
    if let Some(provenance) = &history.provenance {
        for (name, value) in about(provenance) {
            line(name, &value);
        }
    }
    if let Some(finished) = &history.finished {
        line("steps", &finished.summary.steps.to_string());
        line("parameters", &finished.summary.parameters.to_string());
        line("weights", &format!("blake3 {}", finished.summary.weights));
        if let Some(kernels) = &finished.summary.kernels {
            line("kernels", kernels);
        }
        if let Some(latency) = &history.latency {
            line(
                "latency",
                &format!(
                    "{} ms, {} of {} px in {}, on {} with {}",
                    latency.median_ms,
                    count(latency.batch, "image"),
                    latency.size,
                    latency.precision,
                    latency.device,
                    count(latency.threads, "thread")
                ),
            );
        }
        let notes = finished.summary.notes.iter();
        let notes: Vec<String> = notes.map(|(what, times)| format!("{what} {times}")).collect();
        if !notes.is_empty() {
            line("data notes", &notes.join(", "));
        }
    }
    line("began", history.began.as_deref().unwrap_or("unknown"));
    line("last line", &history.last);
    line("processes", &history.processes.to_string());
    if let Some(provenance) = &history.provenance {
        text.push_str("\nwhat the configuration sets differently from the defaults\n");
        for difference in between(&Recorded::from(&Config::default()), &provenance.config) {
            text.push_str(&format!("  {difference}\n"));
        }
    }
    if !history.epochs.is_empty() {
        text.push_str("\nepochs\n");
        text.push_str(&epochs(history));
    }
    text
}

fn result(history: &History) -> String {
    match (&history.finished, &history.failed) {
        (Some(finished), _) => format!(
            "AP {} after the last epoch, in {}; best {} after epoch {}",
            percent(finished.summary.last.ap),
            duration(finished.seconds),
            percent(finished.summary.best.ap),
            finished.summary.best_epoch + 1
        ),
        (None, Some(failure)) => format!("failed: {}", failure.reason),
        (None, None) => format!("not finished, {} epochs so far", history.epochs_done()),
    }
}

fn ledger(found: &Found) -> String {
    match found.copies.is_empty() {
        true => found.ledger.clone(),
        false => format!("{}; reused by {}", found.ledger, found.copies.join(", ")),
    }
}

fn about(provenance: &Provenance) -> Vec<(&'static str, String)> {
    let settings: Vec<String> =
        provenance.settings.iter().map(|(name, value)| format!("{name} = {value}")).collect();
    let mut about = vec![
        ("settings", settings.join(", ")),
        ("seed", provenance.seed.to_string()),
        ("data set", provenance.manifest.clone()),
        ("numerics", provenance.numerics.to_string()),
        ("device", format!("{} ({})", provenance.device_class, provenance.device)),
        ("threads", provenance.threads.to_string()),
        ("program", provenance.program.clone()),
    ];
    if let Some(place) = &provenance.data {
        about.insert(3, ("images", place.folder.display().to_string()));
    }
    if let Some(fitted) = &provenance.pretrained {
        let unfit = match fitted.unfit.len() {
            0 => String::new(),
            count => format!(", {count} not taken or not there"),
        };
        let (loaded, file) = (fitted.loaded, fitted.file.display());
        about.push(("started", format!("from {loaded} tensors of {file}{unfit}")));
    }
    if let Some([epoch, step]) = provenance.resumed_at {
        about.push(("resumed at", format!("epoch {}, step {step}", epoch + 1)));
    }
    if let Some(from) = &provenance.reused_from {
        about.push(("reused from", from.clone()));
    }
    about
}

fn epochs(history: &History) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).force_no_tty();
    table.set_header([
        "epoch",
        "loss",
        "rate",
        "targets",
        "positives",
        "AP",
        "AP50",
        "seconds",
        "notes",
    ]);
    for (number, epoch) in &history.epochs {
        let metric = |value: Option<Option<f64>>| value.map_or(String::new(), percent);
        let mut notes: Vec<String> =
            epoch.notes.iter().map(|(what, times)| format!("{what}: {times}")).collect();
        if epoch.reloaded_best {
            notes.insert(0, "began from the best of stage 1".to_owned());
        }
        table.add_row([
            (number + 1).to_string(),
            format!("{:.3}", epoch.loss),
            format!("{:.2e}", epoch.learning_rate),
            format!("{:.1}", epoch.targets_per_image),
            format!("{:.1}", epoch.positives_per_image),
            metric(epoch.metrics.as_ref().map(|metrics| metrics.ap)),
            metric(epoch.metrics.as_ref().map(|metrics| metrics.ap50)),
            format!("{:.1}", epoch.seconds.train + epoch.seconds.evaluate),
            notes.join("; "),
        ]);
    }
    for number in 0..8 {
        if let Some(column) = table.column_mut(number) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table.lines().map(|line| format!("{}\n", line.trim_end())).collect()
}
