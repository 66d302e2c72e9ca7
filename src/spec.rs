//! `deim spec`: check experiments, show what they resolve to, explain a value, write the schemas.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::Subcommand;
use deim_spec::survey::{self, Holds};
use deim_spec::{Experiment, Options, SpecError, keys, schema, show};

use crate::output::{self, Outcome};

/// Check, show and explain experiment files.
#[derive(clap::Args)]
#[command(after_help = "Example: deim spec explain gamma --key loss.gamma")]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Check experiments at every scale, parts and published tables; all of them if none is named.
    ///
    /// Exit code 1 if any of them is wrong; every one is checked either way.
    #[command(after_help = "Example: deim spec check gamma experiments/recipes/deim.toml")]
    Check {
        /// Names of experiments, or paths of files.
        #[arg(value_name = "NAME|FILE")]
        files: Vec<String>,
        #[command(flatten)]
        place: Place,
    },
    /// Print a row's complete configuration as TOML, each value with its origin.
    #[command(after_help = "Example: deim spec show gamma --row 2 --set epochs=20")]
    Show {
        #[command(flatten)]
        which: Which,
        /// Row of the experiment, counted from 1.
        #[arg(long, value_name = "N", default_value_t = 1)]
        row: usize,
    },
    /// Say what a value is, where it was written, what it means and what it would be by default.
    #[command(after_help = "Example: deim spec explain gamma --key loss.gamma")]
    Explain {
        #[command(flatten)]
        which: Which,
        /// A configuration key, or the start of several, for example `loss`.
        #[arg(long)]
        key: String,
    },
    /// Write the JSON schemas of experiments and parts, for completion in editors.
    #[command(after_help = "Example: deim spec schema --check")]
    Schema {
        /// Folder of the schema files.
        #[arg(long, value_name = "DIR", default_value = "schema")]
        out: PathBuf,
        /// Write nothing; exit code 1 if a file is not current.
        #[arg(long)]
        check: bool,
    },
}

#[derive(clap::Args)]
struct Place {
    /// Folder of the experiments.
    #[arg(long, value_name = "DIR", default_value = "experiments")]
    experiments: PathBuf,
}

#[derive(clap::Args)]
struct Which {
    /// Name of an experiment, or path of its file.
    name: String,
    /// Scale of the experiment; by default `mini`, else the first one in the file.
    #[arg(long)]
    scale: Option<String>,
    /// Set a configuration key, over everything else; may be repeated.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    set: Vec<String>,
    #[command(flatten)]
    place: Place,
}

impl Which {
    fn load(&self) -> Result<Experiment, SpecError> {
        let options = Options { scale: self.scale.clone(), seeds: None, set: self.set.clone() };
        deim_spec::load(&self.place.experiments, &self.name, &options)
    }
}

pub fn run(args: Args) -> Outcome {
    let outcome = match args.command {
        Command::Check { files, place } => check(&place.experiments, files),
        Command::Show { which, row } => print_row(&which, row),
        Command::Explain { which, key } => explain(&which, &key),
        Command::Schema { out, check } => schemas(&out, check),
    };
    // A spec's error brings its own layout; colours are for people.
    match outcome.as_ref().err().and_then(|error| error.downcast_ref::<SpecError>()) {
        Some(error) => {
            print_error(error);
            Ok(ExitCode::from(output::WRONG_INPUT))
        }
        None => outcome,
    }
}

fn print_error(error: &SpecError) {
    eprintln!("{}\n", error.render(std::io::stderr().is_terminal()));
}

fn check(experiments: &Path, files: Vec<String>) -> Outcome {
    let files = if files.is_empty() { survey::everything(experiments)? } else { files };
    let mut wrong = 0;
    for file in &files {
        match survey::check(experiments, file) {
            Ok(Holds::Experiment(scales)) => {
                for (scale, rows, seeds) in scales {
                    println!("{file}: sound at scale {scale}: {rows} rows x {seeds} seeds");
                }
            }
            Ok(Holds::Part) => println!("{file}: sound part"),
            Ok(Holds::Paper(rows)) => println!("{file}: sound published table, {rows} rows"),
            Err(error) => {
                print_error(&error);
                println!("{file}: wrong");
                wrong += 1;
            }
        }
    }
    match wrong {
        0 => Ok(ExitCode::from(output::DONE)),
        _ => {
            eprintln!("{wrong} of {} files are wrong", files.len());
            Ok(ExitCode::from(output::FAILED))
        }
    }
}

fn print_row(which: &Which, number: usize) -> Outcome {
    let experiment = which.load()?;
    let count = experiment.rows.len();
    let Some(row) = number.checked_sub(1).and_then(|index| experiment.rows.get(index)) else {
        bail!("--row {number}: expected 1 to {count}, the rows of {}", experiment.name);
    };
    println!("# {}, scale {}, {} seeds", experiment.name, experiment.scale, experiment.seeds.len());
    println!("# row {number} of {count}: {}", row.title());
    println!("\n{}", show::annotated(row).trim_end());
    Ok(ExitCode::from(output::DONE))
}

fn explain(which: &Which, asked: &str) -> Outcome {
    let experiment = which.load()?;
    let below = format!("{asked}.");
    let known = keys::all();
    let found: Vec<_> =
        known.iter().filter(|key| key.path == asked || key.path.starts_with(&below)).collect();
    if found.is_empty() {
        let meant = keys::suggestion(asked);
        let meant = meant.map(|key| format!("; did you mean `{key}`?")).unwrap_or_default();
        bail!("--key {asked}: there is no such key{meant}");
    }
    for (index, key) in found.iter().enumerate() {
        if index > 0 {
            println!();
        }
        println!("{}", key.path);
        for (value, origin, rows) in experiment.values_of(&key.path) {
            let rows: Vec<String> = rows.iter().map(usize::to_string).collect();
            let rows = match rows.len() == experiment.rows.len() {
                true => String::new(),
                false => format!(" (row {})", rows.join(", ")),
            };
            println!("  value    {value}, {origin}{rows}");
        }
        println!("  meaning  {}", key.meaning);
        println!("  default  {}", key.default);
    }
    Ok(ExitCode::from(output::DONE))
}

fn schemas(folder: &Path, check: bool) -> Outcome {
    let mut stale = 0;
    for (name, text) in schema::files() {
        let path = folder.join(name);
        let current = std::fs::read_to_string(&path).is_ok_and(|written| written == text);
        let shown = path.display();
        match (current, check) {
            (true, _) => println!("{shown}: current"),
            (false, true) => {
                println!("{shown}: not current; `deim spec schema` writes it");
                stale += 1;
            }
            (false, false) => {
                std::fs::create_dir_all(folder)
                    .with_context(|| format!("cannot create {}", folder.display()))?;
                std::fs::write(&path, text).with_context(|| format!("cannot write {shown}"))?;
                println!("{shown}: written");
            }
        }
    }
    Ok(ExitCode::from(if stale == 0 { output::DONE } else { output::FAILED }))
}
