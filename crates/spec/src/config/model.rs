//! The detector in numbers: backbone, hybrid encoder, decoder (deim-facts 3.12 to 3.16).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The detector: backbone, hybrid encoder, decoder (deim-facts 3.12 to 3.16).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Model {
    /// Object queries of the decoder.
    pub queries: usize,
    /// Strides of the levels that the backbone hands on, finest first: the last of 4, 8, 16, 32.
    pub strides: Vec<usize>,
    /// What backbone, encoder and decoder layers of a training step compute in: `f32`, or `bf16` for a
    /// GPU's matrix units. Weights, optimizer, average, boxes, heads, losses and evaluation stay in
    /// float32. bf16 has float32's range, so there is no loss scaling; on a CPU it is slower.
    // Unwritten at its default: cells of before the key keep their ids (`keys::whole`).
    #[serde(skip_serializing_if = "Precision::is_default")]
    pub precision: Precision,
    pub backbone: Backbone,
    pub encoder: Encoder,
    pub decoder: Decoder,
}

impl Default for Model {
    fn default() -> Self {
        Self {
            queries: 300,
            strides: vec![8, 16, 32],
            precision: Precision::F32,
            backbone: Backbone::default(),
            encoder: Encoder::default(),
            decoder: Decoder::default(),
        }
    }
}

/// The arithmetic of a training step's large tensors.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// 24 bits of mantissa. A GPU may multiply them in TF32.
    #[default]
    F32,
    /// 8 bits of mantissa, the range of float32. Sums are still in float32.
    Bf16,
}

impl Precision {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

impl std::str::FromStr for Precision {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "f32" => Ok(Self::F32),
            "bf16" => Ok(Self::Bf16),
            other => Err(format!("expected f32 or bf16, found {other:?}")),
        }
    }
}

/// The backbone, sized by numbers: PResNet-vd (deim-facts 3.16) or HGNetv2 (deim-facts 3.15).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Backbone {
    /// The kind of backbone: `presnet` is sized by the four keys below, `hgnetv2` by its own table.
    pub kind: BackboneKind,
    /// PResNet's residual block: `basic` (R18, R34) or `bottleneck` (R50, R101).
    pub block: Block,
    /// Blocks in each of PResNet's four stages.
    pub blocks: [usize; 4],
    /// Channels of PResNet's three stem convolutions.
    pub stem: [usize; 3],
    /// Inner channels of each stage of PResNet; a bottleneck's output has four times as many.
    pub widths: [usize; 4],
    /// The sizes of HGNetv2; only where `kind = "hgnetv2"`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hgnetv2: Option<HgNet>,
    /// Train nothing of the stem (0) or also of the first stages (1 to 4); -1 trains everything.
    pub freeze_at: i8,
    /// HGNetv2 freezes the stem alone, whatever `freeze_at` says about stages.
    pub freeze_stem_only: bool,
    /// Batch norms keep the statistics and weights they were loaded with.
    pub freeze_norm: bool,
}

impl Default for Backbone {
    fn default() -> Self {
        Self {
            kind: BackboneKind::Presnet,
            block: Block::Bottleneck,
            blocks: [3, 4, 6, 3],
            stem: [32, 32, 64],
            widths: [64, 128, 256, 512],
            hgnetv2: None,
            freeze_at: -1,
            freeze_stem_only: true,
            freeze_norm: false,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum BackboneKind {
    Presnet,
    Hgnetv2,
}

/// The two residual blocks of PResNet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Block {
    Basic,
    Bottleneck,
}

/// HGNetv2 (deim-facts 3.15).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HgNet {
    /// Channels inside the stem and of its output.
    pub stem: [usize; 2],
    /// The four stages; every stage but the first starts by halving the resolution.
    pub stages: [HgStage; 4],
    /// A learnable scale and bias, one number each, after every activation (LAB).
    pub lab: bool,
}

/// One stage of HGNetv2.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HgStage {
    /// Channels inside a block.
    pub middle: usize,
    /// Channels of the stage's output.
    pub out: usize,
    /// Blocks.
    pub blocks: usize,
    /// Whether layers are a 1x1 and a depthwise convolution in place of a full one.
    pub light: bool,
    /// Side of the layers' kernels.
    pub kernel: usize,
    /// Layers in a block.
    pub layers: usize,
}

/// The hybrid encoder (deim-facts 3.14).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Encoder {
    /// Which fusion blocks, lateral convolutions and downsampling the pyramid is made of.
    pub version: EncoderVersion,
    /// Channels of every level.
    pub hidden: usize,
    /// Attention heads of the transformer layer on the coarsest level.
    pub heads: usize,
    /// Inner channels of that layer's feed-forward part.
    pub feedforward: usize,
    /// Inner width of the CSP blocks, as a share of `hidden`.
    pub expansion: f64,
    /// Depth of the CSP blocks: `round(3 * depth_mult)`, rounded half to even as Python does.
    pub depth_mult: f64,
}

impl Default for Encoder {
    fn default() -> Self {
        Self {
            version: EncoderVersion::RtDetrv2,
            hidden: 256,
            heads: 8,
            feedforward: 1024,
            expansion: 1.0,
            depth_mult: 1.0,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum EncoderVersion {
    /// CSP layers of re-parameterisable blocks.
    RtDetrv2,
    /// ELAN blocks, separable downsampling.
    Dfine,
}

/// The decoder: RT-DETRv2 (deim-facts 3.13) or D-FINE (deim-facts 3.12).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Decoder {
    /// The kind of decoder: `rtdetrv2` refines boxes, `dfine` distributions of their edges.
    pub kind: DecoderKind,
    /// Channels of the queries.
    pub hidden: usize,
    /// Attention heads.
    pub heads: usize,
    /// Inner channels of the feed-forward parts.
    pub feedforward: usize,
    /// Decoder layers; at least 2, because the losses need an auxiliary layer.
    pub layers: usize,
    /// The layer that predicts at inference, from 0; absent: the last. Later layers only train.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub eval_layer: Option<usize>,
    /// Sampling points per head on each level.
    pub points: Vec<usize>,
    /// How a sampling point reads the image: between its four neighbours, or the nearest.
    pub sampling: Sampling,
    /// Activation of the decoder layers and of the box heads.
    pub activation: Activation,
    /// How a box becomes a position embedding: `as-reg` (DEIM) or `default` (upstream RT-DETRv2, D-FINE).
    pub query_pos: QueryPos,
    /// D-FINE: bins of an edge's distribution, less one.
    pub reg_max: usize,
    /// D-FINE: curvature of the bins, and the range of an edge in shares of the box.
    pub reg_scale: f64,
}

impl Default for Decoder {
    fn default() -> Self {
        Self {
            kind: DecoderKind::Rtdetrv2,
            hidden: 256,
            heads: 8,
            feedforward: 1024,
            layers: 6,
            eval_layer: None,
            points: vec![4, 4, 4],
            sampling: Sampling::Bilinear,
            activation: Activation::Silu,
            query_pos: QueryPos::AsReg,
            reg_max: 32,
            reg_scale: 4.0,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum DecoderKind {
    Rtdetrv2,
    Dfine,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Sampling {
    /// The weighted mean of the four neighbours (`cross_attn_method: default`).
    Bilinear,
    /// The nearest token, and offsets that do not train (`cross_attn_method: discrete`).
    Discrete,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Activation {
    Relu,
    Silu,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum QueryPos {
    /// MLP(4, h, h) with three layers, as the box heads.
    AsReg,
    /// MLP(4, 2h, h) with two layers.
    Default,
}
