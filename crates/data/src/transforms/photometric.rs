//! Photometric distortion (deim-facts 3.2): torchvision's operation with Pillow's 8-bit arithmetic.

use crate::draws::Draws;
use crate::sample::Image;
use crate::simd::fastest;

/// The drawn changes; a part that is `None` is not applied.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Photometric {
    /// Share of the image against black.
    pub brightness: Option<f32>,
    /// Share of the image against its mean grey.
    pub contrast: Option<f32>,
    /// Share of the image against its own grey.
    pub saturation: Option<f32>,
    /// Turn of the colour circle, in turns.
    pub hue: Option<f64>,
    /// Whether contrast comes before saturation and hue, or after.
    pub contrast_first: bool,
    /// `out[c] = in[permutation[c]]`.
    pub permutation: Option<[usize; 3]>,
}

impl Photometric {
    /// Draws each part independently with `probability`.
    pub fn draw(probability: f64, draws: &mut Draws) -> Photometric {
        let mut part = |low, high| {
            let applies = draws.chance(probability);
            applies.then(|| draws.range(low, high))
        };
        let brightness = part(0.875, 1.125);
        let contrast = part(0.5, 1.5);
        let saturation = part(0.5, 1.5);
        let hue = part(-0.05, 0.05);
        let contrast_first = draws.chance(0.5);
        let permutation = draws.chance(probability).then(|| {
            let order = draws.permutation(3);
            [order[0], order[1], order[2]]
        });
        Photometric {
            brightness: brightness.map(|factor| factor as f32),
            contrast: contrast.map(|factor| factor as f32),
            saturation: saturation.map(|factor| factor as f32),
            hue,
            contrast_first,
            permutation,
        }
    }

    /// Applies the parts in torchvision's order.
    pub fn apply(&self, image: &mut Image) {
        if let Some(factor) = self.brightness {
            adjust_brightness(image, factor);
        }
        if let (Some(factor), true) = (self.contrast, self.contrast_first) {
            adjust_contrast(image, factor);
        }
        if let Some(factor) = self.saturation {
            adjust_saturation(image, factor);
        }
        if let Some(turns) = self.hue {
            adjust_hue(image, turns);
        }
        if let (Some(factor), false) = (self.contrast, self.contrast_first) {
            adjust_contrast(image, factor);
        }
        if let Some(permutation) = self.permutation {
            permute_channels(image, permutation);
        }
    }
}

/// Blends with black.
pub fn adjust_brightness(image: &mut Image, factor: f32) {
    look_up(image, |value| blend(0, value, factor));
}

/// Blends with the mean grey of the whole image.
pub fn adjust_contrast(image: &mut Image, factor: f32) {
    let (pixels, _) = image.pixels.as_chunks::<3>();
    let sum: u64 = fastest(
        #[inline(always)]
        || pixels.iter().map(|pixel| u64::from(grey(pixel))).sum(),
    );
    let mean = (sum as f64 / pixels.len().max(1) as f64 + 0.5) as u8;
    look_up(image, |value| blend(mean, value, factor));
}

/// Blends every pixel with its grey.
pub fn adjust_saturation(image: &mut Image, factor: f32) {
    let (pixels, _) = image.pixels.as_chunks_mut::<3>();
    fastest(
        #[inline(always)]
        || {
            for pixel in pixels {
                let grey = grey(pixel);
                *pixel = pixel.map(|value| blend(grey, value, factor));
            }
        },
    );
}

/// Turns the hue of every pixel, through Pillow's 8-bit HSV.
pub fn adjust_hue(image: &mut Image, turns: f64) {
    let shift = (turns * 255.0) as i32 as u8;
    // What a hue means after the turn; what a saturation means.
    let hues: [Hue; 256] = std::array::from_fn(|hue| Hue::of((hue as u8).wrapping_add(shift)));
    let shares: [f64; 256] =
        std::array::from_fn(|value| f64::from((f64::from(value as u8) / 255.0) as f32));
    for pixel in image.pixels.as_chunks_mut::<3>().0 {
        let [hue, saturation, value] = to_hsv(*pixel);
        if saturation == 0 {
            *pixel = [value; 3];
        } else {
            *pixel = hues[usize::from(hue)].to_rgb(shares[usize::from(saturation)], value);
        }
    }
}

/// `out[c] = in[permutation[c]]`.
pub fn permute_channels(image: &mut Image, permutation: [usize; 3]) {
    for pixel in image.pixels.as_chunks_mut::<3>().0 {
        *pixel = permutation.map(|channel| pixel[channel]);
    }
}

/// Pillow's blend: float32, truncated, clipped.
#[inline(always)]
fn blend(from: u8, to: u8, share: f32) -> u8 {
    (f32::from(from) + share * (f32::from(to) - f32::from(from))) as u8
}

/// Pillow's luma.
#[inline(always)]
fn grey([red, green, blue]: &[u8; 3]) -> u8 {
    let sum = u32::from(*red) * 19595 + u32::from(*green) * 38470 + u32::from(*blue) * 7471;
    ((sum + 0x8000) >> 16) as u8
}

fn look_up(image: &mut Image, of: impl Fn(u8) -> u8) {
    let table: [u8; 256] = std::array::from_fn(|value| of(value as u8));
    for value in &mut image.pixels {
        *value = table[usize::from(*value)];
    }
}

/// Pillow's conversion: float32 steps, hue and saturation truncated to 8 bits.
fn to_hsv([red, green, blue]: [u8; 3]) -> [u8; 3] {
    let most = red.max(green).max(blue);
    let least = red.min(green).min(blue);
    if most == least {
        return [0, 0, most];
    }
    let spread = f32::from(most - least);
    let saturation = spread / f32::from(most);
    let (start, ahead, behind) = if red == most {
        (0.0, blue, green)
    } else if green == most {
        (2.0, red, blue)
    } else {
        (4.0, green, red)
    };
    let distance = |channel: u8| f64::from(f32::from(most - channel) / spread);
    let sixths = (start + distance(ahead) - distance(behind)) as f32;
    // In [5/6, 11/6], so the remainder of a division by one is a subtraction.
    let turns = f64::from(sixths) / 6.0 + 1.0;
    let turns = (if turns >= 1.0 { turns - 1.0 } else { turns }) as f32;
    [(f64::from(turns) * 255.0) as u8, (f64::from(saturation) * 255.0) as u8, most]
}

/// A place on the colour circle.
#[derive(Clone, Copy)]
struct Hue {
    /// How far it is into its sixth of the circle.
    rest: f64,
    /// Which of value, low, falling and rising each channel takes in that sixth.
    roles: [u8; 3],
}

impl Hue {
    fn of(hue: u8) -> Self {
        const ROLES: [[u8; 3]; 6] =
            [[0, 3, 1], [2, 0, 1], [1, 0, 3], [1, 2, 0], [3, 1, 0], [0, 1, 2]];
        let sixths = f64::from(hue) * 6.0 / 255.0;
        let sector = sixths as u8;
        let rest = f64::from((sixths - f64::from(sector)) as f32);
        Self { rest, roles: ROLES[usize::from(sector % 6)] }
    }

    /// Pillow's conversion back, rounded half up; `share` is the saturation in `[0, 1]`.
    fn to_rgb(self, share: f64, value: u8) -> [u8; 3] {
        let scaled = |factor: f64| (f64::from(value) * factor + 0.5) as u8;
        let low = scaled(1.0 - share);
        let falling = scaled(1.0 - f64::from((share * self.rest) as f32));
        let rising = scaled(1.0 - share * (1.0 - self.rest));
        let levels = [value, low, falling, rising];
        self.roles.map(|role| levels[usize::from(role & 3)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transforms::tests_support::sample_of;

    #[test]
    fn factor_one_and_no_turn_leave_the_image_almost_as_it_was() {
        let sample = sample_of(32, 32);
        for adjust in [adjust_brightness, adjust_contrast, adjust_saturation] {
            let mut image = sample.image.clone();
            adjust(&mut image, 1.0);
            assert_eq!(image, sample.image);
        }
        let mut image = sample.image.clone();
        adjust_hue(&mut image, 0.0);
        // HSV in 8 bits is lossy.
        let worst =
            image.pixels.iter().zip(&sample.image.pixels).map(|(a, b)| a.abs_diff(*b)).max();
        assert!(worst <= Some(6), "{worst:?}");
    }

    #[test]
    fn each_part_moves_pixels_the_way_it_should() {
        let one = |rgb: [u8; 3], adjust: &dyn Fn(&mut Image)| {
            let mut image = Image { width: 1, height: 1, pixels: rgb.to_vec() };
            adjust(&mut image);
            image.pixels
        };
        assert_eq!(one([100, 50, 201], &|i| adjust_brightness(i, 0.5)), [50, 25, 100]);
        assert_eq!(one([200, 200, 255], &|i| adjust_brightness(i, 1.5)), [255, 255, 255]);
        assert_eq!(one([90, 90, 90], &|i| adjust_contrast(i, 1.5)), [90, 90, 90]);
        assert_eq!(one([255, 0, 0], &|i| adjust_saturation(i, 0.0)), [76, 76, 76]);
        assert_eq!(one([1, 2, 3], &|i| permute_channels(i, [2, 0, 1])), [3, 1, 2]);
        // A third of a turn takes red to green; 85 of 255 steps are exactly a third.
        assert_eq!(one([255, 0, 0], &|i| adjust_hue(i, 1.0 / 3.0)), [0, 255, 0]);
    }

    #[test]
    fn probability_zero_changes_nothing_and_one_changes_everything() {
        let source = sample_of(16, 16).image;
        let none = Photometric::draw(0.0, &mut Draws::new(0, "photometric", &[]));
        let mut image = source.clone();
        none.apply(&mut image);
        assert_eq!(image, source);
        let all = Photometric::draw(1.0, &mut Draws::new(0, "photometric", &[]));
        assert!(all.brightness.is_some() && all.contrast.is_some() && all.saturation.is_some());
        assert!(all.hue.is_some() && all.permutation.is_some());
    }
}
