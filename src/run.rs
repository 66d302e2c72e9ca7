//! `deim run`: one cell, in the foreground; and, hidden, what a worker process does.

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, bail};
use deim_data::DataError::{NoPlace, PlaceNotUsed};
use deim_lab::{Cell, LabError, Plan, Setting, State};

use crate::crew::{self, CACHE_MB, CrewArgs};
use crate::output::{self, Outcome};
use crate::plan::short;
use crate::progress::{count, duration, percent};
use crate::selection::Variant;

/// Train one cell in the foreground: by its id, or by experiment, row and seed.
#[derive(clap::Args)]
#[command(after_help = "Example: deim run gamma --row 2 --seed 0")]
pub struct Args {
    /// Id of a cell as `deim plan` prints it, or name or path of an experiment.
    #[arg(value_name = "CELL|EXPERIMENT", required_unless_present = "worker")]
    target: Option<String>,
    /// Row of the experiment, counted from 1; needed where it has several.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    row: Option<u32>,
    /// Seed of the cell [default: 0].
    #[arg(long)]
    seed: Option<u64>,
    /// Threads to train with; by default all cores.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    threads: Option<u16>,
    /// Decoded images to keep in memory, in MiB; changes speed alone.
    #[arg(long, value_name = "MIB", default_value_t = CACHE_MB)]
    cache_mb: usize,
    #[command(flatten)]
    variant: Variant,
    /// Take an order from standard input; what `deim` starts for each cell.
    #[arg(long, hide = true)]
    worker: bool,
}

pub fn run(args: Args) -> Outcome {
    if args.worker {
        return crew::work();
    }
    let target = args.target.as_deref().context("expected a cell or an experiment")?;
    args.variant.check_device()?;
    let setting = args.variant.setting()?;
    let (plan, cell) = match is_experiment(&args.variant.folders.experiments, target)? {
        true => by_row(&args, target, &setting)?,
        false => by_id(&args, target, &setting)?,
    };
    plan.ledger.prepare()?;
    plan.adopt(&setting.results)?;
    let title = format!("{} {}, seed {}", short(&cell.id), cell.title, cell.seed);
    if let State::Done { ap, seconds, .. } = &cell.state {
        println!("{title}: AP {} in {}; it was finished", percent(*ap), duration(*seconds));
        return Ok(ExitCode::from(output::DONE));
    }
    let Args { threads, cache_mb, .. } = args;
    let crew_args = CrewArgs { jobs: Some(1), threads, fail_fast: false, cache_mb };
    let cells = [cell];
    let trained = crew::train(&plan, &cells, &setting, &crew_args, "the same command")?;
    let history = deim_lab::history::of_cell(&plan.ledger.read()?.lines, &cells[0].id);
    if let Some(finished) = history.finished {
        let (ap, time) = (percent(finished.summary.last.ap), duration(finished.seconds));
        println!("{title}: AP {ap} in {time}");
    }
    Ok(ExitCode::from(trained.exit_code(0)))
}

/// Whether the target names an experiment; else it is the id of a cell.
pub fn is_experiment(experiments: &Path, target: &str) -> anyhow::Result<bool> {
    let names = deim_spec::names(experiments)?;
    let like_an_id = target.chars().all(|c| c.is_ascii_hexdigit());
    Ok(names.iter().any(|name| name == target) || !like_an_id)
}

fn by_row(args: &Args, name: &str, setting: &Setting) -> anyhow::Result<(Plan, Cell)> {
    let seed = args.seed.unwrap_or(0);
    let experiment = args.variant.load(name, Some(seed + 1))?;
    let row = row(name, experiment.rows.len(), args.row)?;
    let plan = args.variant.plan(&experiment, setting)?;
    let cell = plan.cells.iter().find(|cell| cell.row == row && cell.seed == seed).cloned();
    Ok((plan, cell.context("the plan has no such cell")?))
}

/// The row that is meant, counted from 0.
pub fn row(name: &str, rows: usize, wanted: Option<u32>) -> anyhow::Result<usize> {
    match wanted {
        Some(row) if row as usize > rows => bail!("--row {row}: {name} has {}", count(rows, "row")),
        Some(row) => Ok(row as usize - 1),
        None if rows == 1 => Ok(0),
        None => bail!(
            "{name} has {}: say which with --row 1 to --row {rows}; `deim plan {name}` lists them",
            count(rows, "row")
        ),
    }
}

/// Looks for the cell in every experiment, at the given scale or else at all of them.
fn by_id(args: &Args, prefix: &str, setting: &Setting) -> anyhow::Result<(Plan, Cell)> {
    if args.row.is_some() || args.seed.is_some() {
        bail!("--row and --seed choose a cell of an experiment; {prefix} is the id of a cell");
    }
    let mut found: Vec<(Plan, Cell)> = Vec::new();
    let mut unread = 0;
    for name in deim_spec::names(&args.variant.folders.experiments)? {
        // At the scale that was asked for, else at every scale; an experiment that lacks it, or
        // that is broken, has no such cell.
        let Ok(first) = args.variant.load(&name, None) else { continue };
        let scales = match args.variant.scale.is_some() || first.scales.is_empty() {
            true => vec![first.scale],
            false => first.scales,
        };
        for scale in scales {
            let variant = Variant { scale: Some(scale), ..args.variant.clone() };
            let Ok(experiment) = variant.load(&name, None) else { continue };
            // What needs other files than those given cannot have a cell that is trained with them.
            let plan = match deim_lab::plan::make(&experiment, setting) {
                Err(LabError::Input(_) | LabError::Data(NoPlace | PlaceNotUsed { .. })) => {
                    unread += 1;
                    continue;
                }
                plan => plan?,
            };
            let cells = plan.cells.iter().filter(|cell| cell.id.starts_with(prefix));
            found.extend(cells.cloned().map(|cell| (plan.clone(), cell)).collect::<Vec<_>>());
        }
    }
    let mut ids: Vec<String> = found.iter().map(|(_, cell)| cell.id.clone()).collect();
    ids.sort();
    ids.dedup();
    match ids.len() {
        // Experiments that share a cell share its run; any of them will do.
        1 => Ok(found.remove(0)),
        0 => bail!(
            "no experiment under {} has a cell whose id begins with {prefix:?}; `deim plan NAME` \
             lists the ids of an experiment{}",
            args.variant.folders.experiments.display(),
            match unread {
                0 => String::new(),
                _ => format!(
                    "; {} were left out, because they read other files than those of --data and \
                     --pretrained",
                    count(unread, "scale")
                ),
            }
        ),
        _ => bail!("{} begin with {prefix:?}: {}", count(ids.len(), "cell"), ids.join(", ")),
    }
}
