//! What the loader moves: one image with its boxes, and a batch of them.

use crate::planes::Planes;

/// An image of 8-bit RGB pixels, row by row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    pub width: usize,
    pub height: usize,
    /// `height * width * 3` bytes.
    pub pixels: Vec<u8>,
}

impl Image {
    /// A black image.
    pub fn black(width: usize, height: usize) -> Self {
        Self { width, height, pixels: vec![0; width * height * 3] }
    }

    /// Copies `other` to `left`, `top`, where all of it must fit.
    pub fn paste(&mut self, other: &Image, left: usize, top: usize) {
        let rows = other.pixels.chunks_exact((other.width * 3).max(1));
        for (y, row) in rows.enumerate() {
            let start = ((top + y) * self.width + left) * 3;
            self.pixels[start..start + row.len()].copy_from_slice(row);
        }
    }
}

/// One image with its objects, on the way through the transforms.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    pub image: Image,
    /// Corners `[x1, y1, x2, y2]` in pixels of `image`.
    pub boxes: Vec<[f32; 4]>,
    /// One class index in `0..classes` for each box.
    pub labels: Vec<u32>,
    /// The id of the source image in its data set.
    pub image_id: i64,
    /// Width and height of the source image before any transform.
    pub original_size: [u32; 2],
    /// Boxes that a transform lost: outside a crop, out of the image, or too thin.
    pub dropped_boxes: usize,
}

/// The objects of one image of a batch.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Target {
    pub labels: Vec<u32>,
    /// `[cx, cy, w, h]` as shares of the image's width and height.
    pub boxes: Vec<[f32; 4]>,
}

/// The images of a batch as bytes: a quarter of the way to a GPU, which does the rest itself.
#[derive(Clone, Debug, PartialEq)]
pub struct Bytes {
    /// `[batch, 3, side, side]`
    pub planes: Vec<u8>,
    /// Side of the images before they are resized to the batch's size, each pixel the nearest one.
    pub side: usize,
    /// Where every image is blended with the one before it: its own share.
    pub own_share: Option<f64>,
}

/// One optimizer step's images, ready to become tensors.
#[derive(Clone, Debug, PartialEq)]
pub struct Batch {
    /// `[batch, 3, size, size]`, values in `[0, 1]`, not normalised further (deim-facts 0.14); empty
    /// where they are bytes.
    pub images: Planes,
    /// The images, where the loader was asked for bytes.
    pub bytes: Option<Bytes>,
    /// Side of the square images.
    pub size: usize,
    pub targets: Vec<Target>,
    pub image_ids: Vec<i64>,
    /// Width and height of each source image, for the way back to its pixels.
    pub original_sizes: Vec<[u32; 2]>,
    /// Boxes that the images' transforms lost.
    pub dropped_boxes: usize,
}

impl Batch {
    /// The images of one of `parts` devices that share the batch, in its order.
    pub fn part(&self, part: usize, parts: usize) -> Planes {
        let share = self.images.len() / parts;
        self.images[part * share..][..share].to_vec().into()
    }
}
