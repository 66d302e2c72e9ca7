//! Zooming out: the image at a random place of a larger black canvas (deim-facts 3.2).

use crate::draws::Draws;

/// The canvas is between this and `LARGEST` times as wide and high as the image.
const SMALLEST: f32 = 1.0;
const LARGEST: f32 = 4.0;

/// Where the image stands on which canvas.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ZoomOut {
    pub width: usize,
    pub height: usize,
    pub left: usize,
    pub top: usize,
}

impl ZoomOut {
    /// With `probability`, a canvas for an image of this size. Ratios are float32 and products are
    /// truncated, as in the official pipeline.
    pub fn draw(
        width: usize,
        height: usize,
        probability: f64,
        draws: &mut Draws,
    ) -> Option<ZoomOut> {
        if !draws.chance(probability) {
            return None;
        }
        let units = [draws.unit() as f32, draws.unit() as f32, draws.unit() as f32];
        Some(Self::from_units(width, height, units))
    }

    /// The canvas of three uniform draws: ratio, left, top.
    pub fn from_units(width: usize, height: usize, [ratio, left, top]: [f32; 3]) -> ZoomOut {
        let ratio = SMALLEST + ratio * (LARGEST - SMALLEST);
        let canvas = [(width as f32 * ratio) as usize, (height as f32 * ratio) as usize];
        ZoomOut {
            width: canvas[0],
            height: canvas[1],
            left: ((canvas[0] - width) as f32 * left) as usize,
            top: ((canvas[1] - height) as f32 * top) as usize,
        }
    }

    /// Boxes move with the image.
    pub fn shift(&self, boxes: &mut [[f32; 4]]) {
        let (x, y) = (self.left as f32, self.top as f32);
        for rect in boxes {
            *rect = [rect[0] + x, rect[1] + y, rect[2] + x, rect[3] + y];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_image_fits_onto_every_canvas_that_can_be_drawn() {
        for units in [[0.0; 3], [0.999_999_94; 3], [0.3, 0.0, 0.999_999_94], [0.0, 0.5, 0.5]] {
            let zoom = ZoomOut::from_units(33, 77, units);
            assert!(zoom.left + 33 <= zoom.width && zoom.top + 77 <= zoom.height, "{zoom:?}");
            assert!(zoom.width <= 4 * 33 && zoom.height <= 4 * 77, "{zoom:?}");
        }
    }

    #[test]
    fn boxes_move_by_where_the_image_stands() {
        let zoom = ZoomOut { width: 20, height: 12, left: 4, top: 6 };
        let mut boxes = [[1.0, 2.0, 3.0, 5.0]];
        zoom.shift(&mut boxes);
        assert_eq!(boxes, [[5.0, 8.0, 7.0, 11.0]]);
    }
}
