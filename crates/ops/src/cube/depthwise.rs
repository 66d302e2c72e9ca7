//! Depthwise convolution on GPUs: see [`crate::depthwise_conv2d`].
//!
//! Burn computes the weight's gradient with one kernel launch a channel, thousands in a step. Here it
//! is two in all, without atomics. Images keep their order in memory.

mod kernels;

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

use self::kernels::{
    SizesLaunch, Taps, add_splits_kernel, forward_kernel, input_gradient_kernel,
    weight_gradient_kernel,
};
use super::call::{self, Call, Launch, Meta, UNITS};
use super::layout::Layout;

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

/// Channels side by side that a cube takes when pixels lie one after another.
const WIDE: u32 = 32;
/// Cubes that keep the largest GPU busy.
const ENOUGH: usize = 1024;

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
