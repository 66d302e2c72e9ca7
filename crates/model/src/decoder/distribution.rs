//! Boxes as distributions of their edges, D-FINE's way of refining them (deim-facts 3.12).
//!
//! Each edge has a distribution over `reg_max + 1` offsets from a reference box. The offsets lie
//! densely around zero, and grow towards a fixed range.

use burn::tensor::activation::softmax;
use burn::tensor::{Tensor, TensorCreationOptions, TensorData};
use deim_ops::matmul;
use deim_spec::config::Decoder as Config;

/// Half the offset at which the bins end, relative to `reg_scale`: a parameter in official files, but
/// one that never trains.
pub const UP: f64 = 0.5;

/// The offsets `W(n)` of the bins: dense around zero, ending at `-2 up scale` and `2 up scale`.
pub fn offsets(reg_max: usize, reg_scale: f64, up: f64) -> Vec<f64> {
    let end = 2.0 * up * reg_scale;
    let step = (up * reg_scale + 1.0).powf(2.0 / (reg_max as f64 - 2.0));
    let inner = (reg_max / 2).saturating_sub(1);
    let growth = |i: usize| step.powi(i as i32) - 1.0;
    let mut offsets = vec![-end];
    offsets.extend((1..=inner).rev().map(|i| -growth(i)));
    offsets.push(0.0);
    offsets.extend((1..=inner).map(growth));
    offsets.push(end);
    offsets
}

/// The bins of one decoder.
#[derive(Clone, Debug)]
pub struct Bins {
    /// `W(n)` as a column `[bins, 1]`.
    offsets: Tensor<2>,
    reg_scale: f64,
}

impl Bins {
    pub fn new(
        reg_max: usize,
        reg_scale: f64,
        up: f64,
        options: impl Into<TensorCreationOptions>,
    ) -> Self {
        let values = offsets(reg_max, reg_scale, up);
        let bins = values.len();
        Self { offsets: Tensor::from_data(TensorData::new(values, [bins, 1]), options), reg_scale }
    }

    pub(super) fn of(config: &Config, options: impl Into<TensorCreationOptions>) -> Self {
        Self::new(config.reg_max, config.reg_scale, UP, options)
    }

    fn count(&self) -> usize {
        self.offsets.dims()[0]
    }

    /// Logits `[batch, queries, 4 * bins]` to probabilities `[batch, queries, 4, bins]`.
    pub fn probabilities(&self, corners: Tensor<3>) -> Tensor<4> {
        let [batch, queries, _] = corners.dims();
        softmax(corners.reshape([batch, queries, 4, self.count()]), 3)
    }

    /// The mean offset of each edge, `[batch, queries, 4]`: left, top, right, bottom.
    pub fn integral(&self, probabilities: Tensor<4>) -> Tensor<3> {
        let [batch, queries, edges, bins] = probabilities.dims();
        let rows = probabilities.reshape([batch * queries * edges, bins]);
        matmul(rows, self.offsets.clone()).reshape([batch, queries, edges])
    }

    /// Boxes whose edges are this far from half of the reference box, in shares of its size by
    /// `reg_scale`. Nothing is clamped: far negative offsets turn a box inside out.
    pub fn boxes(&self, reference: Tensor<3>, distances: Tensor<3>) -> Tensor<3> {
        let centre = reference.clone().narrow(2, 0, 2);
        let unit = reference.narrow(2, 2, 2).div_scalar(self.reg_scale);
        let from_centre = distances.add_scalar(0.5 * self.reg_scale);
        let low = centre.clone() - from_centre.clone().narrow(2, 0, 2) * unit.clone();
        let high = centre + from_centre.narrow(2, 2, 2) * unit;
        let middle = (low.clone() + high.clone()).div_scalar(2.0);
        Tensor::cat(vec![middle, high - low], 2)
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;

    #[test]
    fn the_bins_are_the_published_ones() {
        // deim-facts 3.12, c = 4 and c = 8.
        let four = [
            0.0, 0.07599, 0.157754, 0.245731, 0.340394, 0.44225, 0.551846, 0.66977, 0.796655,
            0.933182, 1.080084, 1.238149, 1.408225, 1.591225, 1.788131, 2.0, 4.0,
        ];
        let eight = [
            0.0, 0.113264, 0.239356, 0.37973, 0.536003, 0.709976, 0.903654, 1.119269, 1.359305,
            1.626528, 1.924018, 2.255202, 2.623898, 3.034354, 3.491299, 4.0, 8.0,
        ];
        for (scale, expected) in [(4.0, four), (8.0, eight)] {
            let offsets = offsets(32, scale, UP);
            assert_eq!(offsets.len(), 33);
            for (n, expected) in expected.into_iter().enumerate() {
                assert!((offsets[16 + n] - expected).abs() < 2e-6, "{scale} {n}: {offsets:?}");
                assert_eq!(offsets[16 - n], -offsets[16 + n]);
            }
        }
    }

    #[test]
    fn no_offset_gives_the_reference_box() {
        let device = Device::flex();
        let bins = Bins::new(32, 4.0, UP, &device);
        let reference = Tensor::<3>::from_floats([[[0.4, 0.6, 0.2, 0.1]]], &device);
        let even = bins.probabilities(Tensor::zeros([1, 1, 4 * 33], &device));
        let boxes = bins.boxes(reference.clone(), bins.integral(even));
        let difference = (boxes - reference).abs().max().into_scalar::<f32>();
        assert!(difference < 1e-6, "{difference}");
    }

    #[test]
    fn a_sure_edge_lies_at_its_bin() {
        let device = Device::flex();
        let bins = Bins::new(32, 4.0, UP, &device);
        let mut logits = vec![0.0_f32; 4 * 33];
        // The left edge two units out (bin 31), all others at zero (bin 16).
        for (edge, bin) in [31, 16, 16, 16].into_iter().enumerate() {
            logits[edge * 33 + bin] = 100.0;
        }
        let logits = Tensor::from_data(TensorData::new(logits, [1, 1, 4 * 33]), &device);
        let reference = Tensor::<3>::from_floats([[[0.5, 0.5, 0.4, 0.4]]], &device);
        let boxes = bins.boxes(reference, bins.integral(bins.probabilities(logits)));
        let boxes: Vec<f32> = boxes.into_data().iter().collect();
        // The left edge moves from 0.3 to 0.1.
        for (ours, expected) in boxes.iter().zip([0.4, 0.5, 0.6, 0.4]) {
            assert!((ours - expected).abs() < 1e-5, "{boxes:?}");
        }
    }
}
