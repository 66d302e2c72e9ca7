//! The kernels of deformable attention whose units share nothing.

use cubecl::prelude::*;

use super::places::{Corner, Level, Sizes, corner, place};

/// `scale` times a cell's values, zero if it lies outside.
#[cube]
fn scaled<F: Float, N: Size>(
    value: &[Vector<F, N>],
    corner: &Corner,
    base: usize,
    step: usize,
    scale: f32,
) -> Vector<f32, N> {
    if corner.inside {
        Vector::cast_from(value[base + corner.token * step]) * Vector::new(scale * corner.share)
    } else {
        Vector::new(0.0f32)
    }
}

#[cube(launch_unchecked, address_type = "dynamic")]
pub(super) fn attend_kernel<F: Float, L: Float, W: Float, N: Size>(
    value: &[Vector<F, N>],
    locations: &[L],
    weights: &[W],
    output: &mut [Vector<F, N>],
    levels: Sequence<Level>,
    sizes: Sizes,
    items: usize,
    #[define(F, L, W)] _dtypes: [ElemType; 3],
) {
    let item = ABSOLUTE_POS;
    if item >= items {
        terminate!();
    }
    let row = item / sizes.vectors;
    let head = row % sizes.heads;
    let image = row / (sizes.heads * sizes.queries);
    let step = sizes.heads * sizes.vectors;
    let base = image * sizes.tokens * step + head * sizes.vectors + item % sizes.vectors;
    let mut sum = Vector::<f32, N>::new(0.0f32);
    let mut at = row * sizes.total;
    let count = comptime![levels.len()];
    #[unroll]
    for index in 0..count {
        let level = levels.index(index);
        for _ in 0..level.points {
            let place = place::<L>(locations, at, level.first, level.height, level.width);
            if place.near {
                let weight = f32::cast_from(weights[at]);
                sum += scaled::<F, N>(value, &corner(&place, false, false), base, step, weight);
                sum += scaled::<F, N>(value, &corner(&place, true, false), base, step, weight);
                sum += scaled::<F, N>(value, &corner(&place, false, true), base, step, weight);
                sum += scaled::<F, N>(value, &corner(&place, true, true), base, step, weight);
            }
            at += 1;
        }
    }
    output[item] = Vector::cast_from(sum);
}

/// The inner product of the output's gradient and a cell's values.
#[cube]
fn product<F: Float, N: Size>(
    value: &[Vector<F, N>],
    gradient: &[Vector<F, N>],
    value_at: usize,
    gradient_at: usize,
    vectors: usize,
) -> f32 {
    let mut sums = Vector::<f32, N>::new(0.0f32);
    for index in 0..vectors {
        let of_value = Vector::<f32, N>::cast_from(value[value_at + index]);
        sums += of_value * Vector::cast_from(gradient[gradient_at + index]);
    }
    sums.vector_sum()
}

/// The inner product of the output's gradient and a corner's values, zero if it lies outside.
#[cube]
fn product_at<F: Float, N: Size>(
    value: &[Vector<F, N>],
    gradient: &[Vector<F, N>],
    corner: &Corner,
    base: usize,
    gradient_at: usize,
    sizes: &Sizes,
) -> f32 {
    if corner.inside {
        let at = base + corner.token * sizes.heads * sizes.vectors;
        product::<F, N>(value, gradient, at, gradient_at, sizes.vectors)
    } else {
        0.0f32.runtime()
    }
}

#[cube(launch_unchecked, address_type = "dynamic")]
pub(super) fn location_gradient_kernel<F: Float, L: Float, W: Float, N: Size>(
    value: &[Vector<F, N>],
    locations: &[L],
    weights: &[W],
    gradient: &[Vector<F, N>],
    d_locations: &mut [L],
    d_weights: &mut [W],
    levels: Sequence<Level>,
    sizes: Sizes,
    items: usize,
    #[define(F, L, W)] _dtypes: [ElemType; 3],
) {
    let item = ABSOLUTE_POS;
    if item >= items {
        terminate!();
    }
    let point = item % sizes.total;
    let row = item / sizes.total;
    let head = row % sizes.heads;
    let image = row / (sizes.heads * sizes.queries);
    let base = (image * sizes.tokens * sizes.heads + head) * sizes.vectors;
    let gradient_at = row * sizes.vectors;
    let mut start = 0usize.runtime();
    let mut first = 0usize.runtime();
    let mut height = 0usize.runtime();
    let mut width = 0usize.runtime();
    let count = comptime![levels.len()];
    #[unroll]
    for index in 0..count {
        let level = levels.index(index);
        if point >= start && point < start + level.points {
            first = level.first;
            height = level.height;
            width = level.width;
        }
        start += level.points;
    }
    let place = place::<L>(locations, item, first, height, width);
    let mut d_weight = 0.0f32.runtime();
    let mut d_x = 0.0f32.runtime();
    let mut d_y = 0.0f32.runtime();
    if place.near {
        let weight = f32::cast_from(weights[item]);
        let a = corner(&place, false, false);
        let b = corner(&place, true, false);
        let c = corner(&place, false, true);
        let d = corner(&place, true, true);
        let of_a = product_at::<F, N>(value, gradient, &a, base, gradient_at, &sizes);
        let of_b = product_at::<F, N>(value, gradient, &b, base, gradient_at, &sizes);
        let of_c = product_at::<F, N>(value, gradient, &c, base, gradient_at, &sizes);
        let of_d = product_at::<F, N>(value, gradient, &d, base, gradient_at, &sizes);
        d_weight = a.share * of_a + b.share * of_b + c.share * of_c + d.share * of_d;
        d_x = a.slope_x * of_a + b.slope_x * of_b + c.slope_x * of_c + d.slope_x * of_d;
        d_y = a.slope_y * of_a + b.slope_y * of_b + c.slope_y * of_c + d.slope_y * of_d;
        d_x *= weight;
        d_y *= weight;
    }
    d_weights[item] = W::cast_from(d_weight);
    d_locations[2 * item] = L::cast_from(d_x);
    d_locations[2 * item + 1] = L::cast_from(d_y);
}
