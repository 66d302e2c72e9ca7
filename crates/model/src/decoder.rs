//! The RT-DETRv2 decoder, DEIM flavour (deim-facts 3.13): tokens of the image become queries, and
//! every layer refines their boxes.

use burn::module::{Module, Param};
use burn::tensor::activation::sigmoid;
use burn::tensor::{Device, Int, Tensor, TensorData};
use deim_spec::config::{Decoder as Config, Model, QueryPos};

use crate::attention::{DeformableAttention, SelfAttention};
use crate::layers::{Activation, ConvNorm, LayerNorm, Linear, Mlp};
use crate::outputs::{DecoderOutputs, DenoisingQueries, Outputs, Prediction};

/// One decoder layer.
#[derive(Module, Debug)]
struct DecoderLayer {
    self_attn: SelfAttention,
    norm1: LayerNorm,
    cross_attn: DeformableAttention,
    norm2: LayerNorm,
    linear1: Linear,
    linear2: Linear,
    norm3: LayerNorm,
    #[module(skip)]
    activation: Activation,
}

impl DecoderLayer {
    fn new(config: &Config, activation: Activation, device: &Device) -> Self {
        let Config { hidden, heads, feedforward, .. } = *config;
        Self {
            self_attn: SelfAttention::new(hidden, heads, device),
            norm1: LayerNorm::new(hidden, device),
            cross_attn: DeformableAttention::new(hidden, heads, &config.points, device),
            norm2: LayerNorm::new(hidden, device),
            linear1: Linear::new(hidden, feedforward, device),
            linear2: Linear::new(feedforward, hidden, device),
            norm3: LayerNorm::new(hidden, device),
            activation,
        }
    }

    fn forward(
        &self,
        queries: Tensor<3>,
        boxes: Tensor<3>,
        position: Tensor<3>,
        scene: &Scene,
    ) -> Tensor<3> {
        let attended =
            self.self_attn.forward(queries.clone(), position.clone(), scene.blocked.as_ref());
        let queries = self.norm1.forward(queries + attended);
        let looked = queries.clone() + position;
        let seen = self.cross_attn.forward(looked, boxes, scene.memory.clone(), &scene.levels);
        let queries = self.norm2.forward(queries + seen);
        let inner = self.linear1.activated(queries.clone(), self.activation);
        self.norm3.forward(queries + self.linear2.forward(inner))
    }
}

/// What every layer looks at.
struct Scene {
    /// `[batch, tokens, hidden]`
    memory: Tensor<3>,
    levels: Vec<[usize; 2]>,
    blocked: Option<Tensor<2, burn::tensor::Bool>>,
}

#[derive(Module, Debug)]
struct Layers {
    layers: Vec<DecoderLayer>,
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
    input_proj: Vec<ConvNorm>,
    decoder: Layers,
    denoising_class_embed: Option<ClassEmbedding>,
    query_pos_head: Mlp,
    enc_output: EncoderOutput,
    enc_score_head: Linear,
    enc_bbox_head: Mlp,
    dec_score_head: Vec<Linear>,
    dec_bbox_head: Vec<Mlp>,
    /// Matching queries, where the image has that many tokens.
    pub queries: usize,
}

/// The queries that decoding starts from.
struct Selection {
    /// `[batch, queries, hidden]`, detached.
    content: Tensor<3>,
    /// Boxes before the sigmoid `[batch, queries, 4]`, detached.
    boxes: Tensor<3>,
    /// The same tokens' predictions, for the encoder's loss.
    prediction: Prediction,
    /// Which tokens these are `[batch, queries]`.
    tokens: Tensor<2, Int>,
}

impl Decoder {
    pub fn new(model: &Model, classes: usize, denoising: bool, device: &Device) -> Self {
        let config = &model.decoder;
        let Config { hidden, layers, .. } = *config;
        let from = model.encoder.hidden;
        let activation = match config.activation {
            deim_spec::config::Activation::Relu => Activation::Relu,
            deim_spec::config::Activation::Silu => Activation::Silu,
        };
        let box_head = || Mlp::new(&[hidden, hidden, hidden, 4], activation, device);
        let position_widths: &[usize] = match config.query_pos {
            QueryPos::AsReg => &[4, hidden, hidden, hidden],
            QueryPos::Default => &[4, 2 * hidden, hidden],
        };
        let embedding = Tensor::zeros([classes + 1, hidden], device);
        Self {
            input_proj: (0..3)
                .map(|_| ConvNorm::new([from, hidden], 1, 1, Activation::Identity, device))
                .collect(),
            decoder: Layers {
                layers: (0..layers)
                    .map(|_| DecoderLayer::new(config, activation, device))
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
            enc_bbox_head: box_head(),
            dec_score_head: (0..layers).map(|_| Linear::new(hidden, classes, device)).collect(),
            dec_bbox_head: (0..layers).map(|_| box_head()).collect(),
            queries: model.queries,
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
        let layers = self.decode(content, sigmoid(boxes), &scene, Mode::Train);
        let part = |first: usize, count: usize| {
            let narrow = |tensor: &Tensor<3>| tensor.clone().narrow(1, first, count);
            let layers = layers.iter().map(|(logits, boxes)| Prediction {
                logits: narrow(logits),
                boxes: narrow(boxes),
                corners: None,
            });
            DecoderOutputs { layers: layers.collect(), pre: None, reference: None }
        };
        let all = layers[0].0.dims()[1];
        Outputs {
            matching: part(noised, all - noised),
            encoder: prediction,
            tokens: Some(tokens),
            denoising: (noised > 0).then(|| part(0, noised)),
        }
    }

    /// Inference: logits and boxes of the last layer.
    pub fn infer(&self, levels: Vec<Tensor<4>>) -> Prediction {
        let scene = self.scene(levels);
        let Selection { content, boxes, .. } = self.select(&scene);
        let mut layers = self.decode(content, sigmoid(boxes), &scene, Mode::Infer);
        let (logits, boxes) = layers.pop().expect("a decoder has at least one layer");
        Prediction { logits, boxes, corners: None }
    }

    /// The tokens of all levels, finest first, row by row.
    fn scene(&self, levels: Vec<Tensor<4>>) -> Scene {
        let mut sizes = Vec::with_capacity(3);
        let tokens = levels.into_iter().zip(&self.input_proj).map(|(level, projection)| {
            let level = projection.forward(level);
            let [_, _, height, width] = level.dims();
            sizes.push([height, width]);
            level.flatten::<3>(2, 3).swap_dims(1, 2)
        });
        let memory = Tensor::cat(tokens.collect(), 1);
        Scene { memory, levels: sizes, blocked: None }
    }

    /// The tokens with the highest class scores become the queries.
    fn select(&self, scene: &Scene) -> Selection {
        let device = scene.memory.device();
        let [_, tokens, hidden] = scene.memory.dims();
        let (anchors, valid) = anchors(&scene.levels, &device);
        let memory = scene.memory.clone() * valid;
        let memory = self.enc_output.norm.forward(self.enc_output.proj.forward(memory));
        let logits = self.enc_score_head.forward(memory.clone());
        let chosen = best_tokens(logits.clone(), self.queries.min(tokens));
        let gather = |tensor: Tensor<3>| {
            let [_, _, width] = tensor.dims();
            tensor.gather(1, chosen.clone().unsqueeze_dim::<3>(2).repeat_dim(2, width))
        };
        // The box head works token by token: scoring all and gathering is the official order, but
        // gathering first gives the same numbers for a fraction of the work.
        let content = gather(memory);
        let anchors = gather_constant(anchors, &chosen);
        let boxes = self.enc_bbox_head.forward(content.clone()) + anchors;
        debug_assert_eq!(content.dims()[2], hidden);
        Selection {
            content: content.detach(),
            boxes: boxes.clone().detach(),
            prediction: Prediction { logits: gather(logits), boxes: sigmoid(boxes), corners: None },
            tokens: chosen,
        }
    }

    /// Logits and boxes of every layer (training) or of the last (inference).
    fn decode(
        &self,
        content: Tensor<3>,
        first_boxes: Tensor<3>,
        scene: &Scene,
        mode: Mode,
    ) -> Vec<(Tensor<3>, Tensor<3>)> {
        let mut queries = content;
        // The boxes that a layer starts from, without gradient, and the same with it.
        let mut start = first_boxes;
        let mut previous: Option<Tensor<3>> = None;
        let mut results = Vec::new();
        let last = self.decoder.layers.len() - 1;
        for (index, layer) in self.decoder.layers.iter().enumerate() {
            let position = self.query_pos_head.forward(start.clone());
            queries = layer.forward(queries, start.clone(), position, scene);
            let change = self.dec_bbox_head[index].forward(queries.clone());
            let refined = sigmoid(change.clone() + inverse_sigmoid(start));
            if mode == Mode::Train {
                // Look forward twice: the loss of a layer also reaches the box of the one before.
                let boxes = match previous {
                    None => refined.clone(),
                    Some(previous) => sigmoid(change + inverse_sigmoid(previous)),
                };
                results.push((self.dec_score_head[index].forward(queries.clone()), boxes));
            } else if index == last {
                let logits = self.dec_score_head[index].forward(queries.clone());
                results.push((logits, refined.clone()));
            }
            start = refined.clone().detach();
            previous = Some(refined);
        }
        results
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Mode {
    Train,
    Infer,
}

/// `ln(x / (1 - x))`, with both sides kept away from zero (official eps 1e-5).
fn inverse_sigmoid(x: Tensor<3>) -> Tensor<3> {
    let x = x.clamp(0.0, 1.0);
    let odds = x.clone().clamp_min(1e-5) / x.neg().add_scalar(1.0).clamp_min(1e-5);
    odds.log()
}

/// The box before the sigmoid that every token starts from, `[1, tokens, 4]`, and whether it is
/// usable, `[1, tokens, 1]` (deim-facts 3.12).
fn anchors(levels: &[[usize; 2]], device: &Device) -> (Tensor<3>, Tensor<3>) {
    let (mut boxes, mut valid) = (Vec::new(), Vec::new());
    for (level, &[height, width]) in levels.iter().enumerate() {
        let size = 0.05 * 2_f32.powi(level as i32);
        for (row, column) in (0..height).flat_map(|row| (0..width).map(move |column| (row, column)))
        {
            let centre = [(column as f32 + 0.5) / width as f32, (row as f32 + 0.5) / height as f32];
            let anchor = [centre[0], centre[1], size, size];
            let usable = anchor.iter().all(|&side| side > 0.01 && side < 0.99);
            // An unusable anchor is officially infinite; its sigmoid is one either way, and this
            // value has no NaN in its gradient.
            boxes.extend(anchor.map(|side| if usable { (side / (1.0 - side)).ln() } else { 1e30 }));
            valid.push(if usable { 1.0_f32 } else { 0.0 });
        }
    }
    let tokens = valid.len();
    (
        Tensor::from_data(TensorData::new(boxes, [1, tokens, 4]), device),
        Tensor::from_data(TensorData::new(valid, [1, tokens, 1]), device),
    )
}

/// Indices `[batch, count]` of the tokens with the highest class logit, best first; equal scores in
/// token order, so that the choice never depends on a sort's whim.
fn best_tokens(logits: Tensor<3>, count: usize) -> Tensor<2, Int> {
    let device = logits.device();
    let [batch, tokens, _] = logits.dims();
    let scores = logits.detach().max_dim(2).into_data();
    let scores: Vec<f32> = scores.iter::<f32>().collect();
    let mut chosen = Vec::with_capacity(batch * count);
    for scores in scores.chunks(tokens) {
        let mut order: Vec<usize> = (0..tokens).collect();
        let better = |&a: &usize, &b: &usize| scores[b].total_cmp(&scores[a]).then(a.cmp(&b));
        if count < tokens {
            order.select_nth_unstable_by(count, better);
            order.truncate(count);
        }
        order.sort_unstable_by(better);
        chosen.extend(order.into_iter().map(|token| token as i64));
    }
    Tensor::from_data(TensorData::new(chosen, [batch, count]), &device)
}

/// Rows of a table `[1, tokens, width]` for every image: `[batch, count, width]`.
fn gather_constant(table: Tensor<3>, chosen: &Tensor<2, Int>) -> Tensor<3> {
    let [batch, count] = chosen.dims();
    let [_, tokens, width] = table.dims();
    let rows = chosen.clone().reshape([batch * count]);
    table.reshape([tokens, width]).select(0, rows).reshape([batch, count, width])
}
