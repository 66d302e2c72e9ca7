//! Mixup of a batch with itself rolled by one (deim-facts 3.4).

use crate::draws::Draws;
use crate::sample::Batch;

/// The share of its own image in each blend: uniform in [0.45, 0.55], rounded to six digits.
pub fn draw_beta(draws: &mut Draws) -> f64 {
    (draws.range(0.45, 0.55) * 1e6).round_ties_even() / 1e6
}

/// `image[i] = (1 - beta) * image[i - 1] + beta * image[i]`, with the targets of both, own first.
///
/// Images that are bytes are blended later, on the device.
///
/// A batch of one mixes its image with itself and doubles its targets, as officially.
pub fn mixup(mut batch: Batch, beta: f64) -> Batch {
    let count = batch.targets.len();
    let Some(last) = count.checked_sub(1) else { return batch };
    match &mut batch.bytes {
        Some(bytes) => bytes.own_share = Some(beta),
        None => blend_all(&mut batch.images, count, beta),
    }

    let targets = batch.targets.clone();
    for (index, target) in batch.targets.iter_mut().enumerate() {
        let previous = &targets[(index + last) % count];
        target.labels.extend_from_slice(&previous.labels);
        target.boxes.extend_from_slice(&previous.boxes);
    }
    batch
}

fn blend_all(images: &mut [f32], count: usize, beta: f64) {
    let (own, other) = (beta as f32, (1.0 - beta) as f32);
    let volume = images.len() / count;
    // From the back, so that the previous image is still unmixed.
    let wrapped = images[(count - 1) * volume..].to_vec();
    for index in (1..count).rev() {
        let (before, here) = images.split_at_mut(index * volume);
        blend(&mut here[..volume], &before[(index - 1) * volume..], own, other);
    }
    blend(&mut images[..volume], &wrapped, own, other);
}

fn blend(here: &mut [f32], previous: &[f32], own: f32, other: f32) {
    for (value, &previous) in here.iter_mut().zip(previous) {
        *value = previous * other + *value * own;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::Target;

    fn batch(images: &[f32]) -> Batch {
        let count = images.len() as u32;
        let rect = |index: u32| [0.1 * index as f32, 0.5, 0.2, 0.2];
        Batch {
            images: images.iter().flat_map(|&v| [v; 3]).collect(),
            bytes: None,
            size: 1,
            targets: (0..count)
                .map(|index| Target { labels: vec![index], boxes: vec![rect(index)] })
                .collect(),
            image_ids: (0..i64::from(count)).collect(),
            original_sizes: vec![[1, 1]; images.len()],
            dropped_boxes: 0,
        }
    }

    #[test]
    fn each_image_takes_its_predecessor_and_its_boxes() {
        let mixed = mixup(batch(&[0.0, 1.0, 0.5]), 0.48);
        let expected = [0.52 * 0.5, 0.48, 0.52 + 0.48 * 0.5];
        for (index, value) in expected.into_iter().enumerate() {
            assert!((mixed.images[index * 3] - value).abs() < 1e-6);
        }
        let labels: Vec<_> = mixed.targets.iter().map(|target| target.labels.clone()).collect();
        assert_eq!(labels, [[0, 2], [1, 0], [2, 1]]);
        assert_eq!(mixed.targets[1].boxes[1], [0.0, 0.5, 0.2, 0.2]);
    }

    #[test]
    fn a_batch_of_one_doubles_its_targets() {
        let mixed = mixup(batch(&[0.25]), 0.5);
        assert_eq!(mixed.images[..], [0.25; 3]);
        assert_eq!(mixed.targets[0].labels, [0, 0]);
    }

    #[test]
    fn beta_has_six_digits_between_45_and_55_percent() {
        for index in 0..100 {
            let beta = draw_beta(&mut Draws::new(3, "mixup", &[index]));
            assert!((0.45..=0.55).contains(&beta));
            assert!((beta * 1e6 - (beta * 1e6).round()).abs() < 1e-6);
        }
    }
}
