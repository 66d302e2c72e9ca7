//! Two axes and what is drawn between them: the building block of every figure but the table's.

use plotters::coord::types::RangedCoordf64;
use plotters::prelude::*;

use crate::axis::Axis;
use crate::canvas::{BLACK, Ink, LINE, PALE, Sheet, UNIT, line, text, text_width, units};
use crate::error::Error;
use crate::figures::look::Look;
use crate::panel::dashes;

/// The sides of the area between the axes, in CSS pixels.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Frame {
    pub left: f64,
    pub right: f64,
    pub top: f64,
    pub bottom: f64,
}

/// Room that ticks, labels and name take below a frame, and the name above it.
pub const BELOW: f64 = 34.0;
/// From the top of a frame up to the middle of a name above it.
pub const NAME: f64 = 14.0;
pub const ABOVE: f64 = 21.0;

impl Frame {
    pub fn middle(&self) -> f64 {
        (self.left + self.right) / 2.0
    }
}

/// A drawn pair of axes.
pub struct Chart<'a, 'b> {
    pub root: &'a Sheet<'b>,
    pub frame: Frame,
    chart: ChartContext<'b, SVGBackend<'b>, Cartesian2d<RangedCoordf64, RangedCoordf64>>,
}

impl<'a, 'b> Chart<'a, 'b> {
    /// Draws the axes with their ticks and a pale grid; `names` are of the horizontal axis, below it,
    /// and of the vertical one, above it.
    pub fn new(
        root: &'a Sheet<'b>,
        frame: Frame,
        axes: [&Axis; 2],
        names: [&str; 2],
    ) -> Result<Self, Error> {
        Self::split(root, frame, frame.bottom, axes, names)
    }

    /// The same with a vertical axis that ends at `floor`: below it is room for something else over
    /// the horizontal axis.
    pub fn split(
        root: &'a Sheet<'b>,
        frame: Frame,
        floor: f64,
        [across, up]: [&Axis; 2],
        names: [&str; 2],
    ) -> Result<Self, Error> {
        let Frame { left, right, top, bottom } = frame;
        let corner = (units(left), units(top));
        let size = (units(right) - corner.0, units(floor) - corner.1);
        let chart = ChartBuilder::on(&root.clone().shrink(corner, size))
            .build_cartesian_2d(across.low..across.high, up.low..up.high)
            .map_err(Error::drawing)?;
        let chart = Self { root, frame, chart };
        for tick in &up.ticks {
            let (_, y) = chart.at(across.low, *tick);
            line(root, &[(left, y), (right, y)], PALE, 0.7)?;
            text(root, &up.label(*tick), left - 6.0, y, Ink::small().right())?;
        }
        for tick in &across.ticks {
            let (x, _) = chart.at(*tick, up.low);
            line(root, &[(x, bottom), (x, bottom + 3.5)], BLACK, 0.9)?;
            text(root, &across.label(*tick), x, bottom + 12.0, Ink::small().centred())?;
        }
        line(root, &[(left, top), (left, bottom), (right, bottom)], BLACK, 0.9)?;
        text(root, names[0], frame.middle(), bottom + 27.0, Ink::small().centred())?;
        let widest = up.ticks.iter().map(|tick| text_width(&up.label(*tick), Ink::small()));
        let start = left - 6.0 - widest.fold(0.0, f64::max);
        text(root, names[1], start, top - NAME, Ink::small())?;
        Ok(chart)
    }

    /// The place of a point in CSS pixels.
    pub fn at(&self, x: f64, y: f64) -> (f64, f64) {
        let (x, y) = self.chart.backend_coord(&(x, y));
        (f64::from(x) / UNIT, f64::from(y) / UNIT)
    }

    pub fn places(&self, points: &[(f64, f64)]) -> Vec<(f64, f64)> {
        points.iter().map(|&(x, y)| self.at(x, y)).collect()
    }

    /// A line with about eight markers, staggered by `index` so that close lines do not hide each
    /// other's.
    pub fn marked(&self, points: &[(f64, f64)], look: Look, index: usize) -> Result<(), Error> {
        let places = self.places(points);
        look.line(self.root, &places)?;
        let step = places.len().div_ceil(8).max(1);
        places
            .iter()
            .skip(index % step)
            .step_by(step)
            .try_for_each(|place| look.marker(self.root, *place))
    }

    /// Names beside the ends of lines, moved apart, each with a marker and a thread to its line.
    pub fn names(&self, ends: &[((f64, f64), Look, &str)]) -> Result<(), Error> {
        let Frame { right, top, bottom, .. } = self.frame;
        let wanted: Vec<f64> = ends.iter().map(|(end, ..)| end.1).collect();
        let places = spread(&wanted, LINE, top, bottom);
        for ((end, look, name), y) in ends.iter().zip(&places) {
            if (end.0 - right - 13.0).hypot(end.1 - y) > 1.0 {
                dashes(self.root, *end, (right + 13.0, *y))?;
            }
            look.marker(self.root, (right + 18.0, *y))?;
            text(self.root, name, right + 26.0, *y, Ink::small())?;
        }
        Ok(())
    }

    /// Room that [`Chart::names`] needs right of the frame.
    pub fn room_for<'n>(names: impl Iterator<Item = &'n str>) -> f64 {
        26.0 + names.map(|name| text_width(name, Ink::small())).fold(0.0, f64::max)
    }
}

/// Samples and names in a row; returns where the next line of the figure may begin.
pub fn legend(
    root: &Sheet<'_>,
    entries: &[(Look, String)],
    [left, right]: [f64; 2],
    top: f64,
) -> Result<f64, Error> {
    let places = legend_places(entries, [left, right]);
    for ((look, name), (x, row)) in entries.iter().zip(&places) {
        let y = top + (*row as f64 + 0.5) * LINE;
        look.sample(root, (x + 9.0, y))?;
        text(root, name, x + 23.0, y, Ink::small())?;
    }
    Ok(top + legend_rows(&places) as f64 * LINE)
}

/// Height of a legend between these sides.
pub fn legend_height(entries: &[(Look, String)], sides: [f64; 2]) -> f64 {
    legend_rows(&legend_places(entries, sides)) as f64 * LINE
}

fn legend_rows(places: &[(f64, usize)]) -> usize {
    places.last().map_or(0, |(_, row)| row + 1)
}

/// Left end and row of each entry.
fn legend_places(entries: &[(Look, String)], [left, right]: [f64; 2]) -> Vec<(f64, usize)> {
    let (mut x, mut row) = (left, 0);
    let place = |(_, name): &(Look, String)| {
        let width = 23.0 + text_width(name, Ink::small());
        if x > left && x + width > right {
            (x, row) = (left, row + 1);
        }
        let place = (x, row);
        x += width + 18.0;
        place
    };
    entries.iter().map(place).collect()
}

/// Moves labels apart until each has `gap`, keeping their order and staying between the ends where
/// there is room.
pub fn spread(wanted: &[f64], gap: f64, top: f64, bottom: f64) -> Vec<f64> {
    let mut order: Vec<usize> = (0..wanted.len()).collect();
    order.sort_by(|&a, &b| wanted[a].total_cmp(&wanted[b]).then(a.cmp(&b)));
    let mut placed = wanted.to_vec();
    let mut least = top;
    for &at in &order {
        placed[at] = placed[at].max(least);
        least = placed[at] + gap;
    }
    let mut most = bottom;
    for &at in order.iter().rev() {
        placed[at] = placed[at].min(most);
        most = placed[at] - gap;
    }
    placed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_keep_their_order_and_their_distance() {
        let placed = spread(&[50.0, 48.0, 49.0, 200.0], 17.0, 10.0, 200.0);
        let mut sorted = placed.clone();
        sorted.sort_by(f64::total_cmp);
        assert_eq!(sorted, [placed[1], placed[2], placed[0], placed[3]]);
        assert!(sorted.windows(2).all(|pair| pair[1] - pair[0] >= 17.0 - 1e-9), "{placed:?}");
        assert!(sorted[0] >= 10.0 && sorted[3] <= 200.0);
    }

    #[test]
    fn labels_at_the_lower_end_move_up() {
        let placed = spread(&[199.0, 200.0], 17.0, 0.0, 200.0);
        assert_eq!(placed, [183.0, 200.0]);
    }

    #[test]
    fn a_legend_wraps_before_its_right_side() {
        let entries: Vec<_> =
            (0..4).map(|row| (Look::of_row(row), "mosaic 0.5, mixup 0.5".to_owned())).collect();
        let places = legend_places(&entries, [0.0, 330.0]);
        assert_eq!(places.iter().map(|(_, row)| *row).collect::<Vec<_>>(), [0, 0, 1, 1]);
        assert_eq!(legend_height(&entries, [0.0, 330.0]), 2.0 * LINE);
    }
}
