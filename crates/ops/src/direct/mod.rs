//! Large convolutions without unrolling: kernels that read a padded copy of the images in place.
//!
//! A channel's images lie one after another, each padded and split into `stride * stride` phases
//! (every stride-th row and column). A tap of the kernel then reads one phase at a fixed offset,
//! so a convolution is a sum of shifted runs, its input gradient the same with the shifts reversed,
//! and its weight gradient a table of inner products of shifted runs. The padding columns that are
//! computed along cost less than unrolling and packing.
//!
//! Every sum has one order, whatever the threads. Only for processors with AVX-512.

mod kernels;
mod layout;
mod shifted;
mod table;

use crate::conv::Geometry;
use crate::simd::{self, Level};
use layout::Layout;
use shifted::{Pass, Place, pack};
use table::weight_gradient;

/// Multiplications an image from which on this pays. The convolutions of small models stay below.
const PAYS_FROM: usize = 6_000_000;

/// Whether a convolution takes this path: a matter of its sizes and of the processor.
pub(crate) fn serves(g: &Geometry) -> bool {
    simd::level() == Level::Avx512 && g.output_plane() * g.to * g.depth() > PAYS_FROM
}

/// Terms that are added up on their own. What the network hands on is more precise than gradients,
/// because an error near zero decides whether a unit is on.
const OUTPUT_TERMS: usize = 64;
const GRADIENT_TERMS: usize = 512;

/// Values of a vector.
const LANES: usize = 16;

pub(crate) fn forward(g: &Geometry, input: &[f32], weight: &[f32]) -> Vec<f32> {
    let layout = Layout::new(g);
    let spread = layout.spread(input, g.from);
    let taps = g.kernel * g.kernel;
    let mut output = vec![0.0; g.batch * g.to * g.output_plane()];
    let pass = Pass {
        source: &spread,
        start: 0,
        image_stride: layout.phase,
        channel_stride: layout.channel(),
        channels: g.from,
        terms: OUTPUT_TERMS,
        taps: (0..taps).map(|tap| layout.offset(tap) as isize).collect(),
        weights: pack(g.to, g.depth(), |output, term| weight[output * g.depth() + term]),
        outputs: g.to,
        rows: g.output[0],
        columns: layout.columns,
        place: Place {
            plane: g.output_plane(),
            first: 0,
            row_step: g.output[1],
            column_step: 1,
            skip: 0,
            keep: g.output[1],
        },
    };
    pass.run(&mut output);
    output
}

/// Gradients of the input, if wanted, and of the weight.
pub(crate) fn backward(
    g: &Geometry,
    input: &[f32],
    weight: &[f32],
    gradient: &[f32],
    want_input: bool,
) -> (Vec<f32>, Vec<f32>) {
    let layout = Layout::new(g);
    let spread = layout.spread_gradient(gradient, g.to);
    let d_weight = weight_gradient(g, &layout, &layout.spread(input, g.from), &spread);
    if !want_input {
        return (Vec::new(), d_weight);
    }
    let mut d_input = vec![0.0; input.len()];
    for phase in 0..layout.phases() {
        input_gradient(g, &layout, phase, weight, &spread, &mut d_input);
    }
    (d_input, d_weight)
}

/// The input gradient's pixels of one phase.
fn input_gradient(
    g: &Geometry,
    layout: &Layout,
    phase: usize,
    weight: &[f32],
    gradient: &[f32],
    d_input: &mut [f32],
) {
    let all = g.kernel * g.kernel;
    let taps: Vec<usize> = (0..all).filter(|&tap| layout.tap(tap).0 == phase).collect();
    let (first_row, end_row, input_row) = layout.extent(0, phase / g.stride);
    let (skip, end, input_column) = layout.extent(1, phase % g.stride);
    // A phase that no tap reads has no gradient, nor have pixels beyond the last output's reach.
    if taps.is_empty() || first_row == end_row || skip == end {
        return;
    }
    let start = (first_row * layout.columns) as isize;
    let pass = Pass {
        source: gradient,
        start: layout.front(),
        image_stride: layout.phase,
        channel_stride: g.batch * layout.phase,
        channels: g.to,
        terms: GRADIENT_TERMS,
        taps: taps.iter().map(|&tap| start - layout.tap(tap).1 as isize).collect(),
        weights: pack(g.from, g.to * taps.len(), |channel, term| {
            let (output, tap) = (term / taps.len(), taps[term % taps.len()]);
            weight[(output * g.from + channel) * all + tap]
        }),
        outputs: g.from,
        rows: end_row - first_row,
        columns: layout.columns,
        place: Place {
            plane: g.input_plane(),
            first: input_row * g.input[1] + input_column,
            row_step: g.stride * g.input[1],
            column_step: g.stride,
            skip,
            keep: end - skip,
        },
    };
    pass.run(d_input);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn convolutions_of_the_mini_scale_keep_their_order_of_addition() {
        // The largest of the mini detectors: the stem's last, at multi-scale's largest 128 pixels.
        let stem = Geometry {
            batch: 16,
            from: 8,
            to: 16,
            kernel: 3,
            stride: 1,
            padding: 1,
            input: [64, 64],
            output: [64, 64],
        };
        assert!(!serves(&stem));
    }
}
