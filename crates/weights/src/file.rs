//! An open weight file: what is in it, and the values of each tensor on demand.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::error::{FileError, Problem, broken, refused, unsupported};
use crate::layout::{self, Layout};
use crate::legacy::{self, Legacy};
use crate::pickle::Item;
use crate::safetensors_file;
use crate::source::Source;
use crate::tensor::{Dtype, Tensor, View};
use crate::torch::{self, Zip};

/// How a file is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// `torch.save` since PyTorch 1.6.
    TorchZip,
    /// `torch.save` before.
    TorchLegacy,
    Safetensors,
}

impl Format {
    pub fn name(self) -> &'static str {
        match self {
            Self::TorchZip => "PyTorch (zip)",
            Self::TorchLegacy => "PyTorch (before 1.6)",
            Self::Safetensors => "safetensors",
        }
    }
}

/// The sets of weights that a checkpoint may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// The moving average: what is evaluated and published. Loading prefers it.
    Ema,
    /// The weights that training moves.
    Model,
}

impl Part {
    pub fn name(self) -> &'static str {
        match self {
            Self::Ema => "ema",
            Self::Model => "model",
        }
    }
}

/// A tensor of a file: what it is and where it lies.
#[derive(Clone, Debug)]
pub struct Entry {
    pub dtype: Dtype,
    pub shape: Vec<usize>,
    pub(crate) place: Place,
}

impl Entry {
    /// How many numbers it has.
    pub fn count(&self) -> u64 {
        let sides = self.shape.iter().map(|&side| side as u64);
        if self.shape.contains(&0) { 0 } else { sides.fold(1, u64::saturating_mul) }
    }
}

#[derive(Clone, Debug)]
pub(crate) enum Place {
    Storage { key: String, view: View },
    Bytes { start: u64, length: u64 },
}

/// Tensors by their official names.
pub type Entries = BTreeMap<String, Entry>;

/// What an optimizer remembers of a parameter: a tensor, or a number.
#[derive(Clone, Debug)]
pub enum Moment {
    Tensor(Entry),
    Number(f64),
}

/// The optimizer of a training checkpoint.
#[derive(Clone, Debug, Default)]
pub struct Optimizer {
    /// By the parameter's index, counted group by group, and by what it is: `step`, `exp_avg`, ...
    pub state: BTreeMap<u64, BTreeMap<String, Moment>>,
    pub groups: Vec<OptimizerGroup>,
}

/// A group of parameters with common settings.
#[derive(Clone, Debug, Default)]
pub struct OptimizerGroup {
    /// Settings that are numbers: `lr`, `weight_decay`, ...
    pub numbers: BTreeMap<String, f64>,
    pub parameters: Vec<u64>,
}

/// An open weight file.
#[derive(Debug)]
pub struct WeightFile {
    pub path: PathBuf,
    pub format: Format,
    pub layout: Layout,
    pub parts: BTreeMap<Part, Entries>,
    pub optimizer: Option<Optimizer>,
    /// Numbers beside the weights, by their path: `last_epoch`, `ema.updates`, ...
    pub numbers: BTreeMap<String, f64>,
    /// The outermost keys in the order of writing, with what is there; empty for plain files.
    pub top_level: Vec<(String, String)>,
    /// Tensors that belong to no part.
    pub others: Entries,
    /// What was left aside and why, with counts.
    pub notes: BTreeMap<String, u64>,
    store: Store,
}

#[derive(Debug)]
enum Store {
    Zip(Zip),
    Legacy(Legacy),
    Plain(Source),
}

/// Tensors that share a storage, as model and average may, make a file hold more than its length; not without end.
const MOST_OF_LENGTH: u64 = 4;
/// The largest models have 5000 tensors with their optimizer.
pub(crate) const MAX_TENSORS: usize = 20_000;

/// Opens a `.pth` or safetensors file; what it is follows from its first bytes, not from its name.
pub fn open(path: &Path) -> Result<WeightFile, FileError> {
    let failed = |problem| FileError { path: path.to_owned(), problem };
    let source = Source::open(path).map_err(failed)?;
    from_source(path, source).map_err(failed)
}

/// The file with these bytes.
pub(crate) fn from_source(path: &Path, source: Source) -> Result<WeightFile, Problem> {
    let head = source.read(0, source.length().min(16))?;
    let (format, store, contents) = if head.starts_with(b"PK\x03\x04") {
        let (pickle, zip) = torch::read(source)?;
        let contents = layout::of_pickle(Item::root(&pickle), &pickle.opaque)?;
        (Format::TorchZip, Store::Zip(zip), contents)
    } else if head.starts_with(&legacy::MAGIC) {
        let (pickle, legacy) = legacy::read(source)?;
        let contents = layout::of_pickle(Item::root(&pickle), &pickle.opaque)?;
        (Format::TorchLegacy, Store::Legacy(legacy), contents)
    } else if safetensors_file::starts_like(&head) {
        let (entries, metadata) = safetensors_file::read(&source)?;
        (Format::Safetensors, Store::Plain(source), layout::of_names(entries, &metadata)?)
    } else {
        return unsupported(
            "neither a PyTorch file (.pth, as torch.save writes it) nor a safetensors file",
        );
    };
    let layout::Contents { layout, parts, optimizer, numbers, top_level, others, notes } = contents;
    let file = WeightFile {
        path: path.to_owned(),
        format,
        layout,
        parts,
        optimizer,
        numbers,
        top_level,
        others,
        notes,
        store,
    };
    file.check()?;
    Ok(file)
}

impl WeightFile {
    /// The weights that count: the average where there is one.
    pub fn best(&self) -> Option<(Part, &Entries)> {
        self.parts.iter().next().map(|(&part, entries)| (part, entries))
    }

    /// The numbers of a tensor.
    pub fn read(&self, entry: &Entry) -> Result<Tensor, FileError> {
        let failed = |problem| FileError { path: self.path.clone(), problem };
        self.fetch(entry).map_err(failed)
    }

    /// All tensors of a part, by their official names.
    pub fn tensors(&self, entries: &Entries) -> Result<BTreeMap<String, Tensor>, FileError> {
        entries.iter().map(|(name, entry)| Ok((name.clone(), self.read(entry)?))).collect()
    }

    fn fetch(&self, entry: &Entry) -> Result<Tensor, Problem> {
        let size = entry.dtype.size();
        let bytes = match (&entry.place, &self.store) {
            (Place::Bytes { start, length }, Store::Plain(source)) => {
                source.read(*start, *length)?
            }
            (Place::Storage { key, view }, store) => {
                let Some((start, length)) = view.bytes(size) else {
                    return broken("a tensor larger than any memory");
                };
                let span = match store {
                    Store::Zip(zip) => zip.fetch(key, start, length, size as usize)?,
                    Store::Legacy(legacy) => legacy.fetch(key, start, length)?,
                    Store::Plain(_) => return broken("a tensor without a storage"),
                };
                view.gather(span, size as usize)
            }
            (Place::Bytes { .. }, _) => return broken("a tensor without a place"),
        };
        Ok(Tensor { dtype: entry.dtype, shape: entry.shape.clone(), bytes })
    }

    /// Every tensor of the file, whatever it belongs to.
    pub fn all(&self) -> impl Iterator<Item = &Entry> {
        let state = self.optimizer.iter().flat_map(|optimizer| optimizer.state.values());
        let moments =
            state.flat_map(|moments| moments.values()).filter_map(|moment| match moment {
                Moment::Tensor(entry) => Some(entry),
                Moment::Number(_) => None,
            });
        let parts = self.parts.values().chain([&self.others]);
        parts.flat_map(|entries| entries.values()).chain(moments)
    }

    /// What the file says of itself against what it is, before anyone asks for memory.
    fn check(&self) -> Result<(), Problem> {
        if self.all().count() > MAX_TENSORS {
            return refused(format!("more than {MAX_TENSORS} tensors"));
        }
        let length = match &self.store {
            Store::Zip(zip) => zip.length(),
            Store::Legacy(legacy) => legacy.length(),
            Store::Plain(source) => source.length(),
        };
        let most = length.saturating_mul(MOST_OF_LENGTH);
        let mut total = 0_u64;
        for entry in self.all() {
            total = total.saturating_add(entry.count().saturating_mul(entry.dtype.size()));
            if total > most {
                return refused(format!(
                    "the tensors are declared with more than {MOST_OF_LENGTH} times the {length} \
                     bytes of the file"
                ));
            }
            let Place::Storage { key, view } = &entry.place else { continue };
            let held = match &self.store {
                Store::Zip(zip) => zip.storage_bytes(key),
                Store::Legacy(legacy) => legacy.storage_bytes(key),
                Store::Plain(_) => None,
            };
            let end =
                view.bytes(entry.dtype.size()).and_then(|(start, span)| start.checked_add(span));
            match (held, end) {
                (Some(held), Some(end)) if end <= held => {}
                _ => {
                    let held = held.map_or("missing".into(), |held| format!("{held} bytes long"));
                    return broken(format!("storage `{key}` is {held}, a tensor needs more"));
                }
            }
        }
        Ok(())
    }
}
