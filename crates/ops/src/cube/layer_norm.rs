//! Layer normalisation on GPUs: see [`crate::layer_norm`].
//!
//! One kernel forward and three backward, where the composed path takes some twenty. Rows are short
//! (a few hundred values), so a cube takes several of them, with a fixed number of units each.

use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, TensorMetadata};
use burn::tensor::DType;
use burn_cubecl::CubeRuntime;
use burn_cubecl::kernel::cast;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use super::call::{self, Call, Launch, Meta, UNITS};

/// Units of one row.
const WIDE: u32 = 32;
/// Rows of one cube.
const DEEP: u32 = UNITS / WIDE;
/// Cubes that keep the largest GPU busy.
const ENOUGH: usize = 1024;

/// The sum over the units of a row, for each of them.
#[cube]
fn row_sum(value: f32) -> f32 {
    let wide = WIDE as usize;
    let mut shared = Shared::<[f32]>::new_slice(UNITS as usize);
    let lane = UNIT_POS_X as usize;
    let first = UNIT_POS_Y as usize * wide;
    shared[first + lane] = value;
    sync_cube();
    let mut reach = (WIDE as usize / 2).runtime();
    while reach > 0 {
        if lane < reach {
            shared[first + lane] += shared[first + lane + reach];
        }
        sync_cube();
        reach /= 2;
    }
    let sum = shared[first];
    // The next sum may be given the same memory.
    sync_cube();
    sum
}

/// A cube past the last row computes that one again and writes nothing: its units must all take part
/// in the sums.
#[cube(launch_unchecked, address_type = "dynamic")]
fn normalize_kernel<F: Float, N: Size>(
    input: &[Vector<F, N>],
    weight: &[Vector<f32, N>],
    bias: &[Vector<f32, N>],
    output: &mut [Vector<F, N>],
    moments: &mut [f32],
    rows: usize,
    vectors: usize,
    epsilon: f32,
    #[define(F)] _dtype: ElemType,
) {
    let wide = WIDE as usize;
    let wanted = CUBE_POS * DEEP as usize + UNIT_POS_Y as usize;
    let row = min(wanted, rows - 1);
    let lane = UNIT_POS_X as usize;
    let count = f32::cast_from(vectors * N::value());
    let mut sum = Vector::<f32, N>::new(0.0f32);
    for index in range_stepped(lane, vectors, wide) {
        sum += Vector::cast_from(input[row * vectors + index]);
    }
    let mean = row_sum(sum.vector_sum()) / count;
    let mut squares = Vector::<f32, N>::new(0.0f32);
    for index in range_stepped(lane, vectors, wide) {
        let away = Vector::<f32, N>::cast_from(input[row * vectors + index]) - Vector::new(mean);
        squares += away * away;
    }
    let variance = row_sum(squares.vector_sum()) / count;
    let inverse = 1.0f32 / f32::sqrt(variance + epsilon);
    if wanted < rows {
        for index in range_stepped(lane, vectors, wide) {
            let at = row * vectors + index;
            let away = Vector::<f32, N>::cast_from(input[at]) - Vector::new(mean);
            let normal = away * Vector::new(inverse);
            output[at] = Vector::cast_from(normal * weight[index] + bias[index]);
        }
        if lane == 0 {
            moments[2 * row] = mean;
            moments[2 * row + 1] = inverse;
        }
    }
}

#[cube(launch_unchecked, address_type = "dynamic")]
fn input_gradient_kernel<F: Float, G: Float, N: Size>(
    input: &[Vector<F, N>],
    gradient: &[Vector<G, N>],
    weight: &[Vector<f32, N>],
    moments: &[f32],
    d_input: &mut [Vector<F, N>],
    rows: usize,
    vectors: usize,
    #[define(F, G)] _dtypes: [ElemType; 2],
) {
    let wide = WIDE as usize;
    let wanted = CUBE_POS * DEEP as usize + UNIT_POS_Y as usize;
    let row = min(wanted, rows - 1);
    let lane = UNIT_POS_X as usize;
    let count = f32::cast_from(vectors * N::value());
    let mean = Vector::<f32, N>::new(moments[2 * row]);
    let inverse = Vector::<f32, N>::new(moments[2 * row + 1]);
    let mut slopes = Vector::<f32, N>::new(0.0f32);
    let mut products = Vector::<f32, N>::new(0.0f32);
    for index in range_stepped(lane, vectors, wide) {
        let at = row * vectors + index;
        let slope = Vector::<f32, N>::cast_from(gradient[at]) * weight[index];
        slopes += slope;
        products += slope * (Vector::cast_from(input[at]) - mean) * inverse;
    }
    let offset = Vector::<f32, N>::new(row_sum(slopes.vector_sum()) / count);
    let share = Vector::<f32, N>::new(row_sum(products.vector_sum()) / count);
    if wanted < rows {
        for index in range_stepped(lane, vectors, wide) {
            let at = row * vectors + index;
            let slope = Vector::<f32, N>::cast_from(gradient[at]) * weight[index];
            let normal = (Vector::cast_from(input[at]) - mean) * inverse;
            d_input[at] = Vector::cast_from(inverse * (slope - offset - normal * share));
        }
    }
}

/// Partial sums over rows of the gradient, and of its product with the normalised input.
#[cube(launch_unchecked, address_type = "dynamic")]
fn column_sums_kernel<F: Float, G: Float>(
    input: &[F],
    gradient: &[G],
    moments: &[f32],
    partial: &mut [f32],
    rows: usize,
    channels: usize,
    splits: usize,
    #[define(F, G)] _dtypes: [ElemType; 2],
) {
    let wide = WIDE as usize;
    let deep = DEEP as usize;
    let channel = CUBE_POS_X as usize * wide + UNIT_POS_X as usize;
    let split = CUBE_POS_Y as usize;
    let depth = UNIT_POS_Y as usize;
    let mut first = 0.0f32.runtime();
    let mut second = 0.0f32.runtime();
    if channel < channels {
        for row in range_stepped(split * deep + depth, rows, splits * deep) {
            let at = row * channels + channel;
            let slope = f32::cast_from(gradient[at]);
            first += slope;
            let away = f32::cast_from(input[at]) - moments[2 * row];
            second += slope * away * moments[2 * row + 1];
        }
    }
    let mut firsts = Shared::<[f32]>::new_slice(UNITS as usize);
    let mut seconds = Shared::<[f32]>::new_slice(UNITS as usize);
    let unit = depth * wide + UNIT_POS_X as usize;
    firsts[unit] = first;
    seconds[unit] = second;
    sync_cube();
    if depth == 0 && channel < channels {
        for row in 1..deep {
            first += firsts[row * wide + unit];
            second += seconds[row * wide + unit];
        }
        partial[2 * split * channels + channel] = first;
        partial[(2 * split + 1) * channels + channel] = second;
    }
}

#[cube(launch_unchecked, address_type = "dynamic")]
fn add_splits_kernel(
    partial: &[f32],
    first: &mut [f32],
    second: &mut [f32],
    channels: usize,
    splits: usize,
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
    first[channel] = a;
    second[channel] = b;
}

/// Rows and channels.
fn sizes<R: CubeRuntime>(input: &CubeTensor<R>) -> [usize; 2] {
    let shape = input.shape();
    let channels = shape[shape.num_dims() - 1];
    [shape.num_elements() / channels, channels]
}

/// Cubes for all rows; spread over two dimensions, since one may hold too few.
fn cubes(rows: usize) -> CubeCount {
    let cubes = rows.div_ceil(DEEP as usize);
    let high = cubes.div_ceil(65_535).max(1);
    CubeCount::Static(cubes.div_ceil(high) as u32, high as u32, 1)
}

/// Input, weight and bias to the output and, for the gradient, mean and inverse deviation of each row.
#[derive(Clone, Debug)]
struct Normalize {
    epsilon: f32,
}

impl Call for Normalize {
    const NAME: &'static str = "normalize_rows";

    fn outputs(&self, inputs: &[Meta]) -> Vec<Meta> {
        let shape = &inputs[0].shape;
        let rows = shape.num_elements() / shape[shape.num_dims() - 1];
        vec![inputs[0].clone(), Meta::new([rows, 2], DType::F32)]
    }

    fn run<R: CubeRuntime>(&self, inputs: Vec<CubeTensor<R>>) -> Vec<CubeTensor<R>> {
        let [input, weight, bias] = call::exactly(inputs);
        let input = call::dense(input);
        let [weight, bias] = [weight, bias].map(call::dense32);
        let [rows, channels] = sizes(&input);
        let output = call::empty(&input, Meta::new(input.shape(), input.dtype));
        let moments = call::empty(&input, Meta::new([rows, 2], DType::F32));
        let vector = call::vector(&input, channels).min(call::vector(&weight, channels));
        // SAFETY: every loop ends at the row's length, and rows past the last are not written.
        unsafe {
            normalize_kernel::launch_unchecked(
                &output.client,
                cubes(rows),
                CubeDim::new_2d(WIDE, DEEP),
                call::address(&[&input, &output]),
                vector,
                input.clone().into_buffer_arg(),
                weight.into_buffer_arg(),
                bias.into_buffer_arg(),
                output.clone().into_buffer_arg(),
                moments.clone().into_buffer_arg(),
                rows,
                channels / vector,
                self.epsilon,
                call::element(&input),
            );
        }
        vec![output, moments]
    }
}

/// Input, weight, bias, moments and the output's gradient to the gradients of the first three.
#[derive(Clone, Debug)]
struct NormalizeBackward;

impl Call for NormalizeBackward {
    const NAME: &'static str = "normalize_rows_backward";

    fn outputs(&self, inputs: &[Meta]) -> Vec<Meta> {
        inputs[..3].to_vec()
    }

    fn run<R: CubeRuntime>(&self, inputs: Vec<CubeTensor<R>>) -> Vec<CubeTensor<R>> {
        let [input, weight, bias, moments, gradient] = call::exactly(inputs);
        let parameters = [weight.dtype, bias.dtype];
        let [input, moments, gradient] = [input, moments, gradient].map(call::dense);
        let weight = call::dense32(weight);
        let client = input.client.clone();
        let [rows, channels] = sizes(&input);
        let d_input = call::empty(&input, Meta::new(input.shape(), input.dtype));
        let vector = [&input, &gradient, &weight].map(|tensor| call::vector(tensor, channels));
        let vector = vector.into_iter().min().unwrap_or(1);
        let wide = channels.div_ceil(WIDE as usize);
        let most = rows.div_ceil(4 * DEEP as usize);
        let splits = ENOUGH.div_ceil(wide).min(most).max(1);
        let partial = call::empty(&input, Meta::new([splits, 2, channels], DType::F32));
        let [d_bias, d_weight] =
            [(); 2].map(|()| call::empty(&input, Meta::new([channels], DType::F32)));
        let address = call::address(&[&input, &gradient]);
        let dtypes = [call::element(&input), call::element(&gradient)];
        let (count, dim) = call::units(&client, channels);
        // SAFETY: every loop ends at the rows' number and length, and neither rows nor channels past
        // the last are written.
        unsafe {
            input_gradient_kernel::launch_unchecked(
                &client,
                cubes(rows),
                CubeDim::new_2d(WIDE, DEEP),
                address,
                vector,
                input.clone().into_buffer_arg(),
                gradient.clone().into_buffer_arg(),
                weight.into_buffer_arg(),
                moments.clone().into_buffer_arg(),
                d_input.clone().into_buffer_arg(),
                rows,
                channels / vector,
                dtypes,
            );
            column_sums_kernel::launch_unchecked(
                &client,
                CubeCount::Static(wide as u32, splits as u32, 1),
                CubeDim::new_2d(WIDE, DEEP),
                address,
                input.into_buffer_arg(),
                gradient.into_buffer_arg(),
                moments.into_buffer_arg(),
                partial.clone().into_buffer_arg(),
                rows,
                channels,
                splits,
                dtypes,
            );
            add_splits_kernel::launch_unchecked(
                &client,
                count,
                dim,
                address,
                partial.into_buffer_arg(),
                d_bias.clone().into_buffer_arg(),
                d_weight.clone().into_buffer_arg(),
                channels,
                splits,
            );
        }
        vec![d_input, cast(d_weight, parameters[0]), cast(d_bias, parameters[1])]
    }
}

pub(crate) fn normalize<B: Launch>(inputs: [FloatTensor<B>; 3], epsilon: f32) -> FloatTensor<B> {
    let [output, _] = call::exactly(B::launch(Normalize { epsilon }, inputs.into()));
    output
}

#[derive(Debug)]
struct LayerNormBackward;

impl<B: Launch> Backward<B, 3> for LayerNormBackward {
    /// Input, weight, bias and moments.
    type State = Vec<FloatTensor<B>>;

    fn backward(self, ops: Ops<Self::State, 3>, grads: &mut Gradients, _: &mut Checkpointer) {
        let mut inputs = ops.state;
        inputs.push(grads.consume::<B>(&ops.node));
        let gradients = B::launch(NormalizeBackward, inputs);
        for (node, gradient) in ops.parents.into_iter().zip(gradients) {
            if let Some(node) = node {
                grads.register::<B>(node.id, gradient);
            }
        }
    }
}

pub(crate) fn tracked<B: Launch, C: CheckpointStrategy>(
    inputs: [FloatTensor<Autodiff<B, C>>; 3],
    epsilon: f32,
) -> FloatTensor<Autodiff<B, C>> {
    let nodes = [0, 1, 2].map(|index| inputs[index].node.clone());
    let mut saved = Vec::from(inputs.map(|input| input.primitive));
    let [output, moments] = call::exactly(B::launch(Normalize { epsilon }, saved.clone()));
    match LayerNormBackward.prepare::<C>(nodes).compute_bound().stateful() {
        OpsKind::Tracked(prep) => {
            saved.push(moments);
            prep.finish(saved, output)
        }
        OpsKind::UnTracked(prep) => prep.finish(output),
    }
}
