//! `figure.svg`: every row's seeds, mean and interval, its paired difference to the reference row,
//! the verdict, and the paper's values on a scale of their own.
//!
//! Readable in grey: what is measured is filled, what the paper printed is hollow, and nothing is
//! told by colour.

use plotters::prelude::*;

use crate::axis::Axis;
use crate::canvas::{GREY, Ink, LINE, PAGE, SHADE, Sheet, sheet, text, text_width, units, wrap};
use crate::error::Error;
use crate::figures::page::{MARGIN, Words, measured_on};
use crate::panel::{AXIS, Panel, ROW};
use crate::study::{Against, Study};

/// Space around and between the parts, in CSS pixels.
const PADDING: f64 = 4.0;
const GAP: f64 = 18.0;
/// From one line to the next within a row.
const TIGHT: f64 = 12.0;
const PAPER: f64 = 112.0;

const HEAD: Ink = Ink::small().bold();

/// Left and right end of a column, in CSS pixels.
type Sides = [f64; 2];

/// Where everything stands, in CSS pixels.
struct Layout {
    /// Left edge of each axis's labels.
    labels: Vec<f64>,
    measured: Sides,
    difference: Sides,
    verdict: Sides,
    paper: Option<Sides>,
    words: Words,
    /// Heads of the columns: where, which lines, and whether they are centred.
    heads: Vec<(Sides, Vec<String>, bool)>,
    /// Top of the first row and bottom of the last.
    rows: [f64; 2],
}

/// Draws the figure as an SVG document.
pub fn figure(study: &Study) -> Result<String, Error> {
    let layout = Layout::new(study);
    let bottom = layout.rows[1] + AXIS;
    sheet(PAGE, layout.words.height(bottom), |root| {
        layout.words.draw(root, bottom)?;
        stripes(root, study, &layout)?;
        labels(root, study, &layout)?;
        measured(root, study, &layout)?;
        differences(root, study, &layout)?;
        layout.paper.map_or(Ok(()), |sides| printed(root, study, &layout, sides))
    })
}

impl Layout {
    fn new(study: &Study) -> Self {
        let widest = |words: &mut dyn Iterator<Item = &str>, ink: Ink| {
            words.map(|word| text_width(word, ink)).fold(0.0, f64::max)
        };
        let mut labels = Vec::new();
        let mut left = MARGIN + PADDING;
        for (at, name) in study.names.iter().enumerate() {
            labels.push(left);
            let values =
                widest(&mut study.rows.iter().map(|row| row.labels[at].as_str()), Ink::small());
            left += values.max(text_width(name, HEAD)) + GAP;
        }
        let mut right = PAGE - MARGIN - PADDING;
        let has_paper = study.rows.iter().any(|row| row.paper.is_some());
        let paper = has_paper.then_some([right - PAPER, right]);
        if has_paper {
            right -= PAPER + GAP;
        }
        let words: Vec<String> = (0..study.rows.len()).flat_map(|at| verdict(study, at)).collect();
        let words = widest(&mut words.iter().map(String::as_str), HEAD);
        let verdict = [right - words.max(text_width("verdict", HEAD)), right];
        // Seeds and intervals need a little more room than the differences.
        let middle = left + (verdict[0] - 2.0 * GAP - left) * 0.54;
        let measured = [left, middle];
        let difference = [middle + GAP, verdict[0] - GAP];

        let head = |sides: Sides, words: &str, centred: bool| {
            (sides, wrap(words, sides[1] - sides[0], HEAD), centred)
        };
        let mut heads = vec![
            head(measured, &format!("measured: {}", study.data_name), true),
            head(difference, "difference to reference", true),
            (verdict, vec!["verdict".to_owned()], false),
        ];
        heads.extend(paper.map(|sides| head(sides, "paper's values", true)));
        heads.extend(
            labels.iter().zip(&study.names).map(|(x, name)| ([*x, *x], vec![name.clone()], false)),
        );
        let lines = heads.iter().map(|(_, lines, _)| lines.len()).max().unwrap_or(1);
        let words = Words::new(PAGE, &study.question, &caption(study));
        let top = words.top() + 4.0 + lines as f64 * LINE + 4.0;
        let rows = [top, top + study.rows.len() as f64 * ROW];
        Self { labels, measured, difference, verdict, paper, words, heads, rows }
    }

    /// The middle of a row.
    fn middle(&self, row: usize) -> f64 {
        self.rows[0] + (row as f64 + 0.5) * ROW
    }
}

/// A pale stripe behind every second row leads the eye from label to value.
fn stripes(root: &Sheet<'_>, study: &Study, layout: &Layout) -> Result<(), Error> {
    (0..study.rows.len()).step_by(2).try_for_each(|row| {
        let top = layout.rows[0] + row as f64 * ROW;
        let corners = [(units(MARGIN), units(top)), (units(PAGE - MARGIN), units(top + ROW))];
        root.draw(&Rectangle::new(corners, SHADE.filled())).map_err(Error::drawing)
    })
}

/// Heads of columns, labels of rows and verdicts.
fn labels(root: &Sheet<'_>, study: &Study, layout: &Layout) -> Result<(), Error> {
    for ([left, right], lines, centred) in &layout.heads {
        for (at, line) in lines.iter().rev().enumerate() {
            let y = layout.rows[0] - 4.0 - (at as f64 + 0.5) * LINE;
            match centred {
                true => text(root, line, (left + right) / 2.0, y, HEAD.centred())?,
                false => text(root, line, *left, y, HEAD)?,
            }
        }
    }
    for (at, row) in study.rows.iter().enumerate() {
        let y = layout.middle(at);
        for (label, x) in row.labels.iter().zip(&layout.labels) {
            text(root, label, *x, y, Ink::small())?;
        }
        let ink = if row.against.is_decided() { HEAD } else { Ink::small() };
        let lines = verdict(study, at);
        let first = y - (lines.len() - 1) as f64 * TIGHT / 2.0;
        for (line, words) in lines.iter().enumerate() {
            let ink = if line == 0 { ink } else { Ink::small().color(GREY) };
            text(root, words, layout.verdict[0], first + line as f64 * TIGHT, ink)?;
        }
    }
    Ok(())
}

/// The verdict on a row and, where rows differ in it, what the row is compared with.
fn verdict(study: &Study, at: usize) -> Vec<String> {
    let against = &study.rows[at].against;
    let of = match against {
        Against::Compared(_) if !study.has_one_reference() => {
            Some(format!("to {}", study.reference_of(at)))
        }
        _ => None,
    };
    std::iter::once(against.word()).chain(of).collect()
}

fn percent(value: f64) -> f64 {
    value * 100.0
}

/// The same of an AP: none is outside of 0 and 100 %, though an interval of two seeds may be.
fn share(value: f64) -> f64 {
    percent(value).clamp(0.0, 100.0)
}

/// AP of every seed, its mean and the mean's interval.
fn measured(root: &Sheet<'_>, study: &Study, layout: &Layout) -> Result<(), Error> {
    let shown = study.rows.iter().flat_map(|row| {
        let seeds = row.cells.iter().filter_map(|cell| cell.ap);
        seeds.chain(row.interval.into_iter().flatten()).map(share)
    });
    let axis = Axis::around(shown, 4);
    let panel = Panel::new(root, layout.rows, layout.measured, &axis, "AP (%)")?;
    for (at, row) in study.rows.iter().enumerate() {
        let y = layout.middle(at);
        let Some(mean) = row.ap.mean else {
            panel.remark("no finished cell", y)?;
            continue;
        };
        for ap in row.cells.iter().filter_map(|cell| cell.ap) {
            panel.seed(percent(ap), y + 8.0)?;
        }
        panel.estimate(percent(mean), row.interval.map(|ends| ends.map(share)), y - 2.0)?;
    }
    Ok(())
}

/// The mean paired difference to the reference row and its interval.
fn differences(root: &Sheet<'_>, study: &Study, layout: &Layout) -> Result<(), Error> {
    let compared: Vec<_> = study
        .rows
        .iter()
        .enumerate()
        .filter_map(|(at, row)| match &row.against {
            Against::Compared(comparison) => Some((at, comparison)),
            Against::Reference => None,
        })
        .collect();
    let ends = compared.iter().flat_map(|(_, comparison)| {
        comparison.difference.into_iter().chain(comparison.interval.into_iter().flatten())
    });
    let axis = Axis::around(ends.chain([0.0]).map(percent), 4);
    let panel = Panel::new(root, layout.rows, layout.difference, &axis, "AP (points), paired")?;
    panel.guide(0.0)?;
    for (at, comparison) in compared {
        let Some(difference) = comparison.difference else { continue };
        let interval = comparison.interval.map(|ends| ends.map(percent));
        panel.estimate(percent(difference), interval, layout.middle(at))?;
    }
    Ok(())
}

/// The paper's values as hollow diamonds on a scale of their own.
fn printed(root: &Sheet<'_>, study: &Study, layout: &Layout, sides: Sides) -> Result<(), Error> {
    let axis = Axis::around(study.rows.iter().filter_map(|row| row.paper), 2);
    let panel = Panel::new(root, layout.rows, sides, &axis, "AP (%), own scale")?;
    for (at, row) in study.rows.iter().enumerate() {
        let y = layout.middle(at);
        match row.paper {
            Some(ap) => panel.printed(ap, y)?,
            None => panel.remark("no such row", y)?,
        }
    }
    Ok(())
}

fn caption(study: &Study) -> String {
    let intervals = || study.rows.iter().filter_map(|row| row.interval);
    let bars = match intervals().flatten().any(|end| percent(end) != share(end)) {
        true => "bars: 95 % intervals, cut at 0 and 100; ",
        false if intervals().next().is_some() => "bars: 95 % intervals; ",
        false => "",
    };
    let reference = match study.has_one_reference() {
        true => format!("the reference is {}", study.reference_label()),
        false => "each row has the reference that stands under its verdict".to_owned(),
    };
    let mut caption = format!(
        "Large dots: means over {}; {bars}small dots: seeds. Differences are paired by seed; {reference}. {}",
        study.seed_counts(),
        measured_on(study)
    );
    if let Some(paper) = &study.paper {
        caption.push_str(&format!(" Hollow, from the paper: {paper}."));
    }
    caption
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::study;

    #[test]
    fn one_reference_is_named_once_in_the_caption() {
        let svg = figure(&study()).unwrap();
        assert!(svg.contains("the reference is"), "{svg}");
        assert!(!svg.contains("\nto gamma 1.5\n"));
    }

    #[test]
    fn an_interval_that_no_ap_can_fill_is_cut_and_said_to_be() {
        let mut study = study();
        assert!(!figure(&study).unwrap().contains("cut at 0"));
        study.rows[0].interval = Some([-0.4, 0.9]);
        let svg = figure(&study).unwrap();
        assert!(svg.contains("cut at 0") && !svg.contains("\n\u{2212}20\n"), "{svg}");
    }

    #[test]
    fn rows_with_references_of_their_own_say_which() {
        let mut study = study();
        study.references = vec![1, 1, 0];
        let svg = figure(&study).unwrap();
        for words in ["\nto gamma 1.5\n", "\nto gamma 1.3\n", "each row has"] {
            assert!(svg.contains(words), "{words}: {svg}");
        }
    }
}
