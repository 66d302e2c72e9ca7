//! `deim bench latency`: how fast the detectors of an experiment are, for its tables.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, bail};
use comfy_table::{CellAlignment, Table, presets};
use deim_data::readers::open_val;
use deim_data::{Batch, Dataset, synthetic};
use deim_lab::finished::{Planned, ids};
use deim_lab::record::{Latency, Record};
use deim_lab::work::program;
use deim_lab::{DeviceChoice, Inputs, Ledger};
use deim_spec::config::Source;
use deim_spec::{Config, Expected, Experiment, Options};
use deim_train::bench::{Inference, batch};
use serde::Serialize;

use crate::inputs::DataArgs;
use crate::output::{DONE, Outcome};
use crate::plan::short;
use crate::progress::count;
use crate::run;

/// Time a forward pass of every finished row of an experiment, one image at a time.
///
/// From pixels to logits and boxes, in float32, at the row's own input size, on images of noise and
/// with random weights: neither changes the time. Rows of one architecture are timed once. With
/// --record the times become lines of the experiment's ledger, and `deim report` prints them; a later
/// measurement replaces an earlier one. Let nothing else run.
#[derive(clap::Args)]
#[command(after_help = "Example: deim bench latency components --threads 1 --record")]
pub struct Args {
    /// Name of an experiment, or path of its file.
    #[arg(value_name = "EXPERIMENT")]
    name: String,
    /// Scale of the experiment; by default `mini`, else the first one in the file.
    #[arg(long)]
    scale: Option<String>,
    /// Only this row, counted from 1.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    row: Option<u32>,
    /// What to compute on: cpu, cuda, cuda:N, vulkan or vulkan:N.
    #[arg(long, default_value_t = DeviceChoice::Cpu)]
    device: DeviceChoice,
    /// Threads to compute with; by default all cores.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    threads: Option<u16>,
    /// Passes that are timed.
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u16).range(1..))]
    runs: u16,
    /// Passes before the first timed one.
    #[arg(long, value_name = "N", default_value_t = 5)]
    warmup: u16,
    /// Write the times into the ledger.
    #[arg(long)]
    record: bool,
    /// Print JSON, for scripts.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    data: DataArgs,
    /// Folder of the experiments.
    #[arg(long, value_name = "DIR", default_value = "experiments")]
    experiments: PathBuf,
    /// Folder of the ledgers, tables and figures.
    #[arg(long, value_name = "DIR", default_value = "results")]
    results: PathBuf,
}

/// Rows whose detectors are the same but for their weights.
struct Alike {
    rows: Vec<usize>,
    inference: Inference,
    images: Batch,
    classes: usize,
    milliseconds: Vec<f64>,
}

/// A row's time, for a script.
#[derive(Serialize)]
struct Timed<'a> {
    row: usize,
    title: String,
    /// Whose ledger lines it belongs to.
    cells: Vec<&'a str>,
    latency: &'a Latency,
}

/// The turns in which detectors are timed, so that a slow minute slows all of them alike.
const TURNS: usize = 5;

pub fn run(args: &Args) -> Outcome {
    args.device.check()?;
    let options = Options { scale: args.scale.clone(), ..Options::default() };
    let experiment = deim_spec::load(&args.experiments, &args.name, &options)?;
    let ledger = Ledger::new(&args.results, &experiment.name, &experiment.scale);
    let lines = ledger.read()?.lines;
    let finished = ids(&experiment, &lines, &Inputs::default(), deim_train::NUMERICS)?;
    let cells = first_cells(finished);
    let mut rows: Vec<usize> = cells.keys().copied().collect();
    if args.row.is_some() {
        let wanted = run::row(&args.name, experiment.rows.len(), args.row)?;
        rows.retain(|row| *row == wanted);
    }
    if rows.is_empty() {
        bail!(
            "{}/{} has no finished cell to measure for; `deim ablation {0} --scale {1}` makes some",
            experiment.name,
            experiment.scale
        );
    }
    let unfinished = experiment.rows.len() - cells.len();
    if unfinished > 0 && args.row.is_none() {
        eprintln!("note: rows without a finished cell are left out: {unfinished}");
    }
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = args.threads.map_or(cores, usize::from);
    deim_train::threads::compute_with(threads);
    let mut all = alike(args, &experiment, &rows)?;
    measure(&mut all, usize::from(args.warmup), usize::from(args.runs))?;

    let timed: BTreeMap<usize, Latency> = all
        .iter()
        .flat_map(|one| one.rows.iter().map(move |row| (*row, latency(one, args.device, threads))))
        .collect();
    for one in &all {
        let [fast, slow] = latency(one, args.device, threads).quartiles_ms;
        if slow > 1.1 * fast {
            let rows: Vec<String> = one.rows.iter().map(|row| (row + 1).to_string()).collect();
            eprintln!(
                "note: row {}: a quarter of the passes took {fast:.2} ms or less and a quarter \
                 {slow:.2} ms or more: something else was running",
                rows.join(", ")
            );
        }
    }
    if args.record {
        for (row, latency) in &timed {
            for cell in &cells[row] {
                ledger.append(&cell.id, Record::Latency(Box::new(latency.clone())))?;
            }
        }
        eprintln!(
            "recorded {} in {}; `deim report {} --scale {}` prints them",
            count(timed.len(), "row"),
            ledger.path().display(),
            experiment.name,
            experiment.scale
        );
    }
    let timed: Vec<Timed<'_>> = timed
        .iter()
        .map(|(row, latency)| Timed {
            row: row + 1,
            title: experiment.rows[*row].title(),
            cells: cells[row].iter().map(|cell| cell.id.as_str()).collect(),
            latency,
        })
        .collect();
    let mut out = std::io::stdout().lock();
    match args.json {
        true => writeln!(out, "{}", serde_json::to_string_pretty(&timed)?)?,
        false => write!(out, "{}", text(&timed))?,
    }
    Ok(ExitCode::from(DONE))
}

/// The first finished cell of each row, one for each kind of device that trained.
fn first_cells(finished: Vec<Planned>) -> BTreeMap<usize, Vec<Planned>> {
    let mut cells: BTreeMap<usize, Vec<Planned>> = BTreeMap::new();
    for cell in finished {
        let known = cells.entry(cell.row).or_default();
        if known.iter().all(|other| other.device_class != cell.device_class) {
            known.push(cell);
        }
    }
    cells
}

/// The detectors of the rows, each architecture once.
fn alike(args: &Args, experiment: &Experiment, rows: &[usize]) -> anyhow::Result<Vec<Alike>> {
    let device = args.device.open()?;
    let mut all: Vec<Alike> = Vec::new();
    let mut known: Vec<(Config, usize)> = Vec::new();
    for &row in rows {
        let config = &experiment.rows[row].config;
        let classes = classes(args, experiment, config)?;
        let same = known.iter().position(|(other, count)| {
            other.model == config.model
                && other.data.input_size == config.data.input_size
                && *count == classes
        });
        if let Some(at) = same {
            all[at].rows.push(row);
            continue;
        }
        known.push((config.clone(), classes));
        all.push(Alike {
            rows: vec![row],
            inference: Inference::new(config, classes, &device),
            images: batch(config.data.input_size, 1),
            classes,
            milliseconds: Vec::new(),
        });
    }
    Ok(all)
}

/// The classes of a row's data set, whose files need not be there.
fn classes(args: &Args, experiment: &Experiment, config: &Config) -> anyhow::Result<usize> {
    match (config.data.source, args.data.place()) {
        (Source::Synthetic, None) => Ok(synthetic::CLASSES.len()),
        (Source::Synthetic, Some(place)) => {
            Err(deim_data::DataError::PlaceNotUsed { folder: place.folder }.into())
        }
        (Source::Folder, Some(place)) => Ok(open_val(&place)?.classes().len()),
        (Source::Folder, None) => {
            let expected = experiment.expects.and_then(Expected::classes);
            expected.context("the number of classes is not known: add --data DIR")
        }
    }
}

fn measure(all: &mut [Alike], warmup: usize, runs: usize) -> anyhow::Result<()> {
    for one in all.iter() {
        for _ in 0..warmup {
            one.inference.forward(&one.images)?;
        }
    }
    for turn in 0..TURNS {
        let share = runs * (turn + 1) / TURNS - runs * turn / TURNS;
        for one in all.iter_mut() {
            if warmup > 0 && share > 0 {
                // Another detector was in the caches.
                one.inference.forward(&one.images)?;
            }
            for _ in 0..share {
                one.milliseconds.push(one.inference.forward(&one.images)?);
            }
        }
    }
    Ok(())
}

fn latency(one: &Alike, device: DeviceChoice, threads: usize) -> Latency {
    let mut times = one.milliseconds.clone();
    times.sort_by(f64::total_cmp);
    let rounded = |share| (quantile(&times, share) * 1e3).round() / 1e3;
    Latency {
        median_ms: rounded(0.5),
        quartiles_ms: [rounded(0.25), rounded(0.75)],
        runs: times.len(),
        batch: one.images.image_ids.len(),
        size: one.images.size,
        classes: one.classes,
        precision: "float32".to_owned(),
        device_class: device.class().to_owned(),
        device: device.describe(),
        threads,
        program: program(),
    }
}

/// The value below which this share of sorted values lies, between two of them in proportion.
fn quantile(sorted: &[f64], share: f64) -> f64 {
    let place = share * sorted.len().saturating_sub(1) as f64;
    let at = |place: f64| sorted.get(place as usize).copied().unwrap_or(f64::NAN);
    at(place.floor()) + (at(place.ceil()) - at(place.floor())) * place.fract()
}

fn text(timed: &[Timed<'_>]) -> String {
    let mut text = String::new();
    if let Some(Timed { latency, .. }) = timed.first() {
        let Latency { runs, precision, device, threads, .. } = latency;
        let (runs, threads) = (count(*runs, "pass"), count(*threads, "thread"));
        text = format!("one image, {precision}, {runs}, {device}, {threads}\n");
    }
    let mut table = Table::new();
    table.load_style(presets::NOTHING).force_no_tty();
    table.set_header(["row", "settings", "px", "ms", "quartiles", "cell"]);
    for one in timed {
        let [fast, slow] = one.latency.quartiles_ms;
        let cells: Vec<&str> = one.cells.iter().map(|id| short(id)).collect();
        table.add_row([
            one.row.to_string(),
            one.title.clone(),
            one.latency.size.to_string(),
            format!("{:.2}", one.latency.median_ms),
            format!("{fast:.2} to {slow:.2}"),
            cells.join(", "),
        ]);
    }
    for column in [0, 2, 3, 4] {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    text.extend(table.lines().map(|line| format!("{}\n", line.trim_end())));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quartiles_lie_between_neighbours_in_proportion() {
        let sorted = [1.0, 2.0, 4.0, 8.0];
        assert_eq!(
            [0.0, 0.25, 0.5, 1.0].map(|share| quantile(&sorted, share)),
            [1.0, 1.75, 3.0, 8.0]
        );
        assert_eq!(quantile(&[3.0], 0.5), 3.0);
    }

    #[test]
    fn a_row_has_one_cell_for_each_kind_of_device() {
        let cell = |row, seed, class: &str| Planned {
            row,
            seed,
            device_class: class.to_owned(),
            id: format!("{row}{seed}{class}"),
        };
        let finished =
            vec![cell(0, 0, "cpu"), cell(0, 0, "cuda"), cell(0, 1, "cpu"), cell(2, 1, "cpu")];
        let cells = first_cells(finished);
        let ids = |row: usize| cells[&row].iter().map(|cell| cell.id.as_str()).collect::<Vec<_>>();
        assert_eq!((ids(0), ids(2), cells.len()), (vec!["00cpu", "00cuda"], vec!["21cpu"], 2));
    }
}
