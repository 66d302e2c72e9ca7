//! From the name of an experiment to its rows.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::alias;
use crate::axes::{self, Axis as Varied, Choice};
use crate::checks;
use crate::config::Config;
use crate::error::{Diagnostic, SpecError, nearest};
use crate::file::{Expected, HEAD_KEYS, Head, SCALE_KEYS, ScaleHead};
use crate::flags;
use crate::id::canonical;
use crate::keys::{as_json, label, lookup, whole};
use crate::node::{Node, Table, Value, merge};
use crate::paper::{self, PaperTable};
use crate::parts::{Parts, toml_files};
use crate::provenance::{self, Origin, Provenance};
use crate::source::Place;
use crate::typed;

/// The scale of an experiment that names none.
const ONLY_SCALE: &str = "default";
/// More seeds than anyone means to train.
const MOST_SEEDS: u64 = 10_000;

/// What the command line says about an experiment.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// `--scale`; else `mini` if the experiment has it, else the first one in the file.
    pub scale: Option<String>,
    /// `--seeds`: seeds 0 to below this; else what the scale or the experiment says, else one seed.
    pub seeds: Option<u64>,
    /// `--set KEY=VALUE`, in order.
    pub set: Vec<String>,
}

/// A question, resolved at one scale.
#[derive(Clone, Debug)]
pub struct Experiment {
    /// The file's name without `.toml`.
    pub name: String,
    /// Its other names, for example `T4`.
    pub aliases: Vec<String>,
    /// The file, as the user would write it.
    pub path: PathBuf,
    pub title: String,
    pub question: String,
    /// The scale of these rows.
    pub scale: String,
    /// All scales of the experiment, in the order of the file.
    pub scales: Vec<String>,
    pub axes: Vec<Axis>,
    /// The product of the axes, the first axis varying slowest; one row if there is no axis.
    pub rows: Vec<Row>,
    /// The row that the others are compared with: the one that is what the experiment is without its
    /// axes, else the first.
    pub reference: usize,
    /// The same of each row: `reference`, unless the cases of an axis say with what they are compared.
    /// A row that is compared with nothing has its own position.
    pub references: Vec<usize>,
    pub seeds: Vec<u64>,
    pub paper: Option<PaperTable>,
    /// The data set of files that the scale is about; none where its data are drawn.
    pub expects: Option<Expected>,
    /// What of the scale is not as it was published.
    pub caveats: Vec<String>,
}

/// An axis and the labels of its values.
#[derive(Clone, Debug, PartialEq)]
pub struct Axis {
    /// The configuration key that varies, or the name of an axis that varies several.
    pub name: String,
    pub labels: Vec<String>,
}

/// One row of the table: a configuration, to be trained once per seed.
#[derive(Clone, Debug)]
pub struct Row {
    /// Label on each axis, by axis name, in axis order.
    pub settings: Vec<(String, String)>,
    /// Complete: the epochs that derive from the budget are filled in.
    pub config: Config,
    /// Origin of every value of `config`.
    pub provenance: Provenance,
}

impl Row {
    /// The settings as one line, for example `loss.gamma = 1.5`.
    pub fn title(&self) -> String {
        let settings = self.settings.iter().map(|(name, label)| format!("{name} = {label}"));
        let settings: Vec<String> = settings.collect();
        if settings.is_empty() { "the only row".into() } else { settings.join(", ") }
    }
}

impl Experiment {
    /// The different values of a key with their origins, each with its rows, counted from 1.
    pub fn values_of(&self, key: &str) -> Vec<(String, Origin, Vec<usize>)> {
        let mut found: Vec<(String, Origin, Vec<usize>)> = Vec::new();
        for (index, row) in self.rows.iter().enumerate() {
            let value = lookup(&whole(&row.config), key).map(label);
            let value = value.unwrap_or_else(|| "absent".into());
            let origin = row.provenance.get(key).cloned().unwrap_or(Origin::Default);
            match found.iter_mut().find(|(v, o, _)| (v, o) == (&value, &origin)) {
                Some((_, _, rows)) => rows.push(index + 1),
                None => found.push((value, origin, vec![index + 1])),
            }
        }
        found
    }
}

/// The names of all experiments, in order.
pub fn names(experiments_dir: &Path) -> Result<Vec<String>, SpecError> {
    let found = toml_files(experiments_dir).map_err(|error| {
        let name = experiments_dir.display();
        let problem =
            Diagnostic::new(format!("cannot read the experiments directory {name}: {error}"));
        SpecError::new(vec![problem], Default::default())
    })?;
    Ok(found.into_iter().map(|name| name.trim_end_matches(".toml").to_owned()).collect())
}

/// Loads an experiment by its name in the directory, or by the path of its file (`....toml`).
///
/// Values win in this order, lowest first: the built-in defaults; what the experiment extends;
/// what the scale extends; the experiment's own keys; the scale's own keys; the axes; `--set`.
/// So a part of a scale shrinks a recipe, an experiment states its differences at every scale, and
/// a scale has the last word in the file. Paths in `extends` are relative to `experiments_dir`.
pub fn load(
    experiments_dir: &Path,
    name_or_path: &str,
    options: &Options,
) -> Result<Experiment, SpecError> {
    let mut parts = Parts::new(experiments_dir);
    resolve(&mut parts, name_or_path, options)
        .map_err(|diagnostics| SpecError::new(diagnostics, parts.sources))
}

fn resolve(
    parts: &mut Parts<'_>,
    name_or_path: &str,
    options: &Options,
) -> Result<Experiment, Vec<Diagnostic>> {
    let one = |error: Diagnostic| vec![error];
    let path = match name_or_path.ends_with(".toml") {
        true => PathBuf::from(name_or_path),
        false => {
            let name = alias::resolve(parts.root, name_or_path).map_err(one)?;
            parts.root.join(format!("{name}.toml"))
        }
    };
    let document = parts.outermost(&path).map_err(one)?;
    let (head_table, own) = split(document.table().cloned().unwrap_or_default(), &HEAD_KEYS);
    let scales = scales(&head_table).map_err(one)?;
    let head_node = Node { value: Value::Table(head_table.clone()), place: document.place };
    let head = head(head_table, document.place).map_err(one)?;
    typed::config(&own).map_err(|error| with_head_keys(error, &own, &HEAD_KEYS)).map_err(one)?;

    let scale = choose(&scales, options.scale.as_deref(), &head_node).map_err(one)?;
    let inherited = parts.extends(&head.extends, head_node.at(&["extends"])).map_err(one)?;
    let mut base = inherited;
    if let Some(scale) = scale {
        merge(
            &mut base,
            parts.extends(&scale.head.extends, scale.node.at(&["extends"])).map_err(one)?,
        );
    }
    merge(&mut base, own);
    if let Some(scale) = scale {
        merge(&mut base, scale.own.clone());
    }

    let axes = match scale.and_then(|scale| Some((scale, scale.head.axis.as_ref()?))) {
        Some((scale, list)) => axes::read(list, scale.node.at(&["axis"]), parts)?,
        None => axes::read(&head.axis, head_node.at(&["axis"]), parts)?,
    };
    let seeds = seeds(options, scale, &head, &head_node).map_err(one)?;
    let flags = flags::read(&options.set, &mut parts.sources).map_err(one)?;
    flags::keep_off(&axes, &flags).map_err(one)?;
    let rows = rows(&base, &axes, &flags, document.place, parts)?;
    let (reference, references) = match axes::references(&axes) {
        Some(references) => (references.first().copied().unwrap_or(0), references),
        None => {
            let reference = reference(base, flags, &rows);
            (reference, vec![reference; rows.len()])
        }
    };
    let of_scale = scale.and_then(|scale| Some((scale.head.paper.as_ref()?, &scale.node)));
    let paper = of_scale.or_else(|| Some((head.paper.as_ref()?, &head_node)));
    let paper = paper.map(|(paper, node)| paper::published(paper, node, &rows, parts));
    let paper = paper.transpose().map_err(one)?;
    Ok(Experiment {
        name: path.file_stem().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default(),
        aliases: head.alias,
        path,
        title: head.title,
        question: head.question,
        scale: scale.map_or_else(|| ONLY_SCALE.to_owned(), |scale| scale.name.clone()),
        scales: scales.iter().map(|scale| scale.name.clone()).collect(),
        axes: axes.iter().map(public_axis).collect(),
        rows,
        reference,
        references,
        seeds,
        paper,
        expects: scale.and_then(|scale| scale.head.expects),
        caveats: scale.map(|scale| scale.head.caveats.clone()).unwrap_or_default(),
    })
}

fn public_axis(axis: &Varied) -> Axis {
    let labels = axis.choices.iter().map(|choice| choice.label.clone()).collect();
    Axis { name: axis.name.clone(), labels }
}

/// Separates the keys of a file's own from those of the configuration.
fn split(mut table: Table, names: &[&str]) -> (Table, Table) {
    let head = names.iter().filter_map(|name| table.remove_entry(*name)).collect();
    (head, table)
}

/// The head, without the scales, which are read one by one.
fn head(mut table: Table, place: Place) -> Result<Head, Diagnostic> {
    table.remove("scales");
    typed::read_table(&table, place)
}

/// An unknown key at the top may have been meant for the head.
fn with_head_keys(error: Diagnostic, own: &Table, names: &[&str]) -> Diagnostic {
    let Some((place, label)) = error.primary.clone() else { return error };
    let written = own.iter().find(|(_, entry)| entry.key == place).map(|(name, _)| name);
    match written.and_then(|written| nearest(written, names)) {
        Some(name) => {
            Diagnostic::new(error.title).at(place, label).help(format!("did you mean `{name}`?"))
        }
        None => error,
    }
}

/// One `[scales.NAME]`.
struct Scale {
    name: String,
    node: Node,
    head: ScaleHead,
    own: Table,
}

/// All scales, in the order of the file.
fn scales(head: &Table) -> Result<Vec<Scale>, Diagnostic> {
    let Some(entry) = head.get("scales") else { return Ok(Vec::new()) };
    let Some(table) = entry.node.table() else {
        return Err(Diagnostic::new("wrong value for `scales`")
            .at(entry.node.place, "expected tables such as `[scales.mini]`"));
    };
    let mut found = Vec::new();
    for (name, entry) in table {
        let Some(scale) = entry.node.table() else {
            let title = format!("wrong value for `scales.{name}`");
            let found = entry.node.describe();
            return Err(Diagnostic::new(title)
                .at(entry.node.place, format!("expected a table, found {found}")));
        };
        let (scale_head, own) = split(scale.clone(), &SCALE_KEYS);
        let scale_head = typed::read_table(&scale_head, entry.node.place)?;
        typed::config(&own).map_err(|error| with_head_keys(error, &own, &SCALE_KEYS))?;
        found.push((
            entry.key,
            Scale { name: name.clone(), node: entry.node.clone(), head: scale_head, own },
        ));
    }
    found.sort_by_key(|(place, _)| *place);
    Ok(found.into_iter().map(|(_, scale)| scale).collect())
}

fn choose<'a>(
    scales: &'a [Scale],
    asked: Option<&str>,
    head: &Node,
) -> Result<Option<&'a Scale>, Diagnostic> {
    let find = |name: &str| scales.iter().find(|scale| scale.name == name);
    let Some(asked) = asked else { return Ok(find("mini").or(scales.first())) };
    if let Some(scale) = find(asked) {
        return Ok(Some(scale));
    }
    if scales.is_empty() && asked == ONLY_SCALE {
        return Ok(None);
    }
    let names: Vec<&str> = scales.iter().map(|scale| scale.name.as_str()).collect();
    let problem = Diagnostic::new(format!("there is no scale `{asked}`")).suggest(asked, &names);
    Err(match head.at(&["scales"]) {
        Some(node) => problem.at(node.place, "the scales of this experiment"),
        None => problem.note("this experiment has no scales"),
    })
}

fn seeds(
    options: &Options,
    scale: Option<&Scale>,
    head: &Head,
    node: &Node,
) -> Result<Vec<u64>, Diagnostic> {
    let of_scale = scale.and_then(|scale| Some((scale.head.seeds.as_ref()?, &scale.node)));
    let of_file = of_scale.or_else(|| Some((head.seeds.as_ref()?, node)));
    let expected = format!("expected 1 to {MOST_SEEDS}");
    let (count, place) = match (options.seeds, of_file) {
        (Some(count), _) => (count, None),
        (None, Some((seeds, node))) => (seeds.count, node.at(&["seeds", "count"]).map(|n| n.place)),
        (None, None) => (1, None),
    };
    if !(1..=MOST_SEEDS).contains(&count) {
        let title = if count == 0 { "nothing to train with zero seeds" } else { "too many seeds" };
        return Err(match place {
            Some(place) => Diagnostic::new(title).at(place, format!("{expected}, found {count}")),
            None => Diagnostic::new(format!("{title}: {expected}, found --seeds {count}")),
        });
    }
    Ok((0..count).collect())
}

/// Resolves every row, or says everything that is wrong with any of them.
fn rows(
    base: &Table,
    axes: &[Varied],
    flags: &Table,
    place: Place,
    parts: &Parts<'_>,
) -> Result<Vec<Row>, Vec<Diagnostic>> {
    let mut rows: Vec<Row> = Vec::new();
    let mut wrong = Vec::new();
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    for choices in axes::product(axes) {
        let mut table = base.clone();
        for choice in &choices {
            merge(&mut table, choice.table.clone());
        }
        merge(&mut table, flags.clone());
        let mut config = match typed::config(&table) {
            Ok(config) => config,
            Err(error) => {
                wrong.push(error);
                continue;
            }
        };
        let merged = Node { value: Value::Table(table), place };
        let violations = checks::check(&config);
        if !violations.is_empty() {
            wrong.extend(violations.into_iter().map(|violation| located(violation, &merged)));
            continue;
        }
        fill_in_epochs(&mut config);
        let settings = axes.iter().zip(&choices);
        let settings = settings.map(|(axis, choice)| (axis.name.clone(), choice.label.clone()));
        let provenance = provenance::of(&config, &merged, &parts.sources);
        let row = Row { settings: settings.collect(), config, provenance };
        if let Some(first) = seen.insert(canonical(&as_json(&row.config)), rows.len()) {
            wrong.push(twins(&rows[first], &row, &choices));
        }
        rows.push(row);
    }
    if wrong.is_empty() { Ok(rows) } else { Err(wrong) }
}

/// Writes the epochs that derive from the budget into the configuration.
pub(crate) fn fill_in_epochs(config: &mut Config) {
    let phases = config.phases();
    config.schedule.flat_epoch = Some(phases.flat);
    config.schedule.stop_epoch = Some(phases.stop);
}

/// The row that equals the configuration without the axes; the first where none does.
fn reference(base: Table, flags: Table, rows: &[Row]) -> usize {
    let mut table = base;
    merge(&mut table, flags);
    // Without its axes an experiment need not make sense; then no row is what it is without them.
    let Ok(mut config) = typed::config(&table) else { return 0 };
    fill_in_epochs(&mut config);
    rows.iter().position(|row| row.config == config).unwrap_or(0)
}

/// Two rows with one configuration would be one cell under two labels.
fn twins(first: &Row, second: &Row, choices: &[&Choice]) -> Diagnostic {
    let title = format!("`{}` is the same configuration as `{}`", second.title(), first.title());
    let place = choices.last().map(|choice| choice.place);
    Diagnostic::new(title).at_some(place, "expected rows that differ")
}

/// Points a broken rule at the keys that were written; the others are built-in defaults.
pub(crate) fn located(violation: checks::Violation, merged: &Node) -> Diagnostic {
    let mut diagnostic = Diagnostic::new(violation.title);
    for (path, label) in violation.keys {
        diagnostic = match provenance::place_of(merged, &path) {
            Some(place) if diagnostic.primary.is_none() => diagnostic.at(place, label),
            Some(place) => diagnostic.context(place, label),
            None => diagnostic.note(format!("{label} (`{path}` is a built-in default)")),
        };
    }
    diagnostic.help.extend(violation.help);
    diagnostic
}
