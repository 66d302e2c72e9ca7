//! The ten official detectors: their model parts, their two recipes each, their published numbers.
//!
//! What they are made of is in `experiments/models` and `experiments/recipes/official`, which the
//! binary carries ([`crate::embedded`]), so that no folder is needed to name a detector.

use std::path::Path;

use serde::Deserialize;

use crate::checks;
use crate::config::Config;
use crate::embedded;
use crate::error::{Diagnostic, SpecError};
use crate::experiment::{fill_in_epochs, located};
use crate::flags;
use crate::node::{Node, Value, merge};
use crate::paper::{self, PaperRow};
use crate::parts::Parts;
use crate::typed;

pub use crate::config::DecoderKind as Family;

/// One of the ten detectors that the paper trains.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Official {
    /// Its short name, for example `r50_m`.
    pub name: &'static str,
    /// Its name in the paper, for example `RT-DETRv2-R50-m`.
    pub title: &'static str,
    pub family: Family,
    /// Its model part, relative to the experiments directory.
    pub part: &'static str,
    /// The recipe of DEIM and that of the detector's own authors.
    recipes: [&'static str; 2],
}

/// Whose recipe a detector is trained by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recipe {
    /// Dense O2O and MAL.
    Deim,
    /// As D-FINE and RT-DETRv2 were trained before.
    Baseline,
}

impl Recipe {
    pub const BOTH: [Self; 2] = [Self::Deim, Self::Baseline];
}

macro_rules! official {
    ($name:literal, $title:literal, $family:ident, $file:literal) => {
        Official {
            name: $name,
            title: $title,
            family: Family::$family,
            part: concat!("models/", $file, ".toml"),
            recipes: [
                concat!("recipes/official/deim-", $file, ".toml"),
                concat!("recipes/official/baseline-", $file, ".toml"),
            ],
        }
    };
}

const MODELS: [Official; 10] = [
    official!("n", "D-FINE-N", Dfine, "dfine-n"),
    official!("s", "D-FINE-S", Dfine, "dfine-s"),
    official!("m", "D-FINE-M", Dfine, "dfine-m"),
    official!("l", "D-FINE-L", Dfine, "dfine-l"),
    official!("x", "D-FINE-X", Dfine, "dfine-x"),
    official!("r18", "RT-DETRv2-R18", Rtdetrv2, "rtdetrv2-r18"),
    official!("r34", "RT-DETRv2-R34", Rtdetrv2, "rtdetrv2-r34"),
    official!("r50_m", "RT-DETRv2-R50-m", Rtdetrv2, "rtdetrv2-r50-m"),
    official!("r50", "RT-DETRv2-R50", Rtdetrv2, "rtdetrv2-r50"),
    official!("r101", "RT-DETRv2-R101", Rtdetrv2, "rtdetrv2-r101"),
];

/// All ten, D-FINE first, smaller ones first.
pub fn models() -> &'static [Official] {
    &MODELS
}

/// A detector by its short name.
pub fn model(name: &str) -> Option<&'static Official> {
    MODELS.iter().find(|official| official.name == name)
}

impl Official {
    /// The complete configuration of a training by one of the two recipes.
    pub fn config(&self, recipe: Recipe) -> Result<Config, SpecError> {
        self.config_with(recipe, &[])
    }

    /// The same with keys that `--set KEY=VALUE` sets.
    pub fn config_with(&self, recipe: Recipe, set: &[String]) -> Result<Config, SpecError> {
        resolve(self.recipe_path(recipe), set)
    }

    /// The model part alone, in the DEIM flavour; all else is a built-in default.
    pub fn architecture(&self) -> Result<Config, SpecError> {
        resolve(self.part, &[])
    }

    /// A recipe's file, relative to the experiments directory.
    pub fn recipe_path(&self, recipe: Recipe) -> &'static str {
        match recipe {
            Recipe::Deim => self.recipes[0],
            Recipe::Baseline => self.recipes[1],
        }
    }

    /// What was published about the detector.
    pub fn published(&self) -> Result<Published, SpecError> {
        let mut parts = Parts::embedded();
        let settings = [("model".to_owned(), self.title.to_owned())];
        let found = paper::read(PUBLISHED, None, &mut parts).and_then(|table| {
            let row = table.row_for(&settings).ok_or("no such row".to_owned());
            row.and_then(|row| Published::of(row, &table.source)).map_err(|problem| {
                Diagnostic::new(format!("{PUBLISHED}, {}: {problem}", self.title))
            })
        });
        found.map_err(|error| SpecError::new(vec![error], parts.sources))
    }
}

/// The table of published numbers.
const PUBLISHED: &str = "paper/detectors.toml";

/// What was published about a detector, on COCO val2017 at 640 x 640.
#[derive(Clone, Debug, PartialEq)]
pub struct Published {
    /// Average precision in percent, trained by the DEIM recipe.
    pub ap: f64,
    pub about: About,
    /// Where the numbers were read.
    pub source: String,
}

/// What is not a metric.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct About {
    /// Parameters in millions.
    pub parameters_m: f64,
    pub gflops: f64,
    /// Milliseconds for one image, on a T4 in half precision.
    pub latency_ms: f64,
    /// Average precision in percent, trained by the baseline.
    pub baseline_ap: f64,
    /// Why the parameters counted here are others, where they are.
    pub parameters_note: Option<String>,
    /// Why the operations counted here are others, where they are.
    pub gflops_note: Option<String>,
}

impl Published {
    fn of(row: &PaperRow, source: &str) -> Result<Self, String> {
        let about = row.about.iter().map(|(key, value)| (key.clone(), value.clone()));
        let about = serde_json::from_value(serde_json::Value::Object(about.collect()));
        let about = about.map_err(|error| error.to_string())?;
        let ap = row.ap.ok_or("no `ap`")?;
        Ok(Self { ap, about, source: source.to_owned() })
    }
}

/// A part, laid on the defaults and checked as an experiment's row would be.
fn resolve(part: &str, set: &[String]) -> Result<Config, SpecError> {
    let mut parts = Parts::embedded();
    read(&mut parts, &Path::new(embedded::ROOT).join(part), set)
        .map_err(|errors| SpecError::new(errors, parts.sources))
}

/// The same of any part on disk; what it extends is in the experiments directory.
pub fn part(experiments_dir: &Path, path: &Path) -> Result<Config, SpecError> {
    let mut parts = Parts::new(experiments_dir);
    read(&mut parts, path, &[]).map_err(|errors| SpecError::new(errors, parts.sources))
}

fn read(parts: &mut Parts<'_>, path: &Path, set: &[String]) -> Result<Config, Vec<Diagnostic>> {
    let one = |error: Diagnostic| vec![error];
    let node = parts.outermost(path).map_err(one)?;
    let place = node.place;
    let mut table = parts.fragment(node).map_err(one)?;
    merge(&mut table, flags::read(set, &mut parts.sources).map_err(one)?);
    let mut config = typed::config(&table).map_err(one)?;
    let merged = Node { value: Value::Table(table), place };
    let wrong = checks::check(&config);
    if !wrong.is_empty() {
        return Err(wrong.into_iter().map(|violation| located(violation, &merged)).collect());
    }
    fill_in_epochs(&mut config);
    Ok(config)
}
