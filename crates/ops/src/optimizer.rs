//! The updates of a training step over all parameters: on the CPU one pass over memory for each, on
//! GPUs a few launches for all.

#[cfg(any(feature = "cuda", feature = "vulkan"))]
use burn::tensor::DType;
use burn::tensor::{Tensor, TensorData};
use rayon::prelude::*;

#[cfg(any(feature = "cuda", feature = "vulkan"))]
use crate::cube;
use crate::flex;
use crate::simd::vectorised;

/// The constants of one AdamW step of one parameter (PyTorch's form, decoupled weight decay).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamW {
    pub learning_rate: f64,
    pub weight_decay: f64,
    pub beta1: f64,
    pub beta2: f64,
    pub eps: f64,
    /// Counted from 1.
    pub step: u64,
}

impl AdamW {
    /// Updates a flat parameter and its two moments. `clip` `[1]` scales the gradient first.
    pub fn update(
        &self,
        [parameter, gradient, mean, square]: [Tensor<1>; 4],
        clip: Tensor<1>,
    ) -> [Tensor<1>; 3] {
        if !flex::serves(&parameter) {
            let correction1 = 1.0 - self.beta1.powf(self.step as f64);
            let correction2 = 1.0 - self.beta2.powf(self.step as f64);
            let keep = 1.0 - self.learning_rate * self.weight_decay;
            let rate = self.learning_rate / correction1;
            let gradient = gradient * clip;
            let mean = mean * self.beta1 + gradient.clone() * (1.0 - self.beta1);
            let square = square * self.beta2 + gradient.square() * (1.0 - self.beta2);
            let denominator = square.clone().sqrt() / correction2.sqrt() + self.eps;
            let parameter = parameter * keep - mean.clone() * rate / denominator;
            return [parameter, mean, square];
        }
        let device = parameter.device();
        let clip = clip.into_scalar::<f32>();
        let [mut parameter, gradient, mut mean, mut square] =
            [parameter, gradient, mean, square].map(values);
        let factors = self.factors();
        let parts = parameter
            .par_chunks_mut(PART)
            .zip(gradient.par_chunks(PART))
            .zip(mean.par_chunks_mut(PART).zip(square.par_chunks_mut(PART)));
        flex::for_each(gradient.len(), parts, |((parameter, gradient), (mean, square))| {
            update_part(factors, clip, parameter, gradient, mean, square);
        });
        [parameter, mean, square].map(|values| {
            let count = values.len();
            Tensor::from_data(TensorData::new(values, [count]), &device)
        })
    }

    /// What does not depend on values.
    pub(crate) fn factors(&self) -> Factors {
        let correction1 = 1.0 - self.beta1.powf(self.step as f64);
        let correction2 = 1.0 - self.beta2.powf(self.step as f64);
        Factors {
            beta1: self.beta1 as f32,
            beta2: self.beta2 as f32,
            new1: (1.0 - self.beta1) as f32,
            new2: (1.0 - self.beta2) as f32,
            eps: self.eps as f32,
            keep: (1.0 - self.learning_rate * self.weight_decay) as f32,
            rate: (self.learning_rate / correction1) as f32,
            root: 1.0 / correction2.sqrt() as f32,
        }
    }
}

/// Updates many parameters: the step, the flat parameter, its gradient and its two moments of each.
/// `clip` `[1]` scales all gradients first.
pub fn update_all(steps: Vec<(AdamW, [Tensor<1>; 4])>, clip: Tensor<1>) -> Vec<[Tensor<1>; 3]> {
    #[cfg(any(feature = "cuda", feature = "vulkan"))]
    if served(steps.iter().flat_map(|(_, [parameter, _, mean, square])| [parameter, mean, square]))
    {
        return cube::update_all(steps, clip);
    }
    steps.into_iter().map(|(step, tensors)| step.update(tensors, clip.clone())).collect()
}

/// [`blend`] of many tensors.
pub fn blend_all(averages: Vec<Tensor<1>>, currents: Vec<Tensor<1>>, decay: f64) -> Vec<Tensor<1>> {
    #[cfg(any(feature = "cuda", feature = "vulkan"))]
    if served(averages.iter().chain(&currents)) {
        return cube::blend_all(averages, currents, decay);
    }
    let both = averages.into_iter().zip(currents);
    both.map(|(average, current)| blend(average, current, decay)).collect()
}

/// The L2 norm of all tensors together, `[1]`; none if there is no tensor at all.
pub fn global_norm(tensors: Vec<Tensor<1>>) -> Option<Tensor<1>> {
    if tensors.is_empty() {
        return None;
    }
    #[cfg(any(feature = "cuda", feature = "vulkan"))]
    if tensors.iter().all(cube::serves) {
        return Some(cube::global_norm(tensors));
    }
    let squares = tensors.into_iter().map(|tensor| tensor.square().sum()).collect();
    Some(Tensor::cat(squares, 0).sum().sqrt())
}

/// Whether the kernels for many tensors at once serve these: there are some, and all in 32 bits.
#[cfg(any(feature = "cuda", feature = "vulkan"))]
fn served<'a>(tensors: impl Iterator<Item = &'a Tensor<1>>) -> bool {
    let mut tensors = tensors.peekable();
    let some = tensors.peek().is_some();
    some && tensors.all(|tensor| cube::serves(tensor) && tensor.dtype() == DType::F32)
}

/// Elements that one thread takes at a time.
const PART: usize = 1 << 14;

/// An [`AdamW`] step in float32.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Factors {
    pub(crate) beta1: f32,
    pub(crate) beta2: f32,
    pub(crate) new1: f32,
    pub(crate) new2: f32,
    pub(crate) eps: f32,
    pub(crate) keep: f32,
    pub(crate) rate: f32,
    /// One over the root of the second moment's correction.
    pub(crate) root: f32,
}

vectorised! {
    fn update_part(
        factors: Factors,
        clip: f32,
        parameter: &mut [f32],
        gradient: &[f32],
        mean: &mut [f32],
        square: &mut [f32],
    ) {
        let Factors { beta1, beta2, new1, new2, eps, keep, rate, root } = factors;
        let values = parameter.iter_mut().zip(gradient).zip(mean.iter_mut().zip(square));
        for ((parameter, gradient), (mean, square)) in values {
            let gradient = gradient * clip;
            *mean = *mean * beta1 + gradient * new1;
            *square = *square * beta2 + gradient * gradient * new2;
            *parameter = *parameter * keep - rate * *mean / (square.sqrt() * root + eps);
        }
    }
}

vectorised! {
    fn blend_part(average: &mut [f32], current: &[f32], old: f32, new: f32) {
        for (average, current) in average.iter_mut().zip(current) {
            *average = *average * old + current * new;
        }
    }
}

/// `average * decay + current * (1 - decay)`, the step of a moving average.
pub fn blend(average: Tensor<1>, current: Tensor<1>, decay: f64) -> Tensor<1> {
    if !flex::serves(&average) {
        return average * decay + current * (1.0 - decay);
    }
    let device = average.device();
    let (mut average, current) = (values(average), values(current));
    let (old, new) = (decay as f32, (1.0 - decay) as f32);
    let parts = average.par_chunks_mut(PART).zip(current.par_chunks(PART));
    flex::for_each(current.len(), parts, |(average, current)| {
        blend_part(average, current, old, new);
    });
    let count = average.len();
    Tensor::from_data(TensorData::new(average, [count]), &device)
}

/// The values of a float32 tensor; moved, not copied, if nothing else holds them.
fn values(tensor: Tensor<1>) -> Vec<f32> {
    tensor.into_data().try_into_vec().expect("float32 parameters")
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Device;

    #[test]
    fn a_first_step_moves_by_the_learning_rate_against_the_sign_of_the_gradient() {
        let device = Device::flex();
        let tensor = |values: [f32; 3]| Tensor::<1>::from_floats(values, &device);
        let adam = AdamW {
            learning_rate: 0.01,
            weight_decay: 0.1,
            beta1: 0.9,
            beta2: 0.999,
            eps: 1e-8,
            step: 1,
        };
        let [parameter, mean, square] = adam.update(
            [
                tensor([1.0, -2.0, 3.0]),
                tensor([0.5, -4.0, 0.0]),
                tensor([0.0; 3]),
                tensor([0.0; 3]),
            ],
            Tensor::from_floats([0.5], &device),
        );
        let parameter: Vec<f32> = values(parameter);
        for (value, expected) in parameter.iter().zip([0.999 - 0.01, -1.998 + 0.01, 2.997]) {
            assert!((value - expected).abs() < 1e-6, "{value} is not {expected}");
        }
        assert_eq!(values(mean), [0.025, -0.2, 0.0]);
        assert!((values(square)[1] - 0.004).abs() < 1e-9);
    }

    #[test]
    fn blending_keeps_the_share_of_the_decay() {
        let device = Device::flex();
        let average = Tensor::<1>::from_floats([1.0, 0.0], &device);
        let current = Tensor::<1>::from_floats([0.0, 1.0], &device);
        let blended = values(blend(average, current, 0.75));
        assert_eq!(blended, [0.75, 0.25]);
    }
}
