//! The paper's published numbers, so that a table can print them beside measured ones.

use std::collections::BTreeMap;
use std::path::Path;

use serde::de::value::SeqAccessDeserializer;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use crate::error::Diagnostic;
use crate::experiment::Row;
use crate::file::Paper;
use crate::keys::label;
use crate::node::Node;
use crate::parts::Parts;
use crate::source::Place;
use crate::typed;

/// A published table.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PaperTable {
    /// What the table is, with the data set and the model it was measured on.
    pub title: String,
    /// Where the numbers were read.
    pub source: String,
    #[serde(rename = "row")]
    pub rows: Vec<PaperRow>,
}

/// A row of a published table. Metrics are in percent, as printed; absent: not in the table.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PaperRow {
    /// What an experiment's row has to say to be this one, by axis name.
    pub settings: BTreeMap<String, Value>,
    /// What else was the case, for example the epochs; an experiment may filter by it. Some of it
    /// are numbers of the table, see [`QUANTITIES`].
    #[serde(default)]
    pub about: BTreeMap<String, Value>,
    pub ap: Option<f64>,
    pub ap50: Option<f64>,
    pub ap75: Option<f64>,
    pub ap_small: Option<f64>,
    pub ap_medium: Option<f64>,
    pub ap_large: Option<f64>,
    /// Where this row was read, where that is not the source of the table.
    pub source: Option<String>,
    /// Which numbers are doubted, and why.
    #[serde(default)]
    pub suspicious: Doubts,
    /// Why a number that belongs here is absent.
    pub unknown: Option<String>,
}

/// The metrics of a published row, in the order of the paper's columns.
pub const METRICS: [&str; 6] = ["ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large"];

/// Keys of `about` that are numbers of the published table and no circumstances of it.
pub const QUANTITIES: [&str; 8] = [
    "baseline_ap",
    "parameters_m",
    "gflops",
    "latency_ms",
    "nms_ms",
    "epochs",
    "hours_per_epoch",
    "total_hours",
];

/// Doubts about the numbers of a row.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Doubts(pub Vec<Doubt>);

/// Why some numbers of a row are doubted.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Doubt {
    /// The numbers, for example `ap75` or `latency_ms`; none: the whole row.
    #[serde(default)]
    pub cells: Vec<String>,
    pub why: String,
}

impl Doubts {
    /// Why a number of the row is doubted.
    pub fn of<'a>(&'a self, cell: &'a str) -> impl Iterator<Item = &'a str> {
        let about = move |doubt: &&Doubt| {
            doubt.cells.is_empty() || doubt.cells.iter().any(|name| name == cell)
        };
        self.0.iter().filter(about).map(|doubt| doubt.why.as_str())
    }
}

/// One text about the whole row, or a list of tables with `cells` and `why`.
impl<'de> Deserialize<'de> for Doubts {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = Doubts;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a text, or a list of tables with `cells` and `why`")
            }

            fn visit_str<E: serde::de::Error>(self, why: &str) -> Result<Doubts, E> {
                Ok(Doubts(vec![Doubt { cells: vec![], why: why.to_owned() }]))
            }

            fn visit_seq<A: serde::de::SeqAccess<'de>>(self, list: A) -> Result<Doubts, A::Error> {
                Vec::deserialize(SeqAccessDeserializer::new(list)).map(Doubts)
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

impl PaperRow {
    /// Settings and circumstances in one line.
    pub fn title(&self) -> String {
        let pairs = self.settings.iter().chain(&self.about);
        let pairs = pairs.map(|(name, value)| format!("{name} = {}", label(value)));
        pairs.collect::<Vec<_>>().join(", ")
    }

    /// A number of the row by its name in [`METRICS`] or [`QUANTITIES`].
    pub fn number(&self, cell: &str) -> Option<f64> {
        match cell {
            "ap" => self.ap,
            "ap50" => self.ap50,
            "ap75" => self.ap75,
            "ap_small" => self.ap_small,
            "ap_medium" => self.ap_medium,
            "ap_large" => self.ap_large,
            cell if QUANTITIES.contains(&cell) => self.about.get(cell).and_then(Value::as_f64),
            _ => None,
        }
    }

    /// What is wrong with the row, if anything.
    fn problem(&self) -> Option<(&'static str, String)> {
        let numbers =
            || METRICS.iter().chain(&QUANTITIES).filter(|cell| self.number(cell).is_some());
        if self.settings.is_empty() {
            let expected = "expected what tells it from the other rows";
            return Some(("a published row without settings", expected.to_owned()));
        }
        if numbers().next().is_none() && self.unknown.is_none() {
            let expected = "expected a metric in percent, or why it is `unknown`";
            return Some(("a published row without a number", expected.to_owned()));
        }
        let shares = METRICS.iter().filter_map(|cell| self.number(cell));
        if shares.into_iter().any(|value| !(1.0..=100.0).contains(&value)) {
            let expected = "expected percent, from 1 to 100";
            return Some(("a published number is out of range", expected.to_owned()));
        }
        let doubted = self.suspicious.0.iter().flat_map(|doubt| &doubt.cells);
        for cell in doubted {
            if self.number(cell).is_none() {
                let expected = format!("`{cell}` is no number of this row");
                return Some(("a doubt about a number that is not there", expected));
            }
        }
        None
    }
}

impl PaperTable {
    /// The published row of an experiment's row, if there is one.
    ///
    /// All of the published row's settings have to be the row's; numbers compare as numbers.
    pub fn row_for(&self, settings: &[(String, String)]) -> Option<&PaperRow> {
        self.rows.iter().find(|row| {
            row.settings.iter().all(|(name, value)| {
                settings
                    .iter()
                    .any(|(other, printed)| name == other && same(&label(value), printed))
            })
        })
    }

    /// Keeps the rows about which everything in `filter` holds; the key to blame if none is left.
    pub(crate) fn keep(
        &mut self,
        filter: &BTreeMap<String, Value>,
    ) -> Result<(), (String, String)> {
        for (key, value) in filter {
            let matches = |row: &PaperRow| {
                row.about.get(key).is_some_and(|about| same(&label(about), &label(value)))
            };
            self.rows.retain(matches);
            if self.rows.is_empty() {
                let problem = format!("no published row has `{key} = {}`", label(value));
                return Err((key.clone(), problem));
            }
        }
        Ok(())
    }
}

/// Equal as numbers where both are, else as text.
fn same(a: &str, b: &str) -> bool {
    match (a.parse::<f64>(), b.parse::<f64>()) {
        (Ok(a), Ok(b)) => a == b,
        _ => a == b,
    }
}

/// Reads a published table; `path` is relative to the experiments directory.
pub(crate) fn read(
    path: &str,
    asked: Option<Place>,
    parts: &mut Parts<'_>,
) -> Result<PaperTable, Diagnostic> {
    let node = parts.read(&parts.root.join(Path::new(path)), asked)?;
    let table: PaperTable =
        typed::read_table(&node.table().cloned().unwrap_or_default(), node.place)?;
    for (index, row) in table.rows.iter().enumerate() {
        if let Some((title, expected)) = row.problem() {
            let place = node.at(&["row", &index.to_string()]).map(|node| node.place);
            return Err(Diagnostic::new(title).at_some(place, expected));
        }
    }
    Ok(table)
}

/// The paper's numbers, and a check that they are about this experiment at all.
pub(crate) fn published(
    reference: &Paper,
    head: &Node,
    rows: &[Row],
    parts: &mut Parts<'_>,
) -> Result<PaperTable, Diagnostic> {
    let (table, filter, at) = match reference {
        Paper::Path(path) => (path, BTreeMap::new(), ["paper"].as_slice()),
        Paper::Table(table) => (&table.table, table.filter.clone(), ["paper", "table"].as_slice()),
    };
    let place = head.at(at).map(|node| node.place);
    let mut table = read(table, place, parts)?;
    table.keep(&filter).map_err(|(key, problem)| {
        let node = head.at(&["paper", "where", &key]);
        Diagnostic::new(problem).at_some(node.map(|node| node.place), "this filter leaves nothing")
    })?;
    if !rows.iter().any(|row| table.row_for(&row.settings).is_some()) {
        let known: Vec<String> = table.rows.iter().map(PaperRow::title).collect();
        return Err(Diagnostic::new("the published table has no row of this experiment")
            .at_some(place, "expected a table about the same settings")
            .note(format!("its rows: {}", known.join("; "))));
    }
    Ok(table)
}
