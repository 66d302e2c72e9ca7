//! What only moves or drops boxes: the sanitizer and the horizontal flip.

use crate::sample::{Image, Sample};

/// Smallest side of a box that training keeps, in pixels.
const MIN_SIDE: f32 = 1.0;

/// Drops the boxes that are thinner than a pixel or reach out of an image of this size, with their
/// labels.
///
/// Like torchvision's sanitizer it does not clamp: every other transform does, except the resize,
/// whose rounding may push the edge of a box that touches the border out by one unit in the last
/// place. The official pipeline loses such a box, and so does this one.
pub fn sanitize(sample: &mut Sample, [width, height]: [usize; 2]) {
    let (width, height) = (width as f32, height as f32);
    // Written so that a NaN is dropped.
    let sound = |&[x1, y1, x2, y2]: &[f32; 4]| {
        let large = x2 - x1 >= MIN_SIDE && y2 - y1 >= MIN_SIDE;
        large && x1 >= 0.0 && y1 >= 0.0 && x2 <= width && y2 <= height
    };
    let kept: Vec<bool> = sample.boxes.iter().map(sound).collect();
    retain(&mut sample.boxes, &kept);
    retain(&mut sample.labels, &kept);
}

/// Keeps the items whose flag is set.
pub(super) fn retain<T>(items: &mut Vec<T>, kept: &[bool]) {
    let mut flags = kept.iter();
    items.retain(|_| flags.next().copied().unwrap_or(false));
}

/// Mirrors boxes in an image of this width left to right.
pub fn flip(boxes: &mut [[f32; 4]], width: usize) {
    for rect in boxes {
        (rect[0], rect[2]) = (width as f32 - rect[2], width as f32 - rect[0]);
    }
}

/// Mirrors an image left to right.
pub fn mirror(image: &mut Image) {
    let width = image.width;
    let (pixels, _) = image.pixels.as_chunks_mut::<3>();
    for row in pixels.chunks_exact_mut(width.max(1)) {
        row.reverse();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transforms::tests_support::sample_of;

    #[test]
    fn the_sanitizer_drops_thin_outside_and_nan_boxes_with_their_labels() {
        let mut sample = sample_of(10, 10);
        sample.boxes = vec![
            [0.0, 0.0, 10.0, 10.0],
            [1.0, 1.0, 1.9, 5.0],
            [-0.1, 0.0, 5.0, 5.0],
            [0.0, 0.0, 10.1, 5.0],
            [f32::NAN, 0.0, 5.0, 5.0],
            [3.0, 3.0, 4.0, 4.0],
        ];
        sample.labels = (0..6).collect();
        sanitize(&mut sample, [10, 10]);
        assert_eq!(sample.labels, [0, 5]);
        assert_eq!(sample.boxes, [[0.0, 0.0, 10.0, 10.0], [3.0, 3.0, 4.0, 4.0]]);
    }

    #[test]
    fn two_flips_are_none_and_one_moves_the_box_to_the_other_side() {
        let source = sample_of(7, 4).image;
        let (mut image, mut boxes) = (source.clone(), [[1.0, 0.0, 3.0, 2.0]]);
        mirror(&mut image);
        flip(&mut boxes, 7);
        assert_eq!(boxes, [[4.0, 0.0, 6.0, 2.0]]);
        assert_eq!(image.pixels[..3], source.pixels[6 * 3..7 * 3]);
        mirror(&mut image);
        flip(&mut boxes, 7);
        assert_eq!((image, boxes), (source, [[1.0, 0.0, 3.0, 2.0]]));
    }
}
