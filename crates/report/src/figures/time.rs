//! Where the time of a cell goes: training, waiting for images, evaluation.

use plotters::prelude::RGBColor;

use crate::axis::Axis;
use crate::canvas::{BLACK, Ink, LINE, PAGE, Sheet, line, sheet, text, text_width};
use crate::error::Error;
use crate::figures::look::polygon;
use crate::figures::page::{MARGIN, Words, measured_on};
use crate::figures::theme::{MIDDLE, PAPER};
use crate::panel::{AXIS, Panel, ROW};
use crate::study::{Row, Study};

const TITLE: &str = "Where the time goes";
/// What a bar is made of, from the left; told apart by how dark it is.
const PARTS: [(&str, RGBColor); 3] =
    [("training steps", BLACK), ("waiting for images", PAPER), ("evaluation", MIDDLE)];

/// Seconds of an epoch of a row, in the order of [`PARTS`].
fn parts(row: &Row) -> Option<[f64; 3]> {
    let mean = |name: &str| {
        let values: Vec<f64> =
            row.epochs.iter().filter_map(|point| point.values.get(name).copied()).collect();
        (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
    };
    let (train, wait, evaluate) = (mean("train")?, mean("wait")?, mean("evaluate")?);
    // A loop that trains also waits: its seconds are in those of training.
    Some([(train - wait).max(0.0), wait, evaluate]).filter(|parts| parts.iter().sum::<f64>() > 0.0)
}

/// Draws a bar a row; none when no epoch was timed.
pub fn time(study: &Study) -> Result<Option<String>, Error> {
    if study.rows.iter().all(|row| parts(row).is_none()) {
        return Ok(None);
    }
    let labels: Vec<String> = study.rows.iter().map(|row| row.label(&study.names)).collect();
    let widest = labels.iter().map(|label| text_width(label, Ink::small())).fold(0.0, f64::max);
    let caption = format!(
        "Mean over epochs and {}; the number is the whole. On {}. {}",
        study.seed_counts(),
        crate::number::list(&study.devices),
        measured_on(study)
    );
    let words = Words::new(PAGE, TITLE, &caption);
    let top = words.top() + LINE + 6.0;
    let rows = [top, top + study.rows.len() as f64 * ROW];
    let sides = [MARGIN + 4.0 + widest + 12.0, PAGE - MARGIN - 36.0];
    let svg = sheet(PAGE, words.height(rows[1] + AXIS), |root| {
        words.draw(root, rows[1] + AXIS)?;
        legend(root, sides[0], words.top() + LINE / 2.0)?;
        let whole = |row: &Row| parts(row).map_or(0.0, |parts| parts.iter().sum());
        let longest = study.rows.iter().map(whole).fold(f64::MIN_POSITIVE, f64::max);
        let axis = Axis::between(0.0, longest, 6);
        let panel = Panel::new(root, rows, sides, &axis, "seconds an epoch")?;
        for (at, (row, label)) in study.rows.iter().zip(&labels).enumerate() {
            let y = top + (at as f64 + 0.5) * ROW;
            text(root, label, sides[0] - 8.0, y, Ink::small().right())?;
            match parts(row) {
                Some(parts) => bar(root, &panel, parts, y)?,
                None => panel.remark("no timed epoch", y)?,
            }
        }
        Ok(())
    })?;
    Ok(Some(svg))
}

fn bar(root: &Sheet<'_>, panel: &Panel<'_, '_>, parts: [f64; 3], y: f64) -> Result<(), Error> {
    let mut start = 0.0;
    for (seconds, (_, color)) in parts.into_iter().zip(PARTS) {
        patch(root, [panel.x(start), panel.x(start + seconds)], y, color)?;
        start += seconds;
    }
    text(root, &format!("{start:.2}"), panel.x(start) + 5.0, y, Ink::small())
}

/// A bordered rectangle.
fn patch(root: &Sheet<'_>, [left, right]: [f64; 2], y: f64, color: RGBColor) -> Result<(), Error> {
    const HALF: f64 = 6.5;
    let corners = [(left, y - HALF), (right, y - HALF), (right, y + HALF), (left, y + HALF)];
    polygon(root, &corners, &color)?;
    line(root, &[&corners[..], &corners[..1]].concat(), BLACK, 0.8)
}

fn legend(root: &Sheet<'_>, left: f64, y: f64) -> Result<(), Error> {
    let mut x = left;
    for (name, color) in PARTS {
        patch(root, [x, x + 13.0], y, color)?;
        text(root, name, x + 19.0, y, Ink::small())?;
        x += 19.0 + text_width(name, Ink::small()) + 18.0;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::study::{Against, EpochMeans, Spread};

    #[test]
    fn waiting_is_a_part_of_training_and_counted_once() {
        let values = BTreeMap::from([("train", 5.0), ("wait", 1.0), ("evaluate", 2.0)]);
        let row = Row {
            labels: vec![],
            cells: vec![],
            ap: Spread::default(),
            spreads: BTreeMap::new(),
            interval: None,
            against: Against::Reference,
            paper: None,
            doubt: None,
            curve: vec![],
            epochs: vec![EpochMeans { epoch: 1, values }],
        };
        assert_eq!(parts(&row), Some([4.0, 1.0, 2.0]));
    }
}
