//! `deim weights`: what is in a weight file, and safetensors from it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};
use burn::tensor::Device;
use clap::{Subcommand, ValueEnum};
use deim_model::pretrained::{self, Choice, Report};
use deim_model::{Detector, official as state_dict};
use deim_spec::{Config, official};
use deim_weights::{Dtype, Entries, Leaf, Part, WeightFile, grouped, tree};
use serde_json::{Value, json};

use crate::output::{DONE, FAILED, Outcome};

/// Look into weight files (.pth, safetensors) and convert them.
#[derive(clap::Args)]
#[command(after_help = "Example: deim weights inspect last.pth --model r18")]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Print what a file holds: its layout, its parts, and the tree of its tensors.
    ///
    /// With --model, also what of it does not fit that detector; exit code 1 if something does not.
    #[command(after_help = "Example: deim weights inspect deim_dfine_hgnetv2_n_coco.pth --model n")]
    Inspect {
        /// A .pth file of PyTorch or a safetensors file.
        file: PathBuf,
        #[command(flatten)]
        which: Which,
        /// Print every tensor on a line of its own.
        #[arg(long)]
        all: bool,
        /// Print one JSON document.
        #[arg(long)]
        json: bool,
    },
    /// Write a file's weights as safetensors, under their official names.
    ///
    /// With --model, only if they fit that detector (exit code 1 if not), and with every counter and
    /// constant that PyTorch's load_state_dict wants.
    #[command(after_help = "Example: deim weights convert last.pth last.safetensors --part ema")]
    Convert {
        /// A .pth file of PyTorch or a safetensors file.
        input: PathBuf,
        /// The safetensors file to write.
        output: PathBuf,
        #[command(flatten)]
        which: Which,
    },
}

#[derive(clap::Args)]
struct Which {
    /// Weights to take: by default the average if there is one, else the model.
    #[arg(long, value_enum)]
    part: Option<PartName>,
    /// A detector: one of the ten official names (`deim models`), or the path of a model part.
    #[arg(long, value_name = "NAME|FILE")]
    model: Option<String>,
    /// Classes of the detector.
    #[arg(long, value_name = "N", default_value_t = 80, value_parser = clap::value_parser!(u16).range(1..))]
    classes: u16,
    /// Folder of the experiments, for paths of model parts.
    #[arg(long, value_name = "DIR", default_value = "experiments")]
    experiments: PathBuf,
}

#[derive(Clone, Copy, ValueEnum)]
enum PartName {
    Ema,
    Model,
    Backbone,
}

impl PartName {
    fn choice(self) -> Choice {
        match self {
            Self::Ema => Choice::Part(Part::Ema),
            Self::Model => Choice::Part(Part::Model),
            Self::Backbone => Choice::Backbone,
        }
    }
}

impl Which {
    fn choice(&self) -> Choice {
        self.part.map_or(Choice::Best, PartName::choice)
    }

    /// The detector's configuration, and how the file's weights fit it.
    fn fit(&self, file: &WeightFile) -> anyhow::Result<Option<(Config, Report)>> {
        let Some(name) = &self.model else { return Ok(None) };
        let config = architecture(name, &self.experiments)?;
        let detector = Detector::new(&config, self.classes.into(), 0, &Device::flex());
        let expected = pretrained::expected(&detector);
        let report = pretrained::compare(&expected, &config, file, self.choice())?;
        Ok(Some((config, report)))
    }
}

pub fn run(args: Args) -> Outcome {
    match args.command {
        Command::Inspect { file, which, all, json } => inspect(&file, &which, all, json),
        Command::Convert { input, output, which } => convert(&input, &output, &which),
    }
}

fn inspect(path: &Path, which: &Which, all: bool, json: bool) -> Outcome {
    let file = deim_weights::open(path)?;
    let (part, entries) = pretrained::chosen(&file, which.choice())?;
    let fit = which.fit(&file)?;
    let mut out = std::io::stdout().lock();
    if json {
        let fit = fit.as_ref().map(|(_, report)| report);
        writeln!(out, "{}", serde_json::to_string_pretty(&document(&file, fit))?)?;
    } else {
        let mut text = summary(&file);
        let _ = writeln!(text, "\n{}: {}", part.name(), totals(entries));
        let wanted = entries.iter().filter(|(name, _)| {
            which.choice() != Choice::Backbone || name.starts_with("backbone.")
        });
        if all {
            for (name, entry) in wanted {
                let _ = writeln!(text, "  {name} {:?} {}", entry.shape, entry.dtype.name());
            }
        } else {
            for line in tree(wanted.map(|(name, entry)| (name.as_str(), leaf(entry)))) {
                let _ = writeln!(text, "  {line}");
            }
        }
        if let Some((_, report)) = &fit {
            let _ = write!(text, "\n{}", misfits(report, which));
        }
        write!(out, "{text}")?;
    }
    let fits = fit.is_none_or(|(_, report)| report.fits());
    Ok(ExitCode::from(if fits { DONE } else { FAILED }))
}

fn leaf(entry: &deim_weights::Entry) -> Leaf {
    Leaf { dtype: entry.dtype, shape: entry.shape.clone() }
}

/// The model of a detector by its official name (`r18`), the name of its part (`rtdetrv2-r18`), or the
/// path of a model part; all else is a default.
pub fn architecture(name: &str, experiments: &Path) -> anyhow::Result<Config> {
    let part = format!("models/{name}.toml");
    let by_part = || official::models().iter().find(|official| official.part == part);
    if let Some(official) = official::model(name).or_else(by_part) {
        return Ok(official.architecture()?);
    }
    if Path::new(name).is_file() {
        return Ok(official::part(experiments, Path::new(name))?);
    }
    let names: Vec<&str> = official::models().iter().map(|one| one.name).collect();
    let names = names.join(", ");
    bail!("--model: expected one of {names}, or a model part's path; found '{name}'")
}

/// What the file is and what it holds beside the weights.
fn summary(file: &WeightFile) -> String {
    let mut lines: Vec<(String, String)> = Vec::new();
    let mut line = |name: &str, value: &str| lines.push((name.to_owned(), value.to_owned()));
    line("format", file.format.name());
    line("layout", file.layout.name());
    for (part, entries) in &file.parts {
        line(part.name(), &totals(entries));
    }
    if let Some(optimizer) = &file.optimizer {
        let rates: Vec<String> = optimizer
            .groups
            .iter()
            .map(|group| {
                let rate = group.numbers.get("lr").map_or("?".into(), |rate| format!("{rate:.3e}"));
                format!("{} at {rate}", group.parameters.len())
            })
            .collect();
        let states = optimizer.state.len();
        line("optimizer", &format!("{states} states; parameters by group: {}", rates.join(", ")));
    }
    if !file.others.is_empty() {
        line("others", &totals(&file.others));
    }
    for (name, what) in &file.top_level {
        if !["model", "ema", "optimizer", "state_dict"].contains(&name.as_str()) {
            line(name, what);
        }
    }
    for (name, number) in file.numbers.iter().filter(|(name, _)| name.contains('.')) {
        line(name, &number.to_string());
    }
    for (note, count) in &file.notes {
        line("note", &format!("{note} ({count})"));
    }
    let width = lines.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    let line = |(name, value): &(String, String)| format!("  {name:<width$}  {value}\n");
    format!("{}\n{}", file.path.display(), lines.iter().map(line).collect::<String>())
}

/// Counts of tensors, numbers, bytes and types.
fn totals(entries: &Entries) -> String {
    let numbers: u64 = entries.values().map(|entry| entry.count()).sum();
    let bytes: u64 = entries.values().map(|entry| entry.count() * entry.dtype.size()).sum();
    let kinds: Vec<String> =
        kinds(entries).iter().map(|(kind, count)| format!("{count} {kind}")).collect();
    format!(
        "{} tensors ({}), {} numbers, {:.1} MB",
        entries.len(),
        kinds.join(", "),
        grouped(numbers),
        bytes as f64 / 1e6
    )
}

fn kinds(entries: &Entries) -> BTreeMap<&'static str, usize> {
    let mut kinds = BTreeMap::new();
    for entry in entries.values() {
        *kinds.entry(entry.dtype.name()).or_default() += 1;
    }
    kinds
}

/// Names that a list of misfits shows before it only counts.
const SHOWN: usize = 20;

/// What fits a detector and what does not.
fn misfits(report: &Report, which: &Which) -> String {
    let model = which.model.as_deref().unwrap_or_default();
    let verdict = if report.fits() { "fits" } else { "does not fit" };
    let mut text = format!(
        "model {model} with {} classes: {verdict}\n  {:>5} tensors to load, {} counters and \
         constants that the model has itself\n",
        which.classes,
        report.loaded.len(),
        report.computed,
    );
    let mut list = |count: usize, what: &str, lines: Vec<String>| {
        if count == 0 {
            return;
        }
        let _ = writeln!(text, "  {count:>5} {what}");
        for line in lines.iter().take(SHOWN) {
            let _ = writeln!(text, "        {line}");
        }
        if lines.len() > SHOWN {
            let more = lines.len() - SHOWN;
            let _ = writeln!(text, "        and {more} more lines; --json has all");
        }
    };
    let collapsed = |names: &BTreeMap<String, Vec<usize>>| {
        let leaf = |shape: &Vec<usize>| Leaf { dtype: Dtype::F32, shape: shape.clone() };
        tree(names.iter().map(|(name, shape)| (name.as_str(), leaf(shape))))
    };
    list(report.missing.len(), "missing in the file", collapsed(&report.missing));
    list(report.unexpected.len(), "left over, not of this model", collapsed(&report.unexpected));
    let shapes = report
        .mismatched
        .iter()
        .map(|one| format!("{}: expected {:?}, found {:?}", one.name, one.expected, one.found));
    list(report.mismatched.len(), "of another shape", shapes.collect());
    let constants = report
        .contradictions
        .iter()
        .map(|(name, expected, found)| format!("{name}: expected {expected}; found {found}"));
    list(report.contradictions.len(), "constants of another model", constants.collect());
    text
}

fn document(file: &WeightFile, fit: Option<&Report>) -> Value {
    let part = |entries: &Entries| {
        let tensors: Vec<Value> = entries
            .iter()
            .map(|(name, entry)| {
                json!({ "name": name, "shape": entry.shape, "dtype": entry.dtype.name() })
            })
            .collect();
        json!({
            "numbers": entries.values().map(|entry| entry.count()).sum::<u64>(),
            "dtypes": kinds(entries),
            "tensors": tensors,
        })
    };
    let parts: BTreeMap<&str, Value> =
        file.parts.iter().map(|(name, entries)| (name.name(), part(entries))).collect();
    let optimizer = file.optimizer.as_ref().map(|optimizer| {
        let groups: Vec<Value> = optimizer
            .groups
            .iter()
            .map(|group| json!({ "settings": group.numbers, "parameters": group.parameters.len() }))
            .collect();
        json!({ "states": optimizer.state.len(), "groups": groups })
    });
    let fit = fit.map(|report| {
        let shapes: Vec<Value> = report
            .mismatched
            .iter()
            .map(|one| json!({ "name": one.name, "expected": one.expected, "found": one.found }))
            .collect();
        let constants: Vec<Value> = report
            .contradictions
            .iter()
            .map(|(name, expected, found)| {
                json!({ "name": name, "expected": expected, "found": found })
            })
            .collect();
        json!({
            "fits": report.fits(),
            "part": report.part,
            "loaded": report.loaded.len(),
            "computed": report.computed,
            "rounded": report.rounded,
            "missing": report.missing,
            "unexpected": report.unexpected,
            "mismatched": shapes,
            "contradictions": constants,
        })
    });
    json!({
        "file": file.path.display().to_string(),
        "format": file.format.name(),
        "layout": file.layout.name(),
        "top_level": file.top_level,
        "values": file.numbers,
        "parts": parts,
        "optimizer": optimizer,
        "notes": file.notes,
        "fit": fit,
    })
}

fn convert(input: &Path, output: &Path, which: &Which) -> Outcome {
    match output.extension().and_then(|end| end.to_str()) {
        Some("safetensors") => {}
        Some("pth" | "pt") => bail!(
            "{}: only safetensors files are written; in PyTorch, \
             torch.save({{'model': safetensors.torch.load_file(FILE)}}, ...) makes a .pth of one",
            output.display()
        ),
        _ => bail!("{}: expected a name that ends in .safetensors", output.display()),
    }
    let file = deim_weights::open(input)?;
    let fit = which.fit(&file)?;
    if let Some((_, report)) = fit.as_ref().filter(|(_, report)| !report.fits()) {
        eprint!("{}: nothing written; {}", input.display(), misfits(report, which));
        return Ok(ExitCode::from(FAILED));
    }
    let mut tensors = pretrained::extract(&file, which.choice())?;
    if let Some((config, _)) = &fit {
        tensors = state_dict::complete(tensors, config);
    }
    deim_weights::write(output, &tensors).context("cannot write")?;
    let (part, _) = pretrained::chosen(&file, which.choice())?;
    println!("{}: {} tensors of {}", output.display(), tensors.len(), part.name());
    Ok(ExitCode::from(DONE))
}
