//! A detector: backbone, encoder, decoder.

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use deim_spec::Config;

use crate::backbone::Backbone;
use crate::decoder::Decoder;
use crate::encoder::HybridEncoder;
use crate::init;
use crate::outputs::{DenoisingQueries, Outputs, Prediction};
use crate::trace;

/// A detector: RT-DETRv2 or D-FINE, in any size.
#[derive(Module, Debug)]
pub struct Detector {
    backbone: Backbone,
    encoder: HybridEncoder,
    decoder: Decoder,
    /// Of the levels that the backbone hands on.
    strides: Vec<usize>,
}

impl Detector {
    /// A detector with freshly drawn weights: the same for the same seed, on every device.
    pub fn new(config: &Config, classes: usize, seed: u64, device: &Device) -> Self {
        let model = &config.model;
        let channels = Backbone::channels(model);
        let detector = Self {
            backbone: Backbone::new(model, device),
            encoder: HybridEncoder::new(model, &channels, device),
            decoder: Decoder::new(model, classes, config.denoising.queries > 0, device),
            strides: model.strides.clone(),
        };
        init::draw(detector, model, seed)
    }

    /// Matching queries for images of this height and width: small images have fewer tokens than the
    /// configured queries.
    pub fn queries(&self, [height, width]: [usize; 2]) -> usize {
        let tokens: usize =
            self.strides.iter().map(|stride| (height / stride) * (width / stride)).sum();
        self.decoder.queries.min(tokens)
    }

    /// Training. `images`: `[batch, 3, h, w]` in `[0, 1]`, sides multiples of 32.
    pub fn forward(&self, images: Tensor<4>, denoising: Option<&DenoisingQueries>) -> Outputs {
        self.decode(self.encode(self.features(images)), denoising)
    }

    /// The first third of [`Detector::forward`]: the backbone's levels, finest first.
    pub fn features(&self, images: Tensor<4>) -> Vec<Tensor<4>> {
        let levels = trace::within("backbone", || self.backbone.forward(images));
        record("backbone", &levels);
        levels
    }

    /// The second third: the encoder's levels.
    pub fn encode(&self, levels: Vec<Tensor<4>>) -> Vec<Tensor<4>> {
        let levels = trace::within("encoder", || self.encoder.forward(levels));
        record("encoder", &levels);
        levels
    }

    /// The last third: the predictions of every head.
    pub fn decode(&self, levels: Vec<Tensor<4>>, denoising: Option<&DenoisingQueries>) -> Outputs {
        trace::within("decoder", || self.decoder.forward(levels, denoising))
    }

    /// Inference: logits `[batch, queries, classes]` and boxes of the layer that predicts.
    pub fn infer(&self, images: Tensor<4>) -> Prediction {
        let levels = self.encode(self.features(images));
        trace::within("decoder", || self.decoder.infer(levels))
    }
}

/// The levels that a part hands on are its outputs by number.
fn record(part: &str, levels: &[Tensor<4>]) {
    for (index, level) in levels.iter().enumerate() {
        trace::record(format_args!("{part}.{index}"), level);
    }
}
