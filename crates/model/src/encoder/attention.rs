//! The attention of the hybrid encoder: one transformer layer on the coarsest level
//! (deim-facts 3.14).

use burn::module::Module;
use burn::tensor::activation::gelu;
use burn::tensor::{Device, Tensor};
use deim_ops::{like, through_32_bits};
use deim_spec::config::Encoder as Config;

use crate::attention::SelfAttention;
use crate::layers::{LayerNorm, Linear};
use crate::trace;

/// A transformer layer that normalises after each part.
#[derive(Module, Debug)]
struct TransformerLayer {
    self_attn: SelfAttention,
    linear1: Linear,
    linear2: Linear,
    norm1: LayerNorm,
    norm2: LayerNorm,
}

impl TransformerLayer {
    fn new(config: &Config, device: &Device) -> Self {
        Self {
            self_attn: SelfAttention::new(config.hidden, config.heads, device),
            linear1: Linear::new(config.hidden, config.feedforward, device),
            linear2: Linear::new(config.feedforward, config.hidden, device),
            norm1: LayerNorm::new(config.hidden, device),
            norm2: LayerNorm::new(config.hidden, device),
        }
    }

    fn forward(&self, tokens: Tensor<3>, position: Tensor<3>) -> Tensor<3> {
        let attended = self.self_attn.forward(tokens.clone(), position, None);
        let tokens = self.norm1.forward(tokens + attended);
        let inner = through_32_bits(self.linear1.forward(tokens.clone()), gelu);
        self.norm2.forward(tokens + self.linear2.forward(inner))
    }
}

/// The official encoder is a list of lists of layers; here both hold one.
#[derive(Module, Debug)]
pub(super) struct Transformer {
    layers: Vec<TransformerLayer>,
}

impl Transformer {
    pub(super) fn new(config: &Config, device: &Device) -> Self {
        Self { layers: vec![TransformerLayer::new(config, device)] }
    }

    /// Every pixel of the level attends to all: `[batch, hidden, h, w]` in and out.
    pub(super) fn forward(&self, level: Tensor<4>) -> Tensor<4> {
        let [batch, hidden, height, width] = level.dims();
        let position = position_embedding([height, width], hidden, &level.device());
        let position = like(position, &level);
        let mut tokens = level.flatten::<3>(2, 3).swap_dims(1, 2);
        for (index, layer) in self.layers.iter().enumerate() {
            tokens = trace::within(format_args!("encoder.0.layers.{index}"), || {
                layer.forward(tokens, position.clone())
            });
        }
        trace::record("encoder.0", &tokens);
        tokens.swap_dims(1, 2).reshape([batch, hidden, height, width])
    }
}

/// Sine and cosine of both coordinates, `[1, height * width, hidden]`.
///
/// The official grid runs over columns first while the tokens run over rows first, so on square
/// inputs row and column are swapped (deim-facts 0.12). Weights are trained with it: kept. Periods and
/// phases are rounded to 32 bits as there, whatever the precision of the rest.
pub fn position_embedding(
    [height, width]: [usize; 2],
    hidden: usize,
    device: &Device,
) -> Tensor<3> {
    let quarter = hidden / 4;
    let mut values = Vec::with_capacity(height * width * hidden);
    for column in 0..width {
        for row in 0..height {
            for coordinate in [column, row] {
                for wave in [f64::sin as fn(f64) -> f64, f64::cos] {
                    values.extend((0..quarter).map(|index| {
                        let period = 10_000_f64.powf(index as f64 / quarter as f64) as f32;
                        let phase = coordinate as f32 * period.recip();
                        wave(f64::from(phase)) as f32
                    }));
                }
            }
        }
    }
    Tensor::<1>::from_floats(values.as_slice(), device).reshape([1, height * width, hidden])
}
