//! The `deim` command line: one file a subcommand, no logic of its own.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

mod ablation;
mod bench;
mod coco_eval;
mod crew;
mod data;
mod eval;
mod figure;
mod inputs;
mod models;
mod output;
mod plan;
mod predict;
mod progress;
mod report;
mod retry;
mod run;
mod selection;
mod spec;
mod status;
mod subject;
mod verify;
mod weights;
mod why;

/// A laboratory for reproducible ablations of DETR training.
///
/// An experiment is a TOML file that asks a question. `deim ablation NAME` trains every cell of it
/// that is not trained yet, measures COCO metrics, and writes a table and a figure.
#[derive(Parser)]
#[command(name = "deim", version, after_help = "Example: deim ablation gamma")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Ablation(ablation::Args),
    Plan(plan::Args),
    Status(status::Args),
    Report(report::Args),
    Figure(figure::Args),
    Retry(retry::Args),
    Run(run::Args),
    Why(why::Args),
    Spec(spec::Args),
    Data(data::Args),
    Eval(eval::Args),
    Predict(predict::Args),
    CocoEval(coco_eval::Args),
    Verify(verify::Args),
    Models(models::Args),
    Weights(weights::Args),
    Bench(bench::Args),
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Ablation(args) => ablation::run(args),
        Command::Plan(args) => plan::run(args),
        Command::Status(args) => status::run(args),
        Command::Report(args) => report::run(args),
        Command::Figure(args) => figure::run(args),
        Command::Retry(args) => retry::run(args),
        Command::Run(args) => run::run(args),
        Command::Why(args) => why::run(args),
        Command::Spec(args) => spec::run(args),
        Command::Data(args) => data::run(args),
        Command::Eval(args) => eval::run(&args),
        Command::Predict(args) => predict::run(&args),
        Command::CocoEval(args) => coco_eval::run(args),
        Command::Verify(args) => verify::run(args),
        Command::Models(args) => models::run(args),
        Command::Weights(args) => weights::run(args),
        Command::Bench(args) => bench::run(args),
    };
    let code = result.unwrap_or_else(|error| output::fail(&error));
    match deim_lab::faults() {
        0 => {}
        count => eprintln!(
            "note: {count} panics of a GPU's thread stand above; unless autotune was discarding \
             candidates, numbers that came after them mean nothing (docs/cuda.md)"
        ),
    }
    code
}
