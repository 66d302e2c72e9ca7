//! The two attentions of a detector: among tokens or queries, and from queries into the image.

use burn::module::{Module, Param};
use burn::tensor::activation::softmax;
use burn::tensor::{Bool, Device, Int, Tensor, TensorData};
use deim_ops::{
    Activation, attention, deformable_attention, like, linear, through_32_bits, widened,
};
use deim_spec::config::{Decoder as Config, DecoderKind, Sampling};

use crate::layers::Linear;
use crate::trace;

/// Multi-head self-attention, as PyTorch's `MultiheadAttention` with batches first.
#[derive(Module, Debug)]
pub struct SelfAttention {
    /// Query, key and value maps stacked: `[3 * hidden, hidden]`.
    in_proj_weight: Param<Tensor<2>>,
    in_proj_bias: Param<Tensor<1>>,
    out_proj: Linear,
    heads: usize,
}

impl SelfAttention {
    pub fn new(hidden: usize, heads: usize, device: &Device) -> Self {
        Self {
            in_proj_weight: Param::from_tensor(Tensor::zeros([3 * hidden, hidden], device)),
            in_proj_bias: Param::from_tensor(Tensor::zeros([3 * hidden], device)),
            out_proj: Linear::new(hidden, hidden, device),
            heads,
        }
    }

    /// Attention of `[batch, tokens, hidden]` on itself; the position embedding goes into queries and
    /// keys only. `blocked`: `[tokens, tokens]`, true where a row may not look at a column.
    pub fn forward(
        &self,
        input: Tensor<3>,
        position: Tensor<3>,
        blocked: Option<&Tensor<2, Bool>>,
    ) -> Tensor<3> {
        let [batch, tokens, hidden] = input.dims();
        let (heads, channels) = (self.heads, hidden / self.heads);
        let (weight, bias) = (self.in_proj_weight.val(), self.in_proj_bias.val());
        let project = |input: Tensor<3>, first: usize, count: usize| {
            let weight = weight.clone().narrow(0, first * hidden, count * hidden);
            let bias = bias.clone().narrow(0, first * hidden, count * hidden);
            linear(input, weight, bias, Activation::Identity)
        };
        let by_head =
            |tensor: Tensor<3>| tensor.reshape([batch, tokens, heads, channels]).swap_dims(1, 2);
        let both = project(input.clone() + position, 0, 2);
        let queries = by_head(both.clone().narrow(2, 0, hidden));
        let keys = by_head(both.narrow(2, hidden, hidden));
        let values = by_head(project(input, 2, 1));
        if trace::is_on() {
            let shares = shares(queries.clone(), keys.clone(), blocked);
            trace::record("self_attn.1", &shares);
        }
        let output = attention(queries, keys, values, blocked);
        let output = self.out_proj.forward(output.swap_dims(1, 2).reshape([batch, tokens, hidden]));
        trace::record("self_attn.0", &output);
        output
    }
}

/// How much each token looks at each other, `[batch, tokens, tokens]`, in the mean of all heads.
///
/// The operation never shows its weights, but it gives them as the output for values that are the rows
/// of the identity matrix, as many of its columns at a time as a head has channels.
fn shares(queries: Tensor<4>, keys: Tensor<4>, blocked: Option<&Tensor<2, Bool>>) -> Tensor<3> {
    let [batch, heads, tokens, channels] = queries.dims();
    let columns = tokens.next_multiple_of(channels);
    let identity = like(Tensor::<2>::eye(columns, &queries.device()), &queries);
    let parts = (0..columns).step_by(channels).map(|first| {
        let values = identity.clone().narrow(0, 0, tokens).narrow(1, first, channels);
        let values = values.unsqueeze::<4>().expand([batch, heads, tokens, channels]);
        attention(queries.clone(), keys.clone(), values, blocked)
    });
    let shares = Tensor::cat(parts.collect(), 3).narrow(3, 0, tokens);
    shares.mean_dim(1).squeeze_dim(1)
}

/// Multi-scale deformable cross-attention: RT-DETRv2's maps what it reads and what it returns, D-FINE's
/// does neither (deim-facts 3.12, 3.13).
#[derive(Module, Debug)]
pub struct DeformableAttention {
    sampling_offsets: Linear,
    attention_weights: Linear,
    value_proj: Option<Linear>,
    output_proj: Option<Linear>,
    heads: usize,
    points: Vec<usize>,
    #[module(skip)]
    sampling: Sampling,
}

impl DeformableAttention {
    pub fn new(config: &Config, device: &Device) -> Self {
        let Config { hidden, heads, .. } = *config;
        let total: usize = config.points.iter().sum();
        let maps = config.kind == DecoderKind::Rtdetrv2;
        let map = || maps.then(|| Linear::new(hidden, hidden, device));
        let offsets = Linear::new(hidden, heads * total * 2, device);
        Self {
            sampling_offsets: match config.sampling {
                Sampling::Bilinear => offsets,
                // A whole token has no slope: the official code freezes what cannot learn.
                Sampling::Discrete => offsets.no_grad(),
            },
            attention_weights: Linear::new(hidden, heads * total, device),
            value_proj: map(),
            output_proj: map(),
            heads,
            points: config.points.clone(),
            sampling: config.sampling,
        }
    }

    /// - `queries`: `[batch, queries, hidden]`, position included;
    /// - `boxes`: `[batch, queries, 4]`, where each query looks, in no fewer than 32 bits;
    /// - `memory`: `[batch, tokens, hidden]`; `levels`: `[height, width]` of its parts.
    pub fn forward(
        &self,
        queries: Tensor<3>,
        boxes: Tensor<3>,
        memory: Tensor<3>,
        levels: &[[usize; 2]],
    ) -> Tensor<3> {
        let [batch, count, hidden] = queries.dims();
        let tokens = memory.dims()[1];
        let heads = self.heads;
        let total: usize = self.points.iter().sum();
        let value = match &self.value_proj {
            Some(map) => map.forward(memory),
            None => memory,
        };
        let value = value.reshape([batch, tokens, heads, hidden / heads]);
        let offsets = widened(self.sampling_offsets.forward(queries.clone()));
        let offsets = offsets.reshape([batch, count, heads, total, 2]);
        let weights = widened(self.attention_weights.forward(queries));
        let weights = softmax(weights.reshape([batch, count, heads, total]), 3);
        // An offset of n points away is half the box: offset / points of the level * size * 0.5.
        let scale: Vec<f64> =
            self.points.iter().flat_map(|&n| std::iter::repeat_n(0.5 / n as f64, n)).collect();
        let scale = TensorData::new(scale, [1, 1, 1, total, 1]);
        let scale = Tensor::from_data(scale, (&offsets.device(), offsets.dtype()));
        let centre = boxes.clone().narrow(2, 0, 2).reshape([batch, count, 1, 1, 2]);
        let size = boxes.narrow(2, 2, 2).reshape([batch, count, 1, 1, 2]);
        let locations = centre + offsets * (size * scale);
        let output = match self.sampling {
            Sampling::Bilinear => {
                deformable_attention(value, locations, weights, levels, &self.points)
            }
            Sampling::Discrete => through_32_bits(value, |value| {
                discrete_attention(value, locations, weights, levels, &self.points)
            }),
        };
        match &self.output_proj {
            Some(map) => map.forward(output),
            None => output,
        }
    }
}

/// Deformable attention that reads the nearest token of each location in place of four neighbours
/// (`cross_attn_method: discrete`, deim-facts 3.13). Shapes as in [`deformable_attention`]; the
/// locations have no gradient.
///
/// As in the official code, both coordinates are clamped to the level's height. That is wrong on
/// rectangles: of a level that is wider than high, the right part is never read. (Where one is higher
/// than wide, the official code reads outside; here the last column is read.)
pub fn discrete_attention(
    value: Tensor<4>,
    locations: Tensor<5>,
    weights: Tensor<4>,
    levels: &[[usize; 2]],
    points: &[usize],
) -> Tensor<3> {
    let [batch, tokens, heads, channels] = value.dims();
    let [_, queries, _, total, _] = locations.dims();
    let locations = locations.detach();
    let (mut first_token, mut first_point) = (0, 0);
    let mut places = Vec::with_capacity(levels.len());
    for (&[height, width], &count) in levels.iter().zip(points) {
        let located = locations.clone().narrow(3, first_point, count);
        let cell = |axis: usize, side: usize| {
            let position = located.clone().narrow(4, axis, 1).mul_scalar(side as f64);
            // `int` cuts off the fraction.
            position.add_scalar(0.5).int().clamp(0, height as i64 - 1)
        };
        let (column, row) = (cell(0, width).clamp_max(width as i64 - 1), cell(1, height));
        places.push(row * width as i64 + column + first_token as i64);
        first_token += height * width;
        first_point += count;
    }
    // [batch, queries, heads, points] tokens, as rows of the value by image, token and head.
    let token = Tensor::cat(places, 3).reshape([batch, queries, heads, total]);
    let device = token.device();
    let image = Tensor::<1, Int>::arange(0..batch as i64, &device).reshape([batch, 1, 1, 1]);
    let head = Tensor::<1, Int>::arange(0..heads as i64, &device).reshape([1, 1, heads, 1]);
    let rows = (image * tokens as i64 + token) * heads as i64 + head;
    let read = value
        .reshape([batch * tokens * heads, channels])
        .select(0, rows.reshape([batch * queries * heads * total]))
        .reshape([batch, queries, heads, total, channels]);
    let weights = weights.reshape([batch, queries, heads, total, 1]);
    (read * weights).sum_dim(3).reshape([batch, queries, heads * channels])
}
