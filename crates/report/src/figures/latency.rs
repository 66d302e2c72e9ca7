//! The paper's Fig. 1 for what was measured: AP over the time of a forward pass and, on scales of
//! their own, the paper's AP over its latencies.

use crate::axis::Axis;
use crate::canvas::{GREY, Ink, PAGE, Sheet, line, sheet};
use crate::error::Error;
use crate::figures::chart::{ABOVE, BELOW, Chart, Frame};
use crate::figures::cost::{GAP, PAPER, Printed, printed, published};
use crate::figures::labels::Labels;
use crate::figures::look::{Look, REACH};
use crate::figures::page::{MARGIN, Words, measured_on};
use crate::latency::note;
use crate::study::Study;

const TITLE: &str = "AP against latency";
const HEIGHT: f64 = 190.0;

/// Draws both parts; none where all detectors are equally fast, or nobody measured it.
pub fn latency(study: &Study) -> Result<Option<String>, Error> {
    let points = points(study);
    let mut known = points.iter().flatten().map(|(latency, _)| *latency);
    let first = known.next();
    if known.all(|latency| Some(latency) == first) {
        return Ok(None);
    }
    let published = published(study, "latency_ms");
    let words = Words::new(PAGE, TITLE, &caption(study, &published));
    let top = words.top() + ABOVE;
    let bottom = top + HEIGHT;
    let svg = sheet(PAGE, words.height(bottom + BELOW), |root| {
        words.draw(root, bottom + BELOW)?;
        let beside = if published.is_empty() { 0.0 } else { PAPER + GAP };
        let end = PAGE - MARGIN - 6.0;
        let frame = Frame { left: MARGIN + 32.0, right: end - beside, top, bottom };
        measured(root, study, &points, frame)?;
        if published.is_empty() {
            return Ok(());
        }
        let frame = Frame { left: end - PAPER, right: end, top, bottom };
        let most = published.iter().map(|row| row.x).fold(1.0, f64::max);
        printed(root, &published, frame, Axis::between(0.0, most * 1.25, 3), "latency (ms)")
    })?;
    Ok(Some(svg))
}

/// Milliseconds and AP in percent of each row that has both.
fn points(study: &Study) -> Vec<Option<(f64, f64)>> {
    let rows = study.rows.iter().zip(&study.latencies);
    rows.map(|(row, latency)| Some((latency.as_ref()?.median_ms, row.mean("ap")? * 100.0)))
        .collect()
}

fn measured(
    root: &Sheet<'_>,
    study: &Study,
    points: &[Option<(f64, f64)>],
    frame: Frame,
) -> Result<(), Error> {
    let known = || points.iter().flatten();
    let most = known().map(|(latency, _)| *latency).fold(0.0, f64::max);
    let across = Axis::between(0.0, most * 1.15, 6);
    let up = Axis::around(known().map(|(_, ap)| *ap), 5);
    let chart = Chart::new(root, frame, [&across, &up], ["latency (ms)", "AP (%), measured"])?;
    let mut labels = Labels::new(frame);
    for (x, y) in known() {
        labels.keep_clear(chart.at(*x, *y), REACH + 1.0);
    }
    // From each row's reference to the row.
    for (to, &from) in points.iter().zip(&study.references) {
        if let (Some(from), Some(to)) = (points[from], to)
            && from != *to
        {
            let ends = chart.places(&[from, *to]);
            line(root, &ends, GREY, 0.6)?;
            labels.keep_line_clear(&ends);
        }
    }
    let rows = || points.iter().enumerate().filter_map(|(at, point)| Some((at, (*point)?)));
    for (at, (x, y)) in rows() {
        Look::of_row(at).marker(root, chart.at(x, y))?;
    }
    for (at, (x, y)) in rows() {
        let label = study.rows[at].label(&study.names);
        labels.write(root, chart.at(x, y), &label, Ink::small())?;
    }
    Ok(())
}

fn caption(study: &Study, published: &[Printed]) -> String {
    let note = note(study);
    let note = note.strip_prefix("latency: ").unwrap_or(&note);
    let own = format!(
        "AP of the averaged weights, means over {}; lines lead from a row's reference to the row. \
         Latency: {note}. {}",
        study.seed_counts(),
        measured_on(study)
    );
    match &study.paper {
        Some(paper) if !published.is_empty() => {
            format!("Left: {own} Right, hollow, from the paper, on a T4: {paper}.")
        }
        _ => own,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples;

    fn study(milliseconds: &[f64]) -> Study {
        let mut study = samples::study();
        for (row, &median_ms) in milliseconds.iter().enumerate() {
            study.latencies[row] = Some(samples::latency(median_ms));
        }
        study
    }

    #[test]
    fn detectors_that_are_equally_fast_make_no_figure() {
        for milliseconds in [&[][..], &[12.0], &[12.0, 12.0, 12.0]] {
            assert_eq!(latency(&study(milliseconds)).unwrap(), None, "{milliseconds:?}");
        }
        assert!(latency(&study(&[12.0, 12.0, 20.0])).unwrap().is_some());
    }

    #[test]
    fn measured_and_printed_latencies_have_axes_of_their_own() {
        let mut study = study(&[12.0, 20.0]);
        let alone = latency(&study).unwrap().unwrap();
        assert!(
            alone.contains("AP (%), measured") && !alone.contains("AP (%), the paper"),
            "{alone}"
        );
        // The third row was not measured.
        assert_eq!(alone.matches("\ngamma 2.0\n").count(), 0);
        let table = study.published.as_mut().unwrap();
        for (row, latency) in table.rows.iter_mut().zip([4.6, 6.9]) {
            row.about.insert("latency_ms".to_owned(), latency.into());
        }
        let both = latency(&study).unwrap().unwrap();
        assert!(both.contains("AP (%), the paper") && both.contains("Right, hollow"), "{both}");
        assert_eq!(both.matches("\ngamma 1.5\n").count(), 2);
    }
}
