//! Which part of the plane around an image is seen: zooming out, cropping and mirroring move a frame,
//! and only the resize that follows them reads pixels.

use std::ops::Range;

use crate::sample::Image;
use crate::transforms::iou_crop::IouCrop;
use crate::transforms::zoom_out::ZoomOut;

/// A window of `width` x `height` onto a plane that is black outside an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Where the image's first pixel stands in the frame; negative where the frame cuts it off.
    pub left: i64,
    pub top: i64,
    pub width: usize,
    pub height: usize,
}

impl Frame {
    /// The image and nothing else.
    pub fn around(image: &Image) -> Self {
        Self { left: 0, top: 0, width: image.width, height: image.height }
    }

    /// The canvas of a zoom-out of what this frame shows.
    pub fn zoomed_out(self, zoom: &ZoomOut) -> Self {
        Self {
            left: self.left + zoom.left as i64,
            top: self.top + zoom.top as i64,
            width: zoom.width,
            height: zoom.height,
        }
    }

    /// A part of this frame.
    pub fn cropped(self, crop: &IouCrop) -> Self {
        Self {
            left: self.left - crop.left as i64,
            top: self.top - crop.top as i64,
            width: crop.width,
            height: crop.height,
        }
    }

    /// The frame that shows the mirrored image as this one shows the image, mirrored.
    pub fn flipped(self, image: &Image) -> Self {
        Self { left: self.width as i64 - self.left - image.width as i64, ..self }
    }

    /// The image's columns that are in the frame.
    pub fn columns(&self, image: &Image) -> Range<usize> {
        seen(self.left, self.width, image.width)
    }

    /// The image's rows that are in the frame.
    pub fn rows(&self, image: &Image) -> Range<usize> {
        seen(self.top, self.height, image.height)
    }

    /// What the frame shows, pixel by pixel.
    pub fn render(&self, image: &Image) -> Image {
        let mut out = Image::black(self.width, self.height);
        let columns = self.columns(image);
        if columns.is_empty() {
            return out;
        }
        for row in self.rows(image) {
            let from = &image.pixels[row * image.width * 3..][..image.width * 3];
            let y = (row as i64 + self.top) as usize;
            let x = (columns.start as i64 + self.left) as usize;
            out.pixels[(y * self.width + x) * 3..][..columns.len() * 3]
                .copy_from_slice(&from[columns.start * 3..columns.end * 3]);
        }
        out
    }
}

/// The part of `0..length` that is inside `0..side` when it begins at `start`.
fn seen(start: i64, side: usize, length: usize) -> Range<usize> {
    let clamp = |at: i64| at.clamp(0, length as i64) as usize;
    let first = clamp(-start);
    first..clamp(side as i64 - start).max(first)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transforms::boxes::mirror;
    use crate::transforms::tests_support::sample_of;

    #[test]
    fn a_zoomed_out_and_cropped_frame_shows_the_right_pixels() {
        let image = sample_of(9, 5).image;
        let zoom = ZoomOut { width: 20, height: 12, left: 4, top: 6 };
        let canvas = Frame::around(&image).zoomed_out(&zoom).render(&image);
        let mut sum = 0_u64;
        for y in 0..5 {
            let row = &canvas.pixels[((y + 6) * 20 + 4) * 3..][..9 * 3];
            assert_eq!(row, &image.pixels[y * 9 * 3..][..9 * 3]);
            sum += row.iter().map(|&value| u64::from(value)).sum::<u64>();
        }
        assert_eq!(sum, canvas.pixels.iter().map(|&value| u64::from(value)).sum::<u64>());

        let crop = IouCrop { left: 6, top: 5, width: 10, height: 4 };
        let once = Frame::around(&image).zoomed_out(&zoom).cropped(&crop).render(&image);
        let twice = Frame::around(&canvas).cropped(&crop).render(&canvas);
        assert_eq!(once, twice);
        assert_eq!(once.pixels[(10 * 3)..][..9], image.pixels[2 * 3..5 * 3]);
    }

    #[test]
    fn flipping_the_frame_of_a_mirrored_image_mirrors_what_is_seen() {
        let image = sample_of(9, 5).image;
        let frame = Frame { left: -3, top: 1, width: 12, height: 4 };
        let mut expected = frame.render(&image);
        mirror(&mut expected);
        let mut mirrored = image.clone();
        mirror(&mut mirrored);
        assert_eq!(frame.flipped(&image).render(&mirrored), expected);
    }

    #[test]
    fn a_frame_beside_the_image_is_black() {
        let image = sample_of(4, 4).image;
        let frame = Frame { left: 7, top: -9, width: 5, height: 5 };
        assert_eq!(frame.render(&image), Image::black(5, 5));
    }
}
