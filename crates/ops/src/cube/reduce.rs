//! Sums over the channels of images, which batch normalisation needs in both directions.
//!
//! A channel has up to millions of values, and the first layers have few channels: so many cubes
//! share a channel, each writes a partial sum, and a second kernel adds these in order. Nothing is
//! atomic, so the bits do not depend on the run.

use burn::backend::TensorMetadata;
use burn::tensor::DType;
use burn_cubecl::CubeRuntime;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use super::call::{self, Meta, UNITS};
use super::layout::Layout;
use super::pointwise::{Affine, affine, before, through};
use crate::Activation;

/// What is summed over each channel, two sums at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Terms {
    /// `x - first` and its square. The channel's first value stands in for the mean, so that the
    /// variance of values far from zero is no difference of large numbers.
    Moments,
    /// The gradient behind the activation, and its product with `x - mean`.
    Gradients(Activation),
}

/// Both terms of one access.
#[derive(CubeType, Clone)]
struct Pair<N: Size> {
    first: Vector<f32, N>,
    second: Vector<f32, N>,
}

#[cube]
fn terms<F: Float, G: Float, N: Size>(
    input: &[Vector<F, N>],
    gradient: &[Vector<G, N>],
    at: usize,
    shift: Vector<f32, N>,
    affine: &Affine<N>,
    #[comptime] terms: Terms,
) -> Pair<N> {
    let x = Vector::<f32, N>::cast_from(input[at]);
    match terms {
        Terms::Moments => {
            let away = x - shift;
            Pair::<N> { first: away, second: away * away }
        }
        Terms::Gradients(activation) => {
            let z = before::<N>(affine, x);
            let d_z = through::<N>(z, Vector::cast_from(gradient[at]), activation);
            Pair::<N> { first: d_z, second: d_z * (x - affine.mean) }
        }
    }
}

#[derive(CubeLaunch, CubeType, Clone)]
struct Sizes {
    batch: usize,
    channels: usize,
    /// Accesses in a plane, or in a pixel.
    run: usize,
    /// Pixels of all images; what planes need not know.
    pixels: usize,
    splits: usize,
    epsilon: f32,
}

/// Accesses of a plane that one cube takes at a time.
const PIECE: usize = 4096;
/// Channels side by side, in vectors, that a cube takes when pixels lie one after another.
const WIDE: u32 = 32;
const DEEP: u32 = UNITS / WIDE;
/// Cubes that keep the largest GPU busy.
const ENOUGH: usize = 1024;

#[cube(launch_unchecked, address_type = "dynamic")]
#[allow(clippy::too_many_arguments)]
fn plane_sums_kernel<F: Float, G: Float, N: Size>(
    input: &[Vector<F, N>],
    gradient: &[Vector<G, N>],
    mean: &[f32],
    variance: &[f32],
    weight: &[f32],
    bias: &[f32],
    partial: &mut [f32],
    sizes: Sizes,
    #[comptime] what: Terms,
    #[define(F, G)] _dtypes: [ElemType; 2],
) {
    let channel = CUBE_POS_X as usize;
    let split = CUBE_POS_Y as usize;
    let unit = UNIT_POS as usize;
    let layout = comptime!(Layout::Planes);
    let affine = affine::<N>(mean, variance, weight, bias, channel, sizes.epsilon, layout);
    let first_value = Vector::<f32, N>::cast_from(input[channel * sizes.run]);
    let shift = Vector::<f32, N>::new(first_value.extract(0usize));
    let mut first = Vector::<f32, N>::new(0.0f32);
    let mut second = Vector::<f32, N>::new(0.0f32);
    let pieces = sizes.run.div_ceil(PIECE);
    for piece in range_stepped(split, sizes.batch * pieces, sizes.splits) {
        let image = piece / pieces;
        let start = piece % pieces * PIECE;
        let end = min(start + PIECE, sizes.run);
        let at = (image * sizes.channels + channel) * sizes.run;
        for index in range_stepped(start + unit, end, CUBE_DIM as usize) {
            let pair = terms::<F, G, N>(input, gradient, at + index, shift, &affine, what);
            first += pair.first;
            second += pair.second;
        }
    }
    let mut firsts = Shared::<[f32]>::new_slice(UNITS as usize);
    let mut seconds = Shared::<[f32]>::new_slice(UNITS as usize);
    firsts[unit] = first.vector_sum();
    seconds[unit] = second.vector_sum();
    sync_cube();
    let mut reach = (UNITS as usize / 2).runtime();
    while reach > 0 {
        if unit < reach {
            firsts[unit] += firsts[unit + reach];
            seconds[unit] += seconds[unit + reach];
        }
        sync_cube();
        reach /= 2;
    }
    if unit == 0 {
        partial[2 * split * sizes.channels + channel] = firsts[0];
        partial[(2 * split + 1) * sizes.channels + channel] = seconds[0];
    }
}

#[cube(launch_unchecked, address_type = "dynamic")]
#[allow(clippy::too_many_arguments)]
fn pixel_sums_kernel<F: Float, G: Float, N: Size>(
    input: &[Vector<F, N>],
    gradient: &[Vector<G, N>],
    mean: &[f32],
    variance: &[f32],
    weight: &[f32],
    bias: &[f32],
    partial: &mut [f32],
    sizes: Sizes,
    #[comptime] what: Terms,
    #[define(F, G)] _dtypes: [ElemType; 2],
) {
    let wide = WIDE as usize;
    let column = CUBE_POS_X as usize * wide + UNIT_POS_X as usize;
    let split = CUBE_POS_Y as usize;
    let depth = UNIT_POS_Y as usize;
    let lanes = N::value();
    let layout = comptime!(Layout::Pixels);
    let mut first = Vector::<f32, N>::new(0.0f32);
    let mut second = Vector::<f32, N>::new(0.0f32);
    if column < sizes.run {
        let channel = column * lanes;
        let affine = affine::<N>(mean, variance, weight, bias, channel, sizes.epsilon, layout);
        let shift = Vector::<f32, N>::cast_from(input[column]);
        let deep = DEEP as usize;
        for pixel in range_stepped(split * deep + depth, sizes.pixels, sizes.splits * deep) {
            let at = pixel * sizes.run + column;
            let pair = terms::<F, G, N>(input, gradient, at, shift, &affine, what);
            first += pair.first;
            second += pair.second;
        }
    }
    let mut firsts = Shared::<[Vector<f32, N>]>::new_slice(UNITS as usize);
    let mut seconds = Shared::<[Vector<f32, N>]>::new_slice(UNITS as usize);
    let unit = depth * wide + UNIT_POS_X as usize;
    firsts[unit] = first;
    seconds[unit] = second;
    sync_cube();
    if depth == 0 && column < sizes.run {
        let mut first = firsts[unit];
        let mut second = seconds[unit];
        for row in 1..DEEP as usize {
            first += firsts[row * wide + unit];
            second += seconds[row * wide + unit];
        }
        #[unroll]
        for lane in 0..lanes {
            let channel = column * lanes + lane;
            partial[2 * split * sizes.channels + channel] = first.extract(lane);
            partial[(2 * split + 1) * sizes.channels + channel] = second.extract(lane);
        }
    }
}

/// Both sums of every channel out of the partial ones: mean and biased variance, or the gradients of
/// bias and weight.
#[cube(launch_unchecked, address_type = "dynamic")]
fn finish_kernel<F: Float>(
    input: &[F],
    variance: &[f32],
    partial: &[f32],
    first: &mut [f32],
    second: &mut [f32],
    channels: usize,
    splits: usize,
    // From one channel's first value to the next one's.
    step: usize,
    count: f32,
    epsilon: f32,
    #[comptime] what: Terms,
    #[define(F)] _dtype: ElemType,
) {
    let channel = ABSOLUTE_POS;
    if channel >= channels {
        terminate!();
    }
    let mut a = 0.0f32.runtime();
    let mut b = 0.0f32.runtime();
    for split in 0..splits {
        a += partial[2 * split * channels + channel];
        b += partial[(2 * split + 1) * channels + channel];
    }
    match what {
        Terms::Moments => {
            let mean = a / count;
            first[channel] = f32::cast_from(input[channel * step]) + mean;
            // Rounding must not make it negative.
            second[channel] = max(b / count - mean * mean, 0.0f32);
        }
        Terms::Gradients(_) => {
            first[channel] = a;
            second[channel] = b / f32::sqrt(variance[channel] + epsilon);
        }
    }
}

/// Both sums of every channel. `channels`: mean, variance, weight and bias.
pub(crate) fn sums<R: CubeRuntime>(
    what: Terms,
    layout: Layout,
    input: &CubeTensor<R>,
    gradient: &CubeTensor<R>,
    channels: &[CubeTensor<R>; 4],
    epsilon: f32,
) -> [CubeTensor<R>; 2] {
    let client = input.client.clone();
    let [batch, count, height, width] = input.shape().dims();
    let pixels = batch * height * width;
    let run = layout.run(input);
    let vector = call::vector(input, run).min(call::vector(gradient, run));
    let run = run / vector;
    let (cubes, dim, most) = match layout {
        Layout::Planes => (count, CubeDim::new_1d(UNITS), batch * run.div_ceil(PIECE)),
        Layout::Pixels => {
            let most = pixels.div_ceil(16 * DEEP as usize);
            (run.div_ceil(WIDE as usize), CubeDim::new_2d(WIDE, DEEP), most)
        }
    };
    let splits = ENOUGH.div_ceil(cubes).min(most).max(1);
    let partial = call::empty(input, Meta::new([splits, 2, count], DType::F32));
    let cube_count = CubeCount::Static(cubes as u32, splits as u32, 1);
    let [mean, variance, weight, bias] = channels.each_ref().map(|c| c.clone().into_buffer_arg());
    let sizes = SizesLaunch::new(batch, count, run, pixels, splits, epsilon);
    let address = call::address(&[input, gradient]);
    let dtypes = [call::element(input), call::element(gradient)];
    let launch = match layout {
        Layout::Planes => plane_sums_kernel::launch_unchecked::<R>,
        Layout::Pixels => pixel_sums_kernel::launch_unchecked::<R>,
    };
    // SAFETY: every loop ends at the sizes of the tensors, and a column past the last is not read.
    unsafe {
        launch(
            &client,
            cube_count,
            dim,
            address,
            vector,
            input.clone().into_buffer_arg(),
            gradient.clone().into_buffer_arg(),
            mean,
            variance,
            weight,
            bias,
            partial.clone().into_buffer_arg(),
            sizes,
            what,
            dtypes,
        );
    }
    let [first, second] = [(); 2].map(|()| call::empty(input, Meta::new([count], DType::F32)));
    let (cube_count, dim) = call::units(&client, count);
    let step = if layout == Layout::Planes { height * width } else { 1 };
    // SAFETY: units past the last channel stop.
    unsafe {
        finish_kernel::launch_unchecked(
            &client,
            cube_count,
            dim,
            address,
            input.clone().into_buffer_arg(),
            channels[1].clone().into_buffer_arg(),
            partial.into_buffer_arg(),
            first.clone().into_buffer_arg(),
            second.clone().into_buffer_arg(),
            count,
            splits,
            step,
            pixels as f32,
            epsilon,
            what,
            call::element(input),
        );
    }
    [first, second]
}
