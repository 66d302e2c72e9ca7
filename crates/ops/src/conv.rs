//! Two-dimensional convolution without bias or groups, forward and backward, as matrix products.
//!
//! The image is unrolled so that a convolution is one matrix product; a one-by-one convolution is one
//! already. Small feature maps are unrolled several images at a time, because a product with few
//! columns wastes the machine. The grouping depends on sizes alone, never on the threads.

use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::flex::FlexTensor;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Dispatch, Flex};
use burn::tensor::ops::{ConvOptions, PadMode};
use burn::tensor::{Int, Tensor};
use rayon::prelude::*;

#[cfg(target_arch = "x86_64")]
use crate::direct;
use crate::flex::{self, Fused};
use crate::matrix::{Matrix, multiply, multiply_precisely};
use crate::precision::{goes_through_32_bits, like, through_32_bits, widened};
use crate::tf32;

/// Convolution of `[batch, in, h, w]` with `[out, in, k, k]`, padded by `(k - 1) / 2` zeros.
pub fn conv2d(input: Tensor<4>, weight: Tensor<4>, stride: usize) -> Tensor<4> {
    let padding = (weight.dims()[2] - 1) / 2;
    conv2d_padded(input, weight, stride, [padding; 2])
}

/// The same with other numbers of zeros, `[before, after]` each axis, not fewer after: `[0, 1]` keeps the size under a
/// two-by-two kernel, as in HGNetv2's stem (deim-facts 3.16).
pub fn conv2d_padded(
    input: Tensor<4>,
    weight: Tensor<4>,
    stride: usize,
    padding: [usize; 2],
) -> Tensor<4> {
    let weight = like(weight, &input);
    if goes_through_32_bits(&input) {
        let weight = widened(weight);
        return through_32_bits(input, |input| conv2d_padded(input, weight, stride, padding));
    }
    if tf32::is_on(&input) {
        let convolve = |input, weight| conv2d_padded(input, weight, stride, padding);
        return tf32::product(input, weight, convolve);
    }
    if !flex::serves(&input) {
        return composed(input, weight, stride, padding);
    }
    Tensor::from_dispatch(<Dispatch as Fused>::convolve(
        input.into_dispatch(),
        weight.into_dispatch(),
        stride,
        padding,
    ))
}

/// The same from Burn's own operation: the path of devices without a kernel, and the tests' oracle.
pub(crate) fn composed(
    input: Tensor<4>,
    weight: Tensor<4>,
    stride: usize,
    [before, after]: [usize; 2],
) -> Tensor<4> {
    let extra = after.saturating_sub(before);
    let input =
        if extra > 0 { input.pad((0, extra, 0, extra), PadMode::Constant(0.0)) } else { input };
    // On GPUs the input's gradient is zero everywhere in Burn if the kernel leaves pixels out.
    let kernel = weight.dims()[2];
    let leaves_out = kernel == 1 && stride > 1 && before == 0;
    assert!(leaves_out || kernel >= stride, "a kernel of {kernel} at a stride of {stride}");
    let (input, stride) = if leaves_out { (every(input, stride), 1) } else { (input, stride) };
    let options = ConvOptions::new([stride; 2], [before; 2], [1, 1], 1);
    burn::tensor::module::conv2d(input, weight, None, options)
}

/// Every so many pixels of rows and columns, from the first on.
fn every(input: Tensor<4>, step: usize) -> Tensor<4> {
    let device = input.device();
    let [_, _, height, width] = input.dims();
    let places = |size: usize| Tensor::arange_step(0..size as i64, step, &device.clone().inner());
    let [rows, columns] = [height, width].map(places);
    let to_device = |places: Tensor<1, Int>| {
        if device.is_autodiff() { Tensor::from_inner(places) } else { places }
    };
    input.select(2, to_device(rows)).select(3, to_device(columns))
}

/// Columns that a matrix product should have before images are put together.
const ENOUGH_COLUMNS: usize = 512;

/// The sizes of one convolution.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Geometry {
    pub batch: usize,
    pub from: usize,
    pub to: usize,
    pub kernel: usize,
    pub stride: usize,
    /// Zeros before the first row and column.
    pub padding: usize,
    pub input: [usize; 2],
    pub output: [usize; 2],
}

impl Geometry {
    fn new(
        input: &FlexTensor,
        weight: &FlexTensor,
        stride: usize,
        [padding, after]: [usize; 2],
    ) -> Self {
        assert!(padding <= after, "at least as many zeros after an axis as before it");
        let [batch, from, height, width] = input.layout().shape().dims();
        let [to, channels, kernel, _]: [usize; 4] = weight.layout().shape().dims();
        assert_eq!(from, channels, "the weight's input channels must be the input's");
        let output = [height, width].map(|side| (side + padding + after - kernel) / stride + 1);
        Self { batch, from, to, kernel, stride, padding, input: [height, width], output }
    }

    pub(crate) fn input_plane(&self) -> usize {
        self.input[0] * self.input[1]
    }

    pub(crate) fn output_plane(&self) -> usize {
        self.output[0] * self.output[1]
    }

    /// Rows of the unrolled input.
    pub(crate) fn depth(&self) -> usize {
        self.from * self.kernel * self.kernel
    }

    /// Whether the input needs no unrolling.
    fn pointwise(&self) -> bool {
        self.kernel == 1 && self.stride == 1 && self.input == self.output
    }

    /// Images in one matrix product.
    fn group(&self) -> usize {
        ENOUGH_COLUMNS.div_ceil(self.output_plane()).clamp(1, self.batch)
    }

    /// The input columns and output columns that a tap of the kernel connects in one row:
    /// `(first output column, end, first input column)`.
    fn columns(&self, tap: usize) -> (usize, usize, usize) {
        let padding = self.padding;
        let first = padding.saturating_sub(tap).div_ceil(self.stride);
        let end = (self.input[1] + padding).saturating_sub(tap).div_ceil(self.stride);
        let end = end.min(self.output[1]).max(first);
        (first, end, first * self.stride + tap - padding.min(first * self.stride + tap))
    }

    /// The input row under an output row for a tap, if there is one.
    fn row(&self, output_row: usize, tap: usize) -> Option<usize> {
        let row = (output_row * self.stride + tap).checked_sub(self.padding)?;
        (row < self.input[0]).then_some(row)
    }

    /// Calls `work(row of the unrolled matrix, output row, first and end column, offset in the plane)`
    /// for every run of connected pixels of one channel.
    fn runs(&self, channel: usize, mut work: impl FnMut(usize, usize, usize, usize, usize)) {
        for tap_y in 0..self.kernel {
            for tap_x in 0..self.kernel {
                let unrolled = (channel * self.kernel + tap_y) * self.kernel + tap_x;
                let (first, end, start) = self.columns(tap_x);
                for output_row in 0..self.output[0] {
                    if let Some(row) = self.row(output_row, tap_y) {
                        work(unrolled, output_row, first, end, row * self.input[1] + start);
                    }
                }
            }
        }
    }

    /// Unrolls images into a matrix `[depth, images * output_plane]`.
    fn unroll(&self, images: &[f32], unrolled: &mut Vec<f32>) {
        let (plane, pixels) = (self.input_plane(), self.output_plane());
        let count = images.len() / (self.from * plane);
        let width = count * pixels;
        unrolled.clear();
        unrolled.resize(self.depth() * width, 0.0);
        for (image, image_values) in images.chunks_exact(self.from * plane).enumerate() {
            for (channel, values) in image_values.chunks_exact(plane).enumerate() {
                self.runs(channel, |row, output_row, first, end, start| {
                    let at = row * width + image * pixels + output_row * self.output[1];
                    let to = &mut unrolled[at + first..at + end];
                    if self.stride == 1 {
                        to.copy_from_slice(&values[start..start + to.len()]);
                    } else {
                        for (to, from) in
                            to.iter_mut().zip(values[start..].iter().step_by(self.stride))
                        {
                            *to = *from;
                        }
                    }
                });
            }
        }
    }

    /// The adjoint of [`Geometry::unroll`]: adds the matrix back onto the images.
    fn roll(&self, unrolled: &[f32], images: &mut [f32]) {
        let (plane, pixels) = (self.input_plane(), self.output_plane());
        let width = images.len() / (self.from * plane) * pixels;
        for (image, image_values) in images.chunks_exact_mut(self.from * plane).enumerate() {
            for (channel, values) in image_values.chunks_exact_mut(plane).enumerate() {
                self.runs(channel, |row, output_row, first, end, start| {
                    let at = row * width + image * pixels + output_row * self.output[1];
                    let from = &unrolled[at + first..at + end];
                    if self.stride == 1 {
                        for (to, from) in values[start..start + from.len()].iter_mut().zip(from) {
                            *to += *from;
                        }
                    } else {
                        for (to, from) in values[start..].iter_mut().step_by(self.stride).zip(from)
                        {
                            *to += *from;
                        }
                    }
                });
            }
        }
    }
}

/// Copies `[channels, images, pixels]` to `[images, channels, pixels]` or, being its own inverse with
/// the roles swapped, back.
fn swap_outer(from: &[f32], to: &mut [f32], outer: usize, inner: usize) {
    let pixels = from.len() / (outer * inner);
    for (position, run) in from.chunks_exact(pixels).enumerate() {
        let (first, second) = (position / inner, position % inner);
        to[(second * outer + first) * pixels..][..pixels].copy_from_slice(run);
    }
}

fn forward(geometry: &Geometry, input: &[f32], weight: &[f32]) -> Vec<f32> {
    let g = *geometry;
    #[cfg(target_arch = "x86_64")]
    if direct::serves(&g) {
        return direct::forward(&g, input, weight);
    }
    let (in_image, out_image) = (g.from * g.input_plane(), g.to * g.output_plane());
    let mut output = vec![0.0; g.batch * out_image];
    let elements = output.len() * g.depth() / 8;
    let group = g.group();
    let kernel = Matrix::new(weight, g.to, g.depth());
    let items = output.par_chunks_mut(group * out_image).zip(input.par_chunks(group * in_image));
    flex::for_each(elements, items, |(output, input)| {
        let count = input.len() / in_image;
        if g.pointwise() && count == 1 {
            multiply_precisely(
                kernel,
                Matrix::new(input, g.depth(), g.output_plane()),
                output,
                false,
            );
            return;
        }
        let columns = count * g.output_plane();
        let mut unrolled = Vec::new();
        g.unroll(input, &mut unrolled);
        let unrolled = Matrix::new(&unrolled, g.depth(), columns);
        if count == 1 {
            multiply_precisely(kernel, unrolled, output, false);
        } else {
            let mut product = vec![0.0; g.to * columns];
            multiply_precisely(kernel, unrolled, &mut product, false);
            swap_outer(&product, output, g.to, count);
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
    #[cfg(target_arch = "x86_64")]
    if direct::serves(&g) {
        return direct::backward(&g, input, weight, gradient, want_input);
    }
    let (in_image, out_image) = (g.from * g.input_plane(), g.to * g.output_plane());
    let group = g.group();
    let groups = g.batch.div_ceil(group);
    let mut d_input = vec![0.0; if want_input { input.len() } else { 0 }];
    let mut d_weights = vec![0.0; groups * weight.len()];
    let elements = gradient.len() * g.depth() / 4;
    let kernel = Matrix::new(weight, g.to, g.depth());
    // Without an input gradient every group gets an empty part of it.
    let parts: Vec<&mut [f32]> = if want_input {
        d_input.chunks_mut(group * in_image).collect()
    } else {
        (0..groups).map(|_| Default::default()).collect()
    };
    let items = parts
        .into_par_iter()
        .zip(d_weights.par_chunks_mut(weight.len()))
        .zip(input.par_chunks(group * in_image).zip(gradient.par_chunks(group * out_image)));
    flex::for_each(elements, items, |((d_input, d_weight), (input, gradient))| {
        let count = input.len() / in_image;
        let columns = count * g.output_plane();
        let mut swapped = Vec::new();
        let gradient = if count == 1 {
            gradient
        } else {
            swapped.resize(gradient.len(), 0.0);
            swap_outer(gradient, &mut swapped, count, g.to);
            &swapped
        };
        let gradient = Matrix::new(gradient, g.to, columns);
        let mut buffer = Vec::new();
        let unrolled = if g.pointwise() && count == 1 {
            input
        } else {
            g.unroll(input, &mut buffer);
            &buffer
        };
        multiply(gradient, Matrix::new(unrolled, g.depth(), columns).transposed(), d_weight, false);
        if d_input.is_empty() {
            return;
        }
        if g.pointwise() && count == 1 {
            multiply(kernel.transposed(), gradient, d_input, false);
            return;
        }
        buffer.resize(g.depth() * columns, 0.0);
        multiply(kernel.transposed(), gradient, &mut buffer, false);
        g.roll(&buffer, d_input);
    });
    // The groups' shares in their order, whichever thread made them.
    let (total, rest) = d_weights.split_at_mut(weight.len());
    for share in rest.chunks(weight.len()) {
        for (total, share) in total.iter_mut().zip(share) {
            *total += share;
        }
    }
    d_weights.truncate(weight.len());
    (d_input, d_weights)
}

pub(crate) fn convolve(
    input: FlexTensor,
    weight: FlexTensor,
    stride: usize,
    padding: [usize; 2],
) -> FlexTensor {
    let geometry = Geometry::new(&input, &weight, stride, padding);
    let (input, weight) = (flex::dense(input), flex::dense(weight));
    let output = forward(&geometry, flex::values(&input), flex::values(&weight));
    let Geometry { batch, to, output: [height, width], .. } = geometry;
    flex::tensor(output, [batch, to, height, width])
}

/// What the gradient needs of the forward pass.
#[derive(Clone, Debug)]
struct Saved {
    input: FlexTensor,
    weight: FlexTensor,
    geometry: Geometry,
}

#[derive(Debug)]
struct ConvBackward;

impl Backward<Flex, 2> for ConvBackward {
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
        let Geometry { batch, from, to, kernel, input: [height, width], .. } = geometry;
        if let Some(node) = input_node {
            let shape = [batch, from, height, width];
            grads.register::<Flex>(node.id, flex::tensor(d_input, shape));
        }
        if let Some(node) = weight_node {
            grads.register::<Flex>(node.id, flex::tensor(d_weight, [to, from, kernel, kernel]));
        }
    }
}

pub(crate) fn tracked<C: CheckpointStrategy>(
    input: FloatTensor<Autodiff<Flex, C>>,
    weight: FloatTensor<Autodiff<Flex, C>>,
    stride: usize,
    padding: [usize; 2],
) -> FloatTensor<Autodiff<Flex, C>> {
    let nodes = [input.node.clone(), weight.node.clone()];
    let (input, weight) = (flex::dense(input.primitive), flex::dense(weight.primitive));
    let geometry = Geometry::new(&input, &weight, stride, padding);
    let output = convolve(input.clone(), weight.clone(), stride, padding);
    match ConvBackward.prepare::<C>(nodes).compute_bound().stateful() {
        OpsKind::Tracked(prep) => prep.finish(Saved { input, weight, geometry }, output),
        OpsKind::UnTracked(prep) => prep.finish(output),
    }
}
