//! The best values of each row, best first.

use burn::tensor::{Int, Tensor, TensorData};

#[cfg(any(feature = "cuda", feature = "vulkan"))]
use crate::cube;
use crate::readback::read;

/// The places `[rows, count]` of the highest of `scores` `[rows, width]`, best first. Equal scores are
/// taken in their order, so that the choice never depends on a sort's whim; what is no number comes
/// first.
///
/// Not differentiable. Burn sorts on the host, and so does this where it has no kernel.
///
/// # Panics
/// If a row has fewer than `count` scores, or the device fails.
pub fn best_of_rows(scores: Tensor<2>, count: usize) -> Tensor<2, Int> {
    let [rows, width] = scores.dims();
    assert!(count <= width, "{count} of {width} scores");
    let device = scores.device();
    #[cfg(any(feature = "cuda", feature = "vulkan"))]
    if cube::serves(&scores) {
        let scores = if device.is_autodiff() { scores.inner() } else { scores };
        let best = cube::best_of_rows(scores, count);
        return if device.is_autodiff() { Tensor::from_inner(best) } else { best };
    }
    let scores: Vec<f64> = read(scores.detach()).expect("a device that works").iter().collect();
    let mut chosen = Vec::with_capacity(rows * count);
    for scores in scores.chunks(width) {
        let mut order: Vec<usize> = (0..width).collect();
        let better = |&a: &usize, &b: &usize| scores[b].total_cmp(&scores[a]).then(a.cmp(&b));
        if count < width {
            order.select_nth_unstable_by(count, better);
            order.truncate(count);
        }
        order.sort_unstable_by(better);
        chosen.extend(order.into_iter().map(|place| place as i64));
    }
    Tensor::from_data(TensorData::new(chosen, [rows, count]), &device)
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;

    #[test]
    fn equal_scores_are_taken_in_their_order() {
        let scores = Tensor::<2>::from_floats([[0.0, 1.0, 0.0, 1.0, 2.0]], &Device::flex());
        let best: Vec<i64> = best_of_rows(scores, 4).into_data().iter().collect();
        assert_eq!(best, [4, 1, 3, 0]);
    }

    #[test]
    fn what_is_no_number_is_not_lost_behind_numbers() {
        let scores = [[f32::NEG_INFINITY, 1.0, f32::NAN, f32::INFINITY]];
        let scores = Tensor::<2>::from_floats(scores, &Device::flex());
        let best: Vec<i64> = best_of_rows(scores, 4).into_data().iter().collect();
        assert_eq!(best, [2, 3, 1, 0]);
    }
}
