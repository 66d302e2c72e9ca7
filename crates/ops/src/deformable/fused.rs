//! Deformable attention on the CPU, forward and backward by hand.

use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::flex::FlexTensor;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Flex};
use rayon::prelude::*;

use crate::flex;
use crate::simd::vectorised;

/// The sizes that every kernel needs.
#[derive(Clone, Debug)]
struct Geometry {
    tokens: usize,
    heads: usize,
    channels: usize,
    queries: usize,
    /// For each point: first token, height and width of its level.
    points: Vec<(usize, usize, usize)>,
}

impl Geometry {
    fn new(
        value: &FlexTensor,
        locations: &FlexTensor,
        levels: &[[usize; 2]],
        points: &[usize],
    ) -> Self {
        let [_, tokens, heads, channels] = value.layout().shape().dims();
        let [_, queries, _, total, _]: [usize; 5] = locations.layout().shape().dims();
        let mut per_point = Vec::with_capacity(total);
        let mut first = 0;
        for (&[height, width], &count) in levels.iter().zip(points) {
            per_point.extend(std::iter::repeat_n((first, height, width), count));
            first += height * width;
        }
        assert_eq!(first, tokens, "the levels' sizes must add up to the tokens");
        assert_eq!(per_point.len(), total, "the points of the levels must add up to the locations");
        Self { tokens, heads, channels, queries, points: per_point }
    }

    /// Elements of the value of one image.
    fn value_len(&self) -> usize {
        self.tokens * self.heads * self.channels
    }

    /// Elements of the output of one image.
    fn output_len(&self) -> usize {
        self.queries * self.heads * self.channels
    }

    /// Weights of one image.
    fn weights_len(&self) -> usize {
        self.queries * self.heads * self.points.len()
    }

    /// The up to four cells around a location, each with its bilinear share and the signs of the
    /// share's slope: `(offset of the cell in the image's value, share, d share / d x, d share / d y)`.
    #[inline(always)]
    fn corners(&self, point: usize, head: usize, x: f32, y: f32) -> [Option<Corner>; 4] {
        let (first, height, width) = self.points[point];
        let (x, y) = (x * width as f32 - 0.5, y * height as f32 - 0.5);
        let (left, top) = (x.floor(), y.floor());
        let (right_share, bottom_share) = (x - left, y - top);
        let cell = |column: f32, row: f32, share_x: f32, share_y: f32, sign_x: f32, sign_y: f32| {
            // Written so that a NaN location is outside.
            let inside =
                column >= 0.0 && column < width as f32 && row >= 0.0 && row < height as f32;
            inside.then(|| Corner {
                offset: ((first + row as usize * width + column as usize) * self.heads + head)
                    * self.channels,
                share: share_x * share_y,
                slope_x: sign_x * share_y * width as f32,
                slope_y: sign_y * share_x * height as f32,
            })
        };
        let (left_share, top_share) = (1.0 - right_share, 1.0 - bottom_share);
        [
            cell(left, top, left_share, top_share, -1.0, -1.0),
            cell(left + 1.0, top, right_share, top_share, 1.0, -1.0),
            cell(left, top + 1.0, left_share, bottom_share, -1.0, 1.0),
            cell(left + 1.0, top + 1.0, right_share, bottom_share, 1.0, 1.0),
        ]
    }
}

/// One cell of the bilinear neighbourhood.
struct Corner {
    offset: usize,
    share: f32,
    slope_x: f32,
    slope_y: f32,
}

/// `sum += scale * values`, the inner loop of both directions.
#[inline(always)]
fn add_scaled(sum: &mut [f32], scale: f32, values: &[f32]) {
    for (sum, value) in sum.iter_mut().zip(values) {
        *sum += scale * value;
    }
}

/// Inner product in eight lanes, so that it is vectorised and its order of addition fixed.
#[inline(always)]
fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut lanes = [0.0_f32; 8];
    let (a_chunks, b_chunks) = (a.chunks_exact(8), b.chunks_exact(8));
    let rest: f32 = a_chunks.remainder().iter().zip(b_chunks.remainder()).map(|(a, b)| a * b).sum();
    for (a, b) in a_chunks.zip(b_chunks) {
        for lane in 0..8 {
            lanes[lane] += a[lane] * b[lane];
        }
    }
    lanes.iter().sum::<f32>() + rest
}

vectorised! {
    /// One query: all heads and points.
    fn attend_query(
        geometry: &Geometry,
        value: &[f32],
        locations: &[f32],
        weights: &[f32],
        output: &mut [f32],
    ) {
        let (channels, total) = (geometry.channels, geometry.points.len());
        for head in 0..geometry.heads {
            let sum = &mut output[head * channels..][..channels];
            for point in 0..total {
                let at = head * total + point;
                let (x, y) = (locations[2 * at], locations[2 * at + 1]);
                for corner in geometry.corners(point, head, x, y).into_iter().flatten() {
                    let cell = &value[corner.offset..][..channels];
                    add_scaled(sum, weights[at] * corner.share, cell);
                }
            }
        }
    }
}

fn forward(
    geometry: &Geometry,
    value: &[f32],
    locations: &[f32],
    weights: &[f32],
    batch: usize,
) -> Vec<f32> {
    let channels = geometry.channels;
    let total = geometry.points.len();
    let mut output = vec![0.0; batch * geometry.output_len()];
    let elements = output.len() * total;
    // One item is one query of one image.
    let items = output.par_chunks_mut(geometry.heads * channels).enumerate();
    flex::for_each(elements, items, |(item, output)| {
        let value =
            &value[item / geometry.queries * geometry.value_len()..][..geometry.value_len()];
        let count = geometry.heads * total;
        let locations = &locations[2 * item * count..][..2 * count];
        attend_query(geometry, value, locations, &weights[item * count..][..count], output);
    });
    output
}

vectorised! {
    /// Gradients of one image.
    fn image_gradients(
        geometry: &Geometry,
        value: &[f32],
        locations: &[f32],
        weights: &[f32],
        gradient: &[f32],
        d_value: &mut [f32],
        d_locations: &mut [f32],
        d_weights: &mut [f32],
    ) {
        let (channels, total) = (geometry.channels, geometry.points.len());
        for row in 0..geometry.queries * geometry.heads {
            let gradient = &gradient[row * channels..][..channels];
            for point in 0..total {
                let at = row * total + point;
                let (x, y) = (locations[2 * at], locations[2 * at + 1]);
                for corner in
                    geometry.corners(point, row % geometry.heads, x, y).into_iter().flatten()
                {
                    let product = dot(gradient, &value[corner.offset..][..channels]);
                    d_weights[at] += corner.share * product;
                    d_locations[2 * at] += weights[at] * corner.slope_x * product;
                    d_locations[2 * at + 1] += weights[at] * corner.slope_y * product;
                    let d_cell = &mut d_value[corner.offset..][..channels];
                    add_scaled(d_cell, weights[at] * corner.share, gradient);
                }
            }
        }
    }
}

/// Gradients of value, locations and weights.
fn backward(
    geometry: &Geometry,
    value: &[f32],
    locations: &[f32],
    weights: &[f32],
    gradient: &[f32],
    batch: usize,
) -> [Vec<f32>; 3] {
    let total = geometry.points.len();
    let mut d_value = vec![0.0; batch * geometry.value_len()];
    let mut d_locations = vec![0.0; locations.len()];
    let mut d_weights = vec![0.0; weights.len()];
    let elements = gradient.len() * total;
    // One item is one image: its queries share cells of the value, so one thread adds them in order.
    let items = d_value
        .par_chunks_mut(geometry.value_len())
        .zip(d_locations.par_chunks_mut(2 * geometry.weights_len()))
        .zip(d_weights.par_chunks_mut(geometry.weights_len()))
        .enumerate();
    flex::for_each(elements, items, |(image, ((d_value, d_locations), d_weights))| {
        let value = &value[image * geometry.value_len()..][..geometry.value_len()];
        let gradient = &gradient[image * geometry.output_len()..][..geometry.output_len()];
        let locations = &locations[2 * image * geometry.weights_len()..];
        let weights = &weights[image * geometry.weights_len()..];
        image_gradients(
            geometry,
            value,
            locations,
            weights,
            gradient,
            d_value,
            d_locations,
            d_weights,
        );
    });
    [d_value, d_locations, d_weights]
}

pub(crate) fn attend(
    value: FlexTensor,
    locations: FlexTensor,
    weights: FlexTensor,
    levels: &[[usize; 2]],
    points: &[usize],
) -> FlexTensor {
    let geometry = Geometry::new(&value, &locations, levels, points);
    let [value, locations, weights] = [value, locations, weights].map(flex::dense);
    let batch = value.layout().shape()[0];
    let output = forward(
        &geometry,
        flex::values(&value),
        flex::values(&locations),
        flex::values(&weights),
        batch,
    );
    flex::tensor(output, [batch, geometry.queries, geometry.heads * geometry.channels])
}

/// What the gradient needs of the forward pass.
#[derive(Clone, Debug)]
struct Saved {
    value: FlexTensor,
    locations: FlexTensor,
    weights: FlexTensor,
    geometry: Geometry,
}

#[derive(Debug)]
struct DeformableBackward;

impl Backward<Flex, 3> for DeformableBackward {
    type State = Saved;

    fn backward(self, ops: Ops<Saved, 3>, grads: &mut Gradients, _: &mut Checkpointer) {
        let Saved { value, locations, weights, geometry } = ops.state;
        let gradient = flex::dense(grads.consume::<Flex>(&ops.node));
        let batch = value.layout().shape()[0];
        let gradients = backward(
            &geometry,
            flex::values(&value),
            flex::values(&locations),
            flex::values(&weights),
            flex::values(&gradient),
            batch,
        );
        let [d_value, d_locations, d_weights] = gradients;
        let Geometry { tokens, heads, channels, queries, ref points } = geometry;
        let total = points.len();
        let [value_node, locations_node, weights_node] = ops.parents;
        if let Some(node) = value_node {
            let shape = [batch, tokens, heads, channels];
            grads.register::<Flex>(node.id, flex::tensor(d_value, shape));
        }
        if let Some(node) = locations_node {
            let shape = [batch, queries, heads, total, 2];
            grads.register::<Flex>(node.id, flex::tensor(d_locations, shape));
        }
        if let Some(node) = weights_node {
            let shape = [batch, queries, heads, total];
            grads.register::<Flex>(node.id, flex::tensor(d_weights, shape));
        }
    }
}

pub(crate) fn tracked<C: CheckpointStrategy>(
    value: FloatTensor<Autodiff<Flex, C>>,
    locations: FloatTensor<Autodiff<Flex, C>>,
    weights: FloatTensor<Autodiff<Flex, C>>,
    levels: &[[usize; 2]],
    points: &[usize],
) -> FloatTensor<Autodiff<Flex, C>> {
    let geometry = Geometry::new(&value.primitive, &locations.primitive, levels, points);
    let nodes = [value.node.clone(), locations.node.clone(), weights.node.clone()];
    let [value, locations, weights] =
        [value.primitive, locations.primitive, weights.primitive].map(flex::dense);
    let output = attend(value.clone(), locations.clone(), weights.clone(), levels, points);
    match DeformableBackward.prepare::<C>(nodes).compute_bound().stateful() {
        OpsKind::Tracked(prep) => {
            prep.finish(Saved { value, locations, weights, geometry }, output)
        }
        OpsKind::UnTracked(prep) => prep.finish(output),
    }
}
