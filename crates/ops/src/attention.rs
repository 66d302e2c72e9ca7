//! Softmax attention with its gradient, one image and head at a time, so that the scores stay in cache.

use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::flex::FlexTensor;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Dispatch, Flex};
use burn::tensor::activation::softmax;
use burn::tensor::{Bool, Tensor};
use rayon::prelude::*;

use crate::activation::exp;
use crate::flex::{self, Fused};
use crate::matrix::{Matrix, multiply};
use crate::precision::{goes_through_32_bits, through_32_bits, widened};
use crate::simd::vectorised;
use crate::tf32;

/// `softmax(queries * keys^T / sqrt(channels)) * values`.
///
/// All three are `[batch, heads, tokens, channels]`, so is the result. `blocked`: `[tokens, tokens]`,
/// true where a row may not look at a column; every row must be free to look at something.
pub fn attention(
    queries: Tensor<4>,
    keys: Tensor<4>,
    values: Tensor<4>,
    blocked: Option<&Tensor<2, Bool>>,
) -> Tensor<4> {
    if goes_through_32_bits(&queries) {
        let (keys, values) = (widened(keys), widened(values));
        return through_32_bits(queries, |queries| attention(queries, keys, values, blocked));
    }
    // What is done to factors is done between the two products, too, as a GPU's path computes them.
    if tf32::is_on(&queries) || !flex::serves(&queries) {
        return composed(queries, keys, values, blocked);
    }
    let blocked: Vec<bool> =
        blocked.map(|blocked| blocked.clone().into_data().iter().collect()).unwrap_or_default();
    Tensor::from_dispatch(<Dispatch as Fused>::attention(
        queries.into_dispatch(),
        keys.into_dispatch(),
        values.into_dispatch(),
        blocked,
    ))
}

/// The same from Burn's own operations: the path of devices without a kernel, and the tests' oracle.
pub(crate) fn composed(
    queries: Tensor<4>,
    keys: Tensor<4>,
    values: Tensor<4>,
    blocked: Option<&Tensor<2, Bool>>,
) -> Tensor<4> {
    let channels = queries.dims()[3];
    let queries = queries.mul_scalar((channels as f64).sqrt().recip());
    let scores = tf32::matmul(queries, keys.swap_dims(2, 3));
    let shares = through_32_bits(scores, |mut scores| {
        if let Some(blocked) = blocked {
            let shape = scores.shape();
            let blocked = blocked.clone().unsqueeze::<4>().expand(shape);
            scores = scores.mask_fill(blocked, f32::NEG_INFINITY);
        }
        softmax(scores, 3)
    });
    tf32::matmul(shares, values)
}

/// The sizes of one call.
#[derive(Clone, Copy, Debug)]
struct Geometry {
    batch: usize,
    heads: usize,
    tokens: usize,
    channels: usize,
}

impl Geometry {
    /// Elements of one head of one image.
    fn head(&self) -> usize {
        self.tokens * self.channels
    }

    fn scale(&self) -> f32 {
        (self.channels as f32).sqrt().recip()
    }

    fn matrix<'a>(&self, values: &'a [f32]) -> Matrix<'a> {
        Matrix::new(values, self.tokens, self.channels)
    }

    /// The softmax of one head's scores, `[tokens, tokens]`.
    fn shares(&self, queries: &[f32], keys: &[f32], blocked: &[bool], shares: &mut [f32]) {
        multiply(self.matrix(queries), self.matrix(keys).transposed(), shares, false);
        softmax_rows(self.tokens, self.scale(), blocked, shares);
    }
}

vectorised! {
    /// The softmax of every row of `scale` times the scores, in their place.
    fn softmax_rows(tokens: usize, scale: f32, blocked: &[bool], scores: &mut [f32]) {
        for (row, scores) in scores.chunks_exact_mut(tokens).enumerate() {
            if !blocked.is_empty() {
                let blocked = &blocked[row * tokens..][..tokens];
                for (score, &blocked) in scores.iter_mut().zip(blocked) {
                    if blocked {
                        *score = f32::NEG_INFINITY;
                    }
                }
            }
            let most = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            for score in &mut *scores {
                // A blocked score is at minus infinity, where `exp` would stop short of zero.
                let raised = exp((*score - most) * scale);
                *score = if *score == f32::NEG_INFINITY { 0.0 } else { raised };
            }
            let total = sum(scores);
            for score in &mut *scores {
                *score /= total;
            }
        }
    }
}

vectorised! {
    /// Through the softmax: share * (its gradient - the row's mean of them), and the scale.
    fn softmax_gradient(tokens: usize, scale: f32, shares: &[f32], d_scores: &mut [f32]) {
        for (shares, d_scores) in shares.chunks_exact(tokens).zip(d_scores.chunks_exact_mut(tokens)) {
            for (share, d_score) in shares.iter().zip(d_scores.iter_mut()) {
                *d_score *= share;
            }
            let mean = sum(d_scores);
            for (share, d_score) in shares.iter().zip(d_scores.iter_mut()) {
                *d_score = (*d_score - share * mean) * scale;
            }
        }
    }
}

/// Sum in sixteen lanes: vectorised, and of fixed order.
#[inline(always)]
fn sum(values: &[f32]) -> f32 {
    let mut lanes = [0.0_f32; 16];
    let chunks = values.chunks_exact(16);
    let rest: f32 = chunks.remainder().iter().sum();
    for chunk in chunks {
        for lane in 0..16 {
            lanes[lane] += chunk[lane];
        }
    }
    lanes.iter().sum::<f32>() + rest
}

/// What the gradient needs of the forward pass; the shares are computed again.
#[derive(Clone, Debug)]
struct Saved {
    queries: FlexTensor,
    keys: FlexTensor,
    values: FlexTensor,
    blocked: Vec<bool>,
    geometry: Geometry,
}

impl Saved {
    fn new(queries: FlexTensor, keys: FlexTensor, values: FlexTensor, blocked: Vec<bool>) -> Self {
        let [batch, heads, tokens, channels] = queries.layout().shape().dims();
        let [queries, keys, values] = [queries, keys, values].map(flex::dense);
        let geometry = Geometry { batch, heads, tokens, channels };
        Self { queries, keys, values, blocked, geometry }
    }

    fn shape(&self) -> [usize; 4] {
        let Geometry { batch, heads, tokens, channels } = self.geometry;
        [batch, heads, tokens, channels]
    }

    /// The inputs of head `index` of all heads of all images.
    fn head(&self, index: usize) -> [&[f32]; 3] {
        let length = self.geometry.head();
        [&self.queries, &self.keys, &self.values]
            .map(|tensor| &flex::values(tensor)[index * length..][..length])
    }

    fn forward(&self) -> FlexTensor {
        let g = self.geometry;
        let mut output = vec![0.0; g.batch * g.heads * g.head()];
        let elements = output.len() * g.tokens / 4;
        let items = output.par_chunks_mut(g.head()).enumerate();
        flex::for_each(elements, items, |(index, output)| {
            let [queries, keys, values] = self.head(index);
            let mut shares = vec![0.0; g.tokens * g.tokens];
            g.shares(queries, keys, &self.blocked, &mut shares);
            let shares = Matrix::new(&shares, g.tokens, g.tokens);
            multiply(shares, g.matrix(values), output, false);
        });
        flex::tensor(output, self.shape())
    }

    /// Gradients of queries, keys and values.
    fn backward(&self, gradient: &[f32]) -> [FlexTensor; 3] {
        let g = self.geometry;
        let total = g.batch * g.heads * g.head();
        let [mut d_queries, mut d_keys, mut d_values] = [0; 3].map(|_| vec![0.0; total]);
        let items = d_queries
            .par_chunks_mut(g.head())
            .zip(d_keys.par_chunks_mut(g.head()))
            .zip(d_values.par_chunks_mut(g.head()))
            .zip(gradient.par_chunks(g.head()))
            .enumerate();
        let elements = total * g.tokens / 2;
        flex::for_each(elements, items, |(index, (((d_queries, d_keys), d_values), gradient))| {
            let [queries, keys, values] = self.head(index);
            let mut shares = vec![0.0; g.tokens * g.tokens];
            g.shares(queries, keys, &self.blocked, &mut shares);
            let gradient = g.matrix(gradient);
            let by_shares = Matrix::new(&shares, g.tokens, g.tokens);
            multiply(by_shares.transposed(), gradient, d_values, false);
            let mut d_scores = vec![0.0; g.tokens * g.tokens];
            multiply(gradient, g.matrix(values).transposed(), &mut d_scores, false);
            softmax_gradient(g.tokens, g.scale(), &shares, &mut d_scores);
            let d_scores = Matrix::new(&d_scores, g.tokens, g.tokens);
            multiply(d_scores, g.matrix(keys), d_queries, false);
            multiply(d_scores.transposed(), g.matrix(queries), d_keys, false);
        });
        [d_queries, d_keys, d_values].map(|values| flex::tensor(values, self.shape()))
    }
}

#[derive(Debug)]
struct AttentionBackward;

impl Backward<Flex, 3> for AttentionBackward {
    type State = Saved;

    fn backward(self, ops: Ops<Saved, 3>, grads: &mut Gradients, _: &mut Checkpointer) {
        let gradient = flex::dense(grads.consume::<Flex>(&ops.node));
        let gradients = ops.state.backward(flex::values(&gradient));
        for (node, gradient) in ops.parents.into_iter().zip(gradients) {
            if let Some(node) = node {
                grads.register::<Flex>(node.id, gradient);
            }
        }
    }
}

pub(crate) fn attend(
    queries: FlexTensor,
    keys: FlexTensor,
    values: FlexTensor,
    blocked: Vec<bool>,
) -> FlexTensor {
    Saved::new(queries, keys, values, blocked).forward()
}

pub(crate) fn tracked<C: CheckpointStrategy>(
    queries: FloatTensor<Autodiff<Flex, C>>,
    keys: FloatTensor<Autodiff<Flex, C>>,
    values: FloatTensor<Autodiff<Flex, C>>,
    blocked: Vec<bool>,
) -> FloatTensor<Autodiff<Flex, C>> {
    let nodes = [queries.node.clone(), keys.node.clone(), values.node.clone()];
    let saved = Saved::new(queries.primitive, keys.primitive, values.primitive, blocked);
    let output = saved.forward();
    match AttentionBackward.prepare::<C>(nodes).compute_bound().stateful() {
        OpsKind::Tracked(prep) => prep.finish(saved, output),
        OpsKind::UnTracked(prep) => prep.finish(output),
    }
}
