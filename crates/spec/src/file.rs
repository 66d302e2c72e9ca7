//! What an experiment file holds beside configuration keys. The schema prints the comments.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::de::value::MapAccessDeserializer;
use serde::{Deserialize, Deserializer};

/// The keys of an experiment file that are not configuration.
pub(crate) const HEAD_KEYS: [&str; 8] =
    ["title", "question", "alias", "extends", "paper", "scales", "axis", "seeds"];
/// The keys of a scale that are not configuration.
pub(crate) const SCALE_KEYS: [&str; 6] =
    ["extends", "paper", "axis", "seeds", "expects", "caveats"];

/// An experiment: a question, and the cells whose results answer it.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Head {
    /// One line that names the experiment in tables and figures.
    pub title: String,
    /// What the experiment is to find out.
    pub question: String,
    /// Other names of the experiment, for example the number of the paper's table: `T4`.
    #[serde(default)]
    pub alias: Vec<String>,
    /// Parts to build on, as paths relative to the experiments directory; later ones win.
    #[serde(default)]
    pub extends: Vec<String>,
    /// The paper's published numbers for this question.
    #[serde(default)]
    pub paper: Option<Paper>,
    /// What varies. The cells are the product of all axes; the first varies slowest.
    #[serde(default)]
    pub axis: Vec<Axis>,
    /// How often each row is trained.
    #[serde(default)]
    pub seeds: Option<Seeds>,
}

/// The budget of the experiment: how large the model, the data and the training are.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct ScaleHead {
    /// Parts of this scale, as paths relative to the experiments directory.
    pub extends: Vec<String>,
    /// The paper's numbers for this scale, in place of the experiment's own: those of another detector.
    pub paper: Option<Paper>,
    /// Axes of this scale, in place of the experiment's own.
    pub axis: Option<Vec<Axis>>,
    /// Seeds of this scale, in place of the experiment's own.
    pub seeds: Option<Seeds>,
    /// The data set of files that the published numbers were measured on; `--data` says where it lies.
    pub expects: Option<Expected>,
    /// What of this scale is not as it was published, said in plans and under tables.
    pub caveats: Vec<String>,
}

/// A data set of files by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Expected {
    /// COCO 2017: train2017 and val2017.
    Coco,
    /// CrowdHuman.
    Crowdhuman,
}

impl Expected {
    pub fn title(self) -> &'static str {
        match self {
            Self::Coco => "COCO 2017",
            Self::Crowdhuman => "CrowdHuman",
        }
    }

    /// Classes of its objects, where every reader counts them alike.
    pub fn classes(self) -> Option<usize> {
        match self {
            Self::Coco => Some(80),
            Self::Crowdhuman => None,
        }
    }

    /// Images to train on, where their number is known without the data (deim-facts section 2).
    pub fn train_images(self) -> Option<usize> {
        match self {
            Self::Coco => Some(118_287),
            Self::Crowdhuman => None,
        }
    }
}

/// Either `key` and `values`, or `name` and `case`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("oneOf" = [
    { "required": ["key", "values"] },
    { "required": ["name", "case"] }
]))]
pub(crate) struct Axis {
    /// The configuration key that varies, for example `loss.gamma`.
    #[serde(default)]
    pub key: Option<String>,
    /// The values of that key, in the order of the table's rows.
    #[serde(default)]
    pub values: Option<Vec<serde_json::Value>>,
    /// What an axis that varies several keys together is called.
    #[serde(default)]
    pub name: Option<String>,
    /// The cases of a named axis, in the order of the table's rows.
    #[serde(default)]
    pub case: Option<Vec<Case>>,
}

/// One case of a named axis.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Case {
    /// What the case is called in tables and figures.
    pub label: String,
    /// Label of the case of this axis that it is compared with. Where any case has one, a case
    /// without is compared with nothing.
    #[serde(default)]
    pub against: Option<String>,
    /// Parts of this case, as paths relative to the experiments directory.
    #[serde(default)]
    pub extends: Vec<String>,
    /// Values by dotted key, for example `{ "augment.mosaic" = 0.0 }`.
    #[serde(default)]
    pub set: BTreeMap<String, serde_json::Value>,
}

/// Seeds 0, 1, 2, ...
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Seeds {
    /// How many.
    #[schemars(range(min = 1, max = 10_000))]
    pub count: u64,
}

/// The path of a published table, or the path and which of its rows are meant.
#[derive(Debug, JsonSchema)]
#[serde(untagged)]
pub(crate) enum Paper {
    Path(String),
    Table(PaperTable),
}

/// A published table and a filter on its rows.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct PaperTable {
    /// Path of the table, relative to the experiments directory.
    pub table: String,
    /// Keep only the rows whose `about` holds these values.
    #[serde(default, rename = "where")]
    pub filter: BTreeMap<String, serde_json::Value>,
}

impl<'de> Deserialize<'de> for Paper {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = Paper;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("the path of a table, or a table with `table` and `where`")
            }

            fn visit_str<E: serde::de::Error>(self, path: &str) -> Result<Paper, E> {
                Ok(Paper::Path(path.to_owned()))
            }

            fn visit_map<A: serde::de::MapAccess<'de>>(self, map: A) -> Result<Paper, A::Error> {
                PaperTable::deserialize(MapAccessDeserializer::new(map)).map(Paper::Table)
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}
