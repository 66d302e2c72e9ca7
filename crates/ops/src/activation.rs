//! Activations: on tensors, and inside fused kernels.

use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::flex::FlexTensor;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Dispatch, Flex};
use burn::tensor::Tensor;
use burn::tensor::activation::{relu, silu};
use rayon::prelude::*;

use crate::flex::{self, Fused};
use crate::precision::through_32_bits;
use crate::simd::vectorised;

/// An activation function.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Activation {
    Identity,
    Relu,
    Silu,
}

impl Activation {
    /// On a tensor.
    pub fn apply<const D: usize>(self, input: Tensor<D>) -> Tensor<D> {
        if self == Self::Identity || !flex::serves(&input) {
            return self.composed(input);
        }
        Tensor::from_dispatch(<Dispatch as Fused>::activate(input.into_dispatch(), self))
    }

    /// The same from Burn's own operations: the path of devices without a kernel.
    pub(crate) fn composed<const D: usize>(self, input: Tensor<D>) -> Tensor<D> {
        match self {
            Self::Identity => input,
            Self::Relu => relu(input),
            Self::Silu => through_32_bits(input, silu),
        }
    }

    /// `output = activation(before(input))`.
    #[inline(always)]
    pub(crate) fn map(self, input: &[f32], output: &mut [f32], before: impl Fn(f32) -> f32) {
        let pairs = output.iter_mut().zip(input);
        match self {
            Self::Identity => pairs.for_each(|(output, &x)| *output = before(x)),
            Self::Relu => pairs.for_each(|(output, &x)| *output = before(x).max(0.0)),
            Self::Silu => pairs.for_each(|(output, &x)| {
                let z = before(x);
                *output = z * sigmoid(z);
            }),
        }
    }

    /// `d_z = gradient * activation'(before(input))`.
    #[inline(always)]
    pub(crate) fn backward(
        self,
        input: &[f32],
        gradient: &[f32],
        d_z: &mut [f32],
        before: impl Fn(f32) -> f32,
    ) {
        let triples = d_z.iter_mut().zip(input).zip(gradient);
        match self {
            Self::Identity => triples.for_each(|((d_z, _), &gradient)| *d_z = gradient),
            Self::Relu => triples.for_each(|((d_z, &x), &gradient)| {
                *d_z = if before(x) > 0.0 { gradient } else { 0.0 };
            }),
            Self::Silu => triples.for_each(|((d_z, &x), &gradient)| {
                let z = before(x);
                let s = sigmoid(z);
                *d_z = gradient * s * (1.0 + z * (1.0 - s));
            }),
        }
    }
}

vectorised! {
    /// [`Activation::map`] of the input itself.
    pub(crate) fn map(activation: Activation, input: &[f32], output: &mut [f32]) {
        activation.map(input, output, |x| x);
    }
}

vectorised! {
    /// [`Activation::backward`] of the input itself.
    pub(crate) fn map_backward(
        activation: Activation,
        input: &[f32],
        gradient: &[f32],
        d_input: &mut [f32],
    ) {
        activation.backward(input, gradient, d_input, |x| x);
    }
}

/// Elements that one thread takes at a time.
const PART: usize = 1 << 14;

pub(crate) fn activate(input: FlexTensor, activation: Activation) -> FlexTensor {
    let shape = input.layout().shape().clone();
    let input = flex::dense(input);
    let values = flex::values(&input);
    let mut output = vec![0.0; values.len()];
    let parts = output.par_chunks_mut(PART).zip(values.par_chunks(PART));
    flex::for_each(values.len(), parts, |(output, input)| map(activation, input, output));
    flex::tensor_of(output, shape)
}

#[derive(Debug)]
struct ActivationBackward;

impl Backward<Flex, 1> for ActivationBackward {
    type State = (FlexTensor, Activation);

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let (input, activation) = ops.state;
        let gradient = flex::dense(grads.consume::<Flex>(&ops.node));
        let (values, gradient) = (flex::values(&input), flex::values(&gradient));
        let mut d_input = vec![0.0; values.len()];
        let parts = d_input
            .par_chunks_mut(PART)
            .zip(values.par_chunks(PART).zip(gradient.par_chunks(PART)));
        flex::for_each(values.len(), parts, |(d_input, (values, gradient))| {
            map_backward(activation, values, gradient, d_input);
        });
        if let [Some(node)] = ops.parents {
            grads.register::<Flex>(
                node.id,
                flex::tensor_of(d_input, input.layout().shape().clone()),
            );
        }
    }
}

pub(crate) fn tracked<C: CheckpointStrategy>(
    input: FloatTensor<Autodiff<Flex, C>>,
    activation: Activation,
) -> FloatTensor<Autodiff<Flex, C>> {
    let nodes = [input.node.clone()];
    let input = flex::dense(input.primitive);
    let output = activate(input.clone(), activation);
    match ActivationBackward.prepare::<C>(nodes).compute_bound().stateful() {
        OpsKind::Tracked(prep) => prep.finish((input, activation), output),
        OpsKind::UnTracked(prep) => prep.finish(output),
    }
}

#[inline(always)]
fn sigmoid(z: f32) -> f32 {
    1.0 / (1.0 + exp(-z))
}

/// `e^x` to about one unit in the last place, without branches or calls, so that loops vectorise.
#[inline(always)]
pub(crate) fn exp(x: f32) -> f32 {
    // Outside these bounds float32 overflows to infinity or underflows to zero anyway.
    let x = x.clamp(-87.3, 88.3);
    // x = n ln 2 + r with |r| <= ln 2 / 2; ln 2 in two parts so that r is exact.
    let shifted = x * std::f32::consts::LOG2_E + 12_582_912.0;
    let n = shifted - 12_582_912.0;
    let r = (x - n * (355.0 / 512.0)) - n * -2.121_944_4e-4;
    // Minimax polynomial of e^r.
    let mut p = 1.987_569_1e-4_f32;
    p = p * r + 1.398_199_9e-3;
    p = p * r + 8.333_452e-3;
    p = p * r + 4.166_579_6e-2;
    p = p * r + 0.166_666_66;
    p = p * r + 0.5;
    p = p * r * r + r + 1.0;
    // The low bits of `shifted` hold n: move them into the exponent.
    p * f32::from_bits((shifted.to_bits().wrapping_add(127)) << 23)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_is_within_three_units_in_the_last_place() {
        for step in -8700..8800 {
            let x = step as f32 * 0.01;
            let exact = f64::from(x).exp();
            let error = (f64::from(exp(x)) - exact).abs() / exact;
            assert!(error < 3.0 * f64::from(f32::EPSILON), "exp({x}) is off by {error:e}");
        }
    }

    #[test]
    fn sigmoid_saturates_instead_of_overflowing() {
        assert!(sigmoid(1000.0) > 0.999_999);
        assert!(sigmoid(-1000.0) >= 0.0 && sigmoid(-1000.0) < 1e-37);
    }
}
