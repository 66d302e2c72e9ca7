//! The rows that the paper prints, as a table of their own: none of it was measured here.

use std::collections::BTreeSet;

use deim_spec::keys::label;
use deim_spec::paper::{METRICS, QUANTITIES};
use deim_spec::{PaperRow, PaperTable};

use crate::facts::{distinct, short_names};

/// A published table, ready to be set.
#[derive(Clone, Debug, PartialEq)]
pub struct Printed {
    pub title: String,
    pub source: String,
    /// How many of the columns say which row it is.
    pub labels: usize,
    pub head: Vec<String>,
    pub rows: Vec<Vec<PrintedCell>>,
    /// What the marks stand for, the first mark first.
    pub notes: Vec<String>,
}

/// A printed number, or nothing, and the notes on it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PrintedCell {
    pub text: String,
    /// Positions in [`Printed::notes`].
    pub marks: Vec<usize>,
}

/// The heads of [`QUANTITIES`] and [`METRICS`].
fn head(cell: &str) -> &str {
    match cell {
        "baseline_ap" => "baseline's AP",
        "parameters_m" => "params (M)",
        "gflops" => "GFLOPs",
        "latency_ms" => "latency, ms",
        "nms_ms" => "NMS, ms",
        "hours_per_epoch" => "hours / epoch",
        "total_hours" => "hours",
        "ap" => "AP",
        "ap50" => "AP50",
        "ap75" => "AP75",
        "ap_small" => "APs",
        "ap_medium" => "APm",
        "ap_large" => "APl",
        other => other,
    }
}

/// As the paper has it: percent with one decimal, whole numbers without.
fn number(cell: &str, value: f64) -> String {
    match cell {
        cell if METRICS.contains(&cell) || cell == "baseline_ap" => format!("{value:.1}"),
        "latency_ms" | "nms_ms" => format!("{value:.2}"),
        _ => value.to_string(),
    }
}

impl Printed {
    pub fn new(table: &PaperTable) -> Self {
        let keys = distinct(table.rows.iter().flat_map(|row| row.settings.keys().cloned()));
        let circumstances = table.rows.iter().flat_map(|row| row.about.iter());
        let words = circumstances.filter(|(key, _)| !QUANTITIES.contains(&key.as_str()));
        let words: BTreeSet<String> = words.map(|(key, _)| key.clone()).collect();
        let has = |cell: &str| table.rows.iter().any(|row| row.number(cell).is_some());
        let columns = METRICS.into_iter().chain(QUANTITIES);
        let columns: Vec<&'static str> = columns.filter(|cell| has(cell)).collect();
        let mut head: Vec<String> = short_names(&keys);
        head.extend(words.iter().cloned());
        head.extend(columns.iter().map(|cell| self::head(cell).to_owned()));
        let mut notes = Vec::new();
        let rows = table.rows.iter().map(|row| {
            let settings = keys.iter().map(|key| row.settings.get(key));
            let about = words.iter().map(|key| row.about.get(key));
            let mut cells: Vec<PrintedCell> = settings
                .chain(about)
                .map(|value| PrintedCell {
                    text: value.map(label).unwrap_or_default(),
                    marks: vec![],
                })
                .collect();
            cells.extend(columns.iter().map(|cell| printed_cell(row, cell, &mut notes)));
            let of_row = row.suspicious.0.iter().filter(|doubt| doubt.cells.is_empty());
            let mut remarks: Vec<String> =
                of_row.map(|doubt| format!("doubted: {}", doubt.why)).collect();
            remarks.extend(row.source.iter().map(|source| format!("from {source}")));
            remarks.extend(row.unknown.iter().map(|why| format!("not known: {why}")));
            if let Some(first) = cells.first_mut() {
                first.marks = remarks.into_iter().map(|note| mark(note, &mut notes)).collect();
            }
            cells
        });
        let rows = rows.collect();
        let labels = keys.len() + words.len();
        let (title, source) = (table.title.clone(), table.source.clone());
        Self { title, source, labels, head, rows, notes }
    }
}

fn printed_cell(row: &PaperRow, cell: &str, notes: &mut Vec<String>) -> PrintedCell {
    let Some(value) = row.number(cell) else {
        return PrintedCell { text: "-".to_owned(), marks: vec![] };
    };
    let doubts = row.suspicious.0.iter().filter(|doubt| doubt.cells.iter().any(|one| one == cell));
    let marks = doubts.map(|doubt| mark(format!("doubted: {}", doubt.why), notes)).collect();
    PrintedCell { text: number(cell, value), marks }
}

/// The position of a note, which is added where it is new.
fn mark(note: String, notes: &mut Vec<String>) -> usize {
    notes.iter().position(|known| *known == note).unwrap_or_else(|| {
        notes.push(note);
        notes.len() - 1
    })
}

/// a, b, ..., z, aa, ab, ...
pub fn letter(mark: usize) -> String {
    let last = char::from(b'a' + (mark % 26) as u8);
    match mark / 26 {
        0 => last.to_string(),
        more => format!("{}{last}", letter(more - 1)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples;

    #[test]
    fn marks_go_on_after_z() {
        assert_eq!([0, 25, 26, 27, 52].map(letter), ["a", "z", "aa", "ab", "ba"]);
    }

    #[test]
    fn a_doubt_marks_its_number_and_a_doubt_about_all_marks_the_row() {
        let mut table = samples::experiment().paper.unwrap();
        let doubt = |cells: &[&str], why: &str| deim_spec::Doubt {
            cells: cells.iter().map(|cell| (*cell).to_owned()).collect(),
            why: why.to_owned(),
        };
        table.rows[0].suspicious.0 = vec![doubt(&["ap"], "copied"), doubt(&[], "second hand")];
        table.rows[1].suspicious.0 = vec![doubt(&["ap"], "copied")];
        table.rows[1].unknown = Some("cut off".into());
        let printed = Printed::new(&table);
        assert_eq!(printed.head, ["gamma", "AP", "epochs"]);
        assert_eq!(printed.labels, 1);
        let notes = ["doubted: copied", "doubted: second hand", "not known: cut off"];
        assert_eq!(printed.notes, notes, "a note stands once");
        let cell = |text: &str, marks: &[usize]| PrintedCell {
            text: text.to_owned(),
            marks: marks.to_vec(),
        };
        assert_eq!(printed.rows[0], [cell("1.3", &[1]), cell("52.2", &[0]), cell("24", &[])]);
        assert_eq!(printed.rows[1], [cell("1.5", &[2]), cell("52.4", &[0]), cell("24", &[])]);
    }

    #[test]
    fn a_number_that_is_not_printed_is_a_dash_and_never_zero() {
        let mut table = samples::experiment().paper.unwrap();
        table.rows[0].ap50 = Some(70.0);
        let printed = Printed::new(&table);
        assert_eq!(printed.head, ["gamma", "AP", "AP50", "epochs"]);
        assert_eq!([&printed.rows[0][2].text, &printed.rows[1][2].text], ["70.0", "-"]);
    }
}
