//! How series are told apart: by colour, by marker, by dashes. Any one of them is enough.

use plotters::prelude::*;

use crate::canvas::{Sheet, line, units};
use crate::error::Error;
use crate::figures::theme::{PAPER, SERIES};

/// Half the size of a marker, in CSS pixels.
pub const REACH: f64 = 3.2;
/// Width of a curve, in CSS pixels.
pub const STROKE: f64 = 1.4;
/// Circle, square, triangle, diamond: filled, then hollow.
const MARKERS: usize = 8;
/// Lengths of dash and gap in CSS pixels; none is a solid line.
const DASHES: [Option<[f64; 2]>; 3] = [None, Some([5.0, 3.0]), Some([1.6, 2.4])];

/// What a series looks like.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Look {
    pub color: RGBColor,
    /// None on a line that its dashes tell.
    marker: Option<usize>,
    /// Nothing hides what lies under a hollow marker.
    is_open: bool,
    dash: usize,
}

impl Look {
    /// The look of the row at `index`: another marker when the colours begin again, so that no two
    /// rows look alike.
    pub fn of_row(index: usize) -> Self {
        let marker = (index + index / SERIES.len()) % MARKERS;
        Self { color: SERIES[index % SERIES.len()], marker: Some(marker), is_open: false, dash: 0 }
    }

    /// The look of a curve without markers: the first is solid, the second dashed, the third dotted.
    pub fn of_line(index: usize) -> Self {
        Self { dash: index % DASHES.len(), marker: None, ..Self::of_row(index) }
    }

    /// An open marker of this colour and shape: circle, square, triangle, diamond.
    pub fn open(color: usize, shape: usize) -> Self {
        let marker = MARKERS / 2 + shape % (MARKERS / 2);
        Self { color: SERIES[color % SERIES.len()], marker: Some(marker), is_open: true, dash: 0 }
    }

    pub fn colored(self, color: RGBColor) -> Self {
        Self { color, ..self }
    }

    /// Draws a line through points; all lengths are in CSS pixels.
    pub fn line(self, root: &Sheet<'_>, points: &[(f64, f64)]) -> Result<(), Error> {
        match DASHES[self.dash] {
            None => line(root, points, self.color, STROKE),
            Some([dash, gap]) => dashed(points, dash, gap)
                .iter()
                .try_for_each(|piece| line(root, piece, self.color, STROKE)),
        }
    }

    pub fn marker(self, root: &Sheet<'_>, (x, y): (f64, f64)) -> Result<(), Error> {
        let Some(marker) = self.marker else { return Ok(()) };
        let fill = if marker < MARKERS / 2 { self.color } else { PAPER };
        let corners = match marker % (MARKERS / 2) {
            0 => {
                let middle = (units(x), units(y));
                let styles = [fill.filled(), self.color.stroke_width(units(1.2) as u32)];
                for style in styles.into_iter().skip(usize::from(self.is_open)) {
                    root.draw(&Circle::new(middle, units(REACH), style)).map_err(Error::drawing)?;
                }
                return Ok(());
            }
            1 => vec![(-1.0, -1.0), (1.0, -1.0), (1.0, 1.0), (-1.0, 1.0)],
            2 => vec![(0.0, -1.3), (1.3, 1.0), (-1.3, 1.0)],
            _ => vec![(0.0, -1.4), (1.4, 0.0), (0.0, 1.4), (-1.4, 0.0)],
        };
        let corners: Vec<_> =
            corners.into_iter().map(|(dx, dy)| (x + dx * REACH, y + dy * REACH)).collect();
        if !self.is_open {
            polygon(root, &corners, &fill)?;
        }
        line(root, &[&corners[..], &corners[..2]].concat(), self.color, 1.2)
    }

    /// A short piece of the line with its marker, for a legend.
    pub fn sample(self, root: &Sheet<'_>, (x, y): (f64, f64)) -> Result<(), Error> {
        const HALF: f64 = 9.0;
        self.line(root, &[(x - HALF, y), (x + HALF, y)])?;
        self.marker(root, (x, y))
    }

    /// A pale area between two edges.
    pub fn band(self, root: &Sheet<'_>, corners: &[(f64, f64)]) -> Result<(), Error> {
        polygon(root, corners, &self.color.mix(0.13))
    }
}

/// A filled area; the corners are in CSS pixels.
pub fn polygon(
    root: &Sheet<'_>,
    corners: &[(f64, f64)],
    color: &impl plotters::style::Color,
) -> Result<(), Error> {
    let corners: Vec<_> = corners.iter().map(|(x, y)| (units(*x), units(*y))).collect();
    root.draw(&Polygon::new(corners, color.filled())).map_err(Error::drawing)
}

/// The line without the points that nobody would miss: what is left is nowhere farther from it than
/// a tenth of a CSS pixel.
pub fn simplify(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    const MISSED: f64 = 0.1;
    let [first, .., last] = points else { return points.to_vec() };
    let away = |(x, y): (f64, f64)| {
        let (across, down) = (last.0 - first.0, last.1 - first.1);
        let length = across.hypot(down);
        if length == 0.0 {
            return (x - first.0).hypot(y - first.1);
        }
        ((x - first.0) * down - (y - first.1) * across).abs() / length
    };
    let farthest =
        (1..points.len() - 1).max_by(|&a, &b| away(points[a]).total_cmp(&away(points[b])));
    match farthest {
        Some(at) if away(points[at]) > MISSED => {
            let mut line = simplify(&points[..=at]);
            line.pop();
            line.extend(simplify(&points[at..]));
            line
        }
        _ => vec![*first, *last],
    }
}

/// The pieces of a line that dashes leave.
fn dashed(points: &[(f64, f64)], dash: f64, gap: f64) -> Vec<Vec<(f64, f64)>> {
    let mut pieces = vec![points.iter().take(1).copied().collect::<Vec<_>>()];
    let (mut is_drawn, mut left) = (true, dash);
    for pair in points.windows(2) {
        let [(mut x, mut y), (to_x, to_y)] = [pair[0], pair[1]];
        let mut length = (to_x - x).hypot(to_y - y);
        while length > left {
            let share = left / length;
            (x, y) = (x + (to_x - x) * share, y + (to_y - y) * share);
            length -= left;
            match (is_drawn, pieces.last_mut()) {
                (true, Some(piece)) => piece.push((x, y)),
                _ => pieces.push(vec![(x, y)]),
            }
            is_drawn = !is_drawn;
            left = if is_drawn { dash } else { gap };
        }
        left -= length;
        if let (true, Some(piece)) = (is_drawn, pieces.last_mut()) {
            piece.push((to_x, to_y));
        }
    }
    pieces.retain(|piece| piece.len() > 1);
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_rows_still_look_different() {
        let looks: std::collections::BTreeSet<_> = (0..36)
            .map(Look::of_row)
            .map(|look| (look.color.0, look.color.1, look.marker.unwrap()))
            .collect();
        assert_eq!(looks.len(), 36);
    }

    #[test]
    fn a_simplified_line_keeps_its_ends_and_its_corners() {
        let bent = [(0.0, 0.0), (1.0, 0.01), (2.0, 0.0), (3.0, 4.0), (4.0, 8.0)];
        assert_eq!(simplify(&bent), [(0.0, 0.0), (2.0, 0.0), (4.0, 8.0)]);
        assert_eq!(simplify(&bent[..1]), [(0.0, 0.0)]);
    }

    #[test]
    fn dashes_and_gaps_have_their_lengths_also_around_corners() {
        let length = |piece: &Vec<(f64, f64)>| -> f64 {
            piece.windows(2).map(|p| (p[1].0 - p[0].0).hypot(p[1].1 - p[0].1)).sum()
        };
        let pieces = dashed(&[(0.0, 0.0), (10.0, 0.0), (10.0, 14.0)], 5.0, 3.0);
        let lengths: Vec<f64> = pieces.iter().map(length).collect();
        assert_eq!(lengths, [5.0, 5.0, 5.0]);
        assert_eq!(pieces[1], [(8.0, 0.0), (10.0, 0.0), (10.0, 3.0)]);
    }
}
