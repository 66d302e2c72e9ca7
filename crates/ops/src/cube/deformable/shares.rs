//! The gradient of the value: what all queries that looked at a cell add to it.
//!
//! Many units add to one cell at once, so the additions are atomic, and in any order. Sums of floats
//! would then differ from run to run; sums of integers do not. So every share is added as a multiple of
//! a unit that all shares of a channel have in common, chosen so that no sum can overflow. Two integers
//! of 32 bits hold it: whole units, 2^-30 of the largest sum that there could be, and a rest in a finer
//! unit. For 6000 locations a head that is 2^-48 of the sum of all magnitudes, where a float of the
//! cell's own size resolves 2^-24.

use burn::tensor::DType;
use burn_cubecl::CubeRuntime;
use burn_cubecl::ops::numeric::zeros_client;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use super::Geometry;
use super::places::{Corner, Level, Sizes, corner, place};
use crate::cube::call::{self, Meta};

/// Bits of an integer without its sign, and one spare for rounding.
const BITS: i32 = 30;
/// Finer than this, a rest has no bits: it is what a float's rounding left.
const MOST_FINE_BITS: i32 = 24;
/// Gradients so small that their unit could not be a float are added with the unit of these.
const LEAST_EXPONENT: i32 = -60;
/// Gradients so large that a sum of them may not be a float give what is no number.
const MOST_EXPONENT: i32 = 90;

/// One unit for one channel of an image: the sum of the magnitudes of all shares, which no cell's sum
/// is above.
#[cube(launch_unchecked, address_type = "dynamic")]
fn bound_kernel<F: Float, W: Float>(
    weights: &[W],
    gradient: &[F],
    bounds: &mut [f32],
    sizes: Sizes,
    items: usize,
    #[define(F, W)] _dtypes: [ElemType; 2],
) {
    let item = ABSOLUTE_POS;
    if item >= items {
        terminate!();
    }
    let channels = sizes.heads * sizes.vectors;
    let image = item / channels;
    let channel = item % channels;
    let head = channel / sizes.vectors;
    let mut bound = 0.0f32.runtime();
    for query in 0..sizes.queries {
        let of_query = image * sizes.queries + query;
        let first = (of_query * sizes.heads + head) * sizes.total;
        let mut weight = 0.0f32.runtime();
        for point in 0..sizes.total {
            weight += f32::abs(f32::cast_from(weights[first + point]));
        }
        bound += weight * f32::abs(f32::cast_from(gradient[of_query * channels + channel]));
    }
    bounds[item] = bound;
}

/// The common unit of a channel's shares: a power of two, so that scaling by it rounds nothing.
#[derive(CubeType, Clone)]
struct Unit {
    size: f32,
    inverse: f32,
    /// False where a gradient is no number, or too large.
    sound: bool,
}

/// 2 to the power of `exponent`, which must be that of a normal float.
#[cube]
fn power(exponent: i32) -> f32 {
    f32::reinterpret(u32::cast_from(exponent + 127i32) << 23u32)
}

#[cube]
fn unit(bound: f32) -> Unit {
    // The bound is below 2 to this, which is 129 for infinity and what is no number.
    let exponent = i32::cast_from(u32::reinterpret(bound) >> 23u32) - 126i32;
    let sound = exponent <= MOST_EXPONENT;
    let held = min(max(exponent, LEAST_EXPONENT), MOST_EXPONENT) - BITS;
    Unit { size: power(held), inverse: power(0i32 - held), sound }
}

#[cube]
fn add(sums: &mut [Atomic<i32>], corner: &Corner, at: usize, step: usize, scale: f32, fine: f32) {
    if corner.inside {
        let share = scale * corner.share;
        let whole = f32::round(share);
        let cell = 2 * (at + corner.token * step);
        sums[cell].fetch_add(i32::cast_from(whole));
        sums[cell + 1].fetch_add(i32::cast_from(f32::round((share - whole) * fine)));
    }
}

/// One unit for one channel of one head of one query: neighbouring units add to neighbouring channels
/// of the same cell.
#[cube(launch_unchecked, address_type = "dynamic")]
#[allow(clippy::too_many_arguments)]
fn add_kernel<F: Float, L: Float, W: Float>(
    locations: &[L],
    weights: &[W],
    gradient: &[F],
    bounds: &[f32],
    sums: &mut [Atomic<i32>],
    levels: Sequence<Level>,
    sizes: Sizes,
    items: usize,
    fine: f32,
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
    let unit = unit(bounds[image * step + item % step]);
    let slope = f32::cast_from(gradient[item]);
    let mut at = row * sizes.total;
    let count = comptime![levels.len()];
    #[unroll]
    for index in 0..count {
        let level = levels.index(index);
        for _ in 0..level.points {
            let place = place::<L>(locations, at, level.first, level.height, level.width);
            if place.near && unit.sound {
                let scale = f32::cast_from(weights[at]) * slope * unit.inverse;
                add(sums, &corner(&place, false, false), base, step, scale, fine);
                add(sums, &corner(&place, true, false), base, step, scale, fine);
                add(sums, &corner(&place, false, true), base, step, scale, fine);
                add(sums, &corner(&place, true, true), base, step, scale, fine);
            }
            at += 1;
        }
    }
}

/// The sums as floats.
#[cube(launch_unchecked, address_type = "dynamic")]
fn convert_kernel<F: Float>(
    sums: &[i32],
    bounds: &[f32],
    d_value: &mut [F],
    tokens: usize,
    channels: usize,
    items: usize,
    fine: f32,
    #[define(F)] _dtype: ElemType,
) {
    let item = ABSOLUTE_POS;
    if item >= items {
        terminate!();
    }
    let bound = bounds[item / (channels * tokens) * channels + item % channels];
    let unit = unit(bound);
    let whole = f32::cast_from(sums[2 * item]);
    let rest = f32::cast_from(sums[2 * item + 1]) / fine;
    // Bits that are no number, of which no compiler knows it.
    let unsound = f32::reinterpret(u32::reinterpret(bound) | 0x7fc0_0000u32);
    d_value[item] = F::cast_from(select(unit.sound, (whole + rest) * unit.size, unsound));
}

/// The gradient of `value`: every location's share of the output's `gradient`, at each cell it looked at.
pub(super) fn collect<R: CubeRuntime>(
    geometry: &Geometry,
    value: &CubeTensor<R>,
    locations: &CubeTensor<R>,
    weights: &CubeTensor<R>,
    gradient: &CubeTensor<R>,
) -> CubeTensor<R> {
    let Geometry { batch, tokens, heads, channels, queries, .. } = *geometry;
    let client = &value.client;
    let [of_gradient, of_locations, of_weights] =
        [gradient, locations, weights].map(call::element::<R>);
    let buffer = |tensor: &CubeTensor<R>| tensor.clone().into_buffer_arg();

    let bounds = call::empty(value, Meta::new([batch, heads * channels], DType::F32));
    let items = batch * heads * channels;
    let (count, dim) = call::units(client, items);
    // SAFETY: units past the last item stop, and all indices of others follow from the shapes.
    unsafe {
        bound_kernel::launch_unchecked(
            client,
            count,
            dim,
            call::address(&[weights, gradient]),
            buffer(weights),
            buffer(gradient),
            buffer(&bounds),
            geometry.size_args(1),
            items,
            [of_gradient, of_weights],
        );
    }

    // A location has one share at most in a cell.
    let shares_bits = (queries * geometry.total() + 1).next_power_of_two().ilog2() as i32;
    let fine = 2_f32.powi((BITS + 1 - shares_bits).clamp(0, MOST_FINE_BITS));
    let cells = value.meta.num_elements();
    let sums: CubeTensor<R> =
        zeros_client(client.clone(), value.device.clone(), [2 * cells].into(), DType::I32);
    let items = batch * queries * heads * channels;
    let (count, dim) = call::units(client, items);
    // SAFETY: units past the last item stop, and all indices of others follow from the shapes.
    unsafe {
        add_kernel::launch_unchecked(
            client,
            count,
            dim,
            call::address(&[&sums, locations, weights, gradient]),
            buffer(locations),
            buffer(weights),
            buffer(gradient),
            buffer(&bounds),
            buffer(&sums),
            geometry.level_args(),
            geometry.size_args(1),
            items,
            fine,
            [of_gradient, of_locations, of_weights],
        );
    }

    let d_value = call::empty(value, Meta::new(value.meta.shape().clone(), value.dtype));
    let (count, dim) = call::units(client, cells);
    // SAFETY: units past the last item stop.
    unsafe {
        convert_kernel::launch_unchecked(
            client,
            count,
            dim,
            call::address(&[&sums, &d_value]),
            buffer(&sums),
            buffer(&bounds),
            buffer(&d_value),
            tokens,
            heads * channels,
            cells,
            fine,
            call::element(&d_value),
        );
    }
    d_value
}
