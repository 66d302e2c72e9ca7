//! PResNet in its variant d (deim-facts 3.16).

use burn::module::Module;
use burn::tensor::module::avg_pool2d;
use burn::tensor::{Device, Tensor};
use deim_ops::max_pool;
use deim_spec::config::{Backbone as Config, Block as BlockKind};

use crate::layers::{Activation, ConvNorm};
use crate::trace;

/// The three convolutions of the stem.
#[derive(Module, Debug)]
struct Stem {
    conv1_1: ConvNorm,
    conv1_2: ConvNorm,
    conv1_3: ConvNorm,
}

/// Average pooling, then a projection: the shortcut of blocks that halve the resolution.
#[derive(Module, Debug)]
struct PooledShortcut {
    conv: ConvNorm,
}

/// A basic block (`branch2a`, `branch2b`) or a bottleneck (also `branch2c`).
#[derive(Module, Debug)]
struct Block {
    /// Officially both shortcuts are called `short`; see `weights::official_name`.
    short: Option<ConvNorm>,
    short_pooled: Option<PooledShortcut>,
    branch2a: ConvNorm,
    branch2b: ConvNorm,
    branch2c: Option<ConvNorm>,
}

impl Block {
    fn new(
        config: &Config,
        from: usize,
        width: usize,
        stride: usize,
        first: bool,
        device: &Device,
    ) -> Self {
        let kind = config.block;
        let to = width * expansion(kind);
        let (relu, none) = (Activation::Relu, Activation::Identity);
        let conv = |from, to, kernel, stride, activation| {
            ConvNorm::new([from, to], kernel, stride, activation, device)
                .with_frozen_norm(config.freeze_norm)
        };
        let pooled = first && stride == 2;
        let bottleneck = kind == BlockKind::Bottleneck;
        Self {
            short: (first && !pooled).then(|| conv(from, to, 1, 1, none)),
            short_pooled: pooled.then(|| PooledShortcut { conv: conv(from, to, 1, 1, none) }),
            branch2a: if bottleneck {
                conv(from, width, 1, 1, relu)
            } else {
                conv(from, width, 3, stride, relu)
            },
            branch2b: if bottleneck {
                conv(width, width, 3, stride, relu)
            } else {
                conv(width, width, 3, 1, none)
            },
            branch2c: bottleneck.then(|| conv(width, to, 1, 1, none)),
        }
    }

    fn forward(&self, input: Tensor<4>) -> Tensor<4> {
        let shortcut = if let Some(short) = &self.short {
            short.forward(input.clone())
        } else if let Some(short) = &self.short_pooled {
            short.conv.forward(avg_pool2d(input.clone(), [2, 2], [2, 2], [0, 0], true, true))
        } else {
            input.clone()
        };
        let mut output = self.branch2b.forward(self.branch2a.forward(input));
        if let Some(last) = &self.branch2c {
            output = last.forward(output);
        }
        Activation::Relu.apply(output + shortcut)
    }
}

fn expansion(kind: BlockKind) -> usize {
    match kind {
        BlockKind::Basic => 1,
        BlockKind::Bottleneck => 4,
    }
}

/// The blocks of one resolution.
#[derive(Module, Debug)]
struct Stage {
    blocks: Vec<Block>,
}

/// The backbone.
#[derive(Module, Debug)]
pub struct PResNet {
    conv1: Stem,
    res_layers: Vec<Stage>,
    /// Stages, from the last, whose output [`PResNet::forward`] returns.
    levels: usize,
}

impl PResNet {
    pub fn new(config: &Config, levels: usize, device: &Device) -> Self {
        let conv = |from, to, stride| {
            ConvNorm::new([from, to], 3, stride, Activation::Relu, device)
                .with_frozen_norm(config.freeze_norm)
        };
        let [a, b, c] = config.stem;
        let mut conv1 =
            Stem { conv1_1: conv(3, a, 2), conv1_2: conv(a, b, 1), conv1_3: conv(b, c, 1) };
        let mut from = c;
        let stages = config.widths.iter().zip(config.blocks).enumerate();
        let res_layers = stages.map(|(stage, (&width, count))| {
            let blocks = (0..count).map(|index| {
                let stride = if stage > 0 && index == 0 { 2 } else { 1 };
                let block = Block::new(config, from, width, stride, index == 0, device);
                from = width * expansion(config.block);
                block
            });
            let made = Stage { blocks: blocks.collect() };
            // With a frozen stem, as many stages as this number are frozen.
            if (stage as i64) < i64::from(config.freeze_at) { made.no_grad() } else { made }
        });
        let res_layers = res_layers.collect();
        if config.freeze_at >= 0 {
            conv1 = conv1.no_grad();
        }
        Self { conv1, res_layers, levels }
    }

    /// Channels of the four stages.
    pub fn channels(config: &Config) -> [usize; 4] {
        config.widths.map(|width| width * expansion(config.block))
    }

    /// `[batch, 3, h, w]` to the outputs of the last stages, finest first.
    pub fn forward(&self, images: Tensor<4>) -> Vec<Tensor<4>> {
        let stem = &self.conv1;
        let features = stem.conv1_3.forward(stem.conv1_2.forward(stem.conv1_1.forward(images)));
        trace::record("conv1", &features);
        let mut features = max_pool(features);
        let mut outputs = Vec::with_capacity(self.levels);
        for (index, stage) in self.res_layers.iter().enumerate() {
            for block in &stage.blocks {
                features = block.forward(features);
            }
            trace::record(format_args!("res_layers.{index}"), &features);
            if index + self.levels >= self.res_layers.len() {
                outputs.push(features.clone());
            }
        }
        outputs
    }
}
