//! Precision over recall of one or more detectors, at two overlaps and over all of COCO's.

use crate::axis::Axis;
use crate::canvas::{Ink, PAGE, sheet, text};
use crate::error::Error;
use crate::figures::chart::{ABOVE, BELOW, Chart, Frame, NAME, legend, legend_height};
use crate::figures::look::{Look, simplify};
use crate::figures::page::{MARGIN, Words};

/// The curves of one detector.
#[derive(Clone, Debug, PartialEq)]
pub struct PrecisionRecall {
    pub name: String,
    /// For each of [`HEADS`]: precision at equal steps of recall from 0 to 1.
    pub precision: [Vec<f64>; 3],
}

/// What the panels show.
pub const HEADS: [&str; 3] = ["IoU 0.50", "IoU 0.75", "mean of IoU 0.50 to 0.95"];

/// Draws a panel for each of [`HEADS`] as an SVG document.
pub fn precision_recall(detectors: &[PrecisionRecall], about: &str) -> Result<String, Error> {
    const GAP: f64 = 40.0;
    let caption = format!("Mean over the classes, up to 100 detections an image. {about}");
    let words = Words::new(PAGE, "Precision and recall", &caption);
    let entries: Vec<(Look, String)> = detectors
        .iter()
        .enumerate()
        .map(|(at, detector)| (Look::of_line(at), detector.name.clone()))
        .collect();
    let sides = [MARGIN + 30.0, PAGE - MARGIN - 6.0];
    let top = words.top() + legend_height(&entries, sides) + 8.0 + ABOVE;
    let width = (sides[1] - sides[0] - (HEADS.len() - 1) as f64 * GAP) / HEADS.len() as f64;
    let bottom = top + width * 0.85;
    sheet(PAGE, words.height(bottom + BELOW), |root| {
        words.draw(root, bottom + BELOW)?;
        legend(root, &entries, sides, words.top())?;
        let axis = Axis::between(0.0, 100.0, 5);
        for (at, head) in HEADS.into_iter().enumerate() {
            let left = sides[0] + at as f64 * (width + GAP);
            let frame = Frame { left, right: left + width, top, bottom };
            let name = if at == 0 { "precision (%)" } else { "" };
            let chart = Chart::new(root, frame, [&axis, &axis], ["recall (%)", name])?;
            let ink = Ink::small().bold();
            match at {
                0 => text(root, head, frame.right, top - NAME, ink.right())?,
                _ => text(root, head, frame.middle(), top - NAME, ink.centred())?,
            }
            for (entry, detector) in entries.iter().zip(detectors) {
                let precision = &detector.precision[at];
                let step = 100.0 / precision.len().saturating_sub(1).max(1) as f64;
                let points = precision.iter().enumerate();
                let points: Vec<_> =
                    points.map(|(at, value)| (at as f64 * step, value * 100.0)).collect();
                entry.0.line(root, &simplify(&chart.places(&points)))?;
            }
        }
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_detector_is_named_and_every_panel_headed() {
        let falling: Vec<f64> = (0..=100).map(|at| 1.0 - f64::from(at) / 100.0).collect();
        let detector = |name: &str| PrecisionRecall {
            name: name.into(),
            precision: [falling.clone(), falling.clone(), vec![]],
        };
        let svg = precision_recall(&[detector("a & b"), detector("c")], "On scenes.").unwrap();
        for words in HEADS.into_iter().chain(["a &amp; b", "\nc\n", "On scenes."]) {
            assert!(svg.contains(words), "{words}");
        }
    }
}
