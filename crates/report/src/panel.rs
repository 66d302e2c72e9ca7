//! A horizontal scale beside rows of labels: the building block of the figure.

use plotters::coord::types::RangedCoordf64;
use plotters::prelude::*;

use crate::axis::Axis;
use crate::canvas::{BLACK, GREY, Ink, PALE, Sheet, UNIT, line, text, units};
use crate::error::Error;

/// Height of a row, in CSS pixels.
pub const ROW: f64 = 27.0;
/// Height of an axis with its ticks, labels and name.
pub const AXIS: f64 = 42.0;

/// A scale between two sides, over all rows; lengths are in CSS pixels.
pub struct Panel<'a, 'b> {
    root: &'a Sheet<'b>,
    chart: ChartContext<'b, SVGBackend<'b>, Cartesian2d<RangedCoordf64, RangedCoordf64>>,
    sides: [f64; 2],
    rows: [f64; 2],
}

impl<'a, 'b> Panel<'a, 'b> {
    /// Draws the scale with its grid; marks are drawn over it.
    pub fn new(
        root: &'a Sheet<'b>,
        rows: [f64; 2],
        sides: [f64; 2],
        axis: &Axis,
        name: &str,
    ) -> Result<Self, Error> {
        let corner = (units(sides[0]), units(rows[0]));
        let size = (units(sides[1]) - corner.0, units(rows[1]) - corner.1);
        let chart = ChartBuilder::on(&root.clone().shrink(corner, size))
            .build_cartesian_2d(axis.low..axis.high, 1.0..0.0)
            .map_err(Error::drawing)?;
        let panel = Self { root, chart, sides, rows };
        panel.scale(axis, name)?;
        Ok(panel)
    }

    /// The horizontal place of a value.
    pub fn x(&self, value: f64) -> f64 {
        f64::from(self.chart.backend_coord(&(value, 0.0)).0) / UNIT
    }

    fn scale(&self, axis: &Axis, name: &str) -> Result<(), Error> {
        let [top, bottom] = self.rows;
        let base = bottom + 6.0;
        for tick in &axis.ticks {
            let x = self.x(*tick);
            line(self.root, &[(x, top), (x, bottom)], PALE, 0.8)?;
            line(self.root, &[(x, base), (x, base + 4.0)], BLACK, 1.0)?;
            text(self.root, &axis.label(*tick), x, bottom + 18.0, Ink::small().centred())?;
        }
        let [left, right] = self.sides;
        line(self.root, &[(left, base), (right, base)], BLACK, 1.0)?;
        text(self.root, name, (left + right) / 2.0, bottom + 33.0, Ink::small().centred())
    }

    /// A dashed line through all rows.
    pub fn guide(&self, value: f64) -> Result<(), Error> {
        let x = self.x(value);
        dashes(self.root, (x, self.rows[0]), (x, self.rows[1]))
    }

    /// A filled circle, and its interval where there is one.
    pub fn estimate(&self, value: f64, interval: Option<[f64; 2]>, y: f64) -> Result<(), Error> {
        if let Some([low, high]) = interval {
            let (low, high) = (self.x(low), self.x(high));
            line(self.root, &[(low, y), (high, y)], BLACK, 1.4)?;
            for end in [low, high] {
                line(self.root, &[(end, y - 4.0), (end, y + 4.0)], BLACK, 1.4)?;
            }
        }
        let dot = Circle::new((units(self.x(value)), units(y)), units(4.0), BLACK.filled());
        self.root.draw(&dot).map_err(Error::drawing)
    }

    /// A small circle: one seed.
    pub fn seed(&self, value: f64, y: f64) -> Result<(), Error> {
        let dot = Circle::new((units(self.x(value)), units(y)), units(2.3), GREY.filled());
        self.root.draw(&dot).map_err(Error::drawing)
    }

    /// A hollow diamond with its value beside it, on the side that has room.
    pub fn printed(&self, value: f64, y: f64) -> Result<(), Error> {
        const REACH: f64 = 5.0;
        let x = self.x(value);
        let corners = [(x, y - REACH), (x + REACH, y), (x, y + REACH), (x - REACH, y)];
        let inside = corners.map(|(x, y)| (units(x), units(y))).to_vec();
        self.root.draw(&Polygon::new(inside, WHITE.filled())).map_err(Error::drawing)?;
        let [first, second, ..] = corners;
        line(self.root, &[&corners[..], &[first, second]].concat(), BLACK, 1.4)?;
        let label = format!("{value:.1}");
        if x < (self.sides[0] + self.sides[1]) / 2.0 {
            text(self.root, &label, x + REACH + 4.0, y, Ink::small())
        } else {
            text(self.root, &label, x - REACH - 4.0, y, Ink::small().right())
        }
    }

    /// Words in place of a value.
    pub fn remark(&self, remark: &str, y: f64) -> Result<(), Error> {
        text(self.root, remark, self.sides[0] + 4.0, y, Ink::small().color(GREY))
    }
}

/// A thin dashed line, horizontal or vertical or between.
pub fn dashes(root: &Sheet<'_>, from: (f64, f64), to: (f64, f64)) -> Result<(), Error> {
    const DASH: f64 = 3.0;
    const PERIOD: f64 = 6.0;
    let (across, down) = (to.0 - from.0, to.1 - from.1);
    let length = across.hypot(down);
    let at = |distance: f64| {
        let share = (distance / length).min(1.0);
        (from.0 + across * share, from.1 + down * share)
    };
    (0..(length / PERIOD).ceil() as usize).try_for_each(|dash| {
        let start = dash as f64 * PERIOD;
        line(root, &[at(start), at(start + DASH)], GREY, 1.0)
    })
}
