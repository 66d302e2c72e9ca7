//! Batch normalisation on the CPU: two passes over the input forward, two backward.

use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::flex::FlexTensor;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Flex};
use rayon::prelude::*;

use crate::Activation;
use crate::flex;
use crate::simd::vectorised;

/// Sum in sixteen lanes, then in float64: vectorised, accurate, and of fixed order.
#[inline(always)]
fn sum(values: &[f32], term: impl Fn(f32) -> f32) -> f64 {
    let mut total = 0.0_f64;
    for block in values.chunks(1024) {
        let mut lanes = [0.0_f32; 16];
        let chunks = block.chunks_exact(16);
        let rest: f32 = chunks.remainder().iter().map(|&value| term(value)).sum();
        for chunk in chunks {
            for lane in 0..16 {
                lanes[lane] += term(chunk[lane]);
            }
        }
        total += f64::from(lanes.iter().sum::<f32>() + rest);
    }
    total
}

vectorised! {
    fn plain_sum(values: &[f32]) -> f64 {
        sum(values, |x| x)
    }
}

vectorised! {
    /// `sum((value - shift)^2)`
    fn sum_of_squares(values: &[f32], shift: f32) -> f64 {
        sum(values, |x| (x - shift) * (x - shift))
    }
}

/// Means, then biased variances, of all channels.
pub(super) fn statistics(input: &[f32], [batch, channels, height, width]: [usize; 4]) -> Vec<f32> {
    let plane = height * width;
    let count = (batch * plane) as f64;
    let of_channel = |channel: usize| {
        let planes = || (0..batch).map(move |image| (image * channels + channel) * plane);
        let mean = planes().map(|at| plain_sum(&input[at..at + plane])).sum::<f64>() / count;
        let shift = mean as f32;
        let squares = |at: usize| sum_of_squares(&input[at..at + plane], shift);
        (shift, (planes().map(squares).sum::<f64>() / count) as f32)
    };
    let mut both = vec![(0.0, 0.0); channels];
    flex::for_each(input.len(), both.par_iter_mut().enumerate(), |(channel, both)| {
        *both = of_channel(channel);
    });
    both.iter().map(|both| both.0).chain(both.iter().map(|both| both.1)).collect()
}

/// The affine map of one channel: `z = (x - mean) * inverse_std * weight + bias`.
#[derive(Clone, Copy)]
struct Channel {
    mean: f32,
    inverse_std: f32,
    weight: f32,
    bias: f32,
}

fn channels_of(weight: &[f32], bias: &[f32], statistics: &[f32], epsilon: f32) -> Vec<Channel> {
    let (means, variances) = statistics.split_at(weight.len());
    (0..weight.len())
        .map(|channel| Channel {
            mean: means[channel],
            inverse_std: 1.0 / (variances[channel] + epsilon).sqrt(),
            weight: weight[channel],
            bias: bias[channel],
        })
        .collect()
}

vectorised! {
    fn normalize_plane(
        channel: Channel,
        activation: Activation,
        input: &[f32],
        output: &mut [f32],
    ) {
        let Channel { mean, inverse_std, weight, bias } = channel;
        let scale = inverse_std * weight;
        activation.map(input, output, |x| (x - mean) * scale + bias);
    }
}

vectorised! {
    /// The gradient of a plane's `z`.
    fn activation_gradient(
        channel: Channel,
        activation: Activation,
        input: &[f32],
        gradient: &[f32],
        d_z: &mut [f32],
    ) {
        let Channel { mean, inverse_std, weight, bias } = channel;
        let scale = inverse_std * weight;
        activation.backward(input, gradient, d_z, |x| (x - mean) * scale + bias);
    }
}

vectorised! {
    /// From the gradient of a plane's `z` to that of its input.
    fn input_gradient(channel: Channel, offset: f32, slope: f32, input: &[f32], d_z: &mut [f32]) {
        let Channel { mean, inverse_std, weight, .. } = channel;
        let scale = inverse_std * weight;
        for (d, &x) in d_z.iter_mut().zip(input) {
            *d = scale * (*d - offset - (x - mean) * slope);
        }
    }
}

pub(crate) fn normalize(
    input: FlexTensor,
    weight: FlexTensor,
    bias: FlexTensor,
    statistics: FlexTensor,
    epsilon: f32,
    activation: Activation,
) -> FlexTensor {
    let shape: [usize; 4] = input.layout().shape().dims();
    let input = flex::dense(input);
    let (weight, bias, statistics) =
        (flex::dense(weight), flex::dense(bias), flex::dense(statistics));
    let channels =
        channels_of(flex::values(&weight), flex::values(&bias), flex::values(&statistics), epsilon);
    let plane = shape[2] * shape[3];
    let input = flex::values(&input);
    let mut output = vec![0.0; input.len()];
    let planes = output.par_chunks_mut(plane).zip(input.par_chunks(plane)).enumerate();
    flex::for_each(input.len(), planes, |(index, (output, input))| {
        normalize_plane(channels[index % channels.len()], activation, input, output);
    });
    flex::tensor(output, shape)
}

/// What the gradient needs of the forward pass.
#[derive(Clone, Debug)]
struct Saved {
    input: FlexTensor,
    weight: FlexTensor,
    bias: FlexTensor,
    statistics: FlexTensor,
    epsilon: f32,
    activation: Activation,
}

#[derive(Debug)]
struct NormalizeBackward;

impl Backward<Flex, 3> for NormalizeBackward {
    type State = Saved;

    fn backward(self, ops: Ops<Saved, 3>, grads: &mut Gradients, _: &mut Checkpointer) {
        let saved = ops.state;
        let shape: [usize; 4] = saved.input.layout().shape().dims();
        let gradient = flex::dense(grads.consume::<Flex>(&ops.node));
        let [d_input, d_weight, d_bias] = gradients(&saved, shape, flex::values(&gradient));
        let [input_node, weight_node, bias_node] = ops.parents;
        if let Some(node) = input_node {
            grads.register::<Flex>(node.id, flex::tensor(d_input, shape));
        }
        if let Some(node) = weight_node {
            grads.register::<Flex>(node.id, flex::tensor(d_weight, [shape[1]]));
        }
        if let Some(node) = bias_node {
            grads.register::<Flex>(node.id, flex::tensor(d_bias, [shape[1]]));
        }
    }
}

/// Gradients of input, weight and bias.
fn gradients(saved: &Saved, shape: [usize; 4], gradient: &[f32]) -> [Vec<f32>; 3] {
    let [batch, count, height, width] = shape;
    let plane = height * width;
    let input = flex::values(&saved.input);
    let (weight, bias) = (flex::values(&saved.weight), flex::values(&saved.bias));
    let channels = channels_of(weight, bias, flex::values(&saved.statistics), saved.epsilon);
    // First pass: through the activation, in place of the input's gradient.
    let mut d_input = vec![0.0; input.len()];
    let planes = d_input
        .par_chunks_mut(plane)
        .zip(input.par_chunks(plane).zip(gradient.par_chunks(plane)))
        .enumerate();
    flex::for_each(input.len(), planes, |(index, (d_z, (input, gradient)))| {
        activation_gradient(channels[index % count], saved.activation, input, gradient, d_z);
    });
    // Sums over each channel: of d_z, and of d_z times the normalised input.
    let mut sums = vec![(0.0_f32, 0.0_f32); count];
    flex::for_each(input.len(), sums.par_iter_mut().enumerate(), |(channel, sums)| {
        let Channel { mean, inverse_std, .. } = channels[channel];
        let mut totals = (0.0_f64, 0.0_f64);
        for image in 0..batch {
            let at = (image * count + channel) * plane;
            let (d_z, input) = (&d_input[at..at + plane], &input[at..at + plane]);
            totals.0 += plain_sum(d_z);
            totals.1 += sum_of_products(d_z, input, mean);
        }
        *sums = (totals.0 as f32, (totals.1 * f64::from(inverse_std)) as f32);
    });
    // Second pass: the part that flows through mean and variance.
    let inverse_count = 1.0 / (batch * plane) as f32;
    let planes = d_input.par_chunks_mut(plane).zip(input.par_chunks(plane)).enumerate();
    flex::for_each(input.len(), planes, |(index, (d_z, input))| {
        let channel = channels[index % count];
        let (d_bias, d_weight) = sums[index % count];
        let slope = d_weight * inverse_count * channel.inverse_std;
        input_gradient(channel, d_bias * inverse_count, slope, input, d_z);
    });
    let d_weight = sums.iter().map(|sums| sums.1).collect();
    let d_bias = sums.iter().map(|sums| sums.0).collect();
    [d_input, d_weight, d_bias]
}

vectorised! {
    /// `sum(gradient * (input - mean))`, in the order of [`sum`].
    fn sum_of_products(gradient: &[f32], input: &[f32], mean: f32) -> f64 {
        let mut total = 0.0_f64;
        for (gradient, input) in gradient.chunks(1024).zip(input.chunks(1024)) {
            let mut lanes = [0.0_f32; 16];
            let (gradients, inputs) = (gradient.chunks_exact(16), input.chunks_exact(16));
            let rest = gradients.remainder().iter().zip(inputs.remainder());
            let rest: f32 = rest.map(|(d, x)| d * (x - mean)).sum();
            for (d, x) in gradients.zip(inputs) {
                for lane in 0..16 {
                    lanes[lane] += d[lane] * (x[lane] - mean);
                }
            }
            total += f64::from(lanes.iter().sum::<f32>() + rest);
        }
        total
    }
}

pub(crate) fn tracked<C: CheckpointStrategy>(
    input: FloatTensor<Autodiff<Flex, C>>,
    weight: FloatTensor<Autodiff<Flex, C>>,
    bias: FloatTensor<Autodiff<Flex, C>>,
    statistics: FloatTensor<Autodiff<Flex, C>>,
    epsilon: f32,
    activation: Activation,
) -> FloatTensor<Autodiff<Flex, C>> {
    let nodes = [input.node.clone(), weight.node.clone(), bias.node.clone()];
    let saved = Saved {
        input: flex::dense(input.primitive),
        weight: flex::dense(weight.primitive),
        bias: flex::dense(bias.primitive),
        statistics: flex::dense(statistics.primitive),
        epsilon,
        activation,
    };
    let output = normalize(
        saved.input.clone(),
        saved.weight.clone(),
        saved.bias.clone(),
        saved.statistics.clone(),
        epsilon,
        activation,
    );
    match NormalizeBackward.prepare::<C>(nodes).compute_bound().stateful() {
        OpsKind::Tracked(prep) => prep.finish(saved, output),
        OpsKind::UnTracked(prep) => prep.finish(output),
    }
}
