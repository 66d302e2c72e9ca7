//! The decoders: tokens of the image become queries, and every layer refines their boxes.
//!
//! RT-DETRv2 (deim-facts 3.13) moves a box, D-FINE (deim-facts 3.12) the distributions of its edges.
//! Both choose their queries alike and share all modules but a few.
//!
//! Tokens and queries may be in 16 bits. Boxes and all heads never are: they refine what 16 bits would
//! round away (docs/precision.md).

mod dfine;
pub mod distribution;
mod layer;
pub mod quality;
mod rtdetrv2;
pub mod selection;

use burn::module::{Module, Param};
use burn::tensor::activation::sigmoid;
use burn::tensor::{Device, Tensor};
use deim_ops::like;
use deim_spec::config::{Decoder as Config, DecoderKind, Model, QueryPos};

use crate::layers::{Activation, ConvNorm, LayerNorm, Linear, Mlp};
use crate::outputs::{DecoderOutputs, DenoisingQueries, Outputs, Prediction};
use crate::trace;
use layer::{DecoderLayer, Scene};
use quality::LocationQuality;
use selection::Selection;

#[derive(Module, Debug)]
struct Layers {
    layers: Vec<DecoderLayer>,
    /// D-FINE only.
    lqe_layers: Vec<LocationQuality>,
}

/// The projection of tokens before they are scored.
#[derive(Module, Debug)]
struct EncoderOutput {
    proj: Linear,
    norm: LayerNorm,
}

/// A table of vectors by class; the last row is padding.
#[derive(Module, Debug)]
struct ClassEmbedding {
    weight: Param<Tensor<2>>,
}

/// The decoder with its query selection.
#[derive(Module, Debug)]
pub struct Decoder {
    /// Empty where D-FINE takes the encoder's channels as they are.
    input_proj: Vec<ConvNorm>,
    decoder: Layers,
    denoising_class_embed: Option<ClassEmbedding>,
    query_pos_head: Mlp,
    enc_output: EncoderOutput,
    enc_score_head: Linear,
    enc_bbox_head: Mlp,
    dec_score_head: Vec<Linear>,
    /// D-FINE's head for the reference boxes of the edges.
    pre_bbox_head: Option<Mlp>,
    dec_bbox_head: Vec<Mlp>,
    /// Matching queries, where the image has that many tokens.
    pub queries: usize,
    #[module(skip)]
    config: Config,
}

impl Decoder {
    pub fn new(model: &Model, classes: usize, denoising: bool, device: &Device) -> Self {
        let config = &model.decoder;
        let Config { hidden, layers, .. } = *config;
        let dfine = config.kind == DecoderKind::Dfine;
        let from = model.encoder.hidden;
        let projections = if dfine && from == hidden { 0 } else { model.strides.len() };
        let activation = match config.activation {
            deim_spec::config::Activation::Relu => Activation::Relu,
            deim_spec::config::Activation::Silu => Activation::Silu,
        };
        let head = |width| Mlp::new(&[hidden, hidden, hidden, width], activation, device);
        let refinement = if dfine { 4 * (config.reg_max + 1) } else { 4 };
        let quality = if dfine { layers } else { 0 };
        let position_widths: &[usize] = match config.query_pos {
            QueryPos::AsReg => &[4, hidden, hidden, hidden],
            QueryPos::Default => &[4, 2 * hidden, hidden],
        };
        let embedding = Tensor::zeros([classes + 1, hidden], device);
        Self {
            input_proj: (0..projections)
                .map(|_| ConvNorm::new([from, hidden], 1, 1, Activation::Identity, device))
                .collect(),
            decoder: Layers {
                layers: (0..layers)
                    .map(|_| DecoderLayer::new(config, activation, device))
                    .collect(),
                lqe_layers: (0..quality)
                    .map(|_| LocationQuality::new(activation, device))
                    .collect(),
            },
            denoising_class_embed: denoising
                .then(|| ClassEmbedding { weight: Param::from_tensor(embedding) }),
            query_pos_head: Mlp::new(position_widths, activation, device),
            enc_output: EncoderOutput {
                proj: Linear::new(hidden, hidden, device),
                norm: LayerNorm::new(hidden, device),
            },
            enc_score_head: Linear::new(hidden, classes, device),
            enc_bbox_head: head(4),
            dec_score_head: (0..layers).map(|_| Linear::new(hidden, classes, device)).collect(),
            pre_bbox_head: dfine.then(|| head(4)),
            dec_bbox_head: (0..layers).map(|_| head(refinement)).collect(),
            queries: model.queries,
            config: config.clone(),
        }
    }

    /// Training: the predictions of every head.
    pub fn forward(&self, levels: Vec<Tensor<4>>, denoising: Option<&DenoisingQueries>) -> Outputs {
        let mut scene = self.scene(levels);
        let Selection { mut content, mut boxes, prediction, tokens } = self.select(&scene);
        let mut noised = 0;
        if let (Some(extra), Some(table)) = (denoising, &self.denoising_class_embed) {
            noised = extra.labels.dims()[1];
            let embedded =
                burn::tensor::module::embedding(table.weight.val(), extra.labels.clone());
            content = Tensor::cat(vec![embedded, content], 1);
            boxes = Tensor::cat(vec![extra.boxes_unactivated.clone(), boxes], 1);
            scene.blocked = Some(extra.blocked.clone());
        }
        let all = content.dims()[1];
        let outputs = self.decode(content, sigmoid(boxes), &scene, Mode::Train);
        Outputs {
            matching: narrow(&outputs, noised, all - noised),
            encoder: prediction,
            tokens: Some(tokens),
            denoising: (noised > 0).then(|| narrow(&outputs, 0, noised)),
        }
    }

    /// Inference: logits and boxes of the layer that predicts.
    pub fn infer(&self, levels: Vec<Tensor<4>>) -> Prediction {
        let scene = self.scene(levels);
        let Selection { content, boxes, .. } = self.select(&scene);
        let mut outputs = self.decode(content, sigmoid(boxes), &scene, Mode::Infer);
        let prediction = outputs.layers.pop().expect("a decoder has at least one layer");
        Prediction { corners: None, ..prediction }
    }

    /// The tokens of all levels, finest first, row by row.
    fn scene(&self, levels: Vec<Tensor<4>>) -> Scene {
        let mut sizes = Vec::with_capacity(levels.len());
        let tokens = levels.into_iter().enumerate().map(|(index, level)| {
            let level = match self.input_proj.get(index) {
                Some(projection) => projection.forward(level),
                None => level,
            };
            trace::record(format_args!("input_proj.{index}"), &level);
            let [_, _, height, width] = level.dims();
            sizes.push([height, width]);
            level.flatten::<3>(2, 3).swap_dims(1, 2)
        });
        let memory = Tensor::cat(tokens.collect(), 1);
        Scene { memory, levels: sizes, blocked: None }
    }

    /// The predictions of all queries by every layer (training) or by one (inference).
    fn decode(
        &self,
        content: Tensor<3>,
        first_boxes: Tensor<3>,
        scene: &Scene,
        mode: Mode,
    ) -> DecoderOutputs {
        let content = like(content, &scene.memory);
        match self.config.kind {
            DecoderKind::Rtdetrv2 => self.refine_boxes(content, first_boxes, scene, mode),
            DecoderKind::Dfine => self.refine_edges(content, first_boxes, scene, mode),
        }
    }

    /// Class logits of a layer's queries.
    fn scores(&self, layer: usize, queries: Tensor<3>) -> Tensor<3> {
        let logits = self.dec_score_head[layer].forward(queries);
        trace::record(format_args!("dec_score_head.{layer}"), &logits);
        logits
    }

    /// How many layers run. Layers after the one that predicts only train.
    fn depth(&self, mode: Mode) -> usize {
        let all = self.decoder.layers.len();
        match (mode, self.config.eval_layer) {
            (Mode::Infer, Some(layer)) => all.min(layer + 1),
            _ => all,
        }
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Mode {
    Train,
    Infer,
}

/// The outputs of some of the queries.
fn narrow(outputs: &DecoderOutputs, first: usize, count: usize) -> DecoderOutputs {
    let part = |tensor: &Tensor<3>| tensor.clone().narrow(1, first, count);
    let prediction = |all: &Prediction| Prediction {
        logits: part(&all.logits),
        boxes: part(&all.boxes),
        corners: all.corners.as_ref().map(part),
    };
    DecoderOutputs {
        layers: outputs.layers.iter().map(prediction).collect(),
        pre: outputs.pre.as_ref().map(prediction),
        reference: outputs.reference.as_ref().map(part),
    }
}

/// `ln(x / (1 - x))`, with both sides kept away from zero (official eps 1e-5).
pub fn inverse_sigmoid<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    let x = x.clamp(0.0, 1.0);
    let odds = x.clone().clamp_min(1e-5) / x.neg().add_scalar(1.0).clamp_min(1e-5);
    odds.log()
}

#[cfg(test)]
mod tests;
