//! `deim ablation`: plan, train what is missing, report.

use std::process::ExitCode;

use deim_lab::State;

use crate::crew::{self, CrewArgs, Trained};
use crate::output::{self, Outcome};
use crate::plan;
use crate::progress::count;
use crate::report;
use crate::selection::Selection;

/// Train what is missing of an experiment, then write its table and figures.
///
/// Cells that are finished, here or in another experiment under the same results folder, are never
/// trained again. Interrupt it at any moment: the same command goes on where it was.
#[derive(clap::Args)]
#[command(after_help = "Example: deim ablation gamma --seeds 3")]
pub struct Args {
    #[command(flatten)]
    pub selection: Selection,
    #[command(flatten)]
    pub crew: CrewArgs,
    /// Show the plan and train nothing.
    #[arg(long)]
    dry_run: bool,
}

pub fn run(args: Args) -> Outcome {
    if args.dry_run {
        let experiment = args.selection.load()?;
        let variant = &args.selection.variant;
        print!("{}", plan::text(&variant.plan(&experiment, &variant.setting()?)?));
        return Ok(ExitCode::from(output::DONE));
    }
    train_and_report(&args.selection, &args.crew, "the same command", |state| {
        matches!(state, State::Missing { .. } | State::Stale { .. } | State::Running { .. })
    })
}

/// Trains the wanted cells and reports; `again` is what goes on after an interruption.
pub fn train_and_report(
    selection: &Selection,
    crew_args: &CrewArgs,
    again: &str,
    wanted: impl Fn(&State) -> bool,
) -> Outcome {
    let experiment = selection.load()?;
    selection.variant.check_device()?;
    let setting = selection.variant.setting()?;
    let plan = selection.variant.plan(&experiment, &setting)?;
    // Before an hour of training and not after it.
    plan.ledger.prepare()?;
    eprintln!("{}", plan::headline(&plan));
    let adopted = plan.adopt(&setting.results)?;
    if adopted > 0 {
        eprintln!("{} taken over from other experiments", count(adopted, "finished cell"));
    }
    let cells = plan.seed_by_seed(&wanted);
    let failed_before =
        plan.cells.iter().filter(|cell| matches!(cell.state, State::Failed { .. })).count();
    let waiting = if wanted(&State::Failed { reason: String::new() }) { 0 } else { failed_before };
    let trained = match cells.is_empty() {
        true => Trained::default(),
        false => crew::train(&plan, &cells, &setting, crew_args, again)?,
    };
    if waiting > 0 {
        eprintln!(
            "{} failed earlier and not trained; `deim retry {}` does",
            count(waiting, "cell"),
            selection.name
        );
    }
    if !trained.interrupted {
        report::after_training(&experiment, selection, &setting.inputs)?;
    }
    Ok(ExitCode::from(trained.exit_code(waiting)))
}
