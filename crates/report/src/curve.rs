//! `curve.svg`: AP over epochs, a line a row and a band from its worst to its best seed.
//!
//! Readable in grey: rows differ by marker and by the name at the end of their line.

use crate::axis::Axis;
use crate::canvas::{LINE, PAGE, Sheet, sheet};
use crate::error::Error;
use crate::figures::chart::{ABOVE, BELOW, Chart, Frame};
use crate::figures::look::Look;
use crate::figures::page::{MARGIN, Words, measured_on};
use crate::study::{CurvePoint, Row, Study};

const PLOT_HEIGHT: f64 = 210.0;

/// Draws the curves as an SVG document; none when no epoch was evaluated.
pub fn curve(study: &Study) -> Result<Option<String>, Error> {
    let rows: Vec<(usize, &Row)> =
        study.rows.iter().enumerate().filter(|(_, row)| !row.curve.is_empty()).collect();
    if rows.is_empty() {
        return Ok(None);
    }
    let words = Words::new(PAGE, &study.question, &caption(study));
    let top = words.top() + ABOVE;
    let bottom = top + PLOT_HEIGHT.max(rows.len() as f64 * LINE);
    let svg = sheet(PAGE, words.height(bottom + BELOW), |root| {
        words.draw(root, bottom + BELOW)?;
        plot(root, study, &rows, [top, bottom])
    })?;
    Ok(Some(svg))
}

fn plot(
    root: &Sheet<'_>,
    study: &Study,
    rows: &[(usize, &Row)],
    [top, bottom]: [f64; 2],
) -> Result<(), Error> {
    let names: Vec<String> = rows.iter().map(|(_, row)| row.label(&study.names)).collect();
    let points = || rows.iter().flat_map(|(_, row)| &row.curve);
    let last = points().map(|point| point.epoch).max().unwrap_or(1);
    let first = points().map(|point| point.epoch).min().unwrap_or(0);
    let across = Axis::whole(first.min(1), last.max(2), 8);
    let up = Axis::around(points().flat_map(|p| [p.smallest * 100.0, p.largest * 100.0]), 5);
    let up = Axis::between(up.low.max(0.0), up.high, 5);

    let room = Chart::room_for(names.iter().map(String::as_str));
    let frame = Frame { left: MARGIN + 32.0, right: PAGE - MARGIN - room, top, bottom };
    let chart = Chart::new(root, frame, [&across, &up], ["epochs trained", "AP (%)"])?;
    let of = |point: &CurvePoint, ap: f64| (f64::from(point.epoch), ap * 100.0);
    for (index, row) in rows.iter().filter(|(_, row)| row.ap.count > 1) {
        let forth = row.curve.iter().map(|point| of(point, point.largest));
        let back = row.curve.iter().rev().map(|point| of(point, point.smallest));
        let edge: Vec<_> = forth.chain(back).collect();
        Look::of_row(*index).band(root, &chart.places(&edge))?;
    }
    let lines: Vec<Vec<(f64, f64)>> = rows
        .iter()
        .map(|(_, row)| row.curve.iter().map(|point| of(point, point.mean)).collect())
        .collect();
    let mut ends = Vec::new();
    for (((index, _), name), line) in rows.iter().zip(&names).zip(&lines) {
        chart.marked(line, Look::of_row(*index), *index)?;
        if let Some(&(x, y)) = line.last() {
            ends.push((chart.at(x, y), Look::of_row(*index), name.as_str()));
        }
    }
    chart.names(&ends)
}

fn caption(study: &Study) -> String {
    let bands = match study.rows.iter().any(|row| row.ap.count > 1) {
        true => "; bands: worst to best seed",
        false => "",
    };
    format!(
        "Lines: AP of the averaged weights, mean over {}{bands}. {}",
        study.seed_counts(),
        measured_on(study)
    )
}
