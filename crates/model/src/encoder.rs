//! The hybrid encoder, version `rt_detrv2`: one attention layer on the coarsest level, then a
//! top-down and a bottom-up pyramid (deim-facts 3.14).

use burn::module::Module;
use burn::tensor::activation::gelu;
use burn::tensor::module::interpolate;
use burn::tensor::ops::{InterpolateMode, InterpolateOptions};
use burn::tensor::{Device, Tensor};
use deim_spec::config::Encoder as Config;

use crate::attention::SelfAttention;
use crate::layers::{Activation, ConvNorm, LayerNorm, Linear};

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
        let inner = gelu(self.linear1.forward(tokens.clone()));
        self.norm2.forward(tokens + self.linear2.forward(inner))
    }
}

/// The official encoder is a list of lists of layers; here both hold one.
#[derive(Module, Debug)]
struct Transformer {
    layers: Vec<TransformerLayer>,
}

/// Sine and cosine of both coordinates, `[1, height * width, hidden]`.
///
/// The official grid runs over columns first while the tokens run over rows first, so on square
/// inputs row and column are swapped (deim-facts 0.12). Weights are trained with it: kept.
fn position_embedding([height, width]: [usize; 2], hidden: usize, device: &Device) -> Tensor<3> {
    let quarter = hidden / 4;
    let mut values = Vec::with_capacity(height * width * hidden);
    for column in 0..width {
        for row in 0..height {
            for coordinate in [column, row] {
                for wave in [f64::sin as fn(f64) -> f64, f64::cos] {
                    values.extend((0..quarter).map(|index| {
                        let frequency = 10_000_f64.powf(-(index as f64) / quarter as f64);
                        wave(coordinate as f64 * frequency) as f32
                    }));
                }
            }
        }
    }
    Tensor::<1>::from_floats(values.as_slice(), device).reshape([1, height * width, hidden])
}

/// A 3x3 and a 1x1 convolution side by side.
#[derive(Module, Debug)]
struct VggBlock {
    conv1: ConvNorm,
    conv2: ConvNorm,
}

/// The fusion block of the pyramids.
#[derive(Module, Debug)]
struct CspLayer {
    conv1: ConvNorm,
    conv2: ConvNorm,
    bottlenecks: Vec<VggBlock>,
    conv3: Option<ConvNorm>,
}

impl CspLayer {
    fn new(config: &Config, device: &Device) -> Self {
        let inner = (config.hidden as f64 * config.expansion) as usize;
        // Python rounds halves to even.
        let depth = (3.0 * config.depth_mult).round_ties_even() as usize;
        let conv =
            |from, to, kernel, activation| ConvNorm::new([from, to], kernel, 1, activation, device);
        let none = Activation::Identity;
        let block =
            || VggBlock { conv1: conv(inner, inner, 3, none), conv2: conv(inner, inner, 1, none) };
        Self {
            conv1: conv(2 * config.hidden, inner, 1, Activation::Silu),
            conv2: conv(2 * config.hidden, inner, 1, Activation::Silu),
            bottlenecks: (0..depth).map(|_| block()).collect(),
            conv3: (inner != config.hidden)
                .then(|| conv(inner, config.hidden, 1, Activation::Silu)),
        }
    }

    fn forward(&self, input: Tensor<4>) -> Tensor<4> {
        let deep = self.bottlenecks.iter().fold(self.conv1.forward(input.clone()), |x, block| {
            Activation::Silu.apply(block.conv1.forward(x.clone()) + block.conv2.forward(x))
        });
        let sum = deep + self.conv2.forward(input);
        match &self.conv3 {
            Some(conv) => conv.forward(sum),
            None => sum,
        }
    }
}

/// The encoder.
#[derive(Module, Debug)]
pub struct HybridEncoder {
    input_proj: Vec<ConvNorm>,
    encoder: Vec<Transformer>,
    lateral_convs: Vec<ConvNorm>,
    fpn_blocks: Vec<CspLayer>,
    downsample_convs: Vec<ConvNorm>,
    pan_blocks: Vec<CspLayer>,
}

impl HybridEncoder {
    pub fn new(config: &Config, channels: [usize; 3], device: &Device) -> Self {
        let hidden = config.hidden;
        let conv = |from, kernel, stride, activation| {
            ConvNorm::new([from, hidden], kernel, stride, activation, device)
        };
        let two = || 0..2;
        Self {
            input_proj: channels.map(|from| conv(from, 1, 1, Activation::Identity)).into(),
            encoder: vec![Transformer { layers: vec![TransformerLayer::new(config, device)] }],
            lateral_convs: two().map(|_| conv(hidden, 1, 1, Activation::Silu)).collect(),
            fpn_blocks: two().map(|_| CspLayer::new(config, device)).collect(),
            downsample_convs: two().map(|_| conv(hidden, 3, 2, Activation::Silu)).collect(),
            pan_blocks: two().map(|_| CspLayer::new(config, device)).collect(),
        }
    }

    /// Three levels in, the same three levels out, each `[batch, hidden, h, w]`.
    pub fn forward(&self, levels: [Tensor<4>; 3]) -> [Tensor<4>; 3] {
        let mut index = 0;
        let [fine, middle, coarse] = levels.map(|level| {
            index += 1;
            self.input_proj[index - 1].forward(level)
        });
        let coarse = self.attend(coarse);

        let high = self.lateral_convs[0].forward(coarse);
        let joined = Tensor::cat(vec![double(high.clone()), middle], 1);
        let middle = self.lateral_convs[1].forward(self.fpn_blocks[0].forward(joined));
        let joined = Tensor::cat(vec![double(middle.clone()), fine], 1);
        let fine = self.fpn_blocks[1].forward(joined);

        let down = self.downsample_convs[0].forward(fine.clone());
        let middle = self.pan_blocks[0].forward(Tensor::cat(vec![down, middle], 1));
        let down = self.downsample_convs[1].forward(middle.clone());
        let coarse = self.pan_blocks[1].forward(Tensor::cat(vec![down, high], 1));
        [fine, middle, coarse]
    }

    /// The attention layer on the coarsest level.
    fn attend(&self, level: Tensor<4>) -> Tensor<4> {
        let [batch, hidden, height, width] = level.dims();
        let position = position_embedding([height, width], hidden, &level.device());
        let mut tokens = level.flatten::<3>(2, 3).swap_dims(1, 2);
        for layer in self.encoder.iter().flat_map(|transformer| &transformer.layers) {
            tokens = layer.forward(tokens, position.clone());
        }
        tokens.swap_dims(1, 2).reshape([batch, hidden, height, width])
    }
}

/// Nearest-neighbour upsampling by two.
fn double(input: Tensor<4>) -> Tensor<4> {
    let [_, _, height, width] = input.dims();
    interpolate(input, [2 * height, 2 * width], InterpolateOptions::new(InterpolateMode::Nearest))
}
