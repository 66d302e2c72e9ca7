//! `deim retry`: train the failed cells of an experiment again.

use deim_lab::State;

use crate::ablation::train_and_report;
use crate::crew::CrewArgs;
use crate::output::Outcome;
use crate::selection::Selection;

/// Train the failed cells of an experiment again, from their last checkpoints, then report.
#[derive(clap::Args)]
#[command(after_help = "Example: deim retry gamma")]
pub struct Args {
    #[command(flatten)]
    selection: Selection,
    #[command(flatten)]
    crew: CrewArgs,
}

pub fn run(args: Args) -> Outcome {
    // A retried cell that is interrupted no longer counts as failed.
    let again = format!("`deim ablation {}`", args.selection.name);
    train_and_report(&args.selection, &args.crew, &again, |state| {
        matches!(state, State::Failed { .. })
    })
}
