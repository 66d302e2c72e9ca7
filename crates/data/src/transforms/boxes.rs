//! What only moves or drops boxes: the sanitizer and the horizontal flip.

use crate::sample::{Image, Sample};

/// Smallest side of a box that training keeps, in pixels.
const MIN_SIDE: f32 = 1.0;

/// Drops the boxes that are thinner than a pixel or reach out of the image, with their labels.
///
/// Like torchvision's sanitizer it does not clamp: every other transform does, except the resize,
/// whose rounding may push the edge of a box that touches the border out by one unit in the last
/// place. The official pipeline loses such a box, and so does this one.
pub fn sanitize(mut sample: Sample) -> Sample {
    let (width, height) = (sample.image.width as f32, sample.image.height as f32);
    // Written so that a NaN is dropped.
    let sound = |&[x1, y1, x2, y2]: &[f32; 4]| {
        let large = x2 - x1 >= MIN_SIDE && y2 - y1 >= MIN_SIDE;
        large && x1 >= 0.0 && y1 >= 0.0 && x2 <= width && y2 <= height
    };
    let kept: Vec<bool> = sample.boxes.iter().map(sound).collect();
    retain(&mut sample.boxes, &kept);
    retain(&mut sample.labels, &kept);
    sample
}

/// Keeps the items whose flag is set.
pub(super) fn retain<T>(items: &mut Vec<T>, kept: &[bool]) {
    let mut flags = kept.iter();
    items.retain(|_| flags.next().copied().unwrap_or(false));
}

/// Mirrors the image and its boxes left to right.
pub fn flip(mut sample: Sample) -> Sample {
    let width = sample.image.width;
    mirror(&mut sample.image);
    for rect in &mut sample.boxes {
        (rect[0], rect[2]) = (width as f32 - rect[2], width as f32 - rect[0]);
    }
    sample
}

fn mirror(image: &mut Image) {
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
        let kept = sanitize(sample);
        assert_eq!(kept.labels, [0, 5]);
        assert_eq!(kept.boxes, [[0.0, 0.0, 10.0, 10.0], [3.0, 3.0, 4.0, 4.0]]);
    }

    #[test]
    fn two_flips_are_none_and_one_moves_the_box_to_the_other_side() {
        let mut sample = sample_of(7, 4);
        sample.boxes = vec![[1.0, 0.0, 3.0, 2.0]];
        sample.labels = vec![2];
        let once = flip(sample.clone());
        assert_eq!(once.boxes, [[4.0, 0.0, 6.0, 2.0]]);
        assert_eq!(once.image.pixels[..3], sample.image.pixels[6 * 3..7 * 3]);
        assert_eq!(flip(once), sample);
    }
}
