//! Mosaic of four images, then a random affine map (deim-facts 3.3).

use std::ops::Range;

use crate::draws::Draws;
use crate::rotation::cos_sin;
use crate::sample::{Image, Sample};
use crate::transforms::resize::resize_shorter;

/// Largest rotation, in degrees, either way.
const DEGREES: f64 = 10.0;
/// Largest shift, as a share of the canvas.
const SHIFT: f64 = 0.1;
const SCALE: [f64; 2] = [0.5, 1.5];

/// Four images as a mosaic, each with its shorter side at `tile`.
pub fn merge(sources: &[&Sample; 4], tile: usize) -> Sample {
    let tiles = sources.map(|source| resize_shorter(source, tile));
    stitch(&tiles.each_ref())
}

/// Width and height of the canvas that four tiles need: a long tile beside a tall one needs a large one.
pub fn canvas(tiles: &[&Sample; 4]) -> [usize; 2] {
    let most = |side: fn(&Image) -> usize| tiles.iter().map(|tile| side(&tile.image)).max();
    [most(|image| image.width), most(|image| image.height)].map(|side| 2 * side.unwrap_or(0))
}

/// Four tiles, top-left in the cells of a black canvas. Cells are as large as the largest tile. The
/// id and size of the first tile stay.
pub fn stitch(tiles: &[&Sample; 4]) -> Sample {
    let [width, height] = canvas(tiles);
    let (cell_width, cell_height) = (width / 2, height / 2);
    let mut merged = Sample {
        image: Image::black(width, height),
        boxes: Vec::new(),
        labels: Vec::new(),
        image_id: tiles[0].image_id,
        original_size: tiles[0].original_size,
        dropped_boxes: 0,
    };
    for (cell, tile) in tiles.iter().enumerate() {
        let (left, top) = (cell % 2 * cell_width, cell / 2 * cell_height);
        merged.image.paste(&tile.image, left, top);
        let (x, y) = (left as f32, top as f32);
        merged.boxes.extend(tile.boxes.iter().map(|b| [b[0] + x, b[1] + y, b[2] + x, b[3] + y]));
        merged.labels.extend_from_slice(&tile.labels);
    }
    merged
}

/// A rotation and scaling around the centre of the image, then a shift by whole pixels.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Affine {
    /// Clockwise.
    pub degrees: f64,
    /// Right and down.
    pub shift: [i64; 2],
    pub scale: f64,
}

impl Affine {
    /// The random map for a canvas of this size.
    pub fn draw(width: usize, height: usize, draws: &mut Draws) -> Affine {
        let degrees = draws.range(-DEGREES, DEGREES);
        let mut shift = |side: usize| {
            let most = SHIFT * side as f64;
            draws.range(-most, most).round_ties_even() as i64
        };
        let shift = [shift(width), shift(height)];
        Affine { degrees, shift, scale: draws.range(SCALE[0], SCALE[1]) }
    }

    /// Maps the image by nearest neighbour, black where nothing comes from, and the boxes to the
    /// hull of their mapped corners, clamped to the image.
    pub fn apply(&self, mut sample: Sample) -> Sample {
        for rect in &mut sample.boxes {
            *rect = self.map_box(*rect, sample.image.width as f64, sample.image.height as f64);
        }
        sample.image = self.map_image(&sample.image);
        sample
    }

    fn map_box(&self, [x1, y1, x2, y2]: [f32; 4], width: f64, height: f64) -> [f32; 4] {
        let (cos, sin) = cos_sin(self.degrees / 360.0);
        let (cx, cy) = (width * 0.5, height * 0.5);
        let corners = [(x1, y1), (x2, y1), (x2, y2), (x1, y2)].map(|(x, y)| {
            let (x, y) = (f64::from(x) - cx, f64::from(y) - cy);
            [
                self.scale * (cos * x - sin * y) + cx + self.shift[0] as f64,
                self.scale * (sin * x + cos * y) + cy + self.shift[1] as f64,
            ]
        });
        let hull = |axis: usize, limit: f64| {
            let values = corners.map(|corner| corner[axis].clamp(0.0, limit) as f32);
            (values.into_iter().fold(f32::MAX, f32::min), values.into_iter().fold(0.0, f32::max))
        };
        let ((left, right), (top, bottom)) = (hull(0, width), hull(1, height));
        [left, top, right, bottom]
    }

    /// Pillow's nearest affine transform: the inverse map at pixel centres, in 16.16 fixed point;
    /// in 64-bit floats, with an axis at a time, where nothing is turned.
    fn map_image(&self, image: &Image) -> Image {
        let (cos, sin) = cos_sin(self.degrees / 360.0);
        let (cx, cy) = (image.width as f64 * 0.5, image.height as f64 * 0.5);
        let (a, b) = (cos / self.scale, sin / self.scale);
        let (dx, dy) = (-cx - self.shift[0] as f64, -cy - self.shift[1] as f64);
        let origin_x = a * dx + b * dy + cx;
        let origin_y = -b * dx + a * dy + cy;

        let mut out = Image::black(image.width, image.height);
        let (source, _) = image.pixels.as_chunks::<3>();
        let (target, _) = out.pixels.as_chunks_mut::<3>();
        let rows = target.chunks_exact_mut(image.width.max(1));
        if b == 0.0 {
            let columns = positions(origin_x + a * 0.5, a, image.width);
            let lines = positions(origin_y + a * 0.5, a, image.height);
            for (row, line) in rows.zip(lines) {
                let Some(line) = line else { continue };
                for (pixel, column) in row.iter_mut().zip(&columns) {
                    if let Some(column) = column {
                        *pixel = source[line * image.width + column];
                    }
                }
            }
            return out;
        }

        let fixed = |value: f64| (value * 65536.0 + 0.5).floor() as i64;
        let (step, skew, back) = (fixed(a), fixed(b), fixed(-b));
        let (mut row_x, mut row_y) =
            (fixed(origin_x + a * 0.5 + b * 0.5), fixed(origin_y - b * 0.5 + a * 0.5));
        for row in rows {
            let inside = within(row_x, step, image.width, row.len());
            let inside = cut(inside, within(row_y, back, image.height, row.len()));
            let mut x = row_x + step * inside.start as i64;
            let mut y = row_y + back * inside.start as i64;
            for pixel in &mut row[inside] {
                *pixel = source[(y >> 16) as usize * image.width + (x >> 16) as usize];
                x += step;
                y += back;
            }
            row_x += skew;
            row_y += step;
        }
        out
    }
}

/// The source positions of a line without a turn, added up as Pillow does; none outside.
fn positions(first: f64, step: f64, length: usize) -> Vec<Option<usize>> {
    let mut at = first;
    let mut next = || {
        let here = at;
        at += step;
        (here >= 0.0 && here < length as f64).then_some(here as usize)
    };
    (0..length).map(|_| next()).collect()
}

/// For which of `count` steps from `start` the 16.16 coordinate is in `0..length`.
fn within(start: i64, step: i64, length: usize, count: usize) -> Range<usize> {
    let end = (length as i64) << 16;
    let count = count as i64;
    // The first step at which the coordinate is at or beyond a limit, going in its direction.
    let reaches = |distance: i64, pace: i64| (distance + pace - 1).div_euclid(pace).clamp(0, count);
    let (first, last) = match step {
        0 if (0..end).contains(&start) => (0, count),
        0 => (0, 0),
        1.. => (reaches(-start, step), reaches(end - start, step)),
        _ => (reaches(start - end + 1, -step), reaches(start + 1, -step)),
    };
    first as usize..last.max(first) as usize
}

fn cut(a: Range<usize>, b: Range<usize>) -> Range<usize> {
    let start = a.start.max(b.start);
    start..a.end.min(b.end).max(start)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transforms::tests_support::sample_of;

    #[test]
    fn tiles_stand_top_left_in_cells_of_the_largest_tile() {
        let mut wide = sample_of(40, 20);
        wide.boxes = vec![[0.0, 0.0, 40.0, 20.0]];
        wide.labels = vec![1];
        let mut tall = sample_of(20, 30);
        tall.boxes = vec![[10.0, 0.0, 20.0, 30.0]];
        tall.labels = vec![2];
        let merged = merge(&[&wide, &tall, &tall, &wide], 10);
        // Tiles are 20 x 10 and 10 x 15, cells 20 x 15.
        assert_eq!((merged.image.width, merged.image.height), (40, 30));
        assert_eq!(merged.labels, [1, 2, 2, 1]);
        assert_eq!(
            merged.boxes,
            [
                [0.0, 0.0, 20.0, 10.0],
                [25.0, 0.0, 30.0, 15.0],
                [5.0, 15.0, 10.0, 30.0],
                [20.0, 15.0, 40.0, 25.0]
            ]
        );
        let pixel = |x: usize, y: usize| &merged.image.pixels[(y * 40 + x) * 3..][..3];
        assert_eq!(pixel(35, 5), [0, 0, 0], "outside the second tile");
        assert_eq!(pixel(5, 12), [0, 0, 0], "below the first tile");
    }

    #[test]
    fn the_identity_changes_nothing_and_a_shift_moves_whole_pixels() {
        let mut sample = sample_of(8, 6);
        sample.boxes = vec![[1.0, 1.0, 4.0, 3.0]];
        sample.labels = vec![0];
        let still = Affine { degrees: 0.0, shift: [0, 0], scale: 1.0 };
        assert_eq!(still.apply(sample.clone()), sample);
        let moved = Affine { shift: [2, -1], ..still }.apply(sample.clone());
        assert_eq!(moved.boxes, [[3.0, 0.0, 6.0, 2.0]]);
        assert_eq!(moved.image.pixels[(8 + 2) * 3..][..3], sample.image.pixels[2 * 8 * 3..][..3]);
    }

    #[test]
    fn the_steps_inside_are_those_whose_coordinate_is() {
        for (start, step) in [(0, 65_536), (-100_000, 40_000), (700_000, -70_000), (5, 0), (-5, 0)]
            .into_iter()
            .chain((-40..40).map(|k| (k * 9_999, 65_536 - k * 3_333)))
        {
            let inside = |k: &usize| (0..10 << 16).contains(&(start + step * *k as i64));
            let expected: Vec<usize> = (0..14).filter(inside).collect();
            let found: Vec<usize> = within(start, step, 10, 14).collect();
            assert_eq!(found, expected, "from {start} by {step}");
        }
    }

    #[test]
    fn a_quarter_turn_is_clockwise() {
        let mut sample = sample_of(8, 8);
        sample.boxes = vec![[0.0, 0.0, 2.0, 1.0]];
        sample.labels = vec![0];
        let turned = Affine { degrees: 90.0, shift: [0, 0], scale: 1.0 }.apply(sample.clone());
        assert_eq!(turned.boxes, [[7.0, 0.0, 8.0, 2.0]]);
        // The top-left pixel comes to the top right.
        assert_eq!(turned.image.pixels[7 * 3..8 * 3], sample.image.pixels[..3]);
    }
}
