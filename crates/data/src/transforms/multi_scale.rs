//! One size per batch: the list of sizes and the nearest-neighbour resize (deim-facts 2 and 3.4).

use crate::planes::Planes;
use crate::sample::Batch;

/// The sizes a batch of base size `base` is drawn from: steps of 32 from three quarters up, the base
/// `repeat` times, steps of 32 from five quarters down. For a base that is not a multiple of 128 the
/// two ends are not symmetric (`320, 3` gives 224 to 384); that is official.
pub fn generate_scales(base: usize, repeat: usize) -> Vec<usize> {
    // Integer division: 0.75 and 1.25 are exact, so nothing is lost against the official floats.
    let (low, high) = (base * 3 / 4 / 32 * 32, base * 5 / 4 / 32 * 32);
    let steps = (base - low) / 32;
    let mut scales: Vec<usize> = (0..steps).map(|step| low + step * 32).collect();
    scales.extend(std::iter::repeat_n(base, repeat));
    scales.extend((0..steps).map(|step| high - step * 32));
    scales
}

/// The source index of every output index when a line of `from` is resized to `to`, as PyTorch's
/// `nearest` computes it in float32.
pub fn nearest_indices(from: usize, to: usize) -> Vec<usize> {
    let scale = from as f32 / to as f32;
    (0..to).map(|index| ((index as f32 * scale) as usize).min(from - 1)).collect()
}

/// The batch with its images resized to `size`, or to be resized where they are bytes; boxes are shares of the image and stay.
pub fn resize_batch(mut batch: Batch, size: usize) -> Batch {
    if size == batch.size {
        return batch;
    }
    if batch.bytes.is_none() {
        batch.images = resize_planes(&batch.images, [batch.size; 2], [size; 2]);
    }
    batch.size = size;
    batch
}

/// Planes of `from` (height, width) resized to `to`, each output pixel the nearest input pixel.
pub fn resize_planes(planes: &[f32], from: [usize; 2], to: [usize; 2]) -> Planes {
    let rows = nearest_indices(from[0], to[0]);
    let columns = nearest_indices(from[1], to[1]);
    let count = planes.len() / (from[0] * from[1]);
    Planes::filled(count * to[0] * to[1], |out| {
        let sources = planes.chunks_exact(from[0] * from[1]);
        let targets = out.chunks_exact_mut((to[0] * to[1]).max(1));
        for (plane, target) in sources.zip(targets) {
            for (&y, line) in rows.iter().zip(target.chunks_exact_mut(to[1])) {
                let row = &plane[y * from[1]..][..from[1]];
                for (value, &x) in line.iter_mut().zip(&columns) {
                    *value = row[x];
                }
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::Target;

    #[test]
    fn the_official_lists_come_out() {
        let mut expected = vec![480, 512, 544, 576, 608, 640, 640, 640, 800, 768, 736, 704, 672];
        assert_eq!(generate_scales(640, 3), expected);
        expected.insert(5, 640);
        assert_eq!(generate_scales(640, 4), expected);
        assert_eq!(generate_scales(320, 3), [224, 256, 288, 320, 320, 320, 384, 352, 320]);
        assert_eq!(generate_scales(128, 1), [96, 128, 160]);
    }

    #[test]
    fn nearest_takes_the_pixel_at_the_scaled_index() {
        assert_eq!(nearest_indices(4, 2), [0, 2]);
        assert_eq!(nearest_indices(2, 4), [0, 0, 1, 1]);
        assert_eq!(nearest_indices(3, 5), [0, 0, 1, 1, 2]);
        let batch = Batch {
            images: (0..12).map(|v| v as f32).collect(),
            bytes: None,
            size: 2,
            targets: vec![Target::default()],
            image_ids: vec![0],
            original_sizes: vec![[2, 2]],
            dropped_boxes: 0,
        };
        let out = resize_batch(batch, 3);
        assert_eq!(out.images[..9], [0.0, 0.0, 1.0, 0.0, 0.0, 1.0, 2.0, 2.0, 3.0]);
        assert_eq!((out.size, out.images.len()), (3, 27));
    }
}
