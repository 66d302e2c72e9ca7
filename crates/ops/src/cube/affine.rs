//! Batch normalisation with given statistics on GPUs: evaluation, and backbones whose statistics are
//! frozen. See [`crate::batch_norm_frozen`].

use burn::backend::Autodiff;
use burn::backend::TensorMetadata;
use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn_cubecl::CubeRuntime;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use super::batch_norm::{channel, normalize_kernel};
use super::call::{self, Call, Launch, Meta};
use super::layout::Layout;
use super::pointwise;
use crate::Activation;

/// The input's gradient.
#[cube(launch_unchecked, address_type = "dynamic")]
#[allow(clippy::too_many_arguments)]
fn gradient_kernel<F: Float, G: Float, N: Size>(
    input: &[Vector<F, N>],
    gradient: &[Vector<G, N>],
    mean: &[f32],
    variance: &[f32],
    weight: &[f32],
    bias: &[f32],
    d_input: &mut [Vector<F, N>],
    channels: usize,
    run: usize,
    items: usize,
    epsilon: f32,
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
    let z = pointwise::before::<N>(&affine, Vector::cast_from(input[item]));
    let d_z = pointwise::through::<N>(z, Vector::cast_from(gradient[item]), activation);
    d_input[item] = Vector::cast_from(d_z * affine.inverse_std * affine.weight);
}

/// Input, mean, variance, weight and bias to the output.
#[derive(Clone, Debug)]
struct Apply {
    epsilon: f32,
    activation: Activation,
}

impl Call for Apply {
    const NAME: &'static str = "normalize_frozen";

    fn outputs(&self, inputs: &[Meta]) -> Vec<Meta> {
        vec![inputs[0].clone()]
    }

    fn run<R: CubeRuntime>(&self, inputs: Vec<CubeTensor<R>>) -> Vec<CubeTensor<R>> {
        let [input, mean, variance, weight, bias] = call::exactly(inputs);
        let layout = Layout::of(&input);
        let input = layout.arrange(input);
        let channels = [mean, variance, weight, bias].map(call::dense32);
        let output = layout.empty(&input, input.shape().dims(), input.dtype);
        let run = layout.run(&input);
        let vector = call::vector(&input, run);
        let items = input.meta.num_elements() / vector;
        let (count, dim) = call::units(&input.client, items);
        let [mean, variance, weight, bias] = channels.map(|channels| channels.into_buffer_arg());
        let [_, channels, _, _]: [usize; 4] = input.shape().dims();
        // SAFETY: units past the last item stop, and channels are counted modulo their number.
        unsafe {
            normalize_kernel::launch_unchecked(
                &output.client,
                count,
                dim,
                call::address(&[&input, &output]),
                vector,
                input.clone().into_buffer_arg(),
                mean,
                variance,
                weight,
                bias,
                output.clone().into_buffer_arg(),
                channels,
                run / vector,
                items,
                self.epsilon,
                self.activation,
                layout,
                call::element(&input),
            );
        }
        vec![output]
    }
}

/// Input, mean, variance, weight, bias and the output's gradient to the input's.
#[derive(Clone, Debug)]
struct ApplyBackward {
    epsilon: f32,
    activation: Activation,
}

impl Call for ApplyBackward {
    const NAME: &'static str = "normalize_frozen_backward";

    fn outputs(&self, inputs: &[Meta]) -> Vec<Meta> {
        vec![inputs[0].clone()]
    }

    fn run<R: CubeRuntime>(&self, inputs: Vec<CubeTensor<R>>) -> Vec<CubeTensor<R>> {
        let [input, mean, variance, weight, bias, gradient] = call::exactly(inputs);
        let layout = Layout::of(&input);
        let [input, gradient] = [input, gradient].map(|images| layout.arrange(images));
        let channels = [mean, variance, weight, bias].map(call::dense32);
        let d_input = layout.empty(&input, input.shape().dims(), input.dtype);
        let run = layout.run(&input);
        let vector = call::vector(&input, run).min(call::vector(&gradient, run));
        let items = input.meta.num_elements() / vector;
        let (count, dim) = call::units(&input.client, items);
        let [mean, variance, weight, bias] = channels.map(|channels| channels.into_buffer_arg());
        let [_, channels, _, _]: [usize; 4] = input.shape().dims();
        let dtypes = [call::element(&input), call::element(&gradient)];
        // SAFETY: units past the last item stop, and channels are counted modulo their number.
        unsafe {
            gradient_kernel::launch_unchecked(
                &d_input.client,
                count,
                dim,
                call::address(&[&input, &gradient]),
                vector,
                input.into_buffer_arg(),
                gradient.into_buffer_arg(),
                mean,
                variance,
                weight,
                bias,
                d_input.clone().into_buffer_arg(),
                channels,
                run / vector,
                items,
                self.epsilon,
                self.activation,
                layout,
                dtypes,
            );
        }
        vec![d_input]
    }
}

/// `inputs`: images, mean, variance, weight and bias.
pub(crate) fn apply<B: Launch>(
    inputs: [FloatTensor<B>; 5],
    epsilon: f32,
    activation: Activation,
) -> FloatTensor<B> {
    let [output] = call::exactly(B::launch(Apply { epsilon, activation }, inputs.into()));
    output
}

#[derive(Debug)]
struct AffineBackward;

impl<B: Launch> Backward<B, 1> for AffineBackward {
    type State = (Vec<FloatTensor<B>>, ApplyBackward);

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let (mut inputs, call) = ops.state;
        inputs.push(grads.consume::<B>(&ops.node));
        let [d_input] = call::exactly(B::launch(call, inputs));
        if let [Some(node)] = ops.parents {
            grads.register::<B>(node.id, d_input);
        }
    }
}

/// Gradients reach the images alone.
pub(crate) fn tracked<B: Launch, C: CheckpointStrategy>(
    inputs: [FloatTensor<Autodiff<B, C>>; 5],
    epsilon: f32,
    activation: Activation,
) -> FloatTensor<Autodiff<B, C>> {
    let nodes = [inputs[0].node.clone()];
    let inputs = inputs.map(|input| input.primitive);
    let output = apply::<B>(inputs.clone(), epsilon, activation);
    match AffineBackward.prepare::<C>(nodes).compute_bound().stateful() {
        OpsKind::Tracked(prep) => {
            prep.finish((inputs.into(), ApplyBackward { epsilon, activation }), output)
        }
        OpsKind::UnTracked(prep) => prep.finish(output),
    }
}
