//! The paper's Fig. 1 for what was measured: AP over the time that training took and, on scales of
//! their own, the paper's AP over its epochs.

use crate::axis::Axis;
use crate::canvas::{Ink, LINE, PAGE, Sheet, sheet};
use crate::error::Error;
use crate::figures::chart::{ABOVE, BELOW, Chart, Frame};
use crate::figures::labels::Labels;
use crate::figures::look::{Look, REACH};
use crate::figures::page::{MARGIN, Words, measured_on};
use crate::figures::progress::{Line, draw, lines};
use crate::number::list;
use crate::study::{Row, Study};

const TITLE: &str = "AP against the cost of training";
/// Width of the paper's part and of the gap before it.
pub const PAPER: f64 = 150.0;
pub const GAP: f64 = 44.0;

/// Draws both parts; none when no epoch was evaluated.
pub fn cost(study: &Study) -> Result<Option<String>, Error> {
    let mut lines = lines(study, over_seconds);
    let longest = lines.iter().flat_map(|line| &line.points).map(|(x, _)| *x).fold(0.0, f64::max);
    if longest <= 0.0 {
        return Ok(None);
    }
    let (unit, name) = unit_of(longest);
    for (x, _) in lines.iter_mut().flat_map(|line| &mut line.points) {
        *x /= unit;
    }
    let published = published(study, "epochs");
    let words = Words::new(PAGE, TITLE, &caption(study, &published));
    let top = words.top() + ABOVE;
    let bottom = top + 190.0f64.max(lines.len() as f64 * LINE);
    let svg = sheet(PAGE, words.height(bottom + BELOW), |root| {
        words.draw(root, bottom + BELOW)?;
        let room = Chart::room_for(lines.iter().map(|line| line.name.as_str()));
        let beside = if published.is_empty() { 0.0 } else { PAPER + GAP };
        let right = PAGE - MARGIN - room - beside;
        let frame = Frame { left: MARGIN + 32.0, right, top, bottom };
        measured(root, &lines, longest / unit, name, frame)?;
        let right = PAGE - MARGIN - 6.0;
        let frame = Frame { left: right - PAPER, right, top, bottom };
        if published.is_empty() {
            return Ok(());
        }
        let most = published.iter().map(|row| row.x).fold(1.0, f64::max);
        let across = Axis::whole(0, (most * 1.25).ceil() as u32, 3);
        printed(root, &published, frame, across, "epochs")
    })?;
    Ok(Some(svg))
}

/// `(seconds trained so far, AP in percent)`
fn over_seconds(row: &Row) -> Vec<(f64, f64)> {
    let mut seconds = 0.0;
    let mut points = Vec::new();
    for point in &row.epochs {
        seconds += point.values.get("train").copied().unwrap_or_default();
        if let Some(ap) = point.values.get("ap") {
            points.push((seconds, ap * 100.0));
        }
    }
    points
}

fn measured(
    root: &Sheet<'_>,
    lines: &[Line],
    longest: f64,
    unit: &str,
    frame: Frame,
) -> Result<(), Error> {
    let values = lines.iter().flat_map(|line| &line.points).map(|(_, value)| *value);
    let up = Axis::between(0.0, values.fold(1.0, f64::max) * 1.08, 5);
    let across = Axis::between(0.0, longest, 6);
    let names = [&*format!("{unit} of training"), "AP (%), measured"];
    draw(&Chart::new(root, frame, [&across, &up], names)?, lines, true)
}

/// A row's numbers in the paper.
pub struct Printed {
    pub label: String,
    /// What its AP is shown over.
    pub x: f64,
    ap: f64,
}

/// The rows of which the paper prints this number as well; none where it is always the same.
pub fn published(study: &Study, number: &str) -> Vec<Printed> {
    let rows = study.rows.iter().filter_map(|row| {
        let settings: Vec<(String, String)> =
            study.keys.iter().cloned().zip(row.labels.iter().cloned()).collect();
        let found = study.published.as_ref()?.row_for(&settings)?;
        let x = found.number(number)?;
        Some(Printed { label: row.label(&study.names), x, ap: row.paper? })
    });
    let rows: Vec<Printed> = rows.collect();
    if rows.iter().all(|row| row.x == rows[0].x) { Vec::new() } else { rows }
}

/// Open diamonds, as everywhere for what the paper printed.
pub fn printed(
    root: &Sheet<'_>,
    rows: &[Printed],
    frame: Frame,
    across: Axis,
    name: &str,
) -> Result<(), Error> {
    let look = Look::open(0, 3);
    let up = Axis::around(rows.iter().map(|row| row.ap), 4);
    let chart = Chart::new(root, frame, [&across, &up], [name, "AP (%), the paper's"])?;
    let mut labels = Labels::new(frame);
    for row in rows {
        let place = chart.at(row.x, row.ap);
        look.marker(root, place)?;
        labels.keep_clear(place, REACH + 1.0);
    }
    for row in rows {
        labels.write(root, chart.at(row.x, row.ap), &row.label, Ink::small())?;
    }
    Ok(())
}

fn caption(study: &Study, published: &[Printed]) -> String {
    let mut caption = format!(
        "Left: AP of the averaged weights over the time trained so far, evaluation not counted, means over {}. On {}; cells \
         that ran beside others were slower. {}",
        study.seed_counts(),
        list(&study.devices),
        measured_on(study)
    );
    match &study.paper {
        Some(paper) if !published.is_empty() => {
            caption.push_str(&format!(" Right, hollow, from the paper: {paper}."));
        }
        _ => caption = caption.replacen("Left: ", "", 1),
    }
    caption
}

/// Seconds in the unit that suits a time, and its name.
fn unit_of(seconds: f64) -> (f64, &'static str) {
    match seconds {
        _ if seconds > 3.0 * 3600.0 => (3600.0, "hours"),
        _ if seconds > 180.0 => (60.0, "minutes"),
        _ => (1.0, "seconds"),
    }
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
        for point in study.rows.iter_mut().flat_map(|row| &mut row.epochs) {
            point.values.insert("train", 40.0);
        }
        study
    }

    #[test]
    fn the_time_has_a_unit_that_fits_it() {
        assert_eq!(unit_of(90.0).1, "seconds");
        assert_eq!(unit_of(1200.0).1, "minutes");
        assert_eq!(unit_of(40_000.0).1, "hours");
        assert!(cost(&study()).unwrap().unwrap().contains("seconds of training"));
    }

    #[test]
    fn what_the_paper_printed_stands_apart_from_what_was_measured() {
        let mut study = study();
        let same = cost(&study).unwrap().unwrap();
        assert!(!same.contains("AP (%), the paper"), "the epochs do not differ");
        let table = study.published.as_mut().unwrap();
        table.rows[0].about.insert("epochs".to_owned(), 72.into());
        let both = cost(&study).unwrap().unwrap();
        assert!(both.contains("AP (%), measured") && both.contains("AP (%), the paper"));
        // Measured rows and printed rows: the paper has two of the three.
        assert_eq!(both.matches("\ngamma 1.5\n").count(), 2);
        assert_eq!(both.matches("\ngamma 2.0\n").count(), 1);
        study.published = None;
        let alone = cost(&study).unwrap().unwrap();
        assert!(!alone.contains("AP (%), the paper") && !alone.contains("Left:"), "{alone}");
    }

    #[test]
    fn without_an_evaluated_epoch_there_is_no_figure() {
        let mut study = study();
        study.rows.iter_mut().for_each(|row| row.epochs.clear());
        assert_eq!(cost(&study).unwrap(), None);
    }
}
