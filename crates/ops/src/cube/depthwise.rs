//! Depthwise convolution on GPUs: see [`crate::depthwise_conv2d`].
//!
//! Burn computes the weight's gradient with one kernel launch a channel, thousands in a step. Here it
//! is two in all, without atomics. Images keep their order in memory.

use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, TensorMetadata};
use burn::tensor::{DType, Shape};
use burn_cubecl::CubeRuntime;
use burn_cubecl::kernel::cast;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use super::call::{self, Call, Launch, Meta, UNITS};
use super::reduce::Layout;

/// The sizes of one convolution.
#[derive(Clone, Copy, Debug)]
struct Geometry {
    batch: usize,
    channels: usize,
    kernel: usize,
    stride: usize,
    input: [usize; 2],
    output: [usize; 2],
}

impl Geometry {
    fn new(input: &Shape, weight: &Shape, stride: usize) -> Self {
        let [batch, channels, height, width] = input.dims();
        let [kernels, one, kernel, _]: [usize; 4] = weight.dims();
        assert_eq!((channels, 1), (kernels, one), "a depthwise kernel for every channel");
        let padding = (kernel - 1) / 2;
        let output = [height, width].map(|side| (side + 2 * padding - kernel) / stride + 1);
        Self { batch, channels, kernel, stride, input: [height, width], output }
    }

    fn output_shape(&self) -> [usize; 4] {
        let [height, width] = self.output;
        [self.batch, self.channels, height, width]
    }

    /// `run`: accesses over all channels.
    fn args<R: CubeRuntime>(&self, run: usize, items: usize) -> SizesLaunch<R> {
        let ([height, width], [rows, columns]) = (self.input, self.output);
        SizesLaunch::new(self.batch, run, height, width, rows, columns, items)
    }

    fn taps(&self) -> Taps {
        Taps { kernel: self.kernel, stride: self.stride }
    }
}

#[derive(CubeLaunch, CubeType, Clone)]
struct Sizes {
    batch: usize,
    /// Accesses over all channels of a pixel.
    run: usize,
    height: usize,
    width: usize,
    /// Of the output.
    rows: usize,
    columns: usize,
    items: usize,
}

/// What kernels are compiled for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Taps {
    kernel: usize,
    stride: usize,
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
fn forward_kernel<F: Float, N: Size>(
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
fn input_gradient_kernel<F: Float, G: Float, N: Size>(
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

/// Channels side by side that a cube takes when pixels lie one after another.
const WIDE: u32 = 32;
/// Cubes that keep the largest GPU busy.
const ENOUGH: usize = 1024;

/// One cube for the kernels of a few channels (`wide` accesses) over a part of the output's pixels.
#[cube(launch_unchecked, address_type = "dynamic")]
fn weight_gradient_kernel<F: Float, G: Float, N: Size>(
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
fn add_splits_kernel(partial: &[f32], sums: &mut [f32], items: usize, splits: usize) {
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

/// Input and weight to the output.
#[derive(Clone, Debug)]
struct Convolve(Geometry);

impl Call for Convolve {
    const NAME: &'static str = "convolve_depthwise";

    fn outputs(&self, inputs: &[Meta]) -> Vec<Meta> {
        vec![Meta::new(self.0.output_shape(), inputs[0].dtype)]
    }

    fn run<R: CubeRuntime>(&self, inputs: Vec<CubeTensor<R>>) -> Vec<CubeTensor<R>> {
        let [input, weight] = call::exactly(inputs);
        let layout = Layout::of(&input);
        let input = layout.arrange(input);
        let output = layout.empty(&input, self.0.output_shape(), input.dtype);
        let vector = lanes(&input, layout, self.0.channels);
        let items = output.meta.num_elements() / vector;
        let (count, dim) = call::units(&input.client, items);
        // SAFETY: units past the last item stop, and what lies in the padding is not read.
        unsafe {
            forward_kernel::launch_unchecked(
                &output.client,
                count,
                dim,
                call::address(&[&input, &output]),
                vector,
                input.clone().into_buffer_arg(),
                call::dense32(weight).into_buffer_arg(),
                output.clone().into_buffer_arg(),
                self.0.args(self.0.channels / vector, items),
                self.0.taps(),
                layout,
                call::element(&input),
            );
        }
        vec![output]
    }
}

/// Channels in one access.
fn lanes<R: CubeRuntime>(images: &CubeTensor<R>, layout: Layout, channels: usize) -> usize {
    match layout {
        Layout::Planes => 1,
        Layout::Pixels => call::vector(images, channels).min(4),
    }
}

/// Input, weight and the output's gradient to the weight's gradient and, if wanted, the input's.
#[derive(Clone, Debug)]
struct ConvolveBackward {
    geometry: Geometry,
    want_input: bool,
}

impl Call for ConvolveBackward {
    const NAME: &'static str = "convolve_depthwise_backward";

    fn outputs(&self, inputs: &[Meta]) -> Vec<Meta> {
        let mut outputs = vec![inputs[1].clone()];
        outputs.extend(self.want_input.then(|| inputs[0].clone()));
        outputs
    }

    fn run<R: CubeRuntime>(&self, inputs: Vec<CubeTensor<R>>) -> Vec<CubeTensor<R>> {
        let [input, weight, gradient] = call::exactly(inputs);
        let layout = Layout::of(&input);
        let [input, gradient] = [input, gradient].map(|images| layout.arrange(images));
        let d_weight = self.weight_gradient(&input, &gradient, layout);
        let mut outputs = vec![cast(d_weight, weight.dtype)];
        if self.want_input {
            outputs.push(self.input_gradient(&input, call::dense32(weight), gradient, layout));
        }
        outputs
    }
}

impl ConvolveBackward {
    fn weight_gradient<R: CubeRuntime>(
        &self,
        input: &CubeTensor<R>,
        gradient: &CubeTensor<R>,
        layout: Layout,
    ) -> CubeTensor<R> {
        let Geometry { batch, channels, kernel, output: [rows, columns], .. } = self.geometry;
        let vector = lanes(input, layout, channels).min(lanes(gradient, layout, channels));
        let wide = if layout == Layout::Planes { 1 } else { WIDE };
        let run = channels / vector;
        let cubes = run.div_ceil(wide as usize);
        // A unit takes a few pixels at least, or adding up the splits would cost more than they do.
        let most = (batch * rows * columns).div_ceil(4 * (UNITS / wide) as usize);
        let splits = ENOUGH.div_ceil(cubes).min(most).max(1);
        let shape = [channels, 1, kernel, kernel];
        let partial = [splits, channels, kernel * kernel];
        let partial = call::empty(input, Meta::new(partial, DType::F32));
        let sums = call::empty(input, Meta::new(shape, DType::F32));
        let items = channels * kernel * kernel;
        let (count, dim) = call::units(&input.client, items);
        // SAFETY: every loop ends at the sizes of the images, and what lies in the padding, or past
        // the last channel, is not read.
        unsafe {
            weight_gradient_kernel::launch_unchecked(
                &input.client,
                CubeCount::Static(cubes as u32, splits as u32, 1),
                CubeDim::new_2d(wide, UNITS / wide),
                call::address(&[input, gradient, &partial]),
                vector,
                input.clone().into_buffer_arg(),
                gradient.clone().into_buffer_arg(),
                partial.clone().into_buffer_arg(),
                self.geometry.args(run, 0),
                splits,
                wide as usize,
                self.geometry.taps(),
                layout,
                [call::element(input), call::element(gradient)],
            );
            add_splits_kernel::launch_unchecked(
                &input.client,
                count,
                dim,
                call::address(&[&partial]),
                partial.into_buffer_arg(),
                sums.clone().into_buffer_arg(),
                items,
                splits,
            );
        }
        sums
    }

    fn input_gradient<R: CubeRuntime>(
        &self,
        input: &CubeTensor<R>,
        weight: CubeTensor<R>,
        gradient: CubeTensor<R>,
        layout: Layout,
    ) -> CubeTensor<R> {
        let channels = self.geometry.channels;
        let d_input = layout.empty(input, input.shape().dims(), input.dtype);
        let vector = lanes(input, layout, channels).min(lanes(&gradient, layout, channels));
        let items = d_input.meta.num_elements() / vector;
        let (count, dim) = call::units(&input.client, items);
        let dtypes = [call::element(input), call::element(&gradient)];
        // SAFETY: units past the last item stop, and outputs that do not exist are not read.
        unsafe {
            input_gradient_kernel::launch_unchecked(
                &d_input.client,
                count,
                dim,
                call::address(&[input, &gradient]),
                vector,
                gradient.into_buffer_arg(),
                weight.into_buffer_arg(),
                d_input.clone().into_buffer_arg(),
                self.geometry.args(channels / vector, items),
                self.geometry.taps(),
                layout,
                dtypes,
            );
        }
        d_input
    }
}

pub(crate) fn convolve<B: Launch>(
    input: FloatTensor<B>,
    weight: FloatTensor<B>,
    stride: usize,
) -> FloatTensor<B> {
    let geometry = Geometry::new(&input.shape(), &weight.shape(), stride);
    let [output] = call::exactly(B::launch(Convolve(geometry), vec![input, weight]));
    output
}

#[derive(Debug)]
struct DepthwiseBackward;

impl<B: Launch> Backward<B, 2> for DepthwiseBackward {
    type State = (FloatTensor<B>, FloatTensor<B>, Geometry);

    fn backward(self, ops: Ops<Self::State, 2>, grads: &mut Gradients, _: &mut Checkpointer) {
        let (input, weight, geometry) = ops.state;
        let gradient = grads.consume::<B>(&ops.node);
        let [input_node, weight_node] = ops.parents;
        let call = ConvolveBackward { geometry, want_input: input_node.is_some() };
        let mut outputs = B::launch(call, vec![input, weight, gradient]).into_iter();
        for node in [weight_node, input_node] {
            let gradient = outputs.next();
            if let (Some(node), Some(gradient)) = (node, gradient) {
                grads.register::<B>(node.id, gradient);
            }
        }
    }
}

pub(crate) fn tracked<B: Launch, C: CheckpointStrategy>(
    input: FloatTensor<Autodiff<B, C>>,
    weight: FloatTensor<Autodiff<B, C>>,
    stride: usize,
) -> FloatTensor<Autodiff<B, C>> {
    let nodes = [input.node.clone(), weight.node.clone()];
    let (input, weight) = (input.primitive, weight.primitive);
    let geometry = Geometry::new(&input.shape(), &weight.shape(), stride);
    let output = convolve::<B>(input.clone(), weight.clone(), stride);
    match DepthwiseBackward.prepare::<C>(nodes).compute_bound().stateful() {
        OpsKind::Tracked(prep) => prep.finish((input, weight, geometry), output),
        OpsKind::UnTracked(prep) => prep.finish(output),
    }
}
