//! Batch normalisation in training mode on GPUs: see [`crate::batch_norm_train`].
//!
//! Forward reads the input twice and writes the output once; backward reads input and gradient twice
//! and writes once. The input keeps its order in memory, whichever of the two it has.

use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, AutodiffBackend, TensorMetadata};
use burn::tensor::DType;
use burn_cubecl::CubeRuntime;
use burn_cubecl::kernel::cast;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use super::call::{self, Call, Launch, Meta};
use super::layout::Layout;
use super::pointwise;
use super::reduce::{self, Terms};
use crate::Activation;

/// One unit for a few neighbouring values.
#[cube(launch_unchecked, address_type = "dynamic")]
#[allow(clippy::too_many_arguments)]
pub(crate) fn normalize_kernel<F: Float, N: Size>(
    input: &[Vector<F, N>],
    mean: &[f32],
    variance: &[f32],
    weight: &[f32],
    bias: &[f32],
    output: &mut [Vector<F, N>],
    channels: usize,
    run: usize,
    items: usize,
    epsilon: f32,
    #[comptime] activation: Activation,
    #[comptime] layout: Layout,
    #[define(F)] _dtype: ElemType,
) {
    let item = ABSOLUTE_POS;
    if item >= items {
        terminate!();
    }
    let channel = channel::<N>(item, channels, run, layout);
    let affine = pointwise::affine::<N>(mean, variance, weight, bias, channel, epsilon, layout);
    let z = pointwise::before::<N>(&affine, Vector::cast_from(input[item]));
    output[item] = Vector::cast_from(pointwise::activate::<N>(z, activation));
}

/// The first channel of an access; `run`: accesses in a plane or in a pixel.
#[cube]
pub(crate) fn channel<N: Size>(
    item: usize,
    channels: usize,
    run: usize,
    #[comptime] layout: Layout,
) -> usize {
    match layout {
        Layout::Planes => item / run % channels,
        Layout::Pixels => item % run * N::value(),
    }
}

/// The input's gradient, given those of weight and bias.
#[cube(launch_unchecked, address_type = "dynamic")]
#[allow(clippy::too_many_arguments)]
fn input_gradient_kernel<F: Float, G: Float, N: Size>(
    input: &[Vector<F, N>],
    gradient: &[Vector<G, N>],
    mean: &[f32],
    variance: &[f32],
    weight: &[f32],
    bias: &[f32],
    d_bias: &[f32],
    d_weight: &[f32],
    d_input: &mut [Vector<F, N>],
    channels: usize,
    run: usize,
    items: usize,
    epsilon: f32,
    inverse_count: f32,
    #[comptime] activation: Activation,
    #[comptime] layout: Layout,
    #[define(F, G)] _dtypes: [ElemType; 2],
) {
    let item = ABSOLUTE_POS;
    if item >= items {
        terminate!();
    }
    let channel = channel::<N>(item, channels, run, layout);
    let affine = pointwise::affine::<N>(mean, variance, weight, bias, channel, epsilon, layout);
    let share = Vector::<f32, N>::new(inverse_count);
    let offset = pointwise::of_channels::<N>(d_bias, channel, layout) * share;
    let slope = pointwise::of_channels::<N>(d_weight, channel, layout) * share * affine.inverse_std;
    let x = Vector::<f32, N>::cast_from(input[item]);
    let z = pointwise::before::<N>(&affine, x);
    let d_z = pointwise::through::<N>(z, Vector::cast_from(gradient[item]), activation);
    let scale = affine.inverse_std * affine.weight;
    d_input[item] = Vector::cast_from(scale * (d_z - offset - (x - affine.mean) * slope));
}

/// Input, weight and bias to output, mean and biased variance.
#[derive(Clone, Debug)]
struct Normalize {
    epsilon: f32,
    activation: Activation,
}

impl Call for Normalize {
    const NAME: &'static str = "normalize_batch";

    fn outputs(&self, inputs: &[Meta]) -> Vec<Meta> {
        let channels = Meta::new([inputs[0].shape[1]], DType::F32);
        vec![inputs[0].clone(), channels.clone(), channels]
    }

    fn run<R: CubeRuntime>(&self, inputs: Vec<CubeTensor<R>>) -> Vec<CubeTensor<R>> {
        let [input, weight, bias] = call::exactly(inputs);
        let layout = Layout::of(&input);
        let input = layout.arrange(input);
        let [weight, bias] = [weight, bias].map(call::dense32);
        // Moments need neither statistics nor parameters nor gradient: any tensor will do.
        let unused = [&weight, &weight, &weight, &bias].map(Clone::clone);
        let [mean, variance] =
            reduce::sums(Terms::Moments, layout, &input, &input, &unused, self.epsilon);
        let output = layout.empty(&input, input.shape().dims(), input.dtype);
        let run = layout.run(&input);
        let vector = call::vector(&input, run);
        let items = input.meta.num_elements() / vector;
        let (count, dim) = call::units(&input.client, items);
        // SAFETY: units past the last item stop, and channels are counted modulo their number.
        unsafe {
            normalize_kernel::launch_unchecked(
                &output.client,
                count,
                dim,
                call::address(&[&input, &output]),
                vector,
                input.clone().into_buffer_arg(),
                mean.clone().into_buffer_arg(),
                variance.clone().into_buffer_arg(),
                weight.clone().into_buffer_arg(),
                bias.into_buffer_arg(),
                output.clone().into_buffer_arg(),
                weight.shape()[0],
                run / vector,
                items,
                self.epsilon,
                self.activation,
                layout,
                call::element(&input),
            );
        }
        vec![output, mean, variance]
    }
}

/// Input, weight, bias, mean, variance and the output's gradient to the gradients of the first three.
#[derive(Clone, Debug)]
struct NormalizeBackward {
    epsilon: f32,
    activation: Activation,
}

impl Call for NormalizeBackward {
    const NAME: &'static str = "normalize_batch_backward";

    fn outputs(&self, inputs: &[Meta]) -> Vec<Meta> {
        inputs[..3].to_vec()
    }

    fn run<R: CubeRuntime>(&self, inputs: Vec<CubeTensor<R>>) -> Vec<CubeTensor<R>> {
        let [input, weight, bias, mean, variance, gradient] = call::exactly(inputs);
        let parameters = [weight.dtype, bias.dtype];
        let layout = Layout::of(&input);
        let [input, gradient] = [input, gradient].map(|images| layout.arrange(images));
        let channels = [mean, variance, weight, bias].map(call::dense32);
        let what = Terms::Gradients(self.activation);
        let [d_bias, d_weight] =
            reduce::sums(what, layout, &input, &gradient, &channels, self.epsilon);
        let d_input = layout.empty(&input, input.shape().dims(), input.dtype);
        let [batch, count, height, width] = input.shape().dims();
        let run = layout.run(&input);
        let vector = call::vector(&input, run).min(call::vector(&gradient, run));
        let items = input.meta.num_elements() / vector;
        let (cubes, dim) = call::units(&input.client, items);
        let [mean, variance, weight, bias] = channels.map(|channels| channels.into_buffer_arg());
        let dtypes = [call::element(&input), call::element(&gradient)];
        // SAFETY: units past the last item stop, and channels are counted modulo their number.
        unsafe {
            input_gradient_kernel::launch_unchecked(
                &d_input.client,
                cubes,
                dim,
                call::address(&[&input, &gradient]),
                vector,
                input.into_buffer_arg(),
                gradient.into_buffer_arg(),
                mean,
                variance,
                weight,
                bias,
                d_bias.clone().into_buffer_arg(),
                d_weight.clone().into_buffer_arg(),
                d_input.clone().into_buffer_arg(),
                count,
                run / vector,
                items,
                self.epsilon,
                1.0 / (batch * height * width) as f32,
                self.activation,
                layout,
                dtypes,
            );
        }
        vec![d_input, cast(d_weight, parameters[0]), cast(d_bias, parameters[1])]
    }
}

/// What a normalisation returns.
pub(crate) struct Normalized<T> {
    pub(crate) output: T,
    pub(crate) mean: T,
    pub(crate) variance: T,
}

pub(crate) fn normalize<B: Launch>(
    inputs: [FloatTensor<B>; 3],
    epsilon: f32,
    activation: Activation,
) -> Normalized<FloatTensor<B>> {
    let outputs = B::launch(Normalize { epsilon, activation }, inputs.into());
    let [output, mean, variance] = call::exactly(outputs);
    Normalized { output, mean, variance }
}

#[derive(Debug)]
struct BatchNormBackward;

impl<B: Launch> Backward<B, 3> for BatchNormBackward {
    /// Input, weight, bias, mean and variance.
    type State = (Vec<FloatTensor<B>>, NormalizeBackward);

    fn backward(self, ops: Ops<Self::State, 3>, grads: &mut Gradients, _: &mut Checkpointer) {
        let (mut inputs, call) = ops.state;
        inputs.push(grads.consume::<B>(&ops.node));
        for (node, gradient) in ops.parents.into_iter().zip(B::launch(call, inputs)) {
            if let Some(node) = node {
                grads.register::<B>(node.id, gradient);
            }
        }
    }
}

#[allow(clippy::type_complexity, reason = "what the macro for extensions understands")]
pub(crate) fn tracked<B: Launch, C: CheckpointStrategy>(
    inputs: [FloatTensor<Autodiff<B, C>>; 3],
    epsilon: f32,
    activation: Activation,
) -> (FloatTensor<Autodiff<B, C>>, FloatTensor<Autodiff<B, C>>, FloatTensor<Autodiff<B, C>>) {
    let nodes = [0, 1, 2].map(|index| inputs[index].node.clone());
    let inputs = inputs.map(|input| input.primitive);
    let Normalized { output, mean, variance } = normalize::<B>(inputs.clone(), epsilon, activation);
    let output = match BatchNormBackward.prepare::<C>(nodes).compute_bound().stateful() {
        OpsKind::Tracked(prep) => {
            let mut saved = Vec::from(inputs);
            saved.extend([mean.clone(), variance.clone()]);
            prep.finish((saved, NormalizeBackward { epsilon, activation }), output)
        }
        OpsKind::UnTracked(prep) => prep.finish(output),
    };
    let [mean, variance] = [mean, variance].map(Autodiff::<B, C>::from_inner);
    (output, mean, variance)
}
