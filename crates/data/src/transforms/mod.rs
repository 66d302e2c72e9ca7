//! The training transforms (deim-facts 3.2 to 3.4).
//!
//! Each takes a sample and its parameters and gives a new sample; the parameters come from draws
//! keyed by the sample, never from a shared generator, so each can be replayed alone. Pixel
//! arithmetic follows Pillow and boxes follow torchvision, on which the official pipeline runs.

pub mod boxes;
pub mod course;
pub mod frame;
pub mod iou_crop;
pub mod mixup;
pub mod mosaic;
pub mod mosaic_cache;
pub mod multi_scale;
pub mod photometric;
pub mod resize;
pub mod tensor;
pub mod zoom_out;

#[cfg(test)]
pub(crate) mod tests_support {
    use crate::draws::Draws;
    use crate::sample::{Image, Sample};

    /// A sample of random pixels without boxes.
    pub fn sample_of(width: usize, height: usize) -> Sample {
        let mut draws = Draws::new(7, "test", &[width as u64, height as u64]);
        let pixels = (0..width * height * 3).map(|_| draws.bits() as u8).collect();
        Sample {
            image: Image { width, height, pixels },
            boxes: vec![],
            labels: vec![],
            image_id: 1,
            original_size: [width as u32, height as u32],
            dropped_boxes: 0,
        }
    }
}
