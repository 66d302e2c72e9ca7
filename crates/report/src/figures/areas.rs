//! AP by the size of the objects: every row's seeds, mean and interval, for small, medium and large.

use crate::axis::Axis;
use crate::canvas::{Ink, LINE, PAGE, SHADE, Sheet, sheet, text, text_width};
use crate::error::Error;
use crate::figures::look::polygon;
use crate::figures::page::{MARGIN, Words, measured_on};
use crate::panel::{AXIS, Panel, ROW};
use crate::study::Study;

const TITLE: &str = "AP by the size of the objects";
const HEAD: Ink = Ink::small().bold();
const GAP: f64 = 20.0;
/// Columns and their heads.
const AREAS: [(&str, &str); 3] =
    [("ap_small", "small"), ("ap_medium", "medium"), ("ap_large", "large")];

/// Draws the areas side by side; none when no cell measured any.
pub fn areas(study: &Study) -> Result<Option<String>, Error> {
    let known = |name| study.rows.iter().any(|row| row.mean(name).is_some());
    let areas: Vec<_> = AREAS.into_iter().filter(|(name, _)| known(name)).collect();
    if areas.is_empty() {
        return Ok(None);
    }
    let labels: Vec<String> = study.rows.iter().map(|row| row.label(&study.names)).collect();
    let widest = labels.iter().map(|label| text_width(label, Ink::small())).fold(0.0, f64::max);
    let words = Words::new(PAGE, TITLE, &caption(study));
    let top = words.top() + LINE + 4.0;
    let bottom = top + study.rows.len() as f64 * ROW;
    let left = MARGIN + 4.0 + widest + GAP;
    let count = areas.len() as f64;
    let width = (PAGE - MARGIN - 8.0 - left - (count - 1.0) * GAP) / count;
    let svg = sheet(PAGE, words.height(bottom + AXIS), |root| {
        words.draw(root, bottom + AXIS)?;
        for (at, label) in labels.iter().enumerate() {
            let y = top + (at as f64 + 0.5) * ROW;
            if at % 2 == 0 {
                stripe(root, y)?;
            }
            text(root, label, MARGIN + 4.0, y, Ink::small())?;
        }
        for (at, (name, head)) in areas.iter().enumerate() {
            let left = left + at as f64 * (width + GAP);
            text(root, head, left + width / 2.0, top - LINE / 2.0 - 2.0, HEAD.centred())?;
            column(root, study, name, [top, bottom], [left, left + width])?;
        }
        Ok(())
    })?;
    Ok(Some(svg))
}

fn stripe(root: &Sheet<'_>, y: f64) -> Result<(), Error> {
    let (left, right) = (MARGIN, PAGE - MARGIN);
    let (top, bottom) = (y - ROW / 2.0, y + ROW / 2.0);
    polygon(root, &[(left, top), (right, top), (right, bottom), (left, bottom)], &SHADE)
}

fn column(
    root: &Sheet<'_>,
    study: &Study,
    name: &str,
    rows: [f64; 2],
    sides: [f64; 2],
) -> Result<(), Error> {
    let spreads: Vec<_> = study.rows.iter().map(|row| row.spread(name)).collect();
    let shown = spreads.iter().flat_map(|spread| {
        let ends = spread.interval().into_iter().flatten();
        ends.chain(spread.smallest).chain(spread.largest).map(percent)
    });
    let axis = Axis::around(shown, 4);
    let panel = Panel::new(root, rows, sides, &axis, "AP (%)")?;
    for (at, spread) in spreads.iter().enumerate() {
        let y = rows[0] + (at as f64 + 0.5) * ROW;
        match spread.mean {
            Some(mean) => {
                panel.estimate(
                    percent(mean),
                    spread.interval().map(|ends| ends.map(percent)),
                    y,
                )?;
            }
            None => panel.remark("not measured", y)?,
        }
    }
    Ok(())
}

/// No AP is outside of 0 and 100 %, though an interval of two seeds may be.
fn percent(value: f64) -> f64 {
    (value * 100.0).clamp(0.0, 100.0)
}

fn caption(study: &Study) -> String {
    let bars = match study.rows.iter().any(|row| row.interval.is_some()) {
        true => "; bars: 95 % intervals, cut at 0 and 100",
        false => "",
    };
    format!(
        "Dots: means over {}{bars}. The sizes are COCO's (below 32\u{b2}, below 96\u{b2} and from 96\u{b2} pixels), each on a scale \
         of its own. {}",
        study.seed_counts(),
        measured_on(study)
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gather::{gather, seeds};
    use crate::samples;

    #[test]
    fn only_areas_that_were_measured_get_a_column_and_none_no_figure() {
        let experiment = samples::experiment();
        let ledger = samples::ledger(&experiment);
        let cells = samples::cells(&experiment, &seeds(&experiment, &ledger), "cpu");
        let mut study = gather(&experiment, &cells, &ledger).unwrap();
        let svg = areas(&study).unwrap().unwrap();
        assert!(svg.contains("\nsmall\n") && !svg.contains("\nmedium\n"), "{svg}");
        study.rows.iter_mut().for_each(|row| row.spreads.clear());
        assert_eq!(areas(&study).unwrap(), None);
    }

    #[test]
    fn an_interval_wider_than_all_values_is_cut() {
        assert_eq!([-0.4, 0.25, 1.3].map(percent), [0.0, 25.0, 100.0]);
    }
}
