//! A linear map followed by an activation, with its gradient.

use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::flex::FlexTensor;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Dispatch, Flex};
use burn::tensor::Tensor;
use rayon::prelude::*;

use crate::activation::{self, Activation};
use crate::flex::{self, Fused};
use crate::matrix::{Matrix, multiply_by_rows, multiply_precisely_by_rows};
use crate::precision::{goes_through_32_bits, like, through_32_bits, widened};
use crate::simd::vectorised;
use crate::tf32;

/// `activation(input * weight^T + bias)`: `[.., in] -> [.., out]`, the weight `[out, in]`.
pub fn linear<const D: usize>(
    input: Tensor<D>,
    weight: Tensor<2>,
    bias: Tensor<1>,
    activation: Activation,
) -> Tensor<D> {
    let (weight, bias) = (like(weight, &input), like(bias, &input));
    if goes_through_32_bits(&input) {
        let (weight, bias) = (widened(weight), widened(bias));
        return through_32_bits(input, |input| linear(input, weight, bias, activation));
    }
    if tf32::is_on(&input) {
        // Matrix units see neither bias nor activation.
        let none = bias.zeros_like();
        let map = |input, weight| linear(input, weight, none.clone(), Activation::Identity);
        let mapped = tf32::product(input, weight, map) + bias.unsqueeze();
        return activation.apply(mapped);
    }
    if !flex::serves(&input) {
        return composed(input, weight, bias, activation);
    }
    let mut shape: [usize; D] = input.dims();
    let [to, from] = weight.dims();
    let rows = shape.iter().product::<usize>() / from;
    shape[D - 1] = to;
    let output = Tensor::<2>::from_dispatch(<Dispatch as Fused>::linear(
        input.reshape([rows, from]).into_dispatch(),
        weight.into_dispatch(),
        bias.into_dispatch(),
        activation,
    ));
    output.reshape(shape)
}

/// The same from Burn's own operations: the path of devices without a kernel, and the tests' oracle.
pub(crate) fn composed<const D: usize>(
    input: Tensor<D>,
    weight: Tensor<2>,
    bias: Tensor<1>,
    activation: Activation,
) -> Tensor<D> {
    activation.composed(burn::tensor::module::linear(input, weight.transpose(), Some(bias)))
}

/// What the gradient needs of the forward pass.
#[derive(Clone, Debug)]
struct Saved {
    input: FlexTensor,
    weight: FlexTensor,
    /// The output before the activation; empty without one.
    before: Vec<f32>,
    activation: Activation,
}

/// The output, and the output before the activation (empty without one).
fn forward(
    input: &[f32],
    weight: &[f32],
    bias: &[f32],
    activation: Activation,
) -> (Vec<f32>, Vec<f32>) {
    let to = bias.len();
    let from = weight.len() / to;
    let rows = input.len() / from;
    let mut output = bias.repeat(rows);
    let weight = Matrix::new(weight, to, from);
    multiply_precisely_by_rows(
        Matrix::new(input, rows, from),
        weight.transposed(),
        &mut output,
        true,
    );
    if activation == Activation::Identity {
        return (output, Vec::new());
    }
    let mut activated = vec![0.0; output.len()];
    let parts = activated.par_chunks_mut(PART).zip(output.par_chunks(PART));
    flex::for_each(output.len(), parts, |(to, from)| activation::map(activation, from, to));
    (activated, output)
}

vectorised! {
    /// Adds all rows of a matrix to `total`, in their order.
    fn add_rows(matrix: &[f32], total: &mut [f32]) {
        for row in matrix.chunks_exact(total.len()) {
            for (total, value) in total.iter_mut().zip(row) {
                *total += value;
            }
        }
    }
}

/// Elements that one thread activates at a time.
const PART: usize = 1 << 14;

#[derive(Debug)]
struct LinearBackward;

impl Backward<Flex, 3> for LinearBackward {
    type State = Saved;

    fn backward(self, ops: Ops<Saved, 3>, grads: &mut Gradients, _: &mut Checkpointer) {
        let Saved { input, weight, before, activation } = ops.state;
        let gradient = flex::dense(grads.consume::<Flex>(&ops.node));
        let mut through = Vec::new();
        let gradient = if activation == Activation::Identity {
            flex::values(&gradient)
        } else {
            through.resize(before.len(), 0.0);
            let parts = through
                .par_chunks_mut(PART)
                .zip(before.par_chunks(PART).zip(flex::values(&gradient).par_chunks(PART)));
            flex::for_each(before.len(), parts, |(to, (before, gradient))| {
                activation::map_backward(activation, before, gradient, to);
            });
            &through
        };
        let [rows, from]: [usize; 2] = input.layout().shape().dims();
        let [to, _]: [usize; 2] = weight.layout().shape().dims();
        let by_row = Matrix::new(gradient, rows, to);
        let [input_node, weight_node, bias_node] = ops.parents;
        if let Some(node) = input_node {
            let mut d_input = vec![0.0; rows * from];
            let weight = Matrix::new(flex::values(&weight), to, from);
            multiply_by_rows(by_row, weight, &mut d_input, false);
            grads.register::<Flex>(node.id, flex::tensor(d_input, [rows, from]));
        }
        if let Some(node) = weight_node {
            let mut d_weight = vec![0.0; to * from];
            let input = Matrix::new(flex::values(&input), rows, from);
            multiply_by_rows(by_row.transposed(), input, &mut d_weight, false);
            grads.register::<Flex>(node.id, flex::tensor(d_weight, [to, from]));
        }
        if let Some(node) = bias_node {
            let mut d_bias = vec![0.0; to];
            add_rows(gradient, &mut d_bias);
            grads.register::<Flex>(node.id, flex::tensor(d_bias, [to]));
        }
    }
}

pub(crate) fn apply(
    input: FlexTensor,
    weight: FlexTensor,
    bias: FlexTensor,
    activation: Activation,
) -> FlexTensor {
    let shape = [input.layout().shape()[0], weight.layout().shape()[0]];
    let [input, weight, bias] = [input, weight, bias].map(flex::dense);
    let values = (flex::values(&input), flex::values(&weight), flex::values(&bias));
    flex::tensor(forward(values.0, values.1, values.2, activation).0, shape)
}

pub(crate) fn tracked<C: CheckpointStrategy>(
    input: FloatTensor<Autodiff<Flex, C>>,
    weight: FloatTensor<Autodiff<Flex, C>>,
    bias: FloatTensor<Autodiff<Flex, C>>,
    activation: Activation,
) -> FloatTensor<Autodiff<Flex, C>> {
    let nodes = [input.node.clone(), weight.node.clone(), bias.node.clone()];
    let [input, weight, bias] =
        [input.primitive, weight.primitive, bias.primitive].map(flex::dense);
    let shape = [input.layout().shape()[0], weight.layout().shape()[0]];
    let values = (flex::values(&input), flex::values(&weight), flex::values(&bias));
    let (output, before) = forward(values.0, values.1, values.2, activation);
    let output = flex::tensor(output, shape);
    match LinearBackward.prepare::<C>(nodes).compute_bound().stateful() {
        OpsKind::Tracked(prep) => prep.finish(Saved { input, weight, before, activation }, output),
        OpsKind::UnTracked(prep) => prep.finish(output),
    }
}
