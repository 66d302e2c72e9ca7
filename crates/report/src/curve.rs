//! `curve.svg`: AP over epochs, a line a row and a band from its worst to its best seed.
//!
//! Readable in grey: rows differ by marker and by the name at the end of their line.

use plotters::prelude::*;

use crate::axis::Axis;
use crate::canvas::{
    BLACK, GREY, Ink, LARGE, PALE, Sheet, UNIT, WIDTH, line, sheet, text, text_width, units, wrap,
};
use crate::error::Error;
use crate::panel::dashes;
use crate::study::{CurvePoint, Row, Study};

const MARGIN: f64 = 10.0;
const LINE: f64 = 17.0;
const PLOT_HEIGHT: f64 = 250.0;
const TITLE: Ink = Ink::small().size(LARGE).bold();
const CAPTION: Ink = Ink::small().color(GREY);
/// Okabe and Ito's colours, which also colour-blind readers can tell, ordered so that neighbours
/// differ in grey; darkened where they would be too pale for a line.
const COLORS: [RGBColor; 6] = [
    RGBColor(0x1a, 0x1a, 0x1a),
    RGBColor(0xd5, 0x5e, 0x00),
    RGBColor(0x00, 0x72, 0xb2),
    RGBColor(0xb8, 0x86, 0x00),
    RGBColor(0x00, 0x7a, 0x5a),
    RGBColor(0xb0, 0x5a, 0x8c),
];
const MARKERS: usize = 6;

/// Draws the curves as an SVG document; none when no epoch was evaluated.
pub fn curve(study: &Study) -> Result<Option<String>, Error> {
    let rows: Vec<(usize, &Row)> =
        study.rows.iter().enumerate().filter(|(_, row)| !row.curve.is_empty()).collect();
    if rows.is_empty() {
        return Ok(None);
    }
    let title = wrap(&study.question, WIDTH - 2.0 * MARGIN, TITLE);
    let caption = wrap(&caption(study), WIDTH - 2.0 * MARGIN, CAPTION);
    let top = MARGIN + title.len() as f64 * (LINE + 2.0) + 24.0;
    let bottom = top + PLOT_HEIGHT.max(rows.len() as f64 * LINE);
    let height = bottom + 3.0 * LINE + 6.0 + caption.len() as f64 * LINE + MARGIN;
    let svg = sheet(height, |root| {
        for (at, line) in title.iter().enumerate() {
            text(root, line, MARGIN, MARGIN + 8.0 + at as f64 * (LINE + 2.0), TITLE)?;
        }
        plot(root, study, &rows, [top, bottom])?;
        let first = height - MARGIN - caption.len() as f64 * LINE + LINE / 2.0;
        for (at, line) in caption.iter().enumerate() {
            text(root, line, MARGIN, first + at as f64 * LINE, CAPTION)?;
        }
        Ok(())
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
    let widest = names.iter().map(|name| text_width(name, Ink::small())).fold(0.0, f64::max);
    let points = || rows.iter().flat_map(|(_, row)| &row.curve);
    let last = points().map(|point| point.epoch).max().unwrap_or(1);
    let first = points().map(|point| point.epoch).min().unwrap_or(0);
    let across = Axis::between(f64::from(first.min(1)), f64::from(last.max(2)), 8);
    let up = Axis::around(points().flat_map(|p| [p.smallest * 100.0, p.largest * 100.0]), 5);
    let up = Axis::between(up.low.max(0.0), up.high, 5);

    let [left, right] = [MARGIN + 44.0, WIDTH - MARGIN - 34.0 - widest];
    let corner = (units(left), units(top));
    let size = (units(right) - corner.0, units(bottom) - corner.1);
    let chart = ChartBuilder::on(&root.clone().shrink(corner, size))
        .build_cartesian_2d(across.low..across.high, up.low..up.high)
        .map_err(Error::drawing)?;
    // The place of a point in CSS pixels.
    let at = |epoch: f64, ap_percent: f64| {
        let (x, y) = chart.backend_coord(&(epoch, ap_percent));
        (f64::from(x) / UNIT, f64::from(y) / UNIT)
    };
    let of = |point: &CurvePoint, ap: f64| at(f64::from(point.epoch), ap * 100.0);

    for tick in &up.ticks {
        let (_, y) = at(across.low, *tick);
        line(root, &[(left, y), (right, y)], PALE, 0.8)?;
        text(root, &up.label(*tick), left - 8.0, y, Ink::small().right())?;
    }
    for tick in across.ticks.iter().filter(|tick| tick.fract() == 0.0) {
        let (x, _) = at(*tick, up.low);
        line(root, &[(x, bottom), (x, bottom + 4.0)], BLACK, 1.0)?;
        text(root, &across.label(*tick), x, bottom + 14.0, Ink::small().centred())?;
    }
    line(root, &[(left, top), (left, bottom), (right, bottom)], BLACK, 1.0)?;
    text(root, "AP (%)", MARGIN, top - 10.0, Ink::small())?;
    text(root, "epochs trained", (left + right) / 2.0, bottom + 32.0, Ink::small().centred())?;

    for (index, row) in rows.iter().filter(|(_, row)| row.ap.count > 1) {
        let forth = row.curve.iter().map(|point| of(point, point.largest));
        let back = row.curve.iter().rev().map(|point| of(point, point.smallest));
        let band: Vec<_> = forth.chain(back).map(|(x, y)| (units(x), units(y))).collect();
        let tint = COLORS[index % COLORS.len()].mix(0.13).filled();
        root.draw(&Polygon::new(band, tint)).map_err(Error::drawing)?;
    }
    let ends: Vec<_> = rows
        .iter()
        .filter_map(|(_, row)| row.curve.last())
        .map(|point| of(point, point.mean))
        .collect();
    let heights: Vec<f64> = ends.iter().map(|(_, y)| *y).collect();
    let places = spread(&heights, LINE, top, bottom);
    for (end, y) in ends.iter().zip(&places) {
        dashes(root, *end, (right + 14.0, *y))?;
    }
    for (((index, row), name), y) in rows.iter().zip(&names).zip(&places) {
        let color = COLORS[index % COLORS.len()];
        let path: Vec<_> = row.curve.iter().map(|point| of(point, point.mean)).collect();
        line(root, &path, color, 1.6)?;
        // About eight markers a line, staggered so that close lines do not hide each other's.
        let step = path.len().div_ceil(8).max(1);
        for place in path.iter().skip(index % step).step_by(step) {
            marker(root, *place, shape(*index), color)?;
        }
        marker(root, (right + 20.0, *y), shape(*index), color)?;
        text(root, name, right + 30.0, *y, Ink::small())?;
    }
    Ok(())
}

/// The marker of a row: another one when the colours begin again, so that no two rows look alike.
fn shape(index: usize) -> usize {
    (index + index / COLORS.len()) % MARKERS
}

/// One of the shapes that tell rows apart without colour.
fn marker(
    root: &Sheet<'_>,
    (x, y): (f64, f64),
    shape: usize,
    color: RGBColor,
) -> Result<(), Error> {
    const REACH: f64 = 3.6;
    let fill = if shape < MARKERS / 2 { color } else { WHITE };
    let corners = match shape % (MARKERS / 2) {
        0 => {
            let middle = (units(x), units(y));
            for style in [fill.filled(), color.stroke_width(units(1.2) as u32)] {
                root.draw(&Circle::new(middle, units(REACH), style)).map_err(Error::drawing)?;
            }
            return Ok(());
        }
        1 => vec![(-1.0, -1.0), (1.0, -1.0), (1.0, 1.0), (-1.0, 1.0)],
        _ => vec![(0.0, -1.3), (1.3, 1.0), (-1.3, 1.0)],
    };
    let corners: Vec<_> =
        corners.into_iter().map(|(dx, dy)| (x + dx * REACH, y + dy * REACH)).collect();
    let inside: Vec<_> = corners.iter().map(|(x, y)| (units(*x), units(*y))).collect();
    root.draw(&Polygon::new(inside, fill.filled())).map_err(Error::drawing)?;
    line(root, &[&corners[..], &corners[..2]].concat(), color, 1.2)
}

/// Moves labels apart until each has `gap`, keeping their order and staying between the ends where
/// there is room.
fn spread(wanted: &[f64], gap: f64, top: f64, bottom: f64) -> Vec<f64> {
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

fn caption(study: &Study) -> String {
    let bands = match study.rows.iter().any(|row| row.ap.count > 1) {
        true => "; bands: worst to best seed",
        false => "",
    };
    let mut caption = format!(
        "Lines: AP of the averaged weights, mean over {}{bands}. Measured on {}, scale {}.",
        study.seed_counts(),
        study.data_name,
        study.scale
    );
    if study.missing() > 0 {
        caption.push_str(&format!(
            " Incomplete: {} of {} cells missing.",
            study.missing(),
            study.planned()
        ));
    }
    caption
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_rows_still_look_different() {
        let looks: std::collections::BTreeSet<_> =
            (0..36).map(|index| (index % COLORS.len(), shape(index))).collect();
        assert_eq!(looks.len(), 36);
    }

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
}
