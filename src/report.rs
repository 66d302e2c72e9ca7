//! `deim report`: tables and figures from the ledgers, and the check that they still follow.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};
use deim_lab::record::{Line, Record};
use deim_lab::{Devices, Inputs, Ledger, history, identity};
use deim_report::html::{self, Chapter};
use deim_report::{Cell, Document, Study};
use deim_spec::{Experiment, Options, cell_id};

use crate::figure::export::ExportArgs;
use crate::figure::paper;
use crate::inputs::InputArgs;
use crate::output::{self, Outcome};
use crate::selection::Selection;

/// Write the tables and figures of experiments from their ledgers, or check that they follow.
///
/// Trains nothing. A table is a function of the ledger, the experiment's file and the paper's
/// numbers alone: the same ledger gives the same bytes.
#[derive(clap::Args)]
#[command(
    after_help = "Example: deim report gamma\nExample: deim report --check\nExample: deim report --html ablations.html\nExample: deim report paper --figures DIR --theme grey"
)]
pub struct Args {
    /// Names of experiments, or `paper` for the figures that follow from formulas, recipes and published
    /// numbers alone; all that have a ledger or figures if none is named.
    #[arg(value_name = "NAME")]
    names: Vec<String>,
    /// Only this scale.
    #[arg(long)]
    scale: Option<String>,
    /// Cells of this device: cpu or cuda; needed where a ledger holds both.
    #[arg(long)]
    device: Option<Devices>,
    #[command(flatten)]
    inputs: InputArgs,
    /// Write nothing; exit code 1 if a file is not what its ledger gives.
    #[arg(long)]
    check: bool,
    /// Also write everything as one page that a browser shows without a network.
    #[arg(long, value_name = "FILE", conflicts_with = "check")]
    html: Option<PathBuf>,
    #[command(flatten)]
    export: ExportArgs,
    /// Folder of the experiments.
    #[arg(long, value_name = "DIR", default_value = "experiments")]
    experiments: PathBuf,
    /// Folder of the ledgers, tables and figures.
    #[arg(long, value_name = "DIR", default_value = "results")]
    results: PathBuf,
}

pub fn run(mut args: Args) -> Outcome {
    let only_paper = args.names.iter().all(|name| name == paper::FOLDER) && !args.names.is_empty();
    let wrong = paper_figures(&mut args)?;
    if only_paper {
        return Ok(ExitCode::from(if wrong == 0 { output::DONE } else { output::FAILED }));
    }
    let shelves = shelves(&args)?;
    let (with, without): (Vec<_>, Vec<_>) =
        shelves.into_iter().partition(|shelf| shelf.folder.join("ledger.jsonl").exists());
    let mut wrong = wrong;
    if args.check {
        for file in without.iter().flat_map(Shelf::files) {
            println!("{}: there is no ledger that it could follow from", file.display());
            wrong += 1;
        }
    }
    if with.is_empty() {
        match (args.check, wrong) {
            (true, 0) => println!("nothing to check: no ledger under {}", args.results.display()),
            (true, _) => {}
            (false, _) => bail!(
                "no ledger of {} under {}; `deim ablation NAME` makes one",
                if args.names.is_empty() { "any experiment".into() } else { args.names.join(", ") },
                args.results.display()
            ),
        }
    }
    let mut chapters = Vec::new();
    for shelf in &with {
        let done = match args.check {
            true => check(&args, shelf),
            false => publish(&args, shelf).map(|chapter| {
                chapters.push(chapter);
                0
            }),
        };
        wrong += done.unwrap_or_else(|error| {
            eprintln!("error: {}: {error:#}", shelf.folder.display());
            1
        });
    }
    if let Some(file) = &args.html {
        deim_report::write_file(file, html::page(&chapters)?.as_bytes())?;
        eprintln!("wrote {}", file.display());
    }
    Ok(ExitCode::from(if wrong == 0 { output::DONE } else { output::FAILED }))
}

/// Writes or checks the figures that no ledger decides, where they are asked for or there already;
/// returns how many differ.
fn paper_figures(args: &mut Args) -> anyhow::Result<usize> {
    let folder = args.results.join(paper::FOLDER);
    let is_asked = args.names.iter().any(|name| name == paper::FOLDER);
    let is_meant = args.names.is_empty() && args.scale.is_none() && folder.exists();
    args.names.retain(|name| name != paper::FOLDER);
    if !is_asked && !is_meant {
        return Ok(0);
    }
    let documents = paper::documents(&args.experiments)?;
    if !args.check {
        deim_report::write(&folder, &documents)?;
        args.export.documents(&documents)?;
        eprintln!("wrote {} figures in {}", documents.len(), folder.display());
        return Ok(0);
    }
    let differences = paper::check(&folder, &documents)?;
    for difference in &differences {
        println!("{}: {}", folder.join(difference.name).display(), difference.what);
    }
    if differences.is_empty() {
        println!(
            "{}: {} figures follow from formulas, recipes and tables",
            folder.display(),
            documents.len()
        );
    }
    Ok(differences.len())
}

/// Writes and prints the report of an experiment that was just trained.
pub fn after_training(
    experiment: &Experiment,
    selection: &Selection,
    inputs: &Inputs,
) -> anyhow::Result<()> {
    let variant = &selection.variant;
    let results = &variant.folders.results;
    let lines = read(&Ledger::new(results, &experiment.name, &experiment.scale))?;
    // The table on disk is the file's, not the command line's: `deim report` has to find the same.
    let experiment = match selection.seeds {
        Some(_) => &variant.load(&selection.name, None)?,
        None => experiment,
    };
    let study = match study(experiment, &lines, &variant.device.class(), inputs) {
        // Everything failed, and the failures have been told.
        Err(error) if is_nothing(&error) => {
            eprintln!("no table: {error}");
            return Ok(());
        }
        study => study?,
    };
    print!("{}", deim_report::terminal_table(&study, deim_report::terminal_width()));
    if !variant.set.is_empty() {
        eprintln!(
            "table and figures not written: they follow from the experiment's file without --set"
        );
        return Ok(());
    }
    write(&results.join(&experiment.name).join(&experiment.scale), &study)
}

/// A folder `results/NAME/SCALE`.
struct Shelf {
    name: String,
    scale: String,
    folder: PathBuf,
}

impl Shelf {
    /// The files of a report that are there.
    fn files(&self) -> impl Iterator<Item = PathBuf> {
        deim_report::FILES.iter().map(|name| self.folder.join(name)).filter(|path| path.exists())
    }
}

/// The folders of results that the command line means, in order.
fn shelves(args: &Args) -> anyhow::Result<Vec<Shelf>> {
    let named = args.names.iter().map(|name| {
        let stem = Path::new(name).file_stem().unwrap_or_default().to_string_lossy();
        deim_spec::experiment_name(&args.experiments, &stem)
    });
    let wanted: BTreeSet<String> = named.collect::<Result<_, _>>()?;
    let mut shelves = Vec::new();
    for name in folders(&args.results)? {
        if !wanted.is_empty() && !wanted.contains(&name) {
            continue;
        }
        for scale in folders(&args.results.join(&name))? {
            if args.scale.as_ref().is_none_or(|wanted| *wanted == scale) {
                let folder = args.results.join(&name).join(&scale);
                shelves.push(Shelf { name: name.clone(), scale, folder });
            }
        }
    }
    if let Some(missing) = wanted.iter().find(|name| shelves.iter().all(|s| s.name != **name)) {
        bail!(
            "{missing} has no results{} under {}; `deim ablation {missing}` makes them",
            args.scale.as_ref().map(|scale| format!(" at scale {scale}")).unwrap_or_default(),
            args.results.display()
        );
    }
    Ok(shelves)
}

/// The names of the folders in a folder, in order; none where there is no such folder.
fn folders(folder: &Path) -> anyhow::Result<Vec<String>> {
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error).context(format!("cannot read {}", folder.display())),
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.with_context(|| format!("cannot read {}", folder.display()))?;
        if entry.path().is_dir() {
            names.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    names.sort();
    Ok(names)
}

/// Prints the table of a shelf and writes its files.
fn publish(args: &Args, shelf: &Shelf) -> anyhow::Result<Chapter> {
    let chapter = of_shelf(args, shelf)?;
    println!("{}", deim_report::terminal_table(&chapter.study, deim_report::terminal_width()));
    write(&shelf.folder, &chapter.study)?;
    args.export.study(&chapter.study)?;
    Ok(chapter)
}

/// Compares the files of a shelf with its ledger; returns how many differ.
fn check(args: &Args, shelf: &Shelf) -> anyhow::Result<usize> {
    let documents = match of_shelf(args, shelf) {
        Ok(chapter) => deim_report::render(&chapter.study)?,
        // Nothing finished, and nothing claimed.
        Err(error) if is_nothing(&error) && shelf.files().next().is_none() => {
            println!("{}: nothing to check: {error:#}", shelf.folder.display());
            return Ok(0);
        }
        Err(error) => return Err(error),
    };
    let differences = deim_report::check(&shelf.folder, &documents)?;
    for difference in &differences {
        println!("{}: {}", shelf.folder.join(difference.name).display(), difference.what);
    }
    if differences.is_empty() {
        println!("{}: {} files follow from the ledger", shelf.folder.display(), documents.len());
    }
    Ok(differences.len())
}

fn is_nothing(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref(), Some(deim_report::Error::Nothing(_)))
}

fn of_shelf(args: &Args, shelf: &Shelf) -> anyhow::Result<Chapter> {
    let ledger = Ledger::new(&args.results, &shelf.name, &shelf.scale);
    let lines = read(&ledger)?;
    let path = args.experiments.join(format!("{}.toml", shelf.name));
    if !path.exists() {
        bail!(
            "the experiment's file {} is gone, so nobody knows what the ledger is about",
            path.display()
        );
    }
    let options = Options { scale: Some(shelf.scale.clone()), ..Options::default() };
    let experiment = deim_spec::load(&args.experiments, &shelf.name, &options)?;
    let class = match &args.device {
        Some(device) => device.class(),
        None => device_class(&lines)?,
    };
    Ok(Chapter {
        study: study(&experiment, &lines, &class, &args.inputs.inputs()?)?,
        histories: history::by_cell(&lines),
        ledger: ledger.path().display().to_string(),
    })
}

/// The class of the devices that finished cells.
fn device_class(lines: &[Line]) -> anyhow::Result<String> {
    let finished: BTreeSet<&str> = lines
        .iter()
        .filter(|line| matches!(line.record, Record::Finished(_)))
        .map(|line| line.cell.as_str())
        .collect();
    let classes: BTreeSet<&str> = lines
        .iter()
        .filter(|line| finished.contains(line.cell.as_str()))
        .filter_map(|line| match &line.record {
            Record::Started(origin) => Some(origin.device_class.as_str()),
            _ => None,
        })
        .collect();
    match &classes.into_iter().collect::<Vec<_>>()[..] {
        [] => Ok(Devices::default().class()),
        [class] => Ok((*class).to_owned()),
        classes => bail!(
            "the ledger holds finished cells of {}; say which with --device",
            classes.join(" and of ")
        ),
    }
}

/// The lines of a ledger, after telling what is odd about it.
fn read(ledger: &Ledger) -> anyhow::Result<Vec<Line>> {
    let contents = ledger.read()?;
    if let Some(note) = contents.note(ledger.path()) {
        eprintln!("note: {note}");
    }
    Ok(contents.lines)
}

fn study(
    experiment: &Experiment,
    lines: &[Line],
    device_class: &str,
    inputs: &Inputs,
) -> anyhow::Result<Study> {
    let seeds = deim_report::seeds(experiment, lines);
    let mut cells = Vec::new();
    let identities = identity::of_ledger(experiment, inputs, lines, device_class)?;
    for (row, identity::Identity { config, manifest }) in identities.iter().enumerate() {
        cells.extend(seeds.iter().map(|&seed| Cell {
            row,
            seed,
            id: cell_id(config, seed, manifest, deim_train::NUMERICS, device_class),
        }));
    }
    Ok(deim_report::gather(experiment, &cells, lines)?)
}

/// Writes the files of a study and says where.
fn write(folder: &Path, study: &Study) -> anyhow::Result<()> {
    let documents: Vec<Document> = deim_report::render(study)?;
    deim_report::write(folder, &documents)?;
    let names: Vec<&str> = documents.iter().map(|document| document.name).collect();
    eprintln!("wrote {} in {}", names.join(", "), folder.display());
    Ok(())
}
