//! The kernels of depthwise convolution, for images in either order of memory.

use cubecl::prelude::*;

use crate::cube::call::UNITS;
use crate::cube::layout::Layout;

#[derive(CubeLaunch, CubeType, Clone)]
pub(super) struct Sizes {
    pub(super) batch: usize,
    /// Accesses over all channels of a pixel.
    pub(super) run: usize,
    pub(super) height: usize,
    pub(super) width: usize,
    /// Of the output.
    pub(super) rows: usize,
    pub(super) columns: usize,
    pub(super) items: usize,
}

/// What kernels are compiled for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Taps {
    pub(super) kernel: usize,
    pub(super) stride: usize,
}

/// A value's place in images.
#[derive(CubeType, Clone)]
struct Place {
    image: usize,
    channel: usize,
    row: usize,
    column: usize,
}

/// The place of the value that lies `item` accesses from the first, in images of this size.
#[cube]
fn place(
    item: usize,
    run: usize,
    rows: usize,
    columns: usize,
    #[comptime] layout: Layout,
) -> Place {
    if comptime!(layout == Layout::Planes) {
        Place {
            image: item / (run * rows * columns),
            channel: item / (rows * columns) % run,
            row: item / columns % rows,
            column: item % columns,
        }
    } else {
        Place {
            image: item / (run * rows * columns),
            channel: item % run,
            row: item / (run * columns) % rows,
            column: item / run % columns,
        }
    }
}

/// The reverse of [`place`].
#[cube]
fn index(
    image: usize,
    channel: usize,
    row: usize,
    column: usize,
    run: usize,
    rows: usize,
    columns: usize,
    #[comptime] layout: Layout,
) -> usize {
    if comptime!(layout == Layout::Planes) {
        ((image * run + channel) * rows + row) * columns + column
    } else {
        ((image * rows + row) * columns + column) * run + channel
    }
}

/// One tap of the kernels of the channels in an access.
#[cube]
fn tap_of<N: Size>(
    weight: &[f32],
    channel: usize,
    tap: usize,
    #[comptime] taps: usize,
) -> Vector<f32, N> {
    let lanes = N::value();
    let first = channel * lanes;
    let mut found = Vector::<f32, N>::new(weight[first * taps + tap]);
    #[unroll]
    for lane in 0..lanes {
        found.insert(lane, weight[(first + lane) * taps + tap]);
    }
    found
}

/// One unit for an access of the output.
#[cube(launch_unchecked, address_type = "dynamic")]
pub(super) fn forward_kernel<F: Float, N: Size>(
    input: &[Vector<F, N>],
    weight: &[f32],
    output: &mut [Vector<F, N>],
    sizes: Sizes,
    #[comptime] taps: Taps,
    #[comptime] layout: Layout,
    #[define(F)] _dtype: ElemType,
) {
    let item = ABSOLUTE_POS;
    if item >= sizes.items {
        terminate!();
    }
    let kernel = comptime!(taps.kernel);
    let stride = comptime!(taps.stride);
    let padding = comptime!((taps.kernel - 1) / 2);
    let place = place(item, sizes.run, sizes.rows, sizes.columns, layout);
    let mut sum = Vector::<f32, N>::new(0.0f32);
    for of_row in 0..kernel {
        for of_column in 0..kernel {
            // Counted from the first row and column of the padding.
            let row = place.row * stride + of_row;
            let column = place.column * stride + of_column;
            if row >= padding
                && row < sizes.height + padding
                && column >= padding
                && column < sizes.width + padding
            {
                let at = index(
                    place.image,
                    place.channel,
                    row - padding,
                    column - padding,
                    sizes.run,
                    sizes.height,
                    sizes.width,
                    layout,
                );
                let tap = tap_of::<N>(
                    weight,
                    place.channel,
                    of_row * kernel + of_column,
                    comptime!(kernel * kernel),
                );
                sum += tap * Vector::cast_from(input[at]);
            }
        }
    }
    output[item] = Vector::cast_from(sum);
}

/// One unit for an access of the input: it collects from the outputs that saw it.
#[cube(launch_unchecked, address_type = "dynamic")]
#[allow(clippy::manual_is_multiple_of, reason = "kernels have no such method")]
pub(super) fn input_gradient_kernel<F: Float, G: Float, N: Size>(
    gradient: &[Vector<G, N>],
    weight: &[f32],
    d_input: &mut [Vector<F, N>],
    sizes: Sizes,
    #[comptime] taps: Taps,
    #[comptime] layout: Layout,
    #[define(F, G)] _dtypes: [ElemType; 2],
) {
    let item = ABSOLUTE_POS;
    if item >= sizes.items {
        terminate!();
    }
    let kernel = comptime!(taps.kernel);
    let stride = comptime!(taps.stride);
    let padding = comptime!((taps.kernel - 1) / 2);
    let place = place(item, sizes.run, sizes.height, sizes.width, layout);
    let mut sum = Vector::<f32, N>::new(0.0f32);
    for of_row in 0..kernel {
        for of_column in 0..kernel {
            let row = place.row + padding;
            let column = place.column + padding;
            if row >= of_row && column >= of_column {
                let row = row - of_row;
                let column = column - of_column;
                if row % stride == 0
                    && column % stride == 0
                    && row / stride < sizes.rows
                    && column / stride < sizes.columns
                {
                    let at = index(
                        place.image,
                        place.channel,
                        row / stride,
                        column / stride,
                        sizes.run,
                        sizes.rows,
                        sizes.columns,
                        layout,
                    );
                    let tap = tap_of::<N>(
                        weight,
                        place.channel,
                        of_row * kernel + of_column,
                        comptime!(kernel * kernel),
                    );
                    sum += tap * Vector::cast_from(gradient[at]);
                }
            }
        }
    }
    d_input[item] = Vector::cast_from(sum);
}

/// One cube for the kernels of a few channels (`wide` accesses) over a part of the output's pixels.
#[cube(launch_unchecked, address_type = "dynamic")]
pub(super) fn weight_gradient_kernel<F: Float, G: Float, N: Size>(
    input: &[Vector<F, N>],
    gradient: &[Vector<G, N>],
    partial: &mut [f32],
    sizes: Sizes,
    splits: usize,
    #[comptime] wide: usize,
    #[comptime] taps: Taps,
    #[comptime] layout: Layout,
    #[define(F, G)] _dtypes: [ElemType; 2],
) {
    let kernel = comptime!(taps.kernel);
    let stride = comptime!(taps.stride);
    let padding = comptime!((taps.kernel - 1) / 2);
    let count = comptime!(taps.kernel * taps.kernel);
    let deep = comptime!(UNITS as usize / wide);
    let channel = CUBE_POS_X as usize * wide + UNIT_POS_X as usize % wide;
    let split = CUBE_POS_Y as usize;
    let depth = UNIT_POS as usize / wide;
    let lanes = N::value();
    let mut sums = Array::<Vector<f32, N>>::new(count);
    #[unroll]
    for tap in 0..count {
        sums[tap] = Vector::new(0.0f32);
    }
    if channel < sizes.run {
        let pixels = sizes.batch * sizes.rows * sizes.columns;
        for pixel in range_stepped(split * deep + depth, pixels, splits * deep) {
            let image = pixel / (sizes.rows * sizes.columns);
            let row = pixel / sizes.columns % sizes.rows;
            let column = pixel % sizes.columns;
            let at =
                index(image, channel, row, column, sizes.run, sizes.rows, sizes.columns, layout);
            let slope = Vector::<f32, N>::cast_from(gradient[at]);
            #[unroll]
            for tap in 0..count {
                let row = row * stride + comptime!(tap / kernel);
                let column = column * stride + comptime!(tap % kernel);
                if row >= padding
                    && row < sizes.height + padding
                    && column >= padding
                    && column < sizes.width + padding
                {
                    let at = index(
                        image,
                        channel,
                        row - padding,
                        column - padding,
                        sizes.run,
                        sizes.height,
                        sizes.width,
                        layout,
                    );
                    sums[tap] += slope * Vector::cast_from(input[at]);
                }
            }
        }
    }
    let mut shared = Shared::<[Vector<f32, N>]>::new_slice(UNITS as usize);
    let unit = UNIT_POS as usize;
    #[unroll]
    for tap in 0..count {
        shared[unit] = sums[tap];
        sync_cube();
        let mut reach = (deep / 2).runtime();
        while reach > 0 {
            if depth < reach {
                shared[unit] = shared[unit] + shared[unit + reach * wide];
            }
            sync_cube();
            reach /= 2;
        }
        if depth == 0 && channel < sizes.run {
            let sum = shared[unit];
            #[unroll]
            for lane in 0..lanes {
                let of_channel = (split * sizes.run + channel) * lanes + lane;
                partial[of_channel * count + tap] = sum.extract(lane);
            }
        }
        sync_cube();
    }
}

/// The sum over splits.
#[cube(launch_unchecked, address_type = "dynamic")]
pub(super) fn add_splits_kernel(partial: &[f32], sums: &mut [f32], items: usize, splits: usize) {
    let item = ABSOLUTE_POS;
    if item >= items {
        terminate!();
    }
    let mut sum = 0.0f32.runtime();
    for split in 0..splits {
        sum += partial[split * items + item];
    }
    sums[item] = sum;
}
