//! The two attentions of a detector: among tokens or queries, and from queries into the image.

use burn::module::{Module, Param};
use burn::tensor::activation::softmax;
use burn::tensor::{Bool, Device, Tensor};
use deim_ops::{Activation, attention, deformable_attention, linear};

use crate::layers::Linear;

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
        let output = attention(queries, keys, values, blocked);
        self.out_proj.forward(output.swap_dims(1, 2).reshape([batch, tokens, hidden]))
    }
}

/// Multi-scale deformable cross-attention of RT-DETRv2 (deim-facts 3.12, 3.13).
#[derive(Module, Debug)]
pub struct DeformableAttention {
    sampling_offsets: Linear,
    attention_weights: Linear,
    value_proj: Linear,
    output_proj: Linear,
    heads: usize,
    points: Vec<usize>,
}

impl DeformableAttention {
    pub fn new(hidden: usize, heads: usize, points: &[usize], device: &Device) -> Self {
        let total: usize = points.iter().sum();
        Self {
            sampling_offsets: Linear::new(hidden, heads * total * 2, device),
            attention_weights: Linear::new(hidden, heads * total, device),
            value_proj: Linear::new(hidden, hidden, device),
            output_proj: Linear::new(hidden, hidden, device),
            heads,
            points: points.to_vec(),
        }
    }

    /// - `queries`: `[batch, queries, hidden]`, position included;
    /// - `boxes`: `[batch, queries, 4]`, where each query looks;
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
        let value = self.value_proj.forward(memory);
        let value = value.reshape([batch, tokens, heads, hidden / heads]);
        let offsets = self.sampling_offsets.forward(queries.clone());
        let offsets = offsets.reshape([batch, count, heads, total, 2]);
        let weights = self.attention_weights.forward(queries);
        let weights = softmax(weights.reshape([batch, count, heads, total]), 3);
        // An offset of n points away is half the box: offset / points of the level * size * 0.5.
        let scale: Vec<f32> =
            self.points.iter().flat_map(|&n| std::iter::repeat_n(0.5 / n as f32, n)).collect();
        let scale = Tensor::<1>::from_floats(scale.as_slice(), &offsets.device());
        let scale = scale.reshape([1, 1, 1, total, 1]);
        let centre = boxes.clone().narrow(2, 0, 2).reshape([batch, count, 1, 1, 2]);
        let size = boxes.narrow(2, 2, 2).reshape([batch, count, 1, 1, 2]);
        let locations = centre + offsets * (size * scale);
        let output = deformable_attention(value, locations, weights, levels, &self.points);
        self.output_proj.forward(output)
    }
}
