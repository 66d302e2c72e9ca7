//! Resizing with Pillow's antialiased bilinear filter (deim-facts 3.2 and 3.3).

use fast_image_resize::images::{Image as Buffer, ImageRef};
use fast_image_resize::{FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer};

use crate::sample::{Image, Sample};

/// The image at exactly `width` x `height`, without keeping its aspect ratio.
pub fn resize_image(image: &Image, width: usize, height: usize) -> Image {
    if (image.width, image.height) == (width, height) {
        return image.clone();
    }
    let whole = "an image holds width * height RGB pixels";
    let source =
        ImageRef::new(image.width as u32, image.height as u32, &image.pixels, PixelType::U8x3)
            .expect(whole);
    let mut target = Buffer::from_vec_u8(
        width as u32,
        height as u32,
        vec![0; width * height * 3],
        PixelType::U8x3,
    )
    .expect(whole);
    let options = ResizeOptions::new().resize_alg(ResizeAlg::Convolution(FilterType::Bilinear));
    Resizer::new().resize(&source, &mut target, &options).expect("both images are RGB");
    Image { width, height, pixels: target.into_vec() }
}

/// The image at exactly `width` x `height`, and its boxes with it.
pub fn resize(mut sample: Sample, width: usize, height: usize) -> Sample {
    if (sample.image.width, sample.image.height) == (width, height) {
        return sample;
    }
    rescale(&mut sample.boxes, &sample.image, width, height);
    sample.image = resize_image(&sample.image, width, height);
    sample
}

/// The image with its shorter side at `side`, its aspect ratio kept (the longer side is truncated).
pub fn resize_shorter(sample: &Sample, side: usize) -> Sample {
    let (width, height) = shorter_to(sample.image.width, sample.image.height, side);
    // Only the small image is copied, not the source.
    let mut small = Sample {
        image: resize_image(&sample.image, width, height),
        boxes: sample.boxes.clone(),
        labels: sample.labels.clone(),
        ..*sample
    };
    rescale(&mut small.boxes, &sample.image, width, height);
    small
}

/// The size of an image whose shorter side becomes `side`.
pub fn shorter_to(width: usize, height: usize, side: usize) -> (usize, usize) {
    if width <= height {
        (side, (side * height / width.max(1)).max(1))
    } else {
        ((side * width / height.max(1)).max(1), side)
    }
}

/// Ratios are float32, as in torchvision.
fn rescale(boxes: &mut [[f32; 4]], from: &Image, width: usize, height: usize) {
    let x = (width as f64 / from.width as f64) as f32;
    let y = (height as f64 / from.height as f64) as f32;
    for rect in boxes {
        *rect = [rect[0] * x, rect[1] * y, rect[2] * x, rect[3] * y];
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transforms::tests_support::sample_of;

    #[test]
    fn halving_averages_so_that_a_checkerboard_turns_grey() {
        let mut sample = sample_of(64, 64);
        for (index, pixel) in sample.image.pixels.chunks_exact_mut(3).enumerate() {
            pixel.fill(if (index % 64 + index / 64) % 2 == 0 { 0 } else { 200 });
        }
        let small = resize_image(&sample.image, 32, 32);
        assert!(small.pixels.iter().all(|&v| (96..=104).contains(&v)), "no antialiasing");
    }

    #[test]
    fn boxes_follow_the_image() {
        let mut sample = sample_of(30, 60);
        sample.boxes = vec![[3.0, 6.0, 30.0, 60.0]];
        assert_eq!(resize(sample.clone(), 60, 20).boxes, [[6.0, 2.0, 60.0, 20.0]]);
        let tile = resize_shorter(&sample, 10);
        assert_eq!((tile.image.width, tile.image.height), (10, 20));
        assert_eq!(tile.boxes, [[1.0, 2.0, 10.0, 20.0]]);
    }

    #[test]
    fn the_longer_side_is_truncated() {
        assert_eq!(shorter_to(641, 480, 320), (427, 320));
        assert_eq!(shorter_to(333, 500, 320), (320, 480));
        assert_eq!(shorter_to(320, 320, 64), (64, 64));
    }
}
