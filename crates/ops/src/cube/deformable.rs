//! Deformable attention on GPUs: see [`crate::deformable_attention`] for the formula and the layouts.
//!
//! Forward, one unit takes a few channels of one head of one query through all points. Backward, a
//! unit for each location owns that location's and that weight's gradient and needs no other unit. The
//! gradient of the value has no owner, since queries share cells: see [`shares`].

mod kernels;
mod places;
mod shares;

use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, TensorMetadata};
use burn::tensor::Shape;
use burn_cubecl::CubeRuntime;
use burn_cubecl::kernel::cast;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use self::kernels::{attend_kernel, location_gradient_kernel};
use self::places::{Level, LevelLaunch, SizesLaunch};
use super::call::{self, Call, Launch, Meta};

/// The sizes that every kernel needs.
#[derive(Clone, Debug)]
pub(crate) struct Geometry {
    batch: usize,
    tokens: usize,
    heads: usize,
    channels: usize,
    queries: usize,
    levels: Vec<[usize; 2]>,
    points: Vec<usize>,
}

impl Geometry {
    pub(crate) fn new(
        value: &Shape,
        locations: &Shape,
        levels: Vec<[usize; 2]>,
        points: Vec<usize>,
    ) -> Self {
        let [batch, tokens, heads, channels] = value.dims();
        let [_, queries, _, total, _]: [usize; 5] = locations.dims();
        let cells: usize = levels.iter().map(|[height, width]| height * width).sum();
        assert_eq!(cells, tokens, "the levels' sizes must add up to the tokens");
        let count: usize = points.iter().sum();
        assert_eq!(count, total, "the points of the levels must add up to the locations");
        assert_eq!(levels.len(), points.len(), "every level has its number of points");
        Self { batch, tokens, heads, channels, queries, levels, points }
    }

    /// Locations of one head of one query.
    fn total(&self) -> usize {
        self.points.iter().sum()
    }

    fn level_args<R: CubeRuntime>(&self) -> SequenceArg<R, Level> {
        let mut first = 0;
        let mut levels = SequenceArg::new();
        for (&[height, width], &points) in self.levels.iter().zip(&self.points) {
            levels.push(LevelLaunch::new(first, height, width, points));
            first += height * width;
        }
        levels
    }

    fn size_args<R: CubeRuntime>(&self, vector: usize) -> SizesLaunch<R> {
        let vectors = self.channels / vector;
        SizesLaunch::new(self.tokens, self.heads, vectors, self.queries, self.total())
    }
}

/// Value, locations and weights to the output.
#[derive(Clone, Debug)]
struct Attend(Geometry);

impl Call for Attend {
    const NAME: &'static str = "deformable_attention";

    fn outputs(&self, inputs: &[Meta]) -> Vec<Meta> {
        let Geometry { batch, queries, heads, channels, .. } = self.0;
        vec![Meta::new([batch, queries, heads * channels], inputs[0].dtype)]
    }

    fn run<R: CubeRuntime>(&self, inputs: Vec<CubeTensor<R>>) -> Vec<CubeTensor<R>> {
        let [value, locations, weights] = call::exactly(inputs).map(call::dense);
        let Geometry { batch, queries, heads, channels, .. } = self.0;
        let meta = Meta::new([batch, queries, heads * channels], value.dtype);
        let output = call::empty(&value, meta);
        let vector = call::vector(&value, channels);
        let items = batch * queries * heads * channels / vector;
        let (count, dim) = call::units(&value.client, items);
        // SAFETY: units past the last item stop, and all indices of others follow from the shapes.
        unsafe {
            attend_kernel::launch_unchecked(
                &output.client,
                count,
                dim,
                call::address(&[&value, &locations, &weights, &output]),
                vector,
                value.clone().into_buffer_arg(),
                locations.clone().into_buffer_arg(),
                weights.clone().into_buffer_arg(),
                output.clone().into_buffer_arg(),
                self.0.level_args(),
                self.0.size_args(vector),
                items,
                [call::element(&value), call::element(&locations), call::element(&weights)],
            );
        }
        vec![output]
    }
}

/// Value, locations, weights and the output's gradient to the gradients of the first three.
#[derive(Clone, Debug)]
struct AttendBackward(Geometry);

impl Call for AttendBackward {
    const NAME: &'static str = "deformable_attention_backward";

    fn outputs(&self, inputs: &[Meta]) -> Vec<Meta> {
        inputs[..3].to_vec()
    }

    fn run<R: CubeRuntime>(&self, inputs: Vec<CubeTensor<R>>) -> Vec<CubeTensor<R>> {
        let [value, locations, weights, gradient] = call::exactly(inputs).map(call::dense);
        let gradient = cast(gradient, value.dtype);
        let d_value = shares::collect(&self.0, &value, &locations, &weights, &gradient);
        let [d_locations, d_weights] = [&locations, &weights]
            .map(|tensor| call::empty(tensor, Meta::new(tensor.shape(), tensor.dtype)));
        let vector = call::vector(&value, self.0.channels);
        let items = weights.meta.num_elements();
        let (count, dim) = call::units(&value.client, items);
        let dtypes = [call::element(&value), call::element(&locations), call::element(&weights)];
        // SAFETY: units past the last item stop, and all indices of others follow from the shapes.
        unsafe {
            location_gradient_kernel::launch_unchecked(
                &value.client,
                count,
                dim,
                call::address(&[&value, &locations, &gradient]),
                vector,
                value.clone().into_buffer_arg(),
                locations.into_buffer_arg(),
                weights.into_buffer_arg(),
                gradient.into_buffer_arg(),
                d_locations.clone().into_buffer_arg(),
                d_weights.clone().into_buffer_arg(),
                self.0.level_args(),
                self.0.size_args(vector),
                items,
                dtypes,
            );
        }
        vec![d_value, d_locations, d_weights]
    }
}

pub(crate) fn attend<B: Launch>(
    inputs: [FloatTensor<B>; 3],
    levels: Vec<[usize; 2]>,
    points: Vec<usize>,
) -> FloatTensor<B> {
    let geometry = Geometry::new(&inputs[0].shape(), &inputs[1].shape(), levels, points);
    let [output] = call::exactly(B::launch(Attend(geometry), inputs.into()));
    output
}

#[derive(Debug)]
struct DeformableBackward;

impl<B: Launch> Backward<B, 3> for DeformableBackward {
    type State = ([FloatTensor<B>; 3], Geometry);

    fn backward(self, ops: Ops<Self::State, 3>, grads: &mut Gradients, _: &mut Checkpointer) {
        let (inputs, geometry) = ops.state;
        let mut inputs = Vec::from(inputs);
        inputs.push(grads.consume::<B>(&ops.node));
        let backward = AttendBackward(geometry);
        for (node, gradient) in ops.parents.into_iter().zip(B::launch(backward, inputs)) {
            if let Some(node) = node {
                grads.register::<B>(node.id, gradient);
            }
        }
    }
}

pub(crate) fn tracked<B: Launch, C: CheckpointStrategy>(
    inputs: [FloatTensor<Autodiff<B, C>>; 3],
    levels: Vec<[usize; 2]>,
    points: Vec<usize>,
) -> FloatTensor<Autodiff<B, C>> {
    let nodes = [0, 1, 2].map(|index| inputs[index].node.clone());
    let inputs = inputs.map(|input| input.primitive);
    let geometry = Geometry::new(&inputs[0].shape(), &inputs[1].shape(), levels, points);
    let attend = Attend(geometry.clone());
    let [output] = call::exactly(B::launch(attend, inputs.to_vec()));
    match DeformableBackward.prepare::<C>(nodes).compute_bound().stateful() {
        OpsKind::Tracked(prep) => prep.finish((inputs, geometry), output),
        OpsKind::UnTracked(prep) => prep.finish(output),
    }
}
