//! Where the pixels of padded planes and their phases lie.

use rayon::prelude::*;

use super::LANES;
use crate::conv::Geometry;
use crate::flex;

/// How a padded plane and its phases are laid out.
#[derive(Clone, Copy, Debug)]
pub(super) struct Layout {
    batch: usize,
    stride: usize,
    kernel: usize,
    padding: usize,
    input: [usize; 2],
    output: [usize; 2],
    /// How far a tap reaches beyond an output pixel, in rows or columns of a phase.
    reach: usize,
    /// Columns of a phase.
    pub(super) columns: usize,
    /// Values of one phase of one image.
    pub(super) phase: usize,
}

impl Layout {
    pub(super) fn new(g: &Geometry) -> Self {
        let reach = (g.kernel - 1) / g.stride;
        let columns = g.output[1] + reach;
        let phase = g.output[0] * columns + reach * (columns + 1);
        Self {
            batch: g.batch,
            stride: g.stride,
            kernel: g.kernel,
            padding: g.padding,
            input: g.input,
            output: g.output,
            reach,
            columns,
            phase: phase.next_multiple_of(LANES),
        }
    }

    pub(super) fn phases(&self) -> usize {
        self.stride * self.stride
    }

    /// Values of one channel of all images.
    pub(super) fn channel(&self) -> usize {
        self.phases() * self.batch * self.phase
    }

    /// The phase of a tap and its offset there.
    pub(super) fn tap(&self, tap: usize) -> (usize, usize) {
        let (row, column) = (tap / self.kernel, tap % self.kernel);
        let phase = row % self.stride * self.stride + column % self.stride;
        (phase, row / self.stride * self.columns + column / self.stride)
    }

    /// Where a tap reads in a channel.
    pub(super) fn offset(&self, tap: usize) -> usize {
        let (phase, offset) = self.tap(tap);
        phase * self.batch * self.phase + offset
    }

    /// The rows of the input that are row `first`, `first + 1`, .. of a phase's row or column
    /// `remainder`: `(first, end, first input row)`; the same for columns.
    pub(super) fn extent(&self, axis: usize, remainder: usize) -> (usize, usize, usize) {
        let first = self.padding.saturating_sub(remainder).div_ceil(self.stride);
        let end = (self.input[axis] + self.padding).saturating_sub(remainder);
        let end = end.div_ceil(self.stride).min(self.output[axis] + self.reach);
        (first, end.max(first), first * self.stride + remainder - self.padding)
    }

    /// Copies `[batch, channels, h, w]` to `[channels, phases, batch, phase]` with zeros around.
    pub(super) fn spread(&self, images: &[f32], channels: usize) -> Vec<f32> {
        let plane = self.input[0] * self.input[1];
        // What the last tap and the last vector read beyond the end.
        let mut spread = vec![0.0; channels * self.channel() + self.phase + 4 * LANES];
        let items = spread[..channels * self.channel()].par_chunks_mut(self.channel()).enumerate();
        flex::for_each(images.len(), items, |(channel, spread)| {
            for phase in 0..self.phases() {
                let (first_row, end_row, input_row) = self.extent(0, phase / self.stride);
                let (first, end, input_column) = self.extent(1, phase % self.stride);
                for image in 0..self.batch {
                    let pixels = &images[(image * channels + channel) * plane..][..plane];
                    let to = &mut spread[(phase * self.batch + image) * self.phase..];
                    for row in first_row..end_row {
                        let to = &mut to[row * self.columns + first..row * self.columns + end];
                        let at = (input_row + (row - first_row) * self.stride) * self.input[1];
                        let from = &pixels[at + input_column..];
                        if self.stride == 1 {
                            to.copy_from_slice(&from[..to.len()]);
                        } else {
                            for (to, from) in to.iter_mut().zip(from.iter().step_by(self.stride)) {
                                *to = *from;
                            }
                        }
                    }
                }
            }
        });
        spread
    }

    /// Zeros before the first gradient, as many as a tap can reach back, so that vectors are aligned.
    pub(super) fn front(&self) -> usize {
        (self.reach * (self.columns + 1)).next_multiple_of(LANES)
    }

    /// Copies `[batch, channels, rows, columns]` of output gradients to `[channels, batch, phase]`
    /// behind [`Layout::front`], with zeros between.
    pub(super) fn spread_gradient(&self, gradient: &[f32], channels: usize) -> Vec<f32> {
        let plane = self.output[0] * self.output[1];
        let (front, channel_len) = (self.front(), self.batch * self.phase);
        let length = channels * channel_len;
        let mut spread = vec![0.0; front + length + self.phase + 4 * LANES];
        let items = spread[front..front + length].par_chunks_mut(channel_len).enumerate();
        flex::for_each(gradient.len(), items, |(channel, spread)| {
            for (image, to) in spread.chunks_exact_mut(self.phase).enumerate() {
                let from = &gradient[(image * channels + channel) * plane..][..plane];
                let rows = to.chunks_exact_mut(self.columns).zip(from.chunks_exact(self.output[1]));
                rows.for_each(|(to, from)| to[..from.len()].copy_from_slice(from));
            }
        });
        spread
    }
}
