//! Which of the known arrangements a file has, and where its weights are.

use std::collections::{BTreeMap, BTreeSet};

use crate::error::{Problem, refused, unsupported};
use crate::file::{Entries, Entry, MAX_TENSORS, Moment, Optimizer, OptimizerGroup, Part, Place};
use crate::pickle::{Item, Node};

/// The arrangements met in practice (the reference's FORMAT.md 3.10).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// `model`, `ema.module`, `optimizer`, `last_epoch`, ...: what training writes.
    Training,
    /// `{model: ...}`: a converted release, which holds the average.
    Released,
    /// `{ema: {module: ...}}`.
    Average,
    /// `{state_dict: ...}`.
    Nested,
    /// Names and tensors, nothing around them.
    Plain,
    /// The same of a backbone alone: names without `backbone.` in front.
    Backbone,
    /// A run's own checkpoint: `model.`, `ema.` and `optimizer.` in front of the names.
    Run,
}

impl Layout {
    /// What it is, in words.
    pub fn name(self) -> &'static str {
        match self {
            Self::Training => "training checkpoint (model, ema.module, optimizer)",
            Self::Released => "released weights (model)",
            Self::Average => "averaged weights (ema.module)",
            Self::Nested => "weights under state_dict",
            Self::Plain => "plain state dict",
            Self::Backbone => "backbone alone",
            Self::Run => "checkpoint of a run (model., ema., optimizer.)",
        }
    }
}

/// What a file holds, in the common terms of all arrangements.
#[derive(Debug)]
pub struct Contents {
    pub layout: Layout,
    pub parts: BTreeMap<Part, Entries>,
    pub optimizer: Option<Optimizer>,
    pub numbers: BTreeMap<String, f64>,
    pub top_level: Vec<(String, String)>,
    pub others: Entries,
    pub notes: BTreeMap<String, u64>,
}

impl Contents {
    fn new(layout: Layout) -> Self {
        Self {
            layout,
            parts: BTreeMap::new(),
            optimizer: None,
            numbers: BTreeMap::new(),
            top_level: Vec::new(),
            others: Entries::new(),
            notes: BTreeMap::new(),
        }
    }
}

/// Names of parameters are some 80 characters long.
const LONGEST_NAME: usize = 512;
/// Outermost keys that a message or a listing shows.
const SHOWN_KEYS: usize = 40;

/// What a PyTorch file holds.
pub fn of_pickle(root: Item<'_>, opaque: &BTreeSet<String>) -> Result<Contents, Problem> {
    let Some(entries) = root.entries() else {
        return unsupported(match root.node() {
            Node::Opaque(class) => format!(
                "a whole Python object of class `{class}`, not weights; save its state_dict() instead"
            ),
            other => format!("expected a state dict or a checkpoint, found {}", other.kind()),
        });
    };
    let top: Vec<(&str, Item<'_>)> =
        entries.filter_map(|(key, value)| Some((key.text()?, value))).collect();
    let dictionary = |item: &Item<'_>| item.entries().is_some();
    let average = root.get("ema").and_then(|ema| ema.get("module")).filter(dictionary);
    let model = root.get("model").filter(dictionary);
    let nested = root.get("state_dict").filter(dictionary);
    let optimizer = root.get("optimizer").filter(dictionary);
    let layout = match (average, model, nested) {
        (Some(_), Some(_), _) => Layout::Training,
        (None, Some(_), _) if optimizer.is_some() => Layout::Training,
        (None, Some(_), _) => Layout::Released,
        (Some(_), None, _) => Layout::Average,
        (None, None, Some(_)) => Layout::Nested,
        (None, None, None) => Layout::Plain,
    };
    let mut reader = Reader { left: MAX_TENSORS, contents: Contents::new(layout) };
    for class in opaque {
        reader.note(format!("objects of `{class}`, which nothing looked into"));
    }
    if layout == Layout::Plain {
        if !top.iter().any(|(_, value)| value.tensor().is_some()) {
            let keys: Vec<&str> = top.iter().map(|&(key, _)| short(key)).take(SHOWN_KEYS).collect();
            return unsupported(format!(
                "no weights: expected a state dict, or one under `ema.module`, `model` or \
                 `state_dict`; found the keys {keys:?}"
            ));
        }
        let entries = reader.state_dict(root)?;
        return Ok(reader.plain(entries));
    }
    for (part, state_dict) in [(Part::Ema, average), (Part::Model, model.or(nested))] {
        if let Some(state_dict) = state_dict {
            let entries = reader.state_dict(state_dict)?;
            reader.contents.parts.insert(part, entries);
        }
    }
    if let Some(optimizer) = optimizer {
        reader.contents.optimizer = Some(reader.optimizer(optimizer)?);
    }
    for &(key, value) in top.iter().take(SHOWN_KEYS) {
        reader.contents.top_level.push((short(key).to_owned(), describe(value)));
        if let Some(number) = value.number() {
            reader.contents.numbers.insert(short(key).to_owned(), number);
        }
        if ["model", "state_dict"].contains(&key) {
            continue;
        }
        let inner = value.entries().into_iter().flatten().take(SHOWN_KEYS);
        for (name, value) in inner {
            if let (Some(name), Some(number)) = (name.text(), value.number()) {
                let path = format!("{}.{}", short(key), short(name));
                reader.contents.numbers.insert(path, number);
            }
        }
    }
    Ok(reader.contents)
}

/// What a safetensors file holds.
pub fn of_names(
    entries: Entries,
    metadata: &BTreeMap<String, String>,
) -> Result<Contents, Problem> {
    let prefixes = [("ema.module.", Part::Ema), ("ema.", Part::Ema), ("model.", Part::Model)];
    let place = |name: &str| {
        prefixes
            .iter()
            .find_map(|&(prefix, part)| Some((part, name.strip_prefix(prefix)?.to_owned())))
    };
    let of_detector =
        |name: &String| place(name).is_some_and(|(_, rest)| rest.starts_with("backbone."));
    let reader = |layout| Reader { left: MAX_TENSORS, contents: Contents::new(layout) };
    if !metadata.contains_key("state") && !entries.keys().any(of_detector) {
        return Ok(reader(Layout::Plain).plain(entries));
    }
    let mut contents = Contents::new(Layout::Run);
    for (name, entry) in entries {
        match place(&name) {
            Some((part, name)) => contents.parts.entry(part).or_default().insert(name, entry),
            None => contents.others.insert(name, entry),
        };
    }
    Ok(contents)
}

struct Reader {
    /// Entries that may still be looked at: shared dictionaries could multiply without end.
    left: usize,
    contents: Contents,
}

impl Reader {
    fn note(&mut self, what: String) {
        *self.contents.notes.entry(what).or_default() += 1;
    }

    fn count(&mut self) -> Result<(), Problem> {
        match self.left.checked_sub(1) {
            Some(left) => {
                self.left = left;
                Ok(())
            }
            None => refused(format!("more than {MAX_TENSORS} tensors")),
        }
    }

    /// The tensors of a state dict by their names, without the `module.` of a parallel wrapper.
    fn state_dict(&mut self, state_dict: Item<'_>) -> Result<Entries, Problem> {
        let mut entries = Entries::new();
        for (key, value) in state_dict.entries().into_iter().flatten() {
            self.count()?;
            match (key.text(), value.tensor()) {
                (Some(name), _) if name.len() > LONGEST_NAME => {
                    return refused(format!("a name of {} bytes", name.len()));
                }
                (Some(name), Some(_)) => {
                    entries.insert(name.to_owned(), entry(value)?);
                }
                _ => self.note("entries of a state dict that are no tensors".into()),
            }
        }
        Ok(without(entries, "module."))
    }

    /// The only part of a file that has nothing around it.
    fn plain(mut self, entries: Entries) -> Contents {
        let mut entries = without(entries, "module.");
        let starts = |starts: &[&str]| {
            entries.keys().any(|name| starts.iter().any(|start| name.starts_with(start)))
        };
        let bare = starts(&["stem.", "stages.", "conv1.", "res_layers."]);
        if bare && !starts(&["backbone.", "encoder.", "decoder."]) {
            self.contents.layout = Layout::Backbone;
            entries = entries
                .into_iter()
                .map(|(name, entry)| (format!("backbone.{name}"), entry))
                .collect();
        }
        self.contents.parts.insert(Part::Model, entries);
        self.contents
    }

    fn optimizer(&mut self, optimizer: Item<'_>) -> Result<Optimizer, Problem> {
        let mut found = Optimizer::default();
        let state = optimizer.get("state").and_then(Item::entries);
        for (index, moments) in state.into_iter().flatten() {
            let Some(index) = index.int().and_then(|index| u64::try_from(index).ok()) else {
                self.note("optimizer states without an index".into());
                continue;
            };
            let mut of_parameter = BTreeMap::new();
            for (name, value) in moments.entries().into_iter().flatten() {
                self.count()?;
                let moment = match (value.tensor(), value.number()) {
                    (Some(_), _) => Moment::Tensor(entry(value)?),
                    (None, Some(number)) => Moment::Number(number),
                    (None, None) => continue,
                };
                if let Some(name) = name.text() {
                    of_parameter.insert(short(name).to_owned(), moment);
                }
            }
            found.state.insert(index, of_parameter);
        }
        let groups = optimizer.get("param_groups").and_then(Item::values);
        for group in groups.into_iter().flatten() {
            let mut settings = OptimizerGroup::default();
            for (name, value) in group.entries().into_iter().flatten() {
                self.count()?;
                if let (Some(name), Some(number)) = (name.text(), value.number()) {
                    settings.numbers.insert(short(name).to_owned(), number);
                }
            }
            let parameters = group.get("params").and_then(Item::values);
            for parameter in parameters.into_iter().flatten() {
                self.count()?;
                let index = parameter.int().and_then(|index| u64::try_from(index).ok());
                settings.parameters.extend(index);
            }
            found.groups.push(settings);
        }
        Ok(found)
    }
}

fn entry(value: Item<'_>) -> Result<Entry, Problem> {
    let Some(stored) = value.tensor() else {
        return unsupported("a tensor expected");
    };
    let sides = stored.view.shape.iter().map(|&side| usize::try_from(side));
    let Ok(shape) = sides.collect::<Result<Vec<usize>, _>>() else {
        return unsupported("larger than this machine's address space");
    };
    let place = Place::Storage { key: stored.key.clone(), view: stored.view.clone() };
    Ok(Entry { dtype: stored.dtype, shape, place })
}

/// The same names without a prefix that all of them have.
fn without(entries: Entries, prefix: &str) -> Entries {
    if !entries.keys().all(|name| name.starts_with(prefix)) {
        return entries;
    }
    let strip = |(name, entry): (String, Entry)| match name.strip_prefix(prefix) {
        Some(rest) => (rest.to_owned(), entry),
        None => (name, entry),
    };
    entries.into_iter().map(strip).collect()
}

/// At most so much of a text as a listing has room for.
fn short(text: &str) -> &str {
    let mut end = text.len().min(100);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// A value in some words.
fn describe(value: Item<'_>) -> String {
    match value.node() {
        Node::Dict(entries) => format!("{} entries", entries.len()),
        Node::List(values) | Node::Tuple(values) => format!("{} values", values.len()),
        Node::Int(value) => value.to_string(),
        Node::Float(value) => value.to_string(),
        Node::Bool(value) => value.to_string(),
        Node::Text(text) => format!("'{}'", short(text)),
        other => short(&other.kind()).to_owned(),
    }
}
