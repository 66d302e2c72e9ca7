//! What happens over the epochs of an experiment: positives and the terms of the loss.

use crate::axis::Axis;
use crate::canvas::{Ink, LINE, PAGE, Sheet, sheet, text};
use crate::error::Error;
use crate::figures::chart::{ABOVE, BELOW, Chart, Frame, NAME, legend, legend_height};
use crate::figures::look::Look;
use crate::figures::page::{MARGIN, Words, measured_on};
use crate::study::{Row, Study};

/// A line of a figure: the rows that it stands for and its points.
pub(super) struct Line {
    look: Look,
    index: usize,
    pub name: String,
    pub points: Vec<(f64, f64)>,
}

/// A line a row; rows whose lines are the same share one.
pub(super) fn lines(study: &Study, points: impl Fn(&Row) -> Vec<(f64, f64)>) -> Vec<Line> {
    let mut lines: Vec<Line> = Vec::new();
    let rows = study.rows.iter().enumerate().map(|(index, row)| (index, row, points(row)));
    for (index, row, points) in rows.filter(|(.., points)| !points.is_empty()) {
        let label = row.label(&study.names);
        match lines.iter_mut().find(|line| line.points == points) {
            Some(line) => line.name = format!("{}; {label}", line.name),
            None => lines.push(Line { look: Look::of_row(index), index, name: label, points }),
        }
    }
    lines
}

fn epochs_of<'s>(study: &'s Study, name: &'s str) -> impl Iterator<Item = (u32, f64)> + 's {
    let points = study.rows.iter().flat_map(|row| &row.epochs);
    points.filter_map(move |point| Some((point.epoch, *point.values.get(name)?)))
}

/// The horizontal axis of epochs.
fn epochs_axis(study: &Study, wanted: usize) -> Axis {
    let last = study.rows.iter().filter_map(|row| row.epochs.last()).map(|point| point.epoch).max();
    Axis::whole(1, last.unwrap_or(1).max(2), wanted)
}

/// The paper's Fig. 6: positives an image over the epochs; none when no epoch was recorded.
pub fn positives(study: &Study) -> Result<Option<String>, Error> {
    const TITLE: &str = "Positive samples an image under one-to-one matching";
    let own = |row: &Row| -> Vec<(f64, f64)> {
        let value = |point: &crate::study::EpochMeans| point.values.get("positives").copied();
        row.epochs
            .iter()
            .filter_map(|point| Some((f64::from(point.epoch), value(point)?)))
            .collect()
    };
    let lines = lines(study, own);
    if lines.is_empty() {
        return Ok(None);
    }
    let targets: f64 = epochs_of(study, "targets").map(|(_, value)| value).sum();
    let matched: f64 = epochs_of(study, "positives").map(|(_, value)| value).sum();
    let unmatched = match targets - matched > 1e-9 {
        true => format!("; {} of all targets found no query", share(targets - matched, targets)),
        false => ", which are all targets".to_owned(),
    };
    let caption = format!(
        "Queries that the last layer's matching gives a target, mean over {}{unmatched}. Rows with the same line share it. {}",
        study.seed_counts(),
        measured_on(study)
    );
    let words = Words::new(PAGE, TITLE, &caption);
    let top = words.top() + ABOVE;
    let bottom = top + 150.0f64.max(lines.len() as f64 * LINE);
    let svg = sheet(PAGE, words.height(bottom + BELOW), |root| {
        words.draw(root, bottom + BELOW)?;
        let room = Chart::room_for(lines.iter().map(|line| line.name.as_str()));
        let frame = Frame { left: MARGIN + 32.0, right: PAGE - MARGIN - room, top, bottom };
        let values = || lines.iter().flat_map(|line| &line.points).map(|(_, value)| *value);
        let up = Axis::between(0.0, values().fold(1.0, f64::max) * 1.1, 4);
        let names = ["epoch", "positives an image"];
        let chart = Chart::new(root, frame, [&epochs_axis(study, 8), &up], names)?;
        draw(&chart, &lines, true)
    })?;
    Ok(Some(svg))
}

/// A share in percent; a small one is not nothing.
fn share(part: f64, whole: f64) -> String {
    let percent = 100.0 * part / whole;
    if percent < 0.01 { "less than 0.01 %".to_owned() } else { format!("{percent:.2} %") }
}

pub(super) fn draw(chart: &Chart<'_, '_>, lines: &[Line], named: bool) -> Result<(), Error> {
    let mut ends = Vec::new();
    for line in lines {
        chart.marked(&line.points, line.look, line.index)?;
        if let Some(&(x, y)) = line.points.last() {
            ends.push((chart.at(x, y), line.look, line.name.as_str()));
        }
    }
    if named { chart.names(&ends) } else { Ok(()) }
}

/// Columns and their heads.
const TERMS: [(&str, &str); 5] = [
    ("loss_class", "classification"),
    ("loss_bbox", "box, L1"),
    ("loss_giou", "box, GIoU"),
    ("loss_fgl", "edges, FGL"),
    ("loss_ddf", "edges, DDF"),
];

/// The terms of the loss over the epochs; none when no epoch was recorded.
pub fn terms(study: &Study) -> Result<Option<String>, Error> {
    const TITLE: &str = "Terms of the loss";
    const GAP: f64 = 38.0;
    const ACROSS: usize = 3;
    let known = |name: &str| epochs_of(study, name).next().is_some();
    let shown: Vec<_> = TERMS.into_iter().filter(|(name, _)| known(name)).collect();
    if shown.is_empty() {
        return Ok(None);
    }
    let caption = format!(
        "Each term with its weight, summed over all heads and denoising queries, mean over the steps of an epoch and over {}; \
         scales differ. Terms of different classification losses cannot be compared. {}",
        study.seed_counts(),
        measured_on(study)
    );
    let words = Words::new(PAGE, TITLE, &caption);
    let entries: Vec<(Look, String)> = study
        .rows
        .iter()
        .enumerate()
        .map(|(index, row)| (Look::of_row(index), row.label(&study.names)))
        .collect();
    let sides = [MARGIN + 28.0, PAGE - MARGIN];
    let top = words.top() + legend_height(&entries, sides) + 8.0;
    let width = (sides[1] - sides[0] - (ACROSS - 1) as f64 * GAP) / ACROSS as f64;
    let panel = ABOVE + 105.0 + BELOW + 6.0;
    let bottom = top + shown.len().div_ceil(ACROSS) as f64 * panel;
    let svg = sheet(PAGE, words.height(bottom), |root| {
        words.draw(root, bottom)?;
        legend(root, &entries, sides, words.top())?;
        for (at, (name, head)) in shown.iter().enumerate() {
            let left = sides[0] + (at % ACROSS) as f64 * (width + GAP);
            let top = top + (at / ACROSS) as f64 * panel + ABOVE;
            let frame = Frame { left, right: left + width, top, bottom: top + 105.0 };
            term(root, study, name, head, frame)?;
        }
        Ok(())
    })?;
    Ok(Some(svg))
}

fn term(
    root: &Sheet<'_>,
    study: &Study,
    name: &str,
    head: &str,
    frame: Frame,
) -> Result<(), Error> {
    let own = |row: &Row| -> Vec<(f64, f64)> {
        let point = |point: &crate::study::EpochMeans| {
            Some((f64::from(point.epoch), *point.values.get(name)?))
        };
        row.epochs.iter().filter_map(point).collect()
    };
    let lines = lines(study, own);
    let highest = epochs_of(study, name).map(|(_, value)| value).fold(f64::MIN_POSITIVE, f64::max);
    let up = Axis::between(0.0, highest * 1.05, 4);
    let chart = Chart::new(root, frame, [&epochs_axis(study, 5), &up], ["epoch", ""])?;
    text(root, head, frame.middle(), frame.top - NAME, Ink::small().bold().centred())?;
    draw(&chart, &lines, false)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gather::{gather, seeds};
    use crate::samples;

    fn study() -> Study {
        let experiment = samples::experiment();
        let ledger = samples::ledger(&experiment);
        let cells = samples::cells(&experiment, &seeds(&experiment, &ledger), "cpu");
        let mut study = gather(&experiment, &cells, &ledger).unwrap();
        for (at, row) in study.rows.iter_mut().enumerate() {
            for point in &mut row.epochs {
                // The second row has twice the targets of the others.
                let positives = if at == 1 { 10.0 } else { 5.0 };
                let values = [("targets", positives), ("positives", positives), ("train", 40.0)];
                point.values.extend(values);
                point.values.insert("loss_class", 1.0 + at as f64);
            }
        }
        study
    }

    #[test]
    fn rows_with_the_same_positives_share_a_line() {
        let svg = positives(&study()).unwrap().unwrap();
        assert!(svg.contains("gamma 1.3; gamma 2.0"), "{svg}");
        assert!(svg.contains("\ngamma 1.5\n"));
        assert!(svg.contains("which are all targets"));
    }

    #[test]
    fn targets_without_a_query_are_counted() {
        let mut study = study();
        for row in &mut study.rows {
            for point in &mut row.epochs {
                point.values.insert("targets", 2.0 * point.values["positives"]);
            }
        }
        assert!(positives(&study).unwrap().unwrap().contains("50.00 % of all targets"));
    }

    #[test]
    fn a_term_that_no_row_has_gets_no_panel() {
        let svg = terms(&study()).unwrap().unwrap();
        assert!(svg.contains("classification") && !svg.contains("FGL"));
        let mut study = study();
        for row in &mut study.rows {
            row.epochs.clear();
        }
        assert_eq!(terms(&study).unwrap(), None);
        assert_eq!(positives(&study).unwrap(), None);
    }
}
