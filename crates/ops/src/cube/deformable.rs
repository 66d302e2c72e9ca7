//! Deformable attention on GPUs: see [`crate::deformable_attention`] for the formula and the layouts.
//!
//! Forward, one unit takes a few channels of one head of one query through all points. Backward is
//! two kernels. One has a unit for each location: it owns that location's and that weight's gradient
//! and needs no other unit. The gradient of the value has no owner, since queries share cells: see
//! [`Summation`].

use std::sync::atomic::{AtomicBool, Ordering};

use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, TensorMetadata};
use burn::tensor::{DType, Shape};
use burn_cubecl::CubeRuntime;
use burn_cubecl::kernel::cast;
use burn_cubecl::ops::numeric::zeros_client;
use burn_cubecl::tensor::CubeTensor;
use cubecl::features::AtomicUsage;
use cubecl::ir::{ElemType, FloatKind, Type};
use cubecl::prelude::*;

use super::call::{self, Call, Launch, Meta};

/// How the shares of a cell's gradient are added up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Summation {
    /// Every query adds its shares to the cells it looked at, atomically: in any order, so that the
    /// last bits differ from run to run.
    Atomic,
    /// Every cell collects its shares from all queries, in their order: the same bits in every run,
    /// at the price of looking at each location once for every cell of its level.
    Ordered,
}

static DETERMINISTIC: AtomicBool = AtomicBool::new(false);

/// Asks, for the whole process, for gradients of deformable attention on GPUs with the same bits in
/// every run. Slower; devices that cannot add floats atomically compute them so in any case.
pub fn deterministic_gradients(wanted: bool) {
    DETERMINISTIC.store(wanted, Ordering::Relaxed);
}

impl Summation {
    fn best<R: CubeRuntime>(client: &ComputeClient<R>) -> Self {
        let add = client
            .properties()
            .atomic_type_usage(Type::atomic(ElemType::Float(FloatKind::F32)))
            .contains(AtomicUsage::Add);
        if add && !DETERMINISTIC.load(Ordering::Relaxed) { Self::Atomic } else { Self::Ordered }
    }
}

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
    fn new(value: &Shape, locations: &Shape, levels: Vec<[usize; 2]>, points: Vec<usize>) -> Self {
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

#[derive(CubeLaunch, CubeType, Clone)]
struct Level {
    /// The first of its tokens.
    first: usize,
    height: usize,
    width: usize,
    points: usize,
}

#[derive(CubeLaunch, CubeType, Clone)]
struct Sizes {
    tokens: usize,
    heads: usize,
    /// Vectors of channels in a head.
    vectors: usize,
    queries: usize,
    /// Locations of one head of one query.
    total: usize,
}

/// Where a location lies in its level.
#[derive(CubeType, Clone)]
struct Place {
    /// False if no cell is near, and if the location is NaN.
    near: bool,
    left: f32,
    top: f32,
    right_share: f32,
    bottom_share: f32,
    first: usize,
    height: usize,
    width: usize,
}

#[cube]
fn place<L: Float>(locations: &[L], at: usize, first: usize, height: usize, width: usize) -> Place {
    let x = f32::cast_from(locations[2 * at]) * f32::cast_from(width) - 0.5f32;
    let y = f32::cast_from(locations[2 * at + 1]) * f32::cast_from(height) - 0.5f32;
    let near =
        x > -1.0f32 && x < f32::cast_from(width) && y > -1.0f32 && y < f32::cast_from(height);
    let left = f32::floor(x);
    let top = f32::floor(y);
    Place { near, left, top, right_share: x - left, bottom_share: y - top, first, height, width }
}

/// One of the four cells around a near location.
#[derive(CubeType, Clone)]
struct Corner {
    inside: bool,
    token: usize,
    share: f32,
    slope_x: f32,
    slope_y: f32,
}

#[cube]
fn corner(place: &Place, #[comptime] right: bool, #[comptime] bottom: bool) -> Corner {
    let column = if right { place.left + 1.0f32 } else { place.left };
    let row = if bottom { place.top + 1.0f32 } else { place.top };
    let share_x = if right { place.right_share } else { 1.0f32 - place.right_share };
    let share_y = if bottom { place.bottom_share } else { 1.0f32 - place.bottom_share };
    let sign_x = comptime!(if right { 1.0f32 } else { -1.0f32 });
    let sign_y = comptime!(if bottom { 1.0f32 } else { -1.0f32 });
    let width = f32::cast_from(place.width);
    let height = f32::cast_from(place.height);
    let inside = column >= 0.0f32 && column < width && row >= 0.0f32 && row < height;
    // Zero outside, for a column of -1 is no index.
    let column = usize::cast_from(select(inside, column, 0.0f32));
    let row = usize::cast_from(select(inside, row, 0.0f32));
    Corner {
        inside,
        token: place.first + row * place.width + column,
        share: share_x * share_y,
        slope_x: sign_x * share_y * width,
        slope_y: sign_y * share_x * height,
    }
}

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
fn attend_kernel<F: Float, L: Float, W: Float, N: Size>(
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
fn location_gradient_kernel<F: Float, L: Float, W: Float, N: Size>(
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

#[cube]
fn add(d_value: &[Atomic<f32>], corner: &Corner, base: usize, step: usize, scale: f32) {
    if corner.inside {
        d_value[base + corner.token * step].fetch_add(scale * corner.share);
    }
}

/// One unit for one channel of one head of one query: neighbouring units add to neighbouring
/// channels of the same cell.
#[cube(launch_unchecked, address_type = "dynamic")]
fn atomic_kernel<F: Float, L: Float, W: Float>(
    locations: &[L],
    weights: &[W],
    gradient: &[F],
    d_value: &[Atomic<f32>],
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
    let slope = f32::cast_from(gradient[item]);
    let mut at = row * sizes.total;
    let count = comptime![levels.len()];
    #[unroll]
    for index in 0..count {
        let level = levels.index(index);
        for _ in 0..level.points {
            let place = place::<L>(locations, at, level.first, level.height, level.width);
            if place.near {
                let scale = f32::cast_from(weights[at]) * slope;
                add(d_value, &corner(&place, false, false), base, step, scale);
                add(d_value, &corner(&place, true, false), base, step, scale);
                add(d_value, &corner(&place, false, true), base, step, scale);
                add(d_value, &corner(&place, true, true), base, step, scale);
            }
            at += 1;
        }
    }
}

/// One unit for one head of one cell, which nothing else writes.
#[cube(launch_unchecked, address_type = "dynamic")]
fn ordered_kernel<F: Float, L: Float, W: Float, N: Size>(
    locations: &[L],
    weights: &[W],
    gradient: &[Vector<F, N>],
    d_value: &mut [Vector<f32, N>],
    levels: Sequence<Level>,
    sizes: Sizes,
    items: usize,
    #[define(F, L, W)] _dtypes: [ElemType; 3],
) {
    let item = ABSOLUTE_POS;
    if item >= items {
        terminate!();
    }
    let head = item % sizes.heads;
    let token = item / sizes.heads % sizes.tokens;
    let image = item / (sizes.heads * sizes.tokens);
    // The level of the cell, its place there, and the level's first point.
    let mut start = 0usize.runtime();
    let mut point = 0usize.runtime();
    let mut points = 0usize.runtime();
    let mut first = 0usize.runtime();
    let mut height = 1usize.runtime();
    let mut width = 1usize.runtime();
    let count = comptime![levels.len()];
    #[unroll]
    for index in 0..count {
        let level = levels.index(index);
        if token >= level.first && token < level.first + level.height * level.width {
            point = start;
            points = level.points;
            first = level.first;
            height = level.height;
            width = level.width;
        }
        start += level.points;
    }
    let column = f32::cast_from((token - first) % width);
    let row = f32::cast_from((token - first) / width);
    for query in 0..sizes.queries {
        let of_query = (image * sizes.queries + query) * sizes.heads + head;
        for index in 0..points {
            let at = of_query * sizes.total + point + index;
            let x = f32::cast_from(locations[2 * at]) * f32::cast_from(width) - 0.5f32;
            let y = f32::cast_from(locations[2 * at + 1]) * f32::cast_from(height) - 0.5f32;
            let away_x = f32::abs(x - column);
            let away_y = f32::abs(y - row);
            // Written so that a NaN location is nowhere near.
            if away_x < 1.0f32 && away_y < 1.0f32 {
                let share = (1.0f32 - away_x) * (1.0f32 - away_y);
                let scale = Vector::<f32, N>::new(f32::cast_from(weights[at]) * share);
                for vector in 0..sizes.vectors {
                    let slope = gradient[of_query * sizes.vectors + vector];
                    d_value[item * sizes.vectors + vector] += scale * Vector::cast_from(slope);
                }
            }
        }
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
pub(crate) struct AttendBackward {
    geometry: Geometry,
    /// How to add; by default as the device can.
    summation: Option<Summation>,
}

impl Call for AttendBackward {
    const NAME: &'static str = "deformable_attention_backward";

    fn outputs(&self, inputs: &[Meta]) -> Vec<Meta> {
        inputs[..3].to_vec()
    }

    fn run<R: CubeRuntime>(&self, inputs: Vec<CubeTensor<R>>) -> Vec<CubeTensor<R>> {
        let [value, locations, weights, gradient] = call::exactly(inputs).map(call::dense);
        let gradient = cast(gradient, value.dtype);
        let summation = self.summation.unwrap_or_else(|| Summation::best(&value.client));
        let d_value = self.value_gradient(summation, &value, &locations, &weights, &gradient);
        let [d_locations, d_weights] = [&locations, &weights]
            .map(|tensor| call::empty(tensor, Meta::new(tensor.shape(), tensor.dtype)));
        let vector = call::vector(&value, self.geometry.channels);
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
                self.geometry.level_args(),
                self.geometry.size_args(vector),
                items,
                dtypes,
            );
        }
        vec![d_value, d_locations, d_weights]
    }
}

impl AttendBackward {
    #[cfg(all(test, feature = "vulkan"))]
    pub(crate) fn with(
        value: &Shape,
        locations: &Shape,
        levels: Vec<[usize; 2]>,
        points: Vec<usize>,
        summation: Option<Summation>,
    ) -> Self {
        let geometry = Geometry::new(value, locations, levels, points);
        Self { geometry, summation }
    }

    fn value_gradient<R: CubeRuntime>(
        &self,
        summation: Summation,
        value: &CubeTensor<R>,
        locations: &CubeTensor<R>,
        weights: &CubeTensor<R>,
        gradient: &CubeTensor<R>,
    ) -> CubeTensor<R> {
        let Geometry { batch, tokens, heads, channels, queries, .. } = self.geometry;
        let client = value.client.clone();
        let device = value.device.clone();
        let sum = zeros_client(client.clone(), device, value.shape(), DType::F32);
        let address = call::address(&[&sum, locations, weights, gradient]);
        let dtypes = [call::element(gradient), call::element(locations), call::element(weights)];
        let items = match summation {
            Summation::Atomic => batch * queries * heads * channels,
            Summation::Ordered => batch * tokens * heads,
        };
        let (count, dim) = call::units(&client, items);
        let [locations, weights, gradient, target] =
            [locations, weights, gradient, &sum].map(|tensor| tensor.clone().into_buffer_arg());
        let levels = self.geometry.level_args();
        // SAFETY: units past the last item stop, and all indices of others follow from the shapes.
        unsafe {
            match summation {
                Summation::Atomic => atomic_kernel::launch_unchecked(
                    &client,
                    count,
                    dim,
                    address,
                    locations,
                    weights,
                    gradient,
                    target,
                    levels,
                    self.geometry.size_args(1),
                    items,
                    dtypes,
                ),
                Summation::Ordered => {
                    // As wide as the wider of both, the sum in 32 bits.
                    let vector = call::vector(&sum, channels);
                    ordered_kernel::launch_unchecked(
                        &client,
                        count,
                        dim,
                        address,
                        vector,
                        locations,
                        weights,
                        gradient,
                        target,
                        levels,
                        self.geometry.size_args(vector),
                        items,
                        dtypes,
                    )
                }
            }
        }
        cast(sum, value.dtype)
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
        let backward = AttendBackward { geometry, summation: None };
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
