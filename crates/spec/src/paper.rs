//! The paper's published numbers, so that a table can print them beside measured ones.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;
use serde_json::Value;

use crate::error::Diagnostic;
use crate::keys::label;
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
    /// What else was the case, for example the epochs; an experiment may filter by it.
    #[serde(default)]
    pub about: BTreeMap<String, Value>,
    pub ap: Option<f64>,
    pub ap50: Option<f64>,
    pub ap75: Option<f64>,
    pub ap_small: Option<f64>,
    pub ap_medium: Option<f64>,
    pub ap_large: Option<f64>,
    /// Why the numbers are doubted, where they are.
    pub suspicious: Option<String>,
}

impl PaperRow {
    /// Settings and circumstances in one line.
    pub fn title(&self) -> String {
        let pairs = self.settings.iter().chain(&self.about);
        let pairs = pairs.map(|(name, value)| format!("{name} = {}", label(value)));
        pairs.collect::<Vec<_>>().join(", ")
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
        let place = node.at(&["row", &index.to_string()]).map(|node| node.place);
        let metrics = [row.ap, row.ap50, row.ap75, row.ap_small, row.ap_medium, row.ap_large];
        if row.ap.is_none() {
            return Err(Diagnostic::new("a published row without `ap`")
                .at_some(place, "expected the average precision in percent"));
        }
        if metrics.iter().flatten().any(|value| !(1.0..=100.0).contains(value)) {
            return Err(Diagnostic::new("a published number is out of range")
                .at_some(place, "expected percent, from 1 to 100"));
        }
    }
    Ok(table)
}
