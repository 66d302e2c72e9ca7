//! The official post-processing: from a prediction to ranked detections (deim-facts 3.17).

use burn::tensor::activation::sigmoid;
use deim_model::outputs::Prediction;
use rayon::prelude::*;

/// One detection of an image.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ranked {
    pub query: usize,
    pub class: usize,
    pub score: f32,
    /// `[x, y, width, height]` in pixels of the original image, not clipped.
    pub bbox: [f64; 4],
}

/// The best pairs of query and class of every image, best first; a query may appear with several
/// classes. There is no threshold and no suppression.
pub fn rank(
    prediction: Prediction,
    original_sizes: &[[u32; 2]],
    detections: usize,
) -> Vec<Vec<Ranked>> {
    let [images, queries, classes] = prediction.logits.dims();
    let read = deim_ops::read_both(sigmoid(prediction.logits), prediction.boxes);
    let [scores, boxes]: [Vec<f32>; 2] =
        read.expect("a device that works").map(|data| data.iter().collect());
    let better =
        |scores: &[f32], a: usize, b: usize| scores[b].total_cmp(&scores[a]).then(a.cmp(&b));
    let of_image = |image: usize| {
        let scores = &scores[image * queries * classes..][..queries * classes];
        let mut order: Vec<usize> = (0..scores.len()).collect();
        // Most pairs are nowhere near the best: only those are put in order.
        if (1..order.len()).contains(&detections) {
            order.select_nth_unstable_by(detections, |&a, &b| better(scores, a, b));
            order.truncate(detections);
        }
        order.sort_unstable_by(|&a, &b| better(scores, a, b));
        let [width, height] = original_sizes[image].map(f64::from);
        let ranked = order.into_iter().take(detections).map(|pair| {
            let (query, class) = (pair / classes, pair % classes);
            let at = (image * queries + query) * 4;
            let [x, y, w, h] = [0, 1, 2, 3].map(|side| f64::from(boxes[at + side]));
            let bbox = [(x - w / 2.0) * width, (y - h / 2.0) * height, w * width, h * height];
            Ranked { query, class, score: scores[pair], bbox }
        });
        ranked.collect()
    };
    (0..images).into_par_iter().map(of_image).collect()
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, Tensor};

    use super::*;

    #[test]
    fn a_query_appears_once_for_each_of_its_good_classes() {
        let device = Device::flex();
        let prediction = Prediction {
            logits: Tensor::from_floats([[[3.0, 2.0], [-1.0, 2.5]]], &device),
            boxes: Tensor::from_floats([[[0.5, 0.5, 0.2, 0.4], [0.1, 0.5, 0.4, 0.2]]], &device),
            corners: None,
        };
        let ranked = rank(prediction, &[[100, 50]], 3).remove(0);
        let pairs: Vec<_> = ranked.iter().map(|found| (found.query, found.class)).collect();
        assert_eq!(pairs, [(0, 0), (1, 1), (0, 1)]);
        let expected = [-10.0, 20.0, 40.0, 10.0];
        assert!(ranked[1].bbox.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-4));
    }
}
