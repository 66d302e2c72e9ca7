//! `deim plan`: which cells an experiment has, what became of them, what the rest will cost.

use std::process::ExitCode;

use comfy_table::{CellAlignment, Table, presets};
use deim_lab::{Cell, Plan, State};
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
    let plan = variant.plan(&experiment, &variant.setting()?)?;
    if args.json {
        let mut value = serde_json::to_value(&plan)?;
        value["totals"] = serde_json::to_value(plan.totals())?;
        value["title"] = json!(experiment.title);
        println!("{}", serde_json::to_string_pretty(&value)?);
    } else {
        print!("{}", text(&plan));
    }
    Ok(ExitCode::from(output::DONE))
}

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
            let changes: Vec<String> = differences.iter().map(ToString::to_string).collect();
            let changes = match changes.is_empty() {
                true => "the same configuration under another id".to_owned(),
                false => changes.join(", "),
            };
            joined(vec![format!("{} is finished, but {changes}", short(finished)), left()])
        }
    }
}
