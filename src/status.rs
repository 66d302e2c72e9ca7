//! `deim status`: how far an experiment is, row by row, and what needs attention.

use std::process::ExitCode;

use comfy_table::{Table, presets};
use deim_lab::{Plan, State};
use serde::Serialize;

use crate::output::{self, Outcome};
use crate::plan::{headline, short};
use crate::progress::percent;
use crate::selection::Selection;

/// Show how far an experiment is: its rows, what runs now, and what failed.
#[derive(clap::Args)]
#[command(after_help = "Example: deim status gamma")]
pub struct Args {
    #[command(flatten)]
    selection: Selection,
    /// Print JSON, for scripts.
    #[arg(long)]
    json: bool,
}

/// One row of the experiment.
#[derive(Serialize)]
struct Row<'a> {
    settings: &'a str,
    cells: usize,
    done: usize,
    /// AP of the finished seeds, in the order of the seeds.
    ap: Vec<Option<f64>>,
}

pub fn run(args: Args) -> Outcome {
    let experiment = args.selection.load()?;
    let variant = &args.selection.variant;
    let plan = variant.plan(&experiment, &variant.setting()?)?;
    let rows = rows(&plan);
    if args.json {
        let attention: Vec<_> =
            plan.cells.iter().filter(|cell| needs_attention(&cell.state)).collect();
        let value = serde_json::json!({
            "experiment": plan.experiment,
            "scale": plan.scale,
            "device_class": plan.device_class,
            "totals": plan.totals(),
            "rows": rows,
            "attention": attention,
            "notes": plan.notes,
        });
        println!("{}", serde_json::to_string_pretty(&value)?);
        return Ok(ExitCode::from(output::DONE));
    }
    println!("{}", headline(&plan));
    let mut table = Table::new();
    table.load_style(presets::NOTHING).force_no_tty();
    table.set_header(["settings", "done", "AP"]);
    for row in &rows {
        let ap: Vec<String> = row.ap.iter().map(|ap| percent(*ap)).collect();
        table.add_row([row.settings, &format!("{}/{}", row.done, row.cells), &ap.join("  ")]);
    }
    for line in table.lines() {
        println!("{}", line.trim_end());
    }
    for cell in &plan.cells {
        let what = match &cell.state {
            State::Running { holder, epochs_done } => {
                let who = holder.as_ref().map_or("another process".to_owned(), ToString::to_string);
                format!("runs, {epochs_done} of {} epochs, {who}", cell.config.epochs)
            }
            State::Failed { reason } => format!("failed: {reason}"),
            State::Missing { epochs_done } if *epochs_done > 0 => {
                format!("was interrupted after epoch {epochs_done} of {}", cell.config.epochs)
            }
            _ => continue,
        };
        println!("{} {}, seed {} {what}", short(&cell.id), cell.title, cell.seed);
    }
    Ok(ExitCode::from(output::DONE))
}

fn needs_attention(state: &State) -> bool {
    match state {
        State::Running { .. } | State::Failed { .. } => true,
        State::Missing { epochs_done } => *epochs_done > 0,
        State::Done { .. } | State::Stale { .. } => false,
    }
}

fn rows(plan: &Plan) -> Vec<Row<'_>> {
    let mut rows: Vec<Row<'_>> = Vec::new();
    for cell in &plan.cells {
        if rows.len() <= cell.row {
            rows.push(Row { settings: &cell.title, cells: 0, done: 0, ap: Vec::new() });
        }
        if let Some(row) = rows.get_mut(cell.row) {
            row.cells += 1;
            if let State::Done { ap, .. } = &cell.state {
                row.done += 1;
                row.ap.push(*ap);
            }
        }
    }
    rows
}
