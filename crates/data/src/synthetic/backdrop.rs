//! What stands behind the objects: light, texture and clutter that belong to no class.

use super::shapes::fraction;
use crate::draws::Draws;
use crate::rotation::cos_sin;
use crate::sample::Image;

/// An RGB colour in floating point.
pub(super) type Colour = [f32; 3];

/// Points of the lattice of soft light, along each side.
const LATTICE: usize = 9;

/// A square backdrop with clutter: light that varies softly, sometimes a faint weave, strokes,
/// blobs without an edge and specks.
pub(super) fn paint(size: usize, draws: &mut Draws) -> Image {
    let mut image = light(size, draws);
    if draws.chance(0.3) {
        weave(&mut image, draws);
    }
    for _ in 0..2 + draws.below(5) {
        blob(&mut image, draws);
    }
    for _ in 0..1 + draws.below(7) {
        let length = draws.range(0.08, 0.45) * size as f64;
        let width = draws.range(1.0, 3.5);
        stroke(&mut image, length, width, draws);
    }
    for _ in 0..draws.below(25) {
        let (length, width) = (draws.range(0.0, 3.0), draws.range(1.0, 3.0));
        stroke(&mut image, length, width, draws);
    }
    image
}

/// Adds the noise of a sensor to every value.
pub(super) fn grain(image: &mut Image, draws: &mut Draws) {
    let most = draws.below(9) as i32;
    for values in image.pixels.chunks_mut(8) {
        for (value, byte) in values.iter_mut().zip(draws.bits().to_le_bytes()) {
            let offset = ((i32::from(byte) * (2 * most + 1)) >> 8) - most;
            *value = (i32::from(*value) + offset).clamp(0, 255) as u8;
        }
    }
}

/// Any colour that is neither black nor white.
pub(super) fn any_colour(draws: &mut Draws) -> Colour {
    [0; 3].map(|_| draws.range(20.0, 236.0) as f32)
}

/// A gradient between four corners of one tint, with soft bumps of brightness.
fn light(size: usize, draws: &mut Draws) -> Image {
    let tint = any_colour(draws);
    let mut corners = [tint; 4];
    for corner in &mut corners {
        for value in corner {
            *value += draws.range(-45.0, 45.0) as f32;
        }
    }
    let strength = draws.range(0.0, 28.0);
    let bumps: [[f32; LATTICE]; LATTICE] =
        [[0; LATTICE]; LATTICE].map(|row| row.map(|_| draws.range(-strength, strength) as f32));

    let mix = |a: f32, b: f32, share: f32| a + (b - a) * share;
    let cells = LATTICE - 1;
    let mut image = Image::black(size, size);
    let (pixels, _) = image.pixels.as_chunks_mut::<3>();
    for (y, row) in pixels.chunks_exact_mut(size).enumerate() {
        let down = y as f32 / size as f32;
        let cell = y * cells / size;
        let within = down * cells as f32 - cell as f32;
        let edges: [Colour; 2] = std::array::from_fn(|side| {
            std::array::from_fn(|at| mix(corners[side][at], corners[2 + side][at], down))
        });
        // Between two points of the lattice each channel is a straight line along the row.
        for column in 0..cells {
            let (from, to) = (column * size / cells, (column + 1) * size / cells);
            let width = to - from;
            // In 1/65536 of a level, so that a step is one addition.
            let mut level = [0_i32; 3];
            let mut slope = [0_i32; 3];
            for at in 0..3 {
                let [first, last] = [column, column + 1].map(|end| {
                    mix(edges[0][at], edges[1][at], end as f32 / cells as f32)
                        + mix(bumps[cell][end], bumps[cell + 1][end], within)
                });
                level[at] = (first * 65536.0) as i32;
                slope[at] = ((last - first) * 65536.0 / width as f32) as i32;
            }
            for pixel in &mut row[from..to] {
                for at in 0..3 {
                    pixel[at] = (level[at] >> 16).clamp(0, 255) as u8;
                    level[at] += slope[at];
                }
            }
        }
    }
    image
}

/// Faint stripes over everything, so that stripes alone are no object.
fn weave(image: &mut Image, draws: &mut Draws) {
    let (cos, sin) = cos_sin(draws.unit());
    let period = draws.range(6.0, 20.0);
    let (x_step, y_step) = ((cos / period) as f32, (sin / period) as f32);
    let depth = draws.range(4.0, 14.0) as f32;
    let width = image.width;
    for (index, pixel) in image.pixels.as_chunks_mut::<3>().0.iter_mut().enumerate() {
        let phase = (index % width) as f32 * x_step + (index / width) as f32 * y_step;
        let offset = if fraction(phase) < 0.5 { depth } else { -depth };
        *pixel = pixel.map(|value| (f32::from(value) + offset) as u8);
    }
}

/// A patch of another colour, sometimes striped, that fades out without an edge.
fn blob(image: &mut Image, draws: &mut Draws) {
    let size = image.width as f64;
    let (x, y) = (draws.range(0.0, size) as f32, draws.range(0.0, size) as f32);
    let radius = (draws.range(0.03, 0.2) * size) as f32;
    let strength = draws.range(0.2, 0.7) as f32;
    let (colour, other) = (any_colour(draws), any_colour(draws));
    let striped = draws.chance(0.3);
    let (cos, sin) = cos_sin(draws.unit());
    let period = draws.range(5.0, 12.0);
    let (x_step, y_step) = ((cos / period) as f32, (sin / period) as f32);
    over(image, [x - radius, y - radius, x + radius, y + radius], |dx, dy| {
        let (from_x, from_y) = (dx - x, dy - y);
        let inside = 1.0 - (from_x * from_x + from_y * from_y) / (radius * radius);
        let phase = from_x * x_step + from_y * y_step;
        let second = striped && fraction(phase) < 0.5;
        let painted = (if second { other } else { colour }, strength * inside * inside);
        (inside > 0.0).then_some(painted)
    });
}

/// A straight stroke with round ends; without length a speck.
fn stroke(image: &mut Image, length: f64, width: f64, draws: &mut Draws) {
    let size = image.width as f64;
    let (x, y) = (draws.range(0.0, size) as f32, draws.range(0.0, size) as f32);
    let (cos, sin) = cos_sin(draws.unit());
    let (cos, sin) = (cos as f32, sin as f32);
    let (half, radius) = ((length / 2.0) as f32, (width / 2.0) as f32);
    let colour = any_colour(draws);
    let (reach_x, reach_y) = (half * cos.abs() + radius, half * sin.abs() + radius);
    over(image, [x - reach_x, y - reach_y, x + reach_x, y + reach_y], |dx, dy| {
        let (from_x, from_y) = (dx - x, dy - y);
        let along = (from_x * cos + from_y * sin).clamp(-half, half);
        let (off_x, off_y) = (from_x - along * cos, from_y - along * sin);
        (off_x * off_x + off_y * off_y <= radius * radius).then_some((colour, 1.0))
    });
}

/// Blends a colour with a strength into each pixel of a rectangle for which `at` gives one.
fn over(
    image: &mut Image,
    [left, top, right, bottom]: [f32; 4],
    at: impl Fn(f32, f32) -> Option<(Colour, f32)>,
) {
    let (width, height) = (image.width, image.height);
    let columns = left.max(0.0) as usize..(right.max(0.0) as usize + 1).min(width);
    for y in top.max(0.0) as usize..(bottom.max(0.0) as usize + 1).min(height) {
        let (pixels, _) = image.pixels[y * width * 3..][..width * 3].as_chunks_mut::<3>();
        for x in columns.clone() {
            if let Some((colour, strength)) = at(x as f32 + 0.5, y as f32 + 0.5) {
                for (value, target) in pixels[x].iter_mut().zip(colour) {
                    let from = f32::from(*value);
                    *value = (from + (target - from) * strength) as u8;
                }
            }
        }
    }
}
