//! One scene: a backdrop and its objects, drawn front to back.
//!
//! What is annotated: every object that is drawn. An object is placed only where at least
//! [`VISIBLE`] of its area shows inside the scene and behind the objects placed before it, and no
//! later object can cover it. Its box is the hull of its visible pixels, its COCO area their number.

use deim_spec::config::Synthetic;

use super::Split;
use super::backdrop::{self, Colour, any_colour};
use super::shapes::{CLASSES, Class};
use crate::draws::Draws;
use crate::error::DataError;
use crate::rotation::cos_sin;
use crate::sample::Image;

/// Least share of an object's area that must be visible.
const VISIBLE: f64 = 0.6;
/// Places tried for one object before another is drawn.
const PLACES: usize = 8;

/// A drawn scene with what is in it.
#[derive(Clone, Debug)]
pub(crate) struct Scene {
    pub image: Image,
    pub objects: Vec<Object>,
}

/// The visible part of an object.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Object {
    pub class: u32,
    /// `[x1, y1, x2, y2]`: the edges of the hull of the visible pixels.
    pub bounds: [u32; 4],
    /// Visible pixels.
    pub area: u32,
}

/// Draws the scene at `index` of a split.
pub(crate) fn draw(config: &Synthetic, split: Split, index: usize) -> Result<Scene, DataError> {
    let mut draws = Draws::new(config.seed, split.stream(), &[index as u64]);
    let size = config.scene_size;
    let mut scene = Scene { image: backdrop::paint(size, &mut draws), objects: Vec::new() };
    let mut free = vec![true; size * size];
    // The smaller of two draws: most scenes hold a handful of objects, some are crowded.
    let spread = config.max_objects - config.min_objects + 1;
    let wanted = config.min_objects + draws.below(spread).min(draws.below(spread));
    let mut tried = 0;
    while scene.objects.len() < wanted {
        // A crowded scene may hold fewer objects than were drawn for it, but not too few.
        let placed = scene.objects.len();
        if tried >= 4 * wanted && placed >= config.min_objects {
            break;
        }
        if tried >= 100 * wanted {
            let wanted = config.min_objects;
            return Err(DataError::Crowded { split: split.name(), index, placed, wanted, size });
        }
        tried += 1;
        let shape = Shape::draw(size, &mut draws);
        for _ in 0..PLACES {
            let centre = [0; 2].map(|_| draws.range(0.0, size as f64) as f32);
            if shape.fits(centre, size, &free) {
                scene.objects.push(shape.paint(centre, &mut scene.image, &mut free, &mut draws));
                break;
            }
        }
    }
    backdrop::grain(&mut scene.image, &mut draws);
    Ok(scene)
}

/// Square root of an object's area in pixels: about one in seven small, three in five medium, the
/// rest large by COCO's limits of 32 and 96. Where the scene has no room for a size, the next smaller.
fn draw_side(size: usize, draws: &mut Draws) -> f64 {
    let most = size as f64 * 0.6;
    let kind = draws.unit();
    let unit = draws.unit();
    if kind < 0.25 && most > 98.0 {
        98.0 + (most - 98.0) * unit
    } else if kind < 0.86 && most > 36.0 {
        36.0 + (most.min(94.0) - 36.0) * unit
    } else {
        20.0 + 11.0 * unit
    }
}

/// An object before it has a place.
struct Shape {
    class: usize,
    kind: Class,
    /// Half the extent along the shape's own axes, in pixels.
    half: [f32; 2],
    cos: f32,
    sin: f32,
    /// Periods of the texture per pixel.
    frequency: f32,
    phase: [f32; 2],
    /// Brightness gained per pixel along the shape's own axes.
    slope: [f32; 2],
    /// Pixels of the whole outline.
    area: f64,
}

impl Shape {
    fn draw(size: usize, draws: &mut Draws) -> Self {
        let class = draws.below(CLASSES.len());
        let kind = CLASSES[class];
        let side = draw_side(size, draws);
        let aspect = draws.range(0.75, 1.0 / 0.75);
        let scale = side * side / kind.outline.area();
        let half = [(scale * aspect).sqrt(), (scale / aspect).sqrt()];
        // A twelfth of a turn at the most, to either side.
        let (cos, sin) = cos_sin(draws.range(-1.0 / 12.0, 1.0 / 12.0));
        let period = (side / draws.range(3.0, 5.0)).clamp(6.0, 18.0);
        let slope = [0; 2].map(|_| (draws.range(-18.0, 18.0) / half[0].max(half[1])) as f32);
        Self {
            class,
            kind,
            half: half.map(|value| value as f32),
            cos: cos as f32,
            sin: sin as f32,
            frequency: (1.0 / period) as f32,
            phase: [0; 2].map(|_| draws.unit() as f32),
            slope,
            area: side * side,
        }
    }

    /// Calls `each` with every `stride`-th pixel of the outline inside the scene: column, row, and
    /// the place along the shape's own axes.
    fn pixels(
        &self,
        [x, y]: [f32; 2],
        size: usize,
        stride: usize,
        mut each: impl FnMut(usize, usize, f32, f32),
    ) {
        let reach_x = self.half[0] * self.cos.abs() + self.half[1] * self.sin.abs();
        let reach_y = self.half[0] * self.sin.abs() + self.half[1] * self.cos.abs();
        let columns = (x - reach_x).max(0.0) as usize..((x + reach_x) as usize + 1).min(size);
        let scale = self.half.map(|half| 1.0 / half);
        for row in ((y - reach_y).max(0.0) as usize..((y + reach_y) as usize + 1).min(size))
            .step_by(stride)
        {
            let down = row as f32 + 0.5 - y;
            for column in columns.clone().step_by(stride) {
                let right = column as f32 + 0.5 - x;
                let along = right * self.cos + down * self.sin;
                let across = down * self.cos - right * self.sin;
                if self.kind.outline.contains(along * scale[0], across * scale[1]) {
                    each(column, row, along, across);
                }
            }
        }
    }

    /// Whether enough of it would show. A look at one pixel in sixteen turns most places down.
    fn fits(&self, centre: [f32; 2], size: usize, free: &[bool]) -> bool {
        let count = |stride: usize| {
            let mut count = 0;
            self.pixels(centre, size, stride, |column, row, _, _| {
                count += usize::from(free[row * size + column]);
            });
            (count * stride * stride) as f64
        };
        count(4) >= 0.9 * VISIBLE * self.area && count(1) >= VISIBLE * self.area
    }

    /// Paints what shows and takes its pixels.
    fn paint(
        &self,
        centre: [f32; 2],
        image: &mut Image,
        free: &mut [bool],
        draws: &mut Draws,
    ) -> Object {
        let size = image.width;
        let (pixels, _) = image.pixels.as_chunks_mut::<3>();
        let behind = pixels[centre[1] as usize * size + centre[0] as usize].map(f32::from);
        let first = colour_unlike(behind, draws);
        let second = colour_unlike(first, draws);
        let mut bounds = [u32::MAX, u32::MAX, 0, 0];
        let mut area = 0;
        self.pixels(centre, size, 1, |column, row, along, across| {
            let index = row * size + column;
            if !std::mem::replace(&mut free[index], false) {
                return;
            }
            let x = along * self.frequency + self.phase[0];
            let y = across * self.frequency + self.phase[1];
            let colour = if self.kind.texture.is_second(x, y) { second } else { first };
            let shade = along * self.slope[0] + across * self.slope[1];
            pixels[index] = colour.map(|value| (value + shade) as u8);
            let (column, row) = (column as u32, row as u32);
            bounds = [
                bounds[0].min(column),
                bounds[1].min(row),
                bounds[2].max(column + 1),
                bounds[3].max(row + 1),
            ];
            area += 1;
        });
        Object { class: self.class as u32, bounds, area }
    }
}

/// A random colour that can be told from `other`.
fn colour_unlike(other: Colour, draws: &mut Draws) -> Colour {
    for _ in 0..16 {
        let colour = any_colour(draws);
        let apart: f32 = colour.iter().zip(other).map(|(a, b)| (a - b).abs()).sum();
        let brighter: f32 = colour.iter().sum::<f32>() - other.iter().sum::<f32>();
        if apart >= 150.0 && brighter.abs() >= 90.0 {
            return colour;
        }
    }
    // Half the range away in every channel.
    other.map(|value| if value < 128.0 { value + 110.0 } else { value - 110.0 })
}
