//! Max pooling of the backbones' stems: PResNet's 3x3 windows with stride 2, HGNetv2's 2x2 windows.

use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::flex::FlexTensor;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Dispatch, Flex};
use burn::tensor::Tensor;
use burn::tensor::ops::PadMode;
use rayon::prelude::*;

use crate::flex::{self, Fused};
use crate::precision::{goes_through_32_bits, through_32_bits};

/// `[batch, channels, h, w]` to half the height and width, rounded up.
pub fn max_pool(input: Tensor<4>) -> Tensor<4> {
    if goes_through_32_bits(&input) {
        return through_32_bits(input, max_pool);
    }
    if !flex::serves(&input) {
        return composed(input);
    }
    Tensor::from_dispatch(<Dispatch as Fused>::max_pool(input.into_dispatch(), Window::Three))
}

/// Pools `[batch, channels, h, w]` over every pixel and its right, lower and lower right neighbour,
/// which are zeros beyond the border: the size stays (HGNetv2's stem, deim-facts 3.16).
pub fn max_pool_2x2(input: Tensor<4>) -> Tensor<4> {
    if goes_through_32_bits(&input) {
        return through_32_bits(input, max_pool_2x2);
    }
    if !flex::serves(&input) {
        return composed_2x2(input);
    }
    Tensor::from_dispatch(<Dispatch as Fused>::max_pool(input.into_dispatch(), Window::Two))
}

/// The windows of a pooling.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Window {
    /// 3x3, stride 2, one row and column of padding around, which never wins.
    Three,
    /// 2x2, stride 1, one row and column of zeros at the right and lower border.
    Two,
}

/// The same from Burn's own operation: the path of devices without a kernel, and the tests' oracle.
pub(crate) fn composed(input: Tensor<4>) -> Tensor<4> {
    burn::tensor::module::max_pool2d(input, [3, 3], [2, 2], [1, 1], [1, 1], false)
}

/// [`composed`] for [`max_pool_2x2`].
pub(crate) fn composed_2x2(input: Tensor<4>) -> Tensor<4> {
    let input = input.pad((0, 1, 0, 1), PadMode::Constant(0.0));
    burn::tensor::module::max_pool2d(input, [2, 2], [1, 1], [0, 0], [1, 1], false)
}

/// Stands for a zero of the padding.
const NOWHERE: u32 = u32::MAX;

/// The pooled values, and for each the offset of its maximum in the input's plane. Of equal values
/// the first in row order wins, as in PyTorch.
fn forward(input: &FlexTensor) -> (FlexTensor, Vec<u32>) {
    let [batch, channels, height, width]: [usize; 4] = input.layout().shape().dims();
    let (rows, columns) = (height.div_ceil(2), width.div_ceil(2));
    let input = flex::values(input);
    let mut output = vec![0.0; batch * channels * rows * columns];
    let mut winners = vec![0; output.len()];
    let planes = output
        .par_chunks_mut(rows * columns)
        .zip(winners.par_chunks_mut(rows * columns))
        .zip(input.par_chunks(height * width));
    flex::for_each(input.len(), planes, |((output, winners), plane)| {
        for row in 0..rows {
            let lines = (2 * row).saturating_sub(1)..(2 * row + 2).min(height);
            for column in 0..columns {
                let window = (2 * column).saturating_sub(1)..(2 * column + 2).min(width);
                let first = lines.start * width + window.start;
                let (mut most, mut winner) = (plane[first], first);
                for line in lines.clone() {
                    let start = line * width + window.start;
                    for (offset, &value) in plane[start..start + window.len()].iter().enumerate() {
                        // A NaN wins, so that it is seen and not hidden.
                        if value > most || value.is_nan() {
                            (most, winner) = (value, start + offset);
                        }
                    }
                }
                output[row * columns + column] = most;
                winners[row * columns + column] = winner as u32;
            }
        }
    });
    (flex::tensor(output, [batch, channels, rows, columns]), winners)
}

/// [`forward`] for [`Window::Two`]. A border's zero wins only if it is larger, and then the gradient
/// goes [`NOWHERE`].
fn forward_2x2(input: &FlexTensor) -> (FlexTensor, Vec<u32>) {
    let shape: [usize; 4] = input.layout().shape().dims();
    let [_, _, height, width] = shape;
    let plane = height * width;
    let input = flex::values(input);
    let mut output = vec![0.0; input.len()];
    let mut winners = vec![0; input.len()];
    let planes = output
        .par_chunks_mut(plane)
        .zip(winners.par_chunks_mut(plane))
        .zip(input.par_chunks(plane));
    let zeros = vec![0.0; width];
    flex::for_each(input.len(), planes, |((output, winners), plane)| {
        for row in 0..height {
            let at = row * width;
            let upper = &plane[at..at + width];
            let lower = if row + 1 < height { &plane[at + width..at + 2 * width] } else { &zeros };
            for column in 0..width {
                let inside = column + 1 < width;
                let right = |row: &[f32]| if inside { row[column + 1] } else { 0.0 };
                let (mut most, mut winner) = (upper[column], at + column);
                let others = [
                    (right(upper), at + column + 1, inside),
                    (lower[column], at + width + column, row + 1 < height),
                    (right(lower), at + width + column + 1, inside && row + 1 < height),
                ];
                for (value, index, inside) in others {
                    // A NaN wins, so that it is seen and not hidden.
                    if value > most || value.is_nan() {
                        (most, winner) = (value, if inside { index } else { NOWHERE as usize });
                    }
                }
                output[at + column] = most;
                winners[at + column] = winner as u32;
            }
        }
    });
    (flex::tensor(output, shape), winners)
}

#[derive(Debug)]
struct MaxPoolBackward;

impl Backward<Flex, 1> for MaxPoolBackward {
    /// The offsets of the maxima and the input's shape.
    type State = (Vec<u32>, [usize; 4]);

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let (winners, shape) = ops.state;
        let [batch, channels, height, width] = shape;
        let gradient = flex::dense(grads.consume::<Flex>(&ops.node));
        let gradient = flex::values(&gradient);
        let pooled = gradient.len() / (batch * channels);
        let mut d_input = vec![0.0; batch * channels * height * width];
        let planes = d_input
            .par_chunks_mut(height * width)
            .zip(gradient.par_chunks(pooled).zip(winners.par_chunks(pooled)));
        flex::for_each(gradient.len(), planes, |(d_plane, (gradient, winners))| {
            for (gradient, &winner) in gradient.iter().zip(winners) {
                if winner != NOWHERE {
                    d_plane[winner as usize] += gradient;
                }
            }
        });
        if let [Some(node)] = ops.parents {
            grads.register::<Flex>(node.id, flex::tensor(d_input, shape));
        }
    }
}

/// [`forward`] or [`forward_2x2`].
fn pooled(input: &FlexTensor, window: Window) -> (FlexTensor, Vec<u32>) {
    match window {
        Window::Three => forward(input),
        Window::Two => forward_2x2(input),
    }
}

pub(crate) fn pool(input: FlexTensor, window: Window) -> FlexTensor {
    pooled(&flex::dense(input), window).0
}

pub(crate) fn tracked<C: CheckpointStrategy>(
    input: FloatTensor<Autodiff<Flex, C>>,
    window: Window,
) -> FloatTensor<Autodiff<Flex, C>> {
    let nodes = [input.node.clone()];
    let input = flex::dense(input.primitive);
    let (output, winners) = pooled(&input, window);
    match MaxPoolBackward.prepare::<C>(nodes).compute_bound().stateful() {
        OpsKind::Tracked(prep) => prep.finish((winners, input.layout().shape().dims()), output),
        OpsKind::UnTracked(prep) => prep.finish(output),
    }
}
