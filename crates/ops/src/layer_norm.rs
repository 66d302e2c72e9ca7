//! Layer normalisation over the last axis, with its gradient.

use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::flex::FlexTensor;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Dispatch, Flex};
use burn::tensor::Tensor;
use rayon::prelude::*;

#[cfg(any(feature = "cuda", feature = "vulkan"))]
use crate::cube;
use crate::flex::{self, Fused};
use crate::precision::{is_half, through_32_bits};
use crate::simd::vectorised;

/// `(input - mean) / sqrt(variance + epsilon) * weight + bias` over the last axis.
pub fn layer_norm<const D: usize>(
    input: Tensor<D>,
    weight: Tensor<1>,
    bias: Tensor<1>,
    epsilon: f64,
) -> Tensor<D> {
    #[cfg(any(feature = "cuda", feature = "vulkan"))]
    if cube::serves(&input) {
        return Tensor::from_dispatch(<Dispatch as cube::Kernels>::normalize_rows(
            input.into_dispatch(),
            weight.into_dispatch(),
            bias.into_dispatch(),
            epsilon as f32,
        ));
    }
    if is_half(&input) {
        return through_32_bits(input, |input| layer_norm(input, weight, bias, epsilon));
    }
    if !flex::serves(&input) {
        return composed(input, weight, bias, epsilon);
    }
    let shape: [usize; D] = input.dims();
    let channels = shape[D - 1];
    let rows = shape.iter().product::<usize>() / channels;
    let output = Tensor::<2>::from_dispatch(<Dispatch as Fused>::normalize_rows(
        input.reshape([rows, channels]).into_dispatch(),
        weight.into_dispatch(),
        bias.into_dispatch(),
        epsilon as f32,
    ));
    output.reshape(shape)
}

/// The same from Burn's own operation: the path of devices without a kernel, and the tests' oracle.
pub(crate) fn composed<const D: usize>(
    input: Tensor<D>,
    weight: Tensor<1>,
    bias: Tensor<1>,
    epsilon: f64,
) -> Tensor<D> {
    burn::tensor::module::layer_norm(input, weight, Some(bias), epsilon)
}

/// Mean and inverse deviation of a row.
#[inline(always)]
fn moments(row: &[f32], epsilon: f32) -> (f32, f32) {
    let count = row.len() as f32;
    let mean = lanes(row, |x| x) / count;
    let variance = lanes(row, |x| (x - mean) * (x - mean)) / count;
    (mean, 1.0 / (variance + epsilon).sqrt())
}

/// Sum in eight lanes: vectorised, and of fixed order.
#[inline(always)]
fn lanes(row: &[f32], term: impl Fn(f32) -> f32) -> f32 {
    let mut lanes = [0.0_f32; 8];
    let chunks = row.chunks_exact(8);
    let rest: f32 = chunks.remainder().iter().map(|&x| term(x)).sum();
    for chunk in chunks {
        for lane in 0..8 {
            lanes[lane] += term(chunk[lane]);
        }
    }
    lanes.iter().sum::<f32>() + rest
}

vectorised! {
    fn normalize_row(row: &[f32], weight: &[f32], bias: &[f32], epsilon: f32, output: &mut [f32]) {
        let (mean, inverse) = moments(row, epsilon);
        for channel in 0..row.len() {
            output[channel] = (row[channel] - mean) * inverse * weight[channel] + bias[channel];
        }
    }
}

vectorised! {
    /// Gradients of input, weight and bias over all rows.
    fn row_gradients(
        input: &[f32],
        weight: &[f32],
        gradient: &[f32],
        epsilon: f32,
        d_input: &mut [f32],
        d_weight: &mut [f32],
        d_bias: &mut [f32],
    ) {
        let channels = weight.len();
        // As long as the weights, so that no index needs a check.
        let (d_weight, d_bias) = (&mut d_weight[..channels], &mut d_bias[..channels]);
        let count = channels as f32;
        let pairs = input.chunks_exact(channels).zip(gradient.chunks_exact(channels));
        for ((row, gradient), d_row) in pairs.zip(d_input.chunks_exact_mut(channels)) {
            let (mean, inverse) = moments(row, epsilon);
            for channel in 0..channels {
                let normal = (row[channel] - mean) * inverse;
                d_weight[channel] += gradient[channel] * normal;
                d_bias[channel] += gradient[channel];
                d_row[channel] = gradient[channel] * weight[channel];
            }
            let offset = lanes(d_row, |d| d) / count;
            let mut products = [0.0_f32; 8];
            for (index, (d, x)) in d_row.iter().zip(row).enumerate() {
                products[index % 8] += d * (x - mean);
            }
            let slope = products.iter().sum::<f32>() * inverse * inverse / count;
            for (d, x) in d_row.iter_mut().zip(row) {
                *d = inverse * (*d - offset - (x - mean) * slope);
            }
        }
    }
}

/// What the gradient needs of the forward pass.
#[derive(Clone, Debug)]
struct Saved {
    input: FlexTensor,
    weight: FlexTensor,
    epsilon: f32,
}

#[derive(Debug)]
struct RowsBackward;

impl Backward<Flex, 3> for RowsBackward {
    type State = Saved;

    fn backward(self, ops: Ops<Saved, 3>, grads: &mut Gradients, _: &mut Checkpointer) {
        let Saved { input, weight, epsilon } = ops.state;
        let gradient = flex::dense(grads.consume::<Flex>(&ops.node));
        let [rows, channels]: [usize; 2] = input.layout().shape().dims();
        let (input, weight) = (flex::values(&input), flex::values(&weight));
        let gradient = flex::values(&gradient);
        let mut d_input = vec![0.0; input.len()];
        let (mut d_weight, mut d_bias) = (vec![0.0; channels], vec![0.0; channels]);
        row_gradients(input, weight, gradient, epsilon, &mut d_input, &mut d_weight, &mut d_bias);
        let [input_node, weight_node, bias_node] = ops.parents;
        if let Some(node) = input_node {
            grads.register::<Flex>(node.id, flex::tensor(d_input, [rows, channels]));
        }
        if let Some(node) = weight_node {
            grads.register::<Flex>(node.id, flex::tensor(d_weight, [channels]));
        }
        if let Some(node) = bias_node {
            grads.register::<Flex>(node.id, flex::tensor(d_bias, [channels]));
        }
    }
}

pub(crate) fn normalize(
    input: FlexTensor,
    weight: FlexTensor,
    bias: FlexTensor,
    epsilon: f32,
) -> FlexTensor {
    let shape: [usize; 2] = input.layout().shape().dims();
    let [input, weight, bias] = [input, weight, bias].map(flex::dense);
    let (input, weight, bias) = (flex::values(&input), flex::values(&weight), flex::values(&bias));
    let mut output = vec![0.0; input.len()];
    let rows = output.par_chunks_mut(shape[1]).zip(input.par_chunks(shape[1]));
    flex::for_each(input.len(), rows, |(output, row)| {
        normalize_row(row, weight, bias, epsilon, output);
    });
    flex::tensor(output, shape)
}

pub(crate) fn tracked<C: CheckpointStrategy>(
    input: FloatTensor<Autodiff<Flex, C>>,
    weight: FloatTensor<Autodiff<Flex, C>>,
    bias: FloatTensor<Autodiff<Flex, C>>,
    epsilon: f32,
) -> FloatTensor<Autodiff<Flex, C>> {
    let nodes = [input.node.clone(), weight.node.clone(), bias.node.clone()];
    let saved = Saved {
        input: flex::dense(input.primitive),
        weight: flex::dense(weight.primitive),
        epsilon,
    };
    let output = normalize(saved.input.clone(), saved.weight.clone(), bias.primitive, epsilon);
    match RowsBackward.prepare::<C>(nodes).compute_bound().stateful() {
        OpsKind::Tracked(prep) => prep.finish(saved, output),
        OpsKind::UnTracked(prep) => prep.finish(output),
    }
}
