//! What a detector returns in training: every head that a loss looks at.

use burn::tensor::{Bool, Int, Tensor};

/// The predictions of one head.
#[derive(Clone, Debug)]
pub struct Prediction {
    /// Class logits `[batch, queries, classes]`.
    pub logits: Tensor<3>,
    /// Boxes `[batch, queries, 4]`, `cx, cy, w, h` in `[0, 1]`.
    pub boxes: Tensor<3>,
    /// Edge distributions of D-FINE `[batch, queries, 4 * (reg_max + 1)]`; none for RT-DETRv2.
    pub corners: Option<Tensor<3>>,
}

/// The predictions of the matching queries or of the denoising queries.
#[derive(Clone, Debug)]
pub struct DecoderOutputs {
    /// One prediction a decoder layer, the last layer last.
    pub layers: Vec<Prediction>,
    /// D-FINE's additional head on layer 0; none for RT-DETRv2.
    pub pre: Option<Prediction>,
    /// D-FINE's reference boxes of the edge distributions `[batch, queries, 4]`.
    pub reference: Option<Tensor<3>>,
}

/// Everything a training step's criterion needs.
#[derive(Clone, Debug)]
pub struct Outputs {
    pub matching: DecoderOutputs,
    /// The selected encoder tokens.
    pub encoder: Prediction,
    /// Which tokens these are `[batch, queries]`, best first; none in outputs made by hand.
    pub tokens: Option<Tensor<2, Int>>,
    /// Present when the step had denoising queries.
    pub denoising: Option<DecoderOutputs>,
}

/// The denoising queries of a step, made by `train::denoising` from the targets (deim-facts 3.9).
#[derive(Clone, Debug)]
pub struct DenoisingQueries {
    /// Noised labels `[batch, denoising queries]`; the value `classes` is padding.
    pub labels: Tensor<2, Int>,
    /// Noised boxes before the sigmoid `[batch, denoising queries, 4]`.
    pub boxes_unactivated: Tensor<3>,
    /// `[all queries, all queries]`, true where a query may not look; denoising queries first.
    pub blocked: Tensor<2, Bool>,
}
