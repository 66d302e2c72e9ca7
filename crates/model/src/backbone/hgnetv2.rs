//! HGNetv2 (deim-facts 3.15).

use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor};
use deim_ops::{max_pool_2x2, through_32_bits};
use deim_spec::config::{Backbone as Config, HgNet as Sizes, HgStage};

use crate::layers::{Activation, BatchNorm, Conv};
use crate::trace;

/// A number to multiply with and a number to add, both learnt: the official `lab`.
#[derive(Module, Debug)]
struct Affine {
    scale: Param<Tensor<1>>,
    bias: Param<Tensor<1>>,
}

impl Affine {
    fn new(device: &Device) -> Self {
        let number = |value| Param::from_tensor(Tensor::full([1], value, device));
        Self { scale: number(1.0), bias: number(0.0) }
    }

    fn forward(&self, input: Tensor<4>) -> Tensor<4> {
        let number = |param: &Param<Tensor<1>>| param.val().reshape([1, 1, 1, 1]);
        through_32_bits(input, |input| input * number(&self.scale) + number(&self.bias))
    }
}

/// Convolution, batch norm, activation, affine map: the official `ConvBNAct`.
#[derive(Module, Debug)]
struct Unit {
    conv: Conv,
    bn: BatchNorm,
    lab: Option<Affine>,
    #[module(skip)]
    activation: Activation,
}

impl Unit {
    fn forward(&self, input: Tensor<4>) -> Tensor<4> {
        let output = self.bn.forward(self.conv.forward(input), self.activation);
        match &self.lab {
            Some(lab) => lab.forward(output),
            None => output,
        }
    }
}

/// Makes the units of a net, which differ in their convolutions only.
struct Units<'a> {
    lab: bool,
    freeze_norm: bool,
    device: &'a Device,
}

impl Units<'_> {
    fn unit(&self, conv: Conv, activation: Activation) -> Unit {
        let bn = BatchNorm::new(conv.channels(), self.device).with_frozen(self.freeze_norm);
        let lab = self.lab && activation != Activation::Identity;
        Unit { conv, bn, lab: lab.then(|| Affine::new(self.device)), activation }
    }

    fn conv(&self, [from, to]: [usize; 2], kernel: usize, stride: usize) -> Unit {
        self.unit(Conv::new(from, to, kernel, stride, self.device), Activation::Relu)
    }

    /// A two-by-two convolution, with a zero right of each row and below each column.
    fn pair(&self, from: usize, to: usize) -> Unit {
        let conv = Conv::new(from, to, 2, 1, self.device).with_padding([0, 1]);
        self.unit(conv, Activation::Relu)
    }
}

/// To a quarter of the resolution, in two branches between the strided convolutions.
#[derive(Module, Debug)]
struct Stem {
    stem1: Unit,
    stem2a: Unit,
    stem2b: Unit,
    stem3: Unit,
    stem4: Unit,
}

impl Stem {
    fn new([middle, out]: [usize; 2], units: &Units) -> Self {
        Self {
            stem1: units.conv([3, middle], 3, 2),
            stem2a: units.pair(middle, middle / 2),
            stem2b: units.pair(middle / 2, middle),
            stem3: units.conv([2 * middle, middle], 3, 2),
            stem4: units.conv([middle, out], 1, 1),
        }
    }

    fn forward(&self, images: Tensor<4>) -> Tensor<4> {
        let features = self.stem1.forward(images);
        let branch = self.stem2b.forward(self.stem2a.forward(features.clone()));
        let joined = Tensor::cat(vec![max_pool_2x2(features), branch], 1);
        self.stem4.forward(self.stem3.forward(joined))
    }
}

/// A pointwise, then a depthwise convolution: in place of a full one.
#[derive(Module, Debug)]
struct LightUnit {
    conv1: Unit,
    conv2: Unit,
}

/// One layer of a block.
#[derive(Module, Debug)]
enum Layer {
    Full(Unit),
    Light(LightUnit),
}

impl Layer {
    fn new(sizes: &HgStage, from: usize, units: &Units) -> Self {
        let HgStage { middle, kernel, .. } = *sizes;
        if !sizes.light {
            return Self::Full(units.conv([from, middle], kernel, 1));
        }
        let pointwise = Conv::new(from, middle, 1, 1, units.device);
        let depthwise = Conv::depthwise(middle, kernel, 1, units.device);
        Self::Light(LightUnit {
            conv1: units.unit(pointwise, Activation::Identity),
            conv2: units.unit(depthwise, Activation::Relu),
        })
    }

    fn forward(&self, input: Tensor<4>) -> Tensor<4> {
        match self {
            Self::Full(unit) => unit.forward(input),
            Self::Light(light) => light.conv2.forward(light.conv1.forward(input)),
        }
    }
}

/// Layers in a chain; their outputs and the block's input are joined and mixed.
#[derive(Module, Debug)]
struct Block {
    layers: Vec<Layer>,
    /// Called `se` in the official code: two convolutions that squeeze to half the channels and
    /// excite to all, without attention.
    aggregation: [Unit; 2],
    residual: bool,
}

impl Block {
    fn new(sizes: &HgStage, from: usize, residual: bool, units: &Units) -> Self {
        let HgStage { middle, out, layers, .. } = *sizes;
        let inputs = |index| if index == 0 { from } else { middle };
        Self {
            layers: (0..layers).map(|index| Layer::new(sizes, inputs(index), units)).collect(),
            aggregation: [
                units.conv([from + layers * middle, out / 2], 1, 1),
                units.conv([out / 2, out], 1, 1),
            ],
            residual,
        }
    }

    fn forward(&self, input: Tensor<4>) -> Tensor<4> {
        let mut outputs = vec![input.clone()];
        for layer in &self.layers {
            outputs.push(layer.forward(outputs[outputs.len() - 1].clone()));
        }
        let [squeeze, excite] = &self.aggregation;
        let output = excite.forward(squeeze.forward(Tensor::cat(outputs, 1)));
        if self.residual { output + input } else { output }
    }
}

/// The blocks of one resolution, with a depthwise convolution that halves it before them.
#[derive(Module, Debug)]
struct Stage {
    downsample: Option<Unit>,
    blocks: Vec<Block>,
}

impl Stage {
    fn new(sizes: &HgStage, from: usize, halves: bool, units: &Units) -> Self {
        let downsample = halves.then(|| {
            let conv = Conv::depthwise(from, 3, 2, units.device);
            units.unit(conv, Activation::Identity)
        });
        let blocks = (0..sizes.blocks).map(|index| {
            let from = if index == 0 { from } else { sizes.out };
            Block::new(sizes, from, index > 0, units)
        });
        Self { downsample, blocks: blocks.collect() }
    }

    fn forward(&self, input: Tensor<4>) -> Tensor<4> {
        let input = match &self.downsample {
            Some(conv) => conv.forward(input),
            None => input,
        };
        self.blocks.iter().fold(input, |features, block| block.forward(features))
    }
}

/// The backbone.
#[derive(Module, Debug)]
pub struct HgNetV2 {
    stem: Stem,
    stages: Vec<Stage>,
    /// Stages, from the last, whose output [`HgNetV2::forward`] returns.
    levels: usize,
}

impl HgNetV2 {
    pub fn new(config: &Config, sizes: &Sizes, levels: usize, device: &Device) -> Self {
        let units = Units { lab: sizes.lab, freeze_norm: config.freeze_norm, device };
        let mut stem = Stem::new(sizes.stem, &units);
        let mut from = sizes.stem[1];
        let stages = sizes.stages.iter().enumerate().map(|(index, stage)| {
            let made = Stage::new(stage, from, index > 0, &units);
            from = stage.out;
            // With a frozen stem, the stages up to and including the one of this number are frozen.
            let frozen = !config.freeze_stem_only && index as i64 <= i64::from(config.freeze_at);
            if frozen { made.no_grad() } else { made }
        });
        let stages = stages.collect();
        if config.freeze_at >= 0 {
            stem = stem.no_grad();
        }
        Self { stem, stages, levels }
    }

    /// Channels of the four stages.
    pub fn channels(sizes: &Sizes) -> [usize; 4] {
        [0, 1, 2, 3].map(|stage| sizes.stages[stage].out)
    }

    /// `[batch, 3, h, w]` to the outputs of the last stages, finest first.
    pub fn forward(&self, images: Tensor<4>) -> Vec<Tensor<4>> {
        let mut features = self.stem.forward(images);
        trace::record("stem", &features);
        let mut outputs = Vec::with_capacity(self.levels);
        for (index, stage) in self.stages.iter().enumerate() {
            features = stage.forward(features);
            trace::record(format_args!("stages.{index}"), &features);
            if index + self.levels >= self.stages.len() {
                outputs.push(features.clone());
            }
        }
        outputs
    }
}
