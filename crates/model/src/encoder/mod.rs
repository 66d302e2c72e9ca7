//! The hybrid encoder: one attention layer on the coarsest level, then a top-down and a bottom-up
//! pyramid (deim-facts 3.14).

mod attention;
mod csp;
mod elan;

use burn::module::Module;
use burn::tensor::module::interpolate;
use burn::tensor::ops::{InterpolateMode, InterpolateOptions};
use burn::tensor::{Device, Tensor};
use deim_spec::config::{Encoder as Config, EncoderVersion, Model};

use crate::layers::{Activation, ConvNorm};
use crate::trace;
use attention::Transformer;
pub use attention::position_embedding;
use csp::CspLayer;
use elan::ElanBlock;

/// Joins two levels: `2 * hidden` channels in, `hidden` out.
#[derive(Module, Debug)]
enum Fusion {
    Csp(CspLayer),
    Elan(ElanBlock),
}

impl Fusion {
    fn new(config: &Config, device: &Device) -> Self {
        let hidden = config.hidden;
        // Python rounds halves to even.
        let depth = (3.0 * config.depth_mult).round_ties_even() as usize;
        match config.version {
            EncoderVersion::RtDetrv2 => {
                let inner = (hidden as f64 * config.expansion) as usize;
                Self::Csp(CspLayer::new([2 * hidden, hidden], inner, depth, device))
            }
            EncoderVersion::Dfine => Self::Elan(ElanBlock::new(config, depth, device)),
        }
    }

    fn forward(&self, input: Tensor<4>) -> Tensor<4> {
        match self {
            Self::Csp(block) => block.forward(input),
            Self::Elan(block) => block.forward(input),
        }
    }
}

/// A 1x1 convolution, then a 3x3 depthwise one that halves the resolution; no activation.
#[derive(Module, Debug)]
struct SeparableConv {
    cv1: ConvNorm,
    cv2: ConvNorm,
}

/// Halves the resolution of a level.
#[derive(Module, Debug)]
enum Downsample {
    Plain(ConvNorm),
    /// Officially a sequence of one.
    Separable([SeparableConv; 1]),
}

impl Downsample {
    fn new(config: &Config, device: &Device) -> Self {
        let hidden = config.hidden;
        match config.version {
            EncoderVersion::RtDetrv2 => {
                Self::Plain(ConvNorm::new([hidden; 2], 3, 2, Activation::Silu, device))
            }
            EncoderVersion::Dfine => Self::Separable([SeparableConv {
                cv1: ConvNorm::new([hidden; 2], 1, 1, Activation::Identity, device),
                cv2: ConvNorm::depthwise(hidden, 3, 2, Activation::Identity, device),
            }]),
        }
    }

    fn forward(&self, input: Tensor<4>) -> Tensor<4> {
        match self {
            Self::Plain(conv) => conv.forward(input),
            Self::Separable([conv]) => conv.cv2.forward(conv.cv1.forward(input)),
        }
    }
}

/// The encoder.
#[derive(Module, Debug)]
pub struct HybridEncoder {
    input_proj: Vec<ConvNorm>,
    encoder: Vec<Transformer>,
    lateral_convs: Vec<ConvNorm>,
    fpn_blocks: Vec<Fusion>,
    downsample_convs: Vec<Downsample>,
    pan_blocks: Vec<Fusion>,
}

impl HybridEncoder {
    /// `channels`: of the levels that come in.
    pub fn new(model: &Model, channels: &[usize], device: &Device) -> Self {
        let config = &model.encoder;
        let conv =
            |from, activation| ConvNorm::new([from, config.hidden], 1, 1, activation, device);
        let lateral = match config.version {
            EncoderVersion::RtDetrv2 => Activation::Silu,
            EncoderVersion::Dfine => Activation::Identity,
        };
        let steps = || 1..channels.len();
        Self {
            input_proj: channels.iter().map(|&from| conv(from, Activation::Identity)).collect(),
            // Officially a list of lists of layers; here both hold one.
            encoder: vec![Transformer::new(config, device)],
            lateral_convs: steps().map(|_| conv(config.hidden, lateral)).collect(),
            fpn_blocks: steps().map(|_| Fusion::new(config, device)).collect(),
            downsample_convs: steps().map(|_| Downsample::new(config, device)).collect(),
            pan_blocks: steps().map(|_| Fusion::new(config, device)).collect(),
        }
    }

    /// Levels in, finest first, and the same levels out, each `[batch, hidden, h, w]`.
    pub fn forward(&self, levels: Vec<Tensor<4>>) -> Vec<Tensor<4>> {
        let mut finer = Vec::with_capacity(levels.len());
        for (index, (level, conv)) in levels.into_iter().zip(&self.input_proj).enumerate() {
            finer.push(conv.forward(level));
            trace::record(format_args!("input_proj.{index}"), &finer[index]);
        }
        let Some(coarsest) = finer.pop() else { return finer };
        let mut top = self.encoder.iter().fold(coarsest, |level, layers| layers.forward(level));

        // Down to the finest level; `coarser` keeps what the way back up joins, finest last.
        let mut coarser = Vec::with_capacity(finer.len());
        let fusions = self.lateral_convs.iter().zip(&self.fpn_blocks);
        for (index, (level, (lateral, fusion))) in finer.into_iter().rev().zip(fusions).enumerate()
        {
            let high = lateral.forward(top);
            trace::record(format_args!("lateral_convs.{index}"), &high);
            top = fusion.forward(Tensor::cat(vec![double(high.clone()), level], 1));
            trace::record(format_args!("fpn_blocks.{index}"), &top);
            coarser.push(high);
        }

        let mut outputs = vec![top];
        let fusions = self.downsample_convs.iter().zip(&self.pan_blocks);
        for (index, (level, (downsample, fusion))) in
            coarser.into_iter().rev().zip(fusions).enumerate()
        {
            let down = downsample.forward(outputs[index].clone());
            trace::record(format_args!("downsample_convs.{index}"), &down);
            outputs.push(fusion.forward(Tensor::cat(vec![down, level], 1)));
            trace::record(format_args!("pan_blocks.{index}"), &outputs[index + 1]);
        }
        outputs
    }
}

/// Nearest-neighbour upsampling by two.
fn double(input: Tensor<4>) -> Tensor<4> {
    let [_, _, height, width] = input.dims();
    interpolate(input, [2 * height, 2 * width], InterpolateOptions::new(InterpolateMode::Nearest))
}

#[cfg(test)]
mod tests;
