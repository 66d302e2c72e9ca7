//! The paper's Fig. 4: two losses of a matched query over its score, for a poor and for a good box.

use crate::axis::Axis;
use crate::canvas::{COLUMN, Ink, Sheet, sheet, text};
use crate::error::Error;
use crate::figures::chart::{ABOVE, BELOW, Chart, Frame, NAME};
use crate::figures::look::Look;
use crate::figures::page::{MARGIN, Words};

/// Losses at one overlap.
#[derive(Clone, Debug, PartialEq)]
pub struct LossPanel {
    pub overlap: f64,
    /// Name and points `(score, loss)` of each loss.
    pub curves: Vec<(String, Vec<(f64, f64)>)>,
}

/// The largest loss shown: the cross entropy has no end.
const HIGHEST: f64 = 5.0;
const CAPTION: &str = "The loss of one logit of a matched query. With a poor box (left) VFL has little to say about any score; \
     with a good one (right) the two agree. Computed by the functions that train.";

/// Draws the panels side by side as an SVG document.
pub fn losses(panels: &[LossPanel]) -> Result<String, Error> {
    const GAP: f64 = 22.0;
    let words = Words::new(COLUMN, "", CAPTION);
    let count = panels.len().max(1) as f64;
    let left = MARGIN + 16.0;
    let width = (COLUMN - MARGIN - 6.0 - left - (count - 1.0) * GAP) / count;
    let top = words.top() + ABOVE;
    let bottom = top + 120.0;
    sheet(COLUMN, words.height(bottom + BELOW), |root| {
        words.draw(root, bottom + BELOW)?;
        for (at, panel) in panels.iter().enumerate() {
            let left = left + at as f64 * (width + GAP);
            draw(root, panel, Frame { left, right: left + width, top, bottom }, at == 0)?;
        }
        Ok(())
    })
}

fn draw(root: &Sheet<'_>, panel: &LossPanel, frame: Frame, is_first: bool) -> Result<(), Error> {
    let across = Axis::between(0.0, 1.0, 4);
    let up = if is_first { Axis::between(0.0, HIGHEST, 5) } else { Axis::bare(0.0, HIGHEST, 5) };
    let name = if is_first { "loss" } else { "" };
    let chart = Chart::new(root, frame, [&across, &up], ["probability p", name])?;
    let head = format!("IoU {}", panel.overlap);
    text(root, &head, frame.middle(), frame.top - NAME, Ink::small().bold().centred())?;
    for (at, (name, points)) in panel.curves.iter().enumerate() {
        let look = Look::of_line(at);
        let shown: Vec<(f64, f64)> =
            points.iter().copied().filter(|(_, loss)| *loss <= HIGHEST).collect();
        look.line(root, &chart.places(&shown))?;
        // Beside the first panel's curves, where they are far from each other.
        let place = shown.iter().find(|(score, _)| *score >= 0.78);
        if let (true, Some(&(score, loss))) = (is_first, place) {
            let (x, y) = chart.at(score, loss);
            text(root, name, x - 4.0, y - 8.0, Ink::small().color(look.color).bold().right())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_panel_says_its_overlap_and_the_first_names_the_losses() {
        let curve = |slope: f64| (0..=10).map(|p| (f64::from(p) / 10.0, slope)).collect::<Vec<_>>();
        let curves = vec![("VFL".to_owned(), curve(0.5)), ("MAL".to_owned(), curve(2.0))];
        let panel = |overlap: f64| LossPanel { overlap, curves: curves.clone() };
        let svg = losses(&[panel(0.05), panel(0.95)]).unwrap();
        for (words, times) in [("IoU 0.05", 1), ("IoU 0.95", 1), ("\nMAL\n", 1), ("\nVFL\n", 1)] {
            assert_eq!(svg.matches(words).count(), times, "{words}");
        }
    }
}
