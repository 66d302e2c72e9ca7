//! The kernels of the updates over all parameters.

use cubecl::prelude::*;

use crate::cube::call::UNITS;

/// Values that one unit of a cube takes.
const STEPS: usize = 16;
/// Values that one cube takes.
pub(super) const PIECE: usize = UNITS as usize * STEPS;
/// One tensor among those of a launch.
#[derive(CubeLaunch, CubeType, Clone)]
pub(super) struct Part {
    /// The cubes before its own.
    cubes: usize,
    len: usize,
}

/// The factors that differ between parameters.
#[derive(CubeLaunch, CubeType, Clone)]
pub(super) struct Rates {
    beta1: f32,
    beta2: f32,
    new1: f32,
    new2: f32,
    eps: f32,
    keep: f32,
    rate: f32,
    root: f32,
}

/// The first value of this cube's piece; past the end of the tensor if the cube is another's.
#[cube]
fn first(part: &Part) -> usize {
    let cube = CUBE_POS;
    if cube >= part.cubes { (cube - part.cubes) * PIECE } else { part.len }
}

#[cube(launch_unchecked, address_type = "dynamic")]
pub(super) fn update_kernel(
    mut parameters: Sequence<Box<[f32]>>,
    gradients: Sequence<Box<[f32]>>,
    mut means: Sequence<Box<[f32]>>,
    mut squares: Sequence<Box<[f32]>>,
    clip: &[f32],
    parts: Sequence<Part>,
    rates: Sequence<Rates>,
) {
    let count = comptime![parts.len()];
    #[unroll]
    for index in 0..count {
        let part = parts.index(index);
        let rates = rates.index(index);
        let start = first(part);
        // False for all cubes but this tensor's.
        if start < part.len {
            let parameter = parameters.index_mut(index);
            let gradient = gradients.index(index);
            let mean = means.index_mut(index);
            let square = squares.index_mut(index);
            for step in 0..STEPS {
                let at = start + step * UNITS as usize + UNIT_POS as usize;
                if at < part.len {
                    let slope = gradient[at] * clip[0];
                    let new_mean = mean[at] * rates.beta1 + slope * rates.new1;
                    let new_square = square[at] * rates.beta2 + slope * slope * rates.new2;
                    mean[at] = new_mean;
                    square[at] = new_square;
                    parameter[at] = parameter[at] * rates.keep
                        - rates.rate * new_mean / (f32::sqrt(new_square) * rates.root + rates.eps);
                }
            }
        }
    }
}

#[cube(launch_unchecked, address_type = "dynamic")]
pub(super) fn blend_kernel(
    averages: Sequence<Box<[f32]>>,
    currents: Sequence<Box<[f32]>>,
    mut blended: Sequence<Box<[f32]>>,
    parts: Sequence<Part>,
    old: f32,
    new: f32,
) {
    let count = comptime![parts.len()];
    #[unroll]
    for index in 0..count {
        let part = parts.index(index);
        let start = first(part);
        if start < part.len {
            let average = averages.index(index);
            let current = currents.index(index);
            let blended = blended.index_mut(index);
            for step in 0..STEPS {
                let at = start + step * UNITS as usize + UNIT_POS as usize;
                if at < part.len {
                    blended[at] = average[at] * old + current[at] * new;
                }
            }
        }
    }
}

/// The sum over a cube's units, in the first of them.
#[cube]
fn cube_sum(value: f32) -> f32 {
    let unit = UNIT_POS as usize;
    let mut shared = Shared::<[f32]>::new_slice(UNITS as usize);
    shared[unit] = value;
    sync_cube();
    let mut reach = (UNITS as usize / 2).runtime();
    while reach > 0 {
        if unit < reach {
            shared[unit] += shared[unit + reach];
        }
        sync_cube();
        reach /= 2;
    }
    shared[0]
}

/// Every cube's sum of squares.
#[cube(launch_unchecked, address_type = "dynamic")]
pub(super) fn squares_kernel(
    tensors: Sequence<Box<[f32]>>,
    partial: &mut [f32],
    parts: Sequence<Part>,
    // The cubes of the launches before.
    before: usize,
) {
    let mut sum = 0.0f32.runtime();
    let count = comptime![parts.len()];
    #[unroll]
    for index in 0..count {
        let part = parts.index(index);
        let start = first(part);
        if start < part.len {
            let tensor = tensors.index(index);
            for step in 0..STEPS {
                let at = start + step * UNITS as usize + UNIT_POS as usize;
                if at < part.len {
                    sum += tensor[at] * tensor[at];
                }
            }
        }
    }
    let sum = cube_sum(sum);
    if UNIT_POS == 0 {
        partial[before + CUBE_POS] = sum;
    }
}

/// The root of the sum of all partial sums, by one cube.
#[cube(launch_unchecked, address_type = "dynamic")]
pub(super) fn norm_kernel(partial: &[f32], norm: &mut [f32], count: usize) {
    let mut sum = 0.0f32.runtime();
    for index in range_stepped(UNIT_POS as usize, count, UNITS as usize) {
        sum += partial[index];
    }
    let sum = cube_sum(sum);
    if UNIT_POS == 0 {
        norm[0] = f32::sqrt(sum);
    }
}
