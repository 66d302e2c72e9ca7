//! Depthwise convolution: every channel with a kernel of its own, forward and backward.
//!
//! A plane is padded and split into its `stride * stride` phases (every stride-th row and column).
//! Each tap of the kernel then reads one phase at one offset, for the whole plane in a single run:
//! the few columns of padding that are computed along are cheaper than short rows.

use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::flex::FlexTensor;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Dispatch, Flex};
use burn::tensor::Tensor;
use burn::tensor::ops::ConvOptions;
use rayon::prelude::*;

#[cfg(any(feature = "cuda", feature = "vulkan"))]
use crate::cube;
use crate::flex::{self, Fused};
use crate::precision::{goes_through_32_bits, like, through_32_bits, widened};
use crate::simd::{correlate, dot};

/// Convolution of `[batch, channels, h, w]` with `[channels, 1, k, k]`, one kernel a channel, padded
/// by `(k - 1) / 2` zeros.
pub fn depthwise_conv2d(input: Tensor<4>, weight: Tensor<4>, stride: usize) -> Tensor<4> {
    let weight = like(weight, &input);
    #[cfg(any(feature = "cuda", feature = "vulkan"))]
    if cube::serves(&input) {
        return Tensor::from_dispatch(<Dispatch as cube::Kernels>::convolve_depthwise(
            input.into_dispatch(),
            weight.into_dispatch(),
            stride,
        ));
    }
    if goes_through_32_bits(&input) {
        let weight = widened(weight);
        return through_32_bits(input, |input| depthwise_conv2d(input, weight, stride));
    }
    if !flex::serves(&input) {
        return composed(input, weight, stride);
    }
    Tensor::from_dispatch(<Dispatch as Fused>::convolve_depthwise(
        input.into_dispatch(),
        weight.into_dispatch(),
        stride,
    ))
}

/// The same from Burn's own operation: the path of devices without a kernel, and the tests' oracle.
pub(crate) fn composed(input: Tensor<4>, weight: Tensor<4>, stride: usize) -> Tensor<4> {
    let [channels, _, kernel, _] = weight.dims();
    let options = ConvOptions::new([stride; 2], [(kernel - 1) / 2; 2], [1, 1], channels);
    burn::tensor::module::conv2d(input, weight, None, options)
}

/// The sizes of one convolution.
#[derive(Clone, Copy, Debug)]
struct Geometry {
    batch: usize,
    channels: usize,
    kernel: usize,
    stride: usize,
    input: [usize; 2],
    output: [usize; 2],
}

impl Geometry {
    fn new(input: &FlexTensor, weight: &FlexTensor, stride: usize) -> Self {
        let [batch, channels, height, width] = input.layout().shape().dims();
        let [kernels, one, kernel, _]: [usize; 4] = weight.layout().shape().dims();
        assert_eq!((channels, 1), (kernels, one), "a depthwise kernel for every channel");
        let padding = (kernel - 1) / 2;
        let output = [height, width].map(|side| (side + 2 * padding - kernel) / stride + 1);
        Self { batch, channels, kernel, stride, input: [height, width], output }
    }

    fn padding(&self) -> usize {
        (self.kernel - 1) / 2
    }

    /// How far a tap reaches beyond an output pixel, in rows or columns of a phase.
    fn reach(&self) -> usize {
        (self.kernel - 1) / self.stride
    }

    /// Columns of a phase.
    fn columns(&self) -> usize {
        self.output[1] + self.reach()
    }

    /// Values that an output plane has when its rows are as long as those of a phase.
    fn run(&self) -> usize {
        self.output[0] * self.columns()
    }

    /// Values of a phase: `run` of them and what the last tap reaches beyond.
    fn phase(&self) -> usize {
        self.run() + self.reach() * (self.columns() + 1)
    }

    /// The phase of a tap and its offset there.
    fn tap(&self, tap: usize) -> (usize, usize) {
        let (row, column) = (tap / self.kernel, tap % self.kernel);
        let phase = row % self.stride * self.stride + column % self.stride;
        (phase, row / self.stride * self.columns() + column / self.stride)
    }

    fn input_plane(&self) -> usize {
        self.input[0] * self.input[1]
    }

    fn output_plane(&self) -> usize {
        self.output[0] * self.output[1]
    }

    fn taps(&self) -> usize {
        self.kernel * self.kernel
    }

    /// Calls `work(first index in the phases, first pixel of the plane, number of pixels)` for every
    /// run of pixels of a row that lie in one phase.
    fn runs(&self, mut work: impl FnMut(usize, usize, usize)) {
        let (columns, stride) = (self.columns(), self.stride);
        // Pixels beyond the last output's reach take part in nothing.
        let rows = (self.output[0] + self.reach()) * stride;
        for row in 0..self.input[0].min(rows - self.padding().min(rows)) {
            let padded = row + self.padding();
            for first in 0..stride.min(self.input[1]) {
                let column = first + self.padding();
                let phase = padded % stride * stride + column % stride;
                let at = phase * self.phase() + padded / stride * columns + column / stride;
                let count = (self.input[1] - first).div_ceil(stride);
                work(at, row * self.input[1] + first, count.min(columns - column / stride));
            }
        }
    }

    /// Splits a plane into its padded phases; `phases` must be zero outside the pixels.
    fn split(&self, plane: &[f32], phases: &mut [f32]) {
        self.runs(|at, pixel, count| {
            let to = &mut phases[at..at + count];
            if self.stride == 1 {
                to.copy_from_slice(&plane[pixel..pixel + count]);
            } else {
                for (to, from) in to.iter_mut().zip(plane[pixel..].iter().step_by(self.stride)) {
                    *to = *from;
                }
            }
        });
    }

    /// The pixels of a plane out of its phases.
    fn join(&self, phases: &[f32], plane: &mut [f32]) {
        self.runs(|at, pixel, count| {
            let from = &phases[at..at + count];
            if self.stride == 1 {
                plane[pixel..pixel + count].copy_from_slice(from);
            } else {
                for (to, from) in plane[pixel..].iter_mut().step_by(self.stride).zip(from) {
                    *to = *from;
                }
            }
        });
    }
}

/// Planes that one thread takes at a time.
const PLANES: usize = 8;

fn forward(geometry: &Geometry, input: &[f32], weight: &[f32]) -> Vec<f32> {
    let g = *geometry;
    let mut output = vec![0.0; g.batch * g.channels * g.output_plane()];
    let elements = output.len() * g.taps() / 8;
    let items = output
        .par_chunks_mut(PLANES * g.output_plane())
        .zip(input.par_chunks(PLANES * g.input_plane()))
        .enumerate();
    flex::for_each(elements, items, |(item, (output, input))| {
        let mut phases = vec![0.0; g.stride * g.stride * g.phase()];
        let mut run = vec![0.0; g.run()];
        let mut taps = vec![(0, 0.0); g.taps()];
        let planes = output.chunks_exact_mut(g.output_plane());
        for (index, (output, input)) in planes.zip(input.chunks_exact(g.input_plane())).enumerate()
        {
            let channel = (item * PLANES + index) % g.channels;
            for (tap, to) in taps.iter_mut().enumerate() {
                let (phase, offset) = g.tap(tap);
                *to = (phase * g.phase() + offset, weight[channel * g.taps() + tap]);
            }
            g.split(input, &mut phases);
            correlate(&phases, &taps, &mut run);
            let rows = output.chunks_exact_mut(g.output[1]).zip(run.chunks_exact(g.columns()));
            rows.for_each(|(output, run)| output.copy_from_slice(&run[..g.output[1]]));
        }
    });
    output
}

/// Gradients of the input, if wanted, and of the weight.
fn backward(
    geometry: &Geometry,
    input: &[f32],
    weight: &[f32],
    gradient: &[f32],
    want_input: bool,
) -> (Vec<f32>, Vec<f32>) {
    let g = *geometry;
    let mut d_input = vec![0.0; input.len()];
    // Every plane's share of its channel's kernel, added up below in the order of the images.
    let mut shares = vec![0.0; g.batch * weight.len()];
    let items = d_input
        .par_chunks_mut(PLANES * g.input_plane())
        .zip(shares.par_chunks_mut(PLANES * g.taps()))
        .zip(
            input
                .par_chunks(PLANES * g.input_plane())
                .zip(gradient.par_chunks(PLANES * g.output_plane())),
        )
        .enumerate();
    // The gradient's run, with as many zeros before it as a tap can reach back.
    let before = g.reach() * (g.columns() + 1);
    let elements = gradient.len() * g.taps() / 4;
    flex::for_each(elements, items, |(item, ((d_input, shares), (input, gradient)))| {
        let mut phases = vec![0.0; g.stride * g.stride * g.phase()];
        let mut d_phases = phases.clone();
        let mut padded = vec![0.0; before + g.phase()];
        let mut taps = Vec::with_capacity(g.taps());
        for index in 0..input.len() / g.input_plane() {
            let channel = (item * PLANES + index) % g.channels;
            let input = &input[index * g.input_plane()..][..g.input_plane()];
            let gradient = &gradient[index * g.output_plane()..][..g.output_plane()];
            let d_input = &mut d_input[index * g.input_plane()..][..g.input_plane()];
            let rows = padded[before..].chunks_exact_mut(g.columns());
            rows.zip(gradient.chunks_exact(g.output[1]))
                .for_each(|(to, from)| to[..g.output[1]].copy_from_slice(from));
            g.split(input, &mut phases);
            let run = &padded[before..before + g.run()];
            for (tap, share) in shares[index * g.taps()..][..g.taps()].iter_mut().enumerate() {
                let (phase, offset) = g.tap(tap);
                *share = dot(run, &phases[phase * g.phase() + offset..][..run.len()]);
            }
            if !want_input {
                continue;
            }
            for (phase, d_phase) in d_phases.chunks_exact_mut(g.phase()).enumerate() {
                taps.clear();
                for tap in 0..g.taps() {
                    let (of, offset) = g.tap(tap);
                    if of == phase {
                        taps.push((before - offset, weight[channel * g.taps() + tap]));
                    }
                }
                correlate(&padded, &taps, d_phase);
            }
            g.join(&d_phases, d_input);
        }
    });
    let (total, rest) = shares.split_at_mut(weight.len());
    for share in rest.chunks(weight.len()) {
        for (total, share) in total.iter_mut().zip(share) {
            *total += share;
        }
    }
    shares.truncate(weight.len());
    (d_input, shares)
}

pub(crate) fn convolve(input: FlexTensor, weight: FlexTensor, stride: usize) -> FlexTensor {
    let geometry = Geometry::new(&input, &weight, stride);
    let (input, weight) = (flex::dense(input), flex::dense(weight));
    let output = forward(&geometry, flex::values(&input), flex::values(&weight));
    let Geometry { batch, channels, output: [height, width], .. } = geometry;
    flex::tensor(output, [batch, channels, height, width])
}

/// What the gradient needs of the forward pass.
#[derive(Clone, Debug)]
struct Saved {
    input: FlexTensor,
    weight: FlexTensor,
    geometry: Geometry,
}

#[derive(Debug)]
struct DepthwiseBackward;

impl Backward<Flex, 2> for DepthwiseBackward {
    type State = Saved;

    fn backward(self, ops: Ops<Saved, 2>, grads: &mut Gradients, _: &mut Checkpointer) {
        let Saved { input, weight, geometry } = ops.state;
        let gradient = flex::dense(grads.consume::<Flex>(&ops.node));
        let [input_node, weight_node] = ops.parents;
        let (d_input, d_weight) = backward(
            &geometry,
            flex::values(&input),
            flex::values(&weight),
            flex::values(&gradient),
            input_node.is_some(),
        );
        let Geometry { batch, channels, kernel, input: [height, width], .. } = geometry;
        if let Some(node) = input_node {
            let shape = [batch, channels, height, width];
            grads.register::<Flex>(node.id, flex::tensor(d_input, shape));
        }
        if let Some(node) = weight_node {
            grads.register::<Flex>(node.id, flex::tensor(d_weight, [channels, 1, kernel, kernel]));
        }
    }
}

pub(crate) fn tracked<C: CheckpointStrategy>(
    input: FloatTensor<Autodiff<Flex, C>>,
    weight: FloatTensor<Autodiff<Flex, C>>,
    stride: usize,
) -> FloatTensor<Autodiff<Flex, C>> {
    let nodes = [input.node.clone(), weight.node.clone()];
    let (input, weight) = (flex::dense(input.primitive), flex::dense(weight.primitive));
    let geometry = Geometry::new(&input, &weight, stride);
    let output = convolve(input.clone(), weight.clone(), stride);
    match DepthwiseBackward.prepare::<C>(nodes).compute_bound().stateful() {
        OpsKind::Tracked(prep) => prep.finish(Saved { input, weight, geometry }, output),
        OpsKind::UnTracked(prep) => prep.finish(output),
    }
}
