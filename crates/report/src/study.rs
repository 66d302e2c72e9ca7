//! What every table and figure shows, as plain values.

use std::collections::{BTreeMap, BTreeSet};

use deim_eval::paired::{Comparison, LEVEL, Verdict};
use deim_eval::{Cost, student};
use deim_lab::record::Latency;
use deim_spec::PaperTable;

use crate::number::{interval_percent, list, percent, signed_percent};

/// What the data set is called where every image was drawn.
pub const SYNTHETIC: &str = "synthetic scenes";

/// The answer to an experiment's question, as far as the ledger has it.
#[derive(Clone, Debug, PartialEq)]
pub struct Study {
    pub name: String,
    pub title: String,
    pub question: String,
    pub scale: String,
    /// What varies: the axes' full keys.
    pub keys: Vec<String>,
    /// The same, as short as tells them apart.
    pub names: Vec<String>,
    pub rows: Vec<Row>,
    /// Index of the row that the others are compared with.
    pub reference: usize,
    /// The same for each row; its own where it is compared with nothing.
    pub references: Vec<usize>,
    /// What each row's detector costs.
    pub costs: Vec<RowCost>,
    /// How fast each row's detector is, where somebody measured it.
    pub latencies: Vec<Option<Latency>>,
    /// What the paper's values were measured on; none without such values.
    pub paper: Option<String>,
    /// All published rows, of which the experiment may have only some.
    pub published: Option<PaperTable>,
    /// What is not as it was published, in the words of the experiment.
    pub caveats: Vec<String>,
    /// The data sets, usually one.
    pub data: Vec<String>,
    /// The data sets in two words, for figures.
    pub data_name: String,
    /// Epochs, steps and images, one entry for each distinct budget.
    pub budget: Vec<String>,
    pub device_class: String,
    pub devices: Vec<String>,
    /// Versions of the program that computed.
    pub programs: Vec<String>,
    pub numerics: u32,
    /// How many cells were trained for another experiment, by its `NAME/SCALE`.
    pub reused: BTreeMap<String, usize>,
    /// How many seeds the experiment asks for.
    pub asked: usize,
    /// Finished cells of the ledger that are not of this study.
    pub stale: usize,
    /// Cells that finished twice with different numbers.
    pub contradicted: Vec<String>,
}

/// One setting of the axes.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// Its value on each axis, in the order of the keys.
    pub labels: Vec<String>,
    pub cells: Vec<CellResult>,
    /// AP over seeds.
    pub ap: Spread,
    /// Every averaged number over seeds, by its column's name.
    pub spreads: BTreeMap<&'static str, Spread>,
    /// 95 % interval of the mean AP (Student); none below two seeds.
    pub interval: Option<[f64; 2]>,
    pub against: Against,
    /// The paper's AP, in percent.
    pub paper: Option<f64>,
    /// Why the paper's number is doubted, where it is.
    pub doubt: Option<String>,
    /// AP over epochs.
    pub curve: Vec<CurvePoint>,
    /// Everything else over epochs.
    pub epochs: Vec<EpochMeans>,
}

/// A row's epochs, and its detector in numbers that follow from the configuration.
#[derive(Clone, Debug, PartialEq)]
pub struct RowCost {
    pub epochs: u32,
    /// Parameters and operations of one image; none where the number of classes is not known.
    pub cost: Option<Cost>,
    /// Side of that image in pixels, and the classes.
    pub side: usize,
    pub classes: Option<usize>,
}

impl RowCost {
    /// Parameters of the deployed detector, as papers count them.
    pub fn parameters(&self) -> Option<u64> {
        self.cost.map(|cost| cost.parameters_deployed)
    }

    /// Operations of the deployed detector by the rules of calflops, as the paper counts them.
    pub fn flops(&self) -> Option<u64> {
        self.cost.map(|cost| cost.flops_calflops)
    }
}

/// A planned cell and, where it is finished, its AP.
#[derive(Clone, Debug, PartialEq)]
pub struct CellResult {
    pub seed: u64,
    pub id: String,
    pub ap: Option<f64>,
}

/// A number over the seeds of a row.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Spread {
    pub count: usize,
    pub mean: Option<f64>,
    /// Sample standard deviation; none below two values.
    pub deviation: Option<f64>,
    pub smallest: Option<f64>,
    pub largest: Option<f64>,
}

/// A row's relation to the reference row.
#[derive(Clone, Debug, PartialEq)]
pub enum Against {
    Reference,
    Compared(Comparison),
}

/// AP after an epoch, over the seeds that evaluated it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CurvePoint {
    /// Epochs trained so far: the first epoch is 1.
    pub epoch: u32,
    pub mean: f64,
    pub smallest: f64,
    pub largest: f64,
}

/// What an epoch measured, as means over seeds, by the names of
/// [`EPOCH_COLUMNS`](crate::frame::EPOCH_COLUMNS); absent: not a part of the recipe.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct EpochMeans {
    /// Epochs trained so far: the first epoch is 1.
    pub epoch: u32,
    pub values: BTreeMap<&'static str, f64>,
}

impl Spread {
    /// Student's 95 % interval of the mean.
    pub fn interval(&self) -> Option<[f64; 2]> {
        let (mean, deviation) = (self.mean?, self.deviation?);
        let count = self.count as f64;
        let reach = student::quantile(1.0 - LEVEL / 2.0, count - 1.0) * deviation / count.sqrt();
        Some([mean - reach, mean + reach])
    }
}

impl Against {
    pub fn verdict(&self) -> Option<Verdict> {
        match self {
            Self::Reference => None,
            Self::Compared(comparison) => Some(comparison.verdict),
        }
    }

    pub fn is_better(&self) -> bool {
        self.verdict() == Some(Verdict::Better)
    }

    /// Whether the seeds allow to say better or worse.
    pub fn is_decided(&self) -> bool {
        self.verdict().is_some_and(|verdict| verdict != Verdict::CannotTell)
    }

    /// What stands in the verdict's column.
    pub fn word(&self) -> String {
        self.verdict().map_or_else(|| "reference".to_owned(), |verdict| verdict.to_string())
    }
}

impl Row {
    pub fn spread(&self, name: &str) -> Spread {
        self.spreads.get(name).copied().unwrap_or_default()
    }

    pub fn mean(&self, name: &str) -> Option<f64> {
        self.spread(name).mean
    }

    pub fn missing(&self) -> usize {
        self.cells.iter().filter(|cell| cell.ap.is_none()).count()
    }

    /// "gamma 1.5", "mosaic 0.5, mixup 0"; a value in words needs no name: "Dense O2O".
    pub fn label(&self, names: &[String]) -> String {
        let settings = names.iter().zip(&self.labels).map(|(name, label)| {
            let needs_name = label.parse::<f64>().is_ok() || label.parse::<bool>().is_ok();
            if needs_name { format!("{name} {label}") } else { label.clone() }
        });
        settings.collect::<Vec<_>>().join(", ")
    }
}

impl Study {
    /// Whether any epoch of any row was evaluated.
    pub fn has_curves(&self) -> bool {
        self.rows.iter().any(|row| !row.curve.is_empty())
    }

    /// Whether any row's latency was measured.
    pub fn has_latencies(&self) -> bool {
        self.latencies.iter().any(Option::is_some)
    }

    /// Whether every image was drawn, so that no number is about COCO.
    pub fn is_synthetic(&self) -> bool {
        self.data_name == SYNTHETIC
    }

    pub fn planned(&self) -> usize {
        self.rows.iter().map(|row| row.cells.len()).sum()
    }

    pub fn missing(&self) -> usize {
        self.rows.iter().map(Row::missing).sum()
    }

    /// The seeds that any row has finished.
    pub fn seeds(&self) -> BTreeSet<u64> {
        self.rows.iter().flat_map(|row| row.cells.iter().map(|cell| cell.seed)).collect()
    }

    /// "5 seeds", "1 seed", "2 to 3 seeds": how many finished in each row that has any.
    pub fn seed_counts(&self) -> String {
        let counts = self.rows.iter().map(|row| row.cells.len() - row.missing());
        let counts: BTreeSet<usize> = counts.filter(|count| *count > 0).collect();
        match (counts.first(), counts.last()) {
            (Some(1), Some(1)) => "1 seed".to_owned(),
            (Some(least), Some(most)) if least == most => format!("{most} seeds"),
            (Some(least), Some(most)) => format!("{least} to {most} seeds"),
            _ => "no seed".to_owned(),
        }
    }

    /// The row that the others are compared with, in words.
    pub fn reference_label(&self) -> String {
        match self.has_one_reference() {
            true => self.rows[self.reference].label(&self.names),
            false => "its own reference".to_owned(),
        }
    }

    pub fn has_one_reference(&self) -> bool {
        self.references.iter().all(|reference| *reference == self.reference)
    }

    /// The row that a row is compared with, in words.
    pub fn reference_of(&self, row: usize) -> String {
        self.rows[self.references[row]].label(&self.names)
    }

    /// The command that makes every number of the study again.
    pub fn command(&self) -> String {
        let device = match self.device_class.as_str() {
            "cpu" => String::new(),
            class => format!(" --device {class}"),
        };
        format!(
            "cargo run --release -- ablation {} --scale {} --seeds {}{device}",
            self.name,
            self.scale,
            self.seeds().last().map_or(0, |last| last + 1)
        )
    }

    /// The experiment's answer: a sentence for each row that others are compared with.
    pub fn verdict(&self) -> String {
        let compared = |reference: usize| {
            self.references.iter().enumerate().any(|(row, of)| *of == reference && row != reference)
        };
        let references: Vec<usize> = (0..self.rows.len()).filter(|row| compared(*row)).collect();
        match references.is_empty() {
            true => "There is one row and nothing to compare it with.".to_owned(),
            false => {
                let sentences = references.into_iter().map(|reference| self.sentence(reference));
                sentences.collect::<Vec<_>>().join(" ")
            }
        }
    }

    fn sentence(&self, reference: usize) -> String {
        let label = self.rows[reference].label(&self.names);
        let mut clauses = Vec::new();
        for (verdict, word) in [(Verdict::Better, "better"), (Verdict::Worse, "worse")] {
            let rows = self.compared(verdict, reference);
            let rows: Vec<String> = rows.map(|row| self.finding(row)).collect();
            if !rows.is_empty() {
                clauses.push(format!("{word} than {label}: {}", list(&rows)));
            }
        }
        let undecided: Vec<&Row> = self.compared(Verdict::CannotTell, reference).collect();
        if !undecided.is_empty() {
            let who = if clauses.is_empty() && self.has_one_reference() {
                "no row can be told from".to_owned()
            } else {
                let labels: Vec<String> =
                    undecided.iter().map(|row| row.label(&self.names)).collect();
                format!("cannot tell {} from", list(&labels))
            };
            clauses.push(format!("{who} {label}{}", sensitivity(&undecided)));
        }
        let sentence = format!("{}.", clauses.join("; "));
        let mut characters = sentence.chars();
        let first = characters.next().into_iter().flat_map(char::to_uppercase);
        first.chain(characters).collect()
    }

    fn compared(&self, verdict: Verdict, reference: usize) -> impl Iterator<Item = &Row> {
        let rows = self.rows.iter().zip(&self.references);
        let rows = rows
            .filter(move |(row, of)| **of == reference && row.against.verdict() == Some(verdict));
        rows.map(|(row, _)| row)
    }

    /// "gamma 1.8 (+0.9 AP, 95 % interval [+0.2, +1.6])".
    fn finding(&self, row: &Row) -> String {
        let label = row.label(&self.names);
        match &row.against {
            Against::Compared(Comparison {
                difference: Some(difference),
                interval: Some(interval),
                ..
            }) => format!(
                "{label} ({} AP, 95 % interval {})",
                signed_percent(*difference),
                interval_percent(*interval)
            ),
            _ => label,
        }
    }
}

/// The difference that would have been found; none where the seeds showed no spread to judge by.
pub fn detectable(comparison: &Comparison) -> Option<f64> {
    comparison.t_test.and(comparison.detectable)
}

/// How large a difference would have been seen, and with how many seeds.
fn sensitivity(rows: &[&Row]) -> String {
    let comparisons: Vec<&Comparison> = rows
        .iter()
        .filter_map(|row| match &row.against {
            Against::Compared(comparison) => Some(comparison),
            Against::Reference => None,
        })
        .collect();
    let seeds = comparisons.iter().map(|comparison| comparison.seeds);
    let counts = match (seeds.clone().min().unwrap_or(0), seeds.max().unwrap_or(0)) {
        (_, 0) => return " without a common seed".to_owned(),
        (1, 1) => return " with one seed".to_owned(),
        (least, most) if least == most => format!(" with {most} seeds"),
        (least, most) => format!(" with {least} to {most} common seeds"),
    };
    let detectable: Vec<f64> =
        comparisons.iter().filter_map(|comparison| detectable(comparison)).collect();
    let least = detectable.iter().copied().fold(f64::INFINITY, f64::min);
    let most = detectable.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    match (percent(least), percent(most)) {
        _ if detectable.is_empty() => counts,
        (least, most) if least == most => {
            format!(
                "{counts} (a true difference of {most} AP would be found in 80 % of repetitions)"
            )
        }
        (least, most) => format!(
            "{counts} (a true difference of {least} to {most} AP, depending on the row, would be found in 80 % of \
             repetitions)"
        ),
    }
}
