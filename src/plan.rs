//! `deim plan`: which cells an experiment has, what became of them, what the rest will cost.

use std::process::ExitCode;

use comfy_table::{CellAlignment, Table, presets};
use deim_lab::{Cell, Outlook, Plan, State, outlook};
use deim_spec::Experiment;
use serde_json::json;

use crate::output::{self, Outcome};
use crate::progress::{count, duration, percent};
use crate::selection::Selection;

/// Show which cells are done, missing, running, failed or stale, and what the rest will cost.
#[derive(clap::Args)]
#[command(after_help = "Example: deim plan gamma --seeds 5")]
pub struct Args {
    #[command(flatten)]
    selection: Selection,
    /// Print JSON, for scripts.
    #[arg(long)]
    json: bool,
}

pub fn run(args: Args) -> Outcome {
    let experiment = args.selection.load()?;
    let variant = &args.selection.variant;
    let setting = variant.setting()?;
    let outlook = match outlook::is_about_files(&experiment) {
        true => Some(outlook::make(&experiment, &setting)?),
        false => None,
    };
    if let Some(outlook) = outlook.as_ref().filter(|outlook| !outlook.missing.is_empty()) {
        // Without its files no cell has an id, but all of them have a price.
        match args.json {
            true => println!("{}", serde_json::to_string_pretty(outlook)?),
            false => print!("{}", prospect(outlook, &experiment)),
        }
        return Ok(ExitCode::from(output::DONE));
    }
    let plan = variant.plan(&experiment, &setting)?;
    if args.json {
        let mut value = serde_json::to_value(&plan)?;
        value["totals"] = serde_json::to_value(plan.totals())?;
        value["title"] = json!(experiment.title);
        value["outlook"] = serde_json::to_value(&outlook)?;
        println!("{}", serde_json::to_string_pretty(&value)?);
    } else {
        print!("{}", text(&plan));
        if let Some(outlook) = outlook.filter(|_| plan.totals().unknown > 0) {
            print!("\n{}", prospect(&outlook, &experiment));
        }
    }
    Ok(ExitCode::from(output::DONE))
}

/// What the cells would cost, and by which arithmetic.
fn prospect(outlook: &Outlook, experiment: &Experiment) -> String {
    let measured = outlook.rows.iter().any(|row| row.measured_hours.is_some());
    let mut table = Table::new();
    table.load_style(presets::NOTHING).force_no_tty();
    let hours = ["hours measured", "hours estimated"];
    let hours = if measured { &hours[..] } else { &hours[1..] };
    let head = ["row", "epochs", "steps", "10^18 operations"].into_iter().chain(hours.to_vec());
    table.set_header(head);
    let or_dash = |number: Option<String>| number.unwrap_or_else(|| "-".to_owned());
    let in_hours = |hours: Option<f64>| or_dash(hours.map(|hours| format!("{hours:.1}")));
    for row in &outlook.rows {
        let mut line = vec![
            row.title.clone(),
            row.epochs.to_string(),
            or_dash(row.steps.map(|steps| steps.to_string())),
            or_dash(row.operations.map(|operations| format!("{:.2}", operations / 1e18))),
        ];
        line.extend(measured.then(|| in_hours(row.measured_hours)));
        line.push(in_hours(row.estimated_hours));
        table.add_row(line);
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    let images =
        outlook.images.map_or("an unknown number of images to train on".to_owned(), |images| {
            format!("{images} images to train on")
        });
    let mut text = format!(
        "{}, scale {}: {} rows x {} = {}; {images} ({}); the cost of one cell:\n\n",
        outlook.experiment,
        outlook.scale,
        outlook.rows.len(),
        count(outlook.seeds, "seed"),
        count(outlook.cells, "cell"),
        outlook.images_from
    );
    for line in table.lines() {
        text += line.trim_end();
        text.push('\n');
    }
    text.push('\n');
    let class = &outlook.device_class;
    match outlook.total(|row| row.measured_hours) {
        Some(hours) => {
            text += &format!(
                "{hours:.0} hours for all cells, by finished ones that are alike ({class})\n"
            )
        }
        None if measured => {
            text += &format!("not every row has a finished cell that is alike ({class})\n")
        }
        None => {
            text += &format!("no measurement on this device ({class}): no finished cell is alike\n")
        }
    }
    match outlook.total(|row| row.benched_hours) {
        Some(hours) => {
            text += &format!(
                "{hours:.0} hours for all cells on {class}, an estimate: {}, scaled by counted operations; data and \
                 evaluation are taken to keep up\n",
                outlook.benched_from.join("; ")
            )
        }
        None if class == "cpu" || !outlook.benched_from.is_empty() => {}
        None if class.starts_with(|first: char| first.is_ascii_digit()) => {
            text += &format!("not measured on {class}: `deim bench train` times one device\n")
        }
        None => {
            text += &format!(
                "not measured on {class}: run `mkdir -p results/bench; deim bench train --model r50 --size 640 \
                 --batch 16 --device {class} --json >> results/bench/{class}.json`\n"
            )
        }
    }
    if let Some(hours) = outlook.total(|row| row.estimated_hours) {
        text += &format!(
            "{hours:.0} hours of one RTX 4090 for all cells, an estimate and no measurement: the paper prints {} hours \
             an epoch (Table 7; its detector is taken for RT-DETRv2-R50), scaled by counted operations, three forward \
             passes an image at {} px; losses, data and evaluation are taken to scale alike\n",
            outlook::PAPER_HOURS_PER_EPOCH,
            experiment.rows.first().map_or(0, |row| row.config.data.input_size)
        );
    }
    for caveat in &experiment.caveats {
        text += &format!("not as published: {caveat}\n");
    }
    if !outlook.missing.is_empty() {
        text += &format!(
            "cells have no ids yet, and which are done is not known; add {}\n",
            outlook.missing.join(" and ")
        );
    }
    text
}

/// A program of another age knows other keys, and a table has no room for all of them.
const SHOWN: usize = 3;

/// The plan for a reader.
pub fn text(plan: &Plan) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).force_no_tty();
    table.set_header(["cell", "row", "settings", "seed", "state", ""]);
    for cell in &plan.cells {
        table.add_row([
            short(&cell.id).to_owned(),
            (cell.row + 1).to_string(),
            cell.title.clone(),
            cell.seed.to_string(),
            cell.state.name().to_owned(),
            detail(cell),
        ]);
    }
    for number in [1, 3] {
        if let Some(column) = table.column_mut(number) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    let mut text = format!("{}\n", headline(plan));
    for line in table.lines() {
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// One line: how much is done, and what the rest will cost.
pub fn headline(plan: &Plan) -> String {
    let totals = plan.totals();
    let states = [
        (totals.done, "done"),
        (totals.missing, "missing"),
        (totals.stale, "stale"),
        (totals.running, "running"),
        (totals.failed, "failed"),
    ];
    let states: Vec<String> = states
        .iter()
        .filter(|(number, _)| *number > 0)
        .map(|(number, name)| format!("{number} {name}"))
        .collect();
    let mut line = format!(
        "{}, scale {}, {}: {}, {}",
        plan.experiment,
        plan.scale,
        plan.device_class,
        count(totals.cells, "cell"),
        states.join(", ")
    );
    let open = totals.cells - totals.done;
    if open > 0 && totals.unknown < open {
        line.push_str(&format!("; about {} of one worker", duration(totals.seconds_left)));
    }
    if totals.unknown > 0 {
        line.push_str(&format!("; cost of {} not known yet", count(totals.unknown, "cell")));
    }
    line
}

/// An id as people need it.
pub fn short(id: &str) -> &str {
    id.get(..8).unwrap_or(id)
}

fn detail(cell: &Cell) -> String {
    let left = || match cell.seconds_left {
        Some(seconds) => format!("about {}", duration(seconds)),
        None => String::new(),
    };
    let joined = |parts: Vec<String>| {
        parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("; ")
    };
    match &cell.state {
        State::Done { ap, seconds, reused_from } => {
            let origin = reused_from.as_ref().map_or(String::new(), |from| format!("from {from}"));
            joined(vec![format!("AP {} in {}", percent(*ap), duration(*seconds)), origin])
        }
        State::Missing { epochs_done: 0 } => left(),
        State::Missing { epochs_done } => {
            let epochs = cell.config.epochs;
            joined(vec![format!("goes on after epoch {epochs_done} of {epochs}"), left()])
        }
        State::Running { holder, epochs_done } => {
            let who = holder.as_ref().map_or("another process".to_owned(), ToString::to_string);
            format!("{epochs_done} of {} epochs; {who}", cell.config.epochs)
        }
        State::Failed { reason } => reason.clone(),
        State::Stale { finished, differences } => {
            let shown = differences.iter().take(SHOWN).map(ToString::to_string);
            let mut changes = shown.collect::<Vec<_>>().join(", ");
            if differences.is_empty() {
                changes.push_str("the same configuration has another id");
            }
            if let Some(more) = differences.len().checked_sub(SHOWN).filter(|more| *more > 0) {
                changes.push_str(&format!(" and {more} more (--json lists them)"));
            }
            joined(vec![format!("{} is finished, but {changes}", short(finished)), left()])
        }
    }
}
