//! Multi-scale deformable attention: every query looks at a few points of every level.
//!
//! Sampling is bilinear with zeros outside and `align_corners = false`, as in deim-facts 3.12.

mod fused;

use burn::backend::Dispatch;
use burn::tensor::Tensor;
use burn::tensor::ops::{GridSampleOptions, GridSamplePaddingMode, InterpolateMode};

#[cfg(any(feature = "cuda", feature = "vulkan"))]
use crate::cube;
use crate::flex::{self, Fused};
use crate::precision::{is_half, through_32_bits};
pub(crate) use fused::{attend, tracked};

/// Weighted sums of bilinear samples.
///
/// - `value`: `[batch, tokens, heads, channels]`, the tokens of all levels one after another, row by row;
/// - `locations`: `[batch, queries, heads, points, 2]`, `(x, y)` in `[0, 1]` of the level's width and
///   height, the points of all levels one after another;
/// - `weights`: `[batch, queries, heads, points]`;
/// - `levels`: `[height, width]` of each level; `points`: points on each level.
///
/// Returns `[batch, queries, heads * channels]`. The value may be in 16 bits, and then so is the result;
/// locations and weights are in 32, because 16 cannot tell the pixels of a fine level apart.
pub fn deformable_attention(
    value: Tensor<4>,
    locations: Tensor<5>,
    weights: Tensor<4>,
    levels: &[[usize; 2]],
    points: &[usize],
) -> Tensor<3> {
    #[cfg(any(feature = "cuda", feature = "vulkan"))]
    if cube::serves(&value) {
        return Tensor::from_dispatch(<Dispatch as cube::Kernels>::deformable_attention(
            value.into_dispatch(),
            locations.into_dispatch(),
            weights.into_dispatch(),
            levels.to_vec(),
            points.to_vec(),
        ));
    }
    if is_half(&value) {
        return through_32_bits(value, |value| {
            deformable_attention(value, locations, weights, levels, points)
        });
    }
    if !flex::serves(&value) {
        return composed(value, locations, weights, levels, points);
    }
    Tensor::from_dispatch(<Dispatch as Fused>::deformable_attention(
        value.into_dispatch(),
        locations.into_dispatch(),
        weights.into_dispatch(),
        levels.to_vec(),
        points.to_vec(),
    ))
}

/// The same from Burn's own operations: the path of devices without a kernel, and the tests' oracle.
pub fn composed(
    value: Tensor<4>,
    locations: Tensor<5>,
    weights: Tensor<4>,
    levels: &[[usize; 2]],
    points: &[usize],
) -> Tensor<3> {
    let [batch, _, heads, channels] = value.dims();
    let queries = locations.dims()[1];
    let total: usize = points.iter().sum();
    let options = GridSampleOptions::new(InterpolateMode::Bilinear)
        .with_padding_mode(GridSamplePaddingMode::Zeros)
        .with_align_corners(false);
    // Heads become part of the batch: [batch * heads, ...].
    let grid = locations.mul_scalar(2.0).sub_scalar(1.0).swap_dims(1, 2);
    let grid = grid.reshape([batch * heads, queries, total, 2]);
    let weights = weights.swap_dims(1, 2).reshape([batch * heads, 1, queries, total]);
    let (mut first_token, mut first_point) = (0, 0);
    let mut samples = Vec::with_capacity(levels.len());
    for (&[height, width], &count) in levels.iter().zip(points) {
        let level = value
            .clone()
            .narrow(1, first_token, height * width)
            .permute([0, 2, 3, 1])
            .reshape([batch * heads, channels, height, width]);
        let grid = grid.clone().narrow(2, first_point, count);
        samples.push(level.grid_sample_2d(grid, options.clone()));
        first_token += height * width;
        first_point += count;
    }
    (Tensor::cat(samples, 3) * weights)
        .sum_dim(3)
        .reshape([batch, heads * channels, queries])
        .swap_dims(1, 2)
}
