//! What is wrong with a data set.

use std::path::Path;

use comfy_table::Cell;
use deim_data::check::Report;
use deim_data::readers::{Findings, Level, Reading};
use serde_json::{Value, json};

use super::tables::{head, lines, right, table};

/// Everything that was found, worst first, and whether training takes the data.
pub fn check_text(folder: &Path, reading: &Reading, report: &Report, width: Option<u16>) -> String {
    let mut text = head(folder, reading);
    if report.kinds.is_empty() {
        text.push_str("nothing odd was found\n");
        return text;
    }
    let mut table = table(width);
    let mut header: Vec<Cell> = vec!["level".into(), "what".into()];
    header.extend(reading.splits.iter().map(|split| right(&split.split)));
    header.push("for example".into());
    table.set_header(header);
    for kind in &report.kinds {
        let found = || report.findings.iter().map(|findings| findings.get(*kind));
        let mut row: Vec<Cell> = vec![kind.level().into(), kind.title().into()];
        row.extend(found().map(|found| match found {
            Some(found) => right(&found.count.to_string()),
            None => right("-"),
        }));
        let examples: Vec<&str> = found()
            .flatten()
            .flat_map(|found| found.examples.iter().map(String::as_str))
            .filter(|example| !example.is_empty())
            .take(2)
            .collect();
        row.push(Cell::new(examples.join("; ")));
        table.add_row(row);
    }
    text.push_str(&lines(&table));
    let of = |level| match report.kinds_of(level) {
        0 => format!("no {level}"),
        1 => format!("1 kind of {level}"),
        kinds => format!("{kinds} kinds of {level}"),
    };
    let verdict = if report.passed() { "takes" } else { "refuses" };
    text.push_str(&format!(
        "{} and {}: training {verdict} this data\n",
        of(Level::Error),
        of(Level::Warning),
    ));
    text
}

/// The same for scripts.
pub fn check_document(folder: &Path, reading: &Reading, report: &Report) -> Value {
    let findings = |findings: &Findings| -> Vec<Value> {
        findings
            .iter()
            .map(|(kind, found)| {
                json!({
                    "kind": kind,
                    "level": kind.level(),
                    "what": kind.title(),
                    "count": found.count,
                    "examples": found.examples,
                })
            })
            .collect()
    };
    let splits: Vec<Value> = reading
        .splits
        .iter()
        .zip(&report.findings)
        .map(|(split, found)| {
            json!({
                "split": split.split,
                "annotations": split.annotations.display().to_string(),
                "images_dir": split.images_dir.display().to_string(),
                "images": split.images.len(),
                "objects": split.objects(),
                "categories": split.categories.len(),
                "findings": findings(found),
            })
        })
        .collect();
    json!({
        "folder": folder.display().to_string(),
        "format": reading.format,
        "also": reading.also,
        "passed": report.passed(),
        "splits": splits,
    })
}
