//! Which splits of a data set of files to train on and to measure on.

use std::path::Path;
use std::sync::Arc;

use super::error::ReadError;
use super::findings::Kind;
use super::index::Index;
use super::{Options, RealDataset, phase, read};
use crate::dataset::Splits;
use crate::place::{Place, SplitPlace};

/// Half of an experiment, and the phases of the splits that can be it, the likeliest first.
struct Purpose {
    does: &'static str,
    option: &'static str,
    phases: &'static [&'static str],
}

const TRAIN: Purpose = Purpose { does: "train on", option: "train", phases: &["train"] };
const VAL: Purpose = Purpose { does: "measure on", option: "val", phases: &["val", "test"] };

/// Reads the data set that lies there, and refuses what would spoil a run.
pub fn open(place: &Place) -> Result<Splits, ReadError> {
    let root = &place.folder;
    if place.train.is_empty() && place.val.is_empty() {
        let options = Options { format: place.format, ..Options::default() };
        return pair(root, read(root, &options)?.splits);
    }
    together(one(place, &place.train, &TRAIN)?, one(place, &place.val, &VAL)?)
}

/// Reads only the split to measure on.
pub fn open_val(place: &Place) -> Result<RealDataset, ReadError> {
    RealDataset::open(one(place, &place.val, &VAL)?)
}

/// One split, about which the user may have said something.
fn one(place: &Place, split: &SplitPlace, purpose: &Purpose) -> Result<Index, ReadError> {
    let options = Options {
        format: place.format,
        images: split.images.clone(),
        annotations: split.annotations.clone(),
    };
    let mut splits = read(&place.folder, &options)?.splits;
    match splits.len() {
        // Whatever it is called: the user pointed at it.
        1 if split.annotations.is_some() => Ok(splits.remove(0)),
        _ => {
            let names = names(&splits.iter().collect::<Vec<_>>());
            choose(&place.folder, &mut splits, &names, purpose)
        }
    }
}

/// The splits to train on and to measure on: `train*`, and `val*` or else `test*`.
pub fn pair(root: &Path, mut splits: Vec<Index>) -> Result<Splits, ReadError> {
    let names = names(&splits.iter().collect::<Vec<_>>());
    let train = choose(root, &mut splits, &names, &TRAIN)?;
    let val = choose(root, &mut splits, &names, &VAL)?;
    together(train, val)
}

/// Takes the split that is called as its purpose asks for. Two that are called alike are a question
/// for the user, unless one of them has the plain name.
fn choose(
    root: &Path,
    splits: &mut Vec<Index>,
    all: &str,
    purpose: &Purpose,
) -> Result<Index, ReadError> {
    for wanted in purpose.phases {
        let of_phase = |index: &&Index| phase(&index.split) == Some(*wanted);
        let found: Vec<&Index> = splits.iter().filter(of_phase).collect();
        let plain = found.iter().find(|index| index.split.eq_ignore_ascii_case(wanted));
        let chosen = match (plain, found.as_slice()) {
            (_, []) => continue,
            (Some(plain), _) => plain,
            (None, [only]) => only,
            (None, several) => {
                return Err(ReadError::SeveralSplits {
                    root: root.to_owned(),
                    purpose: purpose.does,
                    option: purpose.option,
                    found: names(several),
                });
            }
        };
        let at = splits.iter().position(|index| std::ptr::eq(index, *chosen)).unwrap_or_default();
        return Ok(splits.remove(at));
    }
    let wanted = purpose.phases.join("` or `");
    Err(ReadError::NoSplit {
        root: root.to_owned(),
        wanted,
        option: purpose.option,
        found: all.to_owned(),
    })
}

fn names(of: &[&Index]) -> String {
    let names: Vec<&str> = of.iter().map(|index| index.split.as_str()).collect();
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}

fn together(train: Index, val: Index) -> Result<Splits, ReadError> {
    if !train.same_categories(&val) {
        return Err(ReadError::Spoiled {
            annotations: val.annotations,
            kind: Kind::SplitCategories,
            count: 1,
            example: format!("{} and {}", train.split, val.split),
        });
    }
    Ok(Splits {
        train: Arc::new(RealDataset::open(train)?),
        val: Arc::new(RealDataset::open(val)?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::readers::{Category, Format};

    fn split(name: &str) -> Index {
        let mut index = Index::new(Format::Coco, name, Path::new(name), Path::new("images"));
        index.categories = vec![Category { id: 1, name: "cat".into() }];
        index
    }

    fn chosen(names: &[&str], purpose: &Purpose) -> Result<String, String> {
        let mut splits: Vec<Index> = names.iter().map(|name| split(name)).collect();
        let chosen = choose(Path::new("data"), &mut splits, &names.join(", "), purpose);
        chosen.map(|index| index.split).map_err(|error| error.to_string())
    }

    #[test]
    fn the_plain_name_is_chosen_and_anything_ambiguous_is_asked() {
        let train = |names: &[&str]| chosen(names, &TRAIN);
        assert_eq!(train(&["val", "train2017"]), Ok("train2017".into()));
        assert_eq!(train(&["train_small", "train", "trainval"]), Ok("train".into()));
        let error = train(&["VOC2007-train", "VOC2012-train", "val"]).unwrap_err();
        assert!(error.contains("VOC2007-train, VOC2012-train; name"), "{error}");
        assert!(error.contains("--train-annotations"), "{error}");
        let error = train(&["all"]).unwrap_err();
        assert!(error.contains("expected a split called `train`, found all"), "{error}");
    }

    #[test]
    fn a_test_split_is_measured_on_only_where_there_is_no_validation_split() {
        assert_eq!(chosen(&["train", "test", "val2017"], &VAL), Ok("val2017".into()));
        assert_eq!(chosen(&["train", "test"], &VAL), Ok("test".into()));
    }
}
