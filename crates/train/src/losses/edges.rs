//! The losses of D-FINE's edge distributions: FGL and DDF (deim-facts 3.11, 3.12).
//!
//! An edge of a box is predicted as a distribution over `reg_max + 1` offsets from a reference box.
//! FGL is the cross entropy with the two bins around the true offset; DDF draws the layers'
//! distributions to that of the last layer.

use burn::tensor::activation::{log_softmax, sigmoid};
use burn::tensor::{Tensor, TensorData};
use deim_model::decoder::distribution;

use super::{like, upload};
use crate::boxes::{Box4, Corners, Real};

/// The bins of the edge distributions and the weights of their losses.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct EdgeLoss {
    /// Bins less one.
    pub reg_max: usize,
    /// Curvature of the bins.
    pub reg_scale: f64,
    /// Half the offset at which the bins end, relative to `reg_scale`.
    pub up: f64,
    pub weight_fgl: f64,
    pub weight_ddf: f64,
}

/// Temperature of the distillation.
const TEMPERATURE: f64 = 5.0;

/// Where an offset lies between two bins.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bin {
    /// The left bin of the two.
    pub left: usize,
    pub weight_left: f64,
    pub weight_right: f64,
}

impl EdgeLoss {
    pub fn bins(&self) -> usize {
        self.reg_max + 1
    }

    /// The offsets `W(n)` of the bins: dense around zero, ending at `-2 up scale` and `2 up scale`.
    pub fn offsets(&self) -> Vec<f64> {
        distribution::offsets(self.reg_max, self.reg_scale, self.up)
    }

    /// The offsets of the target's four edges from a reference box, in bins: left, top, right, bottom.
    /// In the precision of the boxes, as officially: where an offset lies between two bins is a
    /// difference of nearly equal numbers.
    pub fn bins_of<T: Real>(
        &self,
        reference: Box4<T>,
        target: Corners<T>,
        offsets: &[f64],
    ) -> [Bin; 4] {
        let scale = T::of(self.reg_scale);
        let [cx, cy, w, h] = reference;
        let offset =
            |distance: T, side: T| distance / (side / scale + T::of(1e-16)) - T::HALF * scale;
        [
            offset(cx - target[0], w),
            offset(cy - target[1], h),
            offset(target[2] - cx, w),
            offset(target[3] - cy, h),
        ]
        .map(|value| self.bin(value, offsets))
    }

    /// Where an offset lies among the bins.
    pub fn bin<T: Real>(&self, value: T, offsets: &[f64]) -> Bin {
        let below = offsets.partition_point(|&offset| T::of(offset) <= value);
        if below == 0 {
            return Bin { left: 0, weight_left: 1.0, weight_right: 0.0 };
        }
        let left = below - 1;
        if left >= self.reg_max {
            return Bin { left: self.reg_max - 1, weight_left: 0.0, weight_right: 1.0 };
        }
        let to_left = (value - T::of(offsets[left])).size();
        let to_right = (T::of(offsets[left + 1]) - value).size();
        let weight_right = to_left / (to_left + to_right);
        let weight_left = (T::ONE - weight_right).wide();
        Bin { left, weight_left, weight_right: weight_right.wide() }
    }
}

/// FGL of the matched queries of `layers` layers.
///
/// `corners` are the matched rows `[layers * pairs, 4 * bins]`, `targets` the bins of each row and
/// `scales` its weight. Returns the loss of each layer and the gradient by `corners`.
pub fn focal_localisation(
    corners: Tensor<2>,
    targets: &[[Bin; 4]],
    scales: &[f64],
    bins: usize,
    layers: usize,
) -> (Tensor<1>, Tensor<2>) {
    let options = like(&corners);
    let rows = targets.len();
    // The target distribution of each edge, times the row's weight.
    let mut wanted = vec![0.0_f64; rows * 4 * bins];
    let mut mass = Vec::with_capacity(rows * 4);
    for (row, (edges, &scale)) in targets.iter().zip(scales).enumerate() {
        for (edge, bin) in edges.iter().enumerate() {
            let at = (row * 4 + edge) * bins + bin.left;
            wanted[at] += scale * bin.weight_left;
            wanted[at + 1] += scale * bin.weight_right;
            mass.push(scale * (bin.weight_left + bin.weight_right));
        }
    }
    let wanted: Tensor<2> =
        Tensor::from_data(TensorData::new(wanted, [rows * 4, bins]), options.clone());
    let mass = upload(mass, &options).reshape([rows * 4, 1]);
    let logits = corners.reshape([rows * 4, bins]);
    let log_probability = log_softmax(logits, 1);
    let loss = (wanted.clone() * log_probability.clone()).neg();
    let per_layer = loss.reshape([layers, rows / layers * 4 * bins]).sum_dim(1).reshape([layers]);
    let gradient = log_probability.exp() * mass - wanted;
    (per_layer, gradient.reshape([rows, 4 * bins]))
}

/// DDF of `students` layers against the last layer.
///
/// `corners` is `[(students + 1) * rows, 4 * bins]`, the teacher's rows last; `weights`
/// `[students * rows, 1]` holds the whole scale of each row except the temperature. Returns the loss
/// of each student layer and the gradient by all corners (zero for the teacher).
pub fn distillation(
    corners: Tensor<2>,
    weights: Tensor<2>,
    bins: usize,
    students: usize,
) -> (Tensor<1>, Tensor<2>) {
    let [all_rows, width] = corners.dims();
    let rows = all_rows / (students + 1);
    let by_layer = corners.div_scalar(TEMPERATURE).reshape([students + 1, rows * 4, bins]);
    let log_probability = log_softmax(by_layer, 2);
    let student = log_probability.clone().narrow(0, 0, students);
    let log_teacher = log_probability.narrow(0, students, 1);
    let teacher = log_teacher.clone().exp();

    let divergence = (teacher.clone() * (log_teacher - student.clone())).sum_dim(2);
    let divergence = divergence.reshape([students * rows, 4]).sum_dim(1);
    // The official factor T^2 makes up for the temperature in the gradient.
    let loss = divergence * weights.clone() * (TEMPERATURE * TEMPERATURE);
    let per_layer = loss.reshape([students, rows]).sum_dim(1).reshape([students]);

    let difference = (student.exp() - teacher).reshape([students * rows, width]);
    let gradient = difference * weights * TEMPERATURE;
    let none = Tensor::zeros([rows, width], like(&gradient));
    (per_layer, Tensor::cat(vec![gradient, none], 0))
}

/// The best class score of each row of flat logits: the weight of rows without a match in DDF.
pub fn best_scores(logits: Tensor<1>, classes: usize) -> Tensor<2> {
    let rows = logits.dims()[0] / classes;
    sigmoid(logits.reshape([rows, classes]).max_dim(1))
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;

    const LOSS: EdgeLoss =
        EdgeLoss { reg_max: 32, reg_scale: 4.0, up: 0.5, weight_fgl: 0.15, weight_ddf: 1.5 };

    #[test]
    fn bins_are_the_published_offsets() {
        let offsets = LOSS.offsets();
        assert_eq!(offsets.len(), 33);
        // deim-facts 3.12, c = 4.
        for (bin, expected) in
            [(16, 0.0), (17, 0.07599), (29, 1.591225), (30, 1.788131), (31, 2.0), (32, 4.0)]
        {
            assert!((offsets[bin] - expected).abs() < 1e-4, "bin {bin}: {}", offsets[bin]);
            assert_eq!(offsets[bin], -offsets[32 - bin]);
        }
    }

    #[test]
    fn an_offset_between_two_bins_is_their_weighted_mean() {
        let offsets = LOSS.offsets();
        for value in [-3.9_f64, -0.5, 0.0, 0.1, 2.0] {
            let bin = LOSS.bin(value, &offsets);
            let mean =
                bin.weight_left * offsets[bin.left] + bin.weight_right * offsets[bin.left + 1];
            assert!((mean - value).abs() < 1e-5, "{value}: {bin:?}");
        }
        assert_eq!(LOSS.bin(-9.0, &offsets).left, 0);
        assert_eq!(LOSS.bin(9.0, &offsets), Bin { left: 31, weight_left: 0.0, weight_right: 1.0 });
    }

    #[test]
    fn the_gradients_are_the_slopes() {
        let device = Device::flex();
        let bins = 5;
        let values: Vec<f32> =
            (0..2 * 4 * bins).map(|i| ((i * 7 % 11) as f32 - 5.0) / 3.0).collect();
        let corners = |values: &[f32]| {
            Tensor::<2>::from_data(TensorData::new(values.to_vec(), [2, 4 * bins]), &device)
        };
        let bin = Bin { left: 1, weight_left: 0.25, weight_right: 0.75 };
        let weights = Tensor::<2>::from_floats([[0.4]], &device);
        let fgl = |v: &[f32]| focal_localisation(corners(v), &[[bin; 4]; 2], &[0.5, 2.0], bins, 2);
        let ddf = |v: &[f32]| distillation(corners(v), weights.clone(), bins, 1);
        for (name, loss) in
            [("fgl", &fgl as &dyn Fn(&[f32]) -> (Tensor<1>, Tensor<2>)), ("ddf", &ddf)]
        {
            let gradient: Vec<f32> = loss(&values).1.try_into_vec_as().expect("floats");
            // The teacher, in the second row, has no gradient.
            let tracked = if name == "ddf" { 4 * bins } else { values.len() };
            for at in 0..tracked {
                let shifted = |by: f32| {
                    let mut moved = values.clone();
                    moved[at] += by;
                    loss(&moved).0.sum().into_scalar::<f32>()
                };
                let slope = (shifted(0.02) - shifted(-0.02)) / 0.04;
                assert!(
                    (slope - gradient[at]).abs() < 2e-3,
                    "{name} {at}: {slope} {}",
                    gradient[at]
                );
            }
            assert!(gradient[tracked..].iter().all(|&slope| slope == 0.0));
        }
    }
}
