//! From pixels to the numbers that the model reads (deim-facts 3.2).

use std::sync::LazyLock;

use crate::sample::{Image, Sample, Target};

/// A pixel value as a share of 255; nothing else is normalised (deim-facts 0.14).
static SHARES: LazyLock<[f32; 256]> =
    LazyLock::new(|| std::array::from_fn(|value| value as f32 / 255.0));

/// Writes the image into `out`, `[3, height, width]`.
pub fn write_chw(image: &Image, out: &mut [f32]) {
    let shares = &*SHARES;
    let plane = image.width * image.height;
    let (red, rest) = out.split_at_mut(plane);
    let (green, blue) = rest.split_at_mut(plane);
    let (pixels, _) = image.pixels.as_chunks::<3>();
    for (((pixel, r), g), b) in pixels.iter().zip(red).zip(green).zip(blue) {
        *r = shares[usize::from(pixel[0])];
        *g = shares[usize::from(pixel[1])];
        *b = shares[usize::from(pixel[2])];
    }
}

/// Writes the image's bytes into `out`, `[3, height, width]`.
pub fn write_bytes(image: &Image, out: &mut [u8]) {
    let plane = image.width * image.height;
    let (red, rest) = out.split_at_mut(plane);
    let (green, blue) = rest.split_at_mut(plane);
    let (pixels, _) = image.pixels.as_chunks::<3>();
    for (((pixel, r), g), b) in pixels.iter().zip(red).zip(green).zip(blue) {
        [*r, *g, *b] = *pixel;
    }
}

/// The sample's boxes as `[cx, cy, w, h]` in shares of the image.
pub fn target(sample: &Sample) -> Target {
    let (width, height) = (sample.image.width as f32, sample.image.height as f32);
    let boxes = sample
        .boxes
        .iter()
        .map(|&[x1, y1, x2, y2]| {
            [
                (x1 + x2) / 2.0 / width,
                (y1 + y2) / 2.0 / height,
                (x2 - x1) / width,
                (y2 - y1) / height,
            ]
        })
        .collect();
    Target { labels: sample.labels.clone(), boxes }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transforms::tests_support::sample_of;

    #[test]
    fn planes_hold_one_channel_each() {
        let sample = sample_of(5, 3);
        let mut out = vec![-1.0; 45];
        write_chw(&sample.image, &mut out);
        for (index, &value) in sample.image.pixels.iter().enumerate() {
            assert_eq!(out[index % 3 * 15 + index / 3], f32::from(value) / 255.0);
        }
    }

    #[test]
    fn boxes_become_shares_of_the_image() {
        let mut sample = sample_of(10, 20);
        sample.boxes = vec![[2.0, 4.0, 6.0, 16.0]];
        sample.labels = vec![3];
        let target = target(&sample);
        assert_eq!(target, Target { labels: vec![3], boxes: vec![[0.4, 0.5, 0.4, 0.6]] });
    }
}
