//! Zooming out: the image at a random place of a larger black canvas (deim-facts 3.2).

use crate::draws::Draws;
use crate::sample::{Image, Sample};

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

    /// Puts the image on its canvas.
    pub fn apply(&self, mut sample: Sample) -> Sample {
        let mut canvas = Image::black(self.width, self.height);
        canvas.paste(&sample.image, self.left, self.top);
        sample.image = canvas;
        for rect in &mut sample.boxes {
            rect[0] += self.left as f32;
            rect[1] += self.top as f32;
            rect[2] += self.left as f32;
            rect[3] += self.top as f32;
        }
        sample
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transforms::tests_support::sample_of;

    #[test]
    fn the_image_keeps_its_pixels_and_everything_else_is_black() {
        let sample = sample_of(9, 5);
        let zoom = ZoomOut { width: 20, height: 12, left: 4, top: 6 };
        let out = zoom.apply(sample.clone());
        let mut sum = 0_u64;
        for y in 0..5 {
            let row = &out.image.pixels[((y + 6) * 20 + 4) * 3..][..9 * 3];
            assert_eq!(row, &sample.image.pixels[y * 9 * 3..][..9 * 3]);
            sum += row.iter().map(|&v| u64::from(v)).sum::<u64>();
        }
        assert_eq!(sum, out.image.pixels.iter().map(|&v| u64::from(v)).sum::<u64>());
    }
}
