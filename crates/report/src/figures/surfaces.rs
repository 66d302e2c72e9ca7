//! The paper's Fig. 2: what a matched query costs, over its score and the overlap of its box.

use plotters::prelude::RGBColor;

use crate::axis::Axis;
use crate::canvas::{BLACK, GREY, Ink, PAGE, Sheet, line, sheet, text, text_width};
use crate::error::Error;
use crate::figures::chart::{ABOVE, BELOW, Chart, Frame, NAME};
use crate::figures::look::{polygon, simplify};
use crate::figures::page::{MARGIN, Words};
use crate::figures::theme::{PAPER, SERIES};

/// A loss on a grid; both axes ascend.
#[derive(Clone, Debug, PartialEq)]
pub struct LossSurface {
    /// What the loss is called, with its parameters.
    pub name: String,
    /// Predicted probabilities of the matched class.
    pub scores: Vec<f64>,
    /// Overlaps of the predicted box with the matched target.
    pub overlaps: Vec<f64>,
    /// `[overlap, score]`
    pub losses: Vec<f64>,
    /// Values to print where they are, as `score, overlap, loss`.
    pub spots: Vec<[f64; 3]>,
}

/// Each twice the one before, more or less: the eye compares ratios.
const LEVELS: [f64; 6] = [0.1, 0.2, 0.5, 1.0, 2.0, 4.0];
const TINT: RGBColor = SERIES[2];
const TITLE: &str = "The loss of a matched query";
const CAPTION: &str = "Shading and contours: the loss of one logit, the stronger the larger; the same levels everywhere. Crosses: its value \
     there. A confident query (p near 1) with a poor box (IoU near 0) costs next to nothing under VFL, which weighs the \
     loss by the IoU, and a lot under MAL. Computed by the functions that train.";

/// Draws the surfaces side by side as an SVG document.
pub fn surfaces(surfaces: &[LossSurface]) -> Result<String, Error> {
    const GAP: f64 = 46.0;
    let words = Words::new(PAGE, TITLE, CAPTION);
    let left = MARGIN + 26.0;
    let count = surfaces.len().max(1) as f64;
    let side = (PAGE - MARGIN - 8.0 - left - (count - 1.0) * GAP) / count;
    let top = words.top() + ABOVE;
    let bottom = top + side * 0.72;
    sheet(PAGE, words.height(bottom + BELOW), |root| {
        words.draw(root, bottom + BELOW)?;
        for (at, surface) in surfaces.iter().enumerate() {
            let left = left + at as f64 * (side + GAP);
            panel(root, surface, Frame { left, right: left + side, top, bottom })?;
        }
        Ok(())
    })
}

fn panel(root: &Sheet<'_>, surface: &LossSurface, frame: Frame) -> Result<(), Error> {
    let unit = Axis::between(0.0, 1.0, 5);
    let names = ["predicted probability p", "IoU of the box"];
    let chart = Chart::new(root, frame, [&unit, &unit], names)?;
    text(root, &surface.name, frame.middle(), frame.top - NAME, Ink::small().bold().centred())?;
    for level in LEVELS {
        for side in Side::BOTH {
            let edge: Vec<(f64, f64)> = surface.contour(level, side);
            let edge = simplify(&chart.places(&edge));
            let corner = |end: Option<&(f64, f64)>| Some((chart.at(side.end(), 0.0).0, end?.1));
            let corners = [corner(edge.last()), corner(edge.first())].into_iter().flatten();
            polygon(root, &[&edge[..], &corners.collect::<Vec<_>>()].concat(), &TINT_OF_A_LEVEL)?;
        }
    }
    let mut labels = Vec::new();
    for level in LEVELS {
        let runs = surface.runs(level);
        for run in &runs {
            line(root, &simplify(&chart.places(run)), GREY, 0.6)?;
        }
        // The longest piece of a contour has room for its number.
        let longest = runs.iter().max_by_key(|run| run.len());
        labels.extend(longest.and_then(|run| Some((level, *run.get(run.len() * 3 / 5)?))));
    }
    for (level, place) in labels {
        boxed(&chart, place, &format!("{level}"))?;
    }
    for [score, overlap, loss] in &surface.spots {
        let (x, y) = chart.at(*score, *overlap);
        line(root, &[(x - 3.5, y - 3.5), (x + 3.5, y + 3.5)], BLACK, 1.4)?;
        line(root, &[(x - 3.5, y + 3.5), (x + 3.5, y - 3.5)], BLACK, 1.4)?;
        let words = format!("{loss:.2}");
        let ink = Ink::small().bold();
        let right = x + 6.0 + text_width(&words, ink) < frame.right;
        let (x, ink) = if right { (x + 6.0, ink) } else { (x - 6.0, ink.right()) };
        backed(root, &words, (x, y), ink)?;
    }
    Ok(())
}

const TINT_OF_A_LEVEL: plotters::style::RGBAColor =
    plotters::style::RGBAColor(TINT.0, TINT.1, TINT.2, 0.13);

/// A number on a contour.
fn boxed(chart: &Chart<'_, '_>, (x, y): (f64, f64), words: &str) -> Result<(), Error> {
    let (x, y) = chart.at(x, y);
    let half = text_width(words, Ink::small()) / 2.0 + 2.0;
    let Frame { left, right, top, bottom } = chart.frame;
    let (x, y) = (x.clamp(left + half, right - half), y.clamp(top + 7.0, bottom - 7.0));
    backed(chart.root, words, (x, y), Ink::small().centred())
}

/// Text on a patch of paper.
fn backed(root: &Sheet<'_>, words: &str, (x, y): (f64, f64), ink: Ink) -> Result<(), Error> {
    use plotters::style::text_anchor::HPos;
    let width = text_width(words, ink);
    let left = match ink.anchor {
        HPos::Left => x,
        HPos::Center => x - width / 2.0,
        HPos::Right => x - width,
    };
    let (right, top, bottom) = (left + width + 2.0, y - 6.0, y + 6.0);
    let left = left - 2.0;
    polygon(root, &[(left, top), (right, top), (right, bottom), (left, bottom)], &PAPER)?;
    text(root, words, x, y, ink)
}

/// Which side of a row's smallest loss.
#[derive(Clone, Copy)]
enum Side {
    Low,
    High,
}

impl Side {
    const BOTH: [Self; 2] = [Self::Low, Self::High];

    fn end(self) -> f64 {
        match self {
            Self::Low => 0.0,
            Self::High => 1.0,
        }
    }
}

impl LossSurface {
    /// Where each row's loss crosses a level, as `(score, overlap)`: along a row the loss falls to its
    /// smallest value and rises again. The end of the axis where it never does.
    fn contour(&self, level: f64, side: Side) -> Vec<(f64, f64)> {
        let width = self.scores.len();
        let rows = self.overlaps.iter().zip(self.losses.chunks(width));
        rows.map(|(&overlap, row)| {
            let least = (0..width).min_by(|&a, &b| row[a].total_cmp(&row[b])).unwrap_or(0);
            let crossing = match side {
                Side::Low => (0..least).rev().find(|&at| row[at] >= level).map(|at| (at, at + 1)),
                Side::High => {
                    (least + 1..width).find(|&at| row[at] >= level).map(|at| (at, at - 1))
                }
            };
            let score = match crossing {
                // Also the smallest loss of the row may be above the level.
                _ if row[least] >= level => self.scores[least],
                Some((above, below)) => {
                    let share = (level - row[below]) / (row[above] - row[below]);
                    self.scores[below] + share * (self.scores[above] - self.scores[below])
                }
                None => side.end(),
            };
            (score, overlap)
        })
        .collect()
    }

    /// The pieces of a contour: around each block of rows that reach below the level, without what lies
    /// at the end of an axis.
    fn runs(&self, level: f64) -> Vec<Vec<(f64, f64)>> {
        let rows: Vec<&[f64]> = self.losses.chunks(self.scores.len()).collect();
        let is_low = |row: usize| rows[row].iter().any(|loss| *loss < level);
        let [low, high] = Side::BOTH.map(|side| self.contour(level, side));
        let mut runs = vec![Vec::new()];
        let mut row = 0;
        while row < rows.len() {
            let first = row;
            while row < rows.len() && is_low(row) {
                row += 1;
            }
            let mut path: Vec<Option<(f64, f64)>> =
                low[first..row].iter().copied().map(Some).collect();
            if row == rows.len() {
                path.push(None);
            }
            path.extend(high[first..row].iter().rev().copied().map(Some));
            if first > 0 && first < row {
                path.push(Some(low[first]));
            }
            for place in path.into_iter().chain([None]) {
                let is_inside = |(score, _): &(f64, f64)| *score > 0.0 && *score < 1.0;
                match (place.filter(is_inside), runs.last_mut()) {
                    (Some(place), Some(run)) => run.push(place),
                    _ => runs.push(Vec::new()),
                }
            }
            row = row.max(first + 1);
        }
        runs.retain(|run| run.len() > 1);
        runs
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `overlap * |score - overlap|`
    fn surface() -> LossSurface {
        let axis: Vec<f64> = (0..=10).map(|at| f64::from(at) / 10.0).collect();
        let losses =
            axis.iter().flat_map(|q| axis.iter().map(move |p| q * (p - q).abs())).collect();
        LossSurface {
            name: "a <loss>".into(),
            scores: axis.clone(),
            overlaps: axis,
            losses,
            spots: vec![[0.9, 0.1, 0.08]],
        }
    }

    #[test]
    fn contours_lie_where_the_loss_has_their_level() {
        let surface = surface();
        let runs = surface.runs(0.1);
        assert!(!runs.is_empty());
        for (score, overlap) in runs.concat() {
            let loss = overlap * (score - overlap).abs();
            assert!((loss - 0.1).abs() < 1e-9, "{score} {overlap}");
        }
        assert_eq!(surface.contour(0.1, Side::High)[0], (1.0, 0.0), "loss 0 everywhere");
        assert_eq!(surface.contour(0.1, Side::Low)[0], (0.0, 0.0));
    }

    #[test]
    fn a_surface_shows_its_name_and_the_values_of_its_spots() {
        let svg = surfaces(&[surface(), surface()]).unwrap();
        assert_eq!(svg.matches("a &lt;loss&gt;").count(), 2);
        assert_eq!(svg.matches("0.08").count(), 2);
    }
}
