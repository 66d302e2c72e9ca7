//! The fusion block of version `dfine` (deim-facts 3.14).

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use deim_spec::config::Encoder as Config;

use super::csp::CspLayer;
use crate::layers::{Activation, ConvNorm};

/// Officially RepNCSPELAN4: half of the channels pass through two chains one after the other, and
/// both halves and both chains' outputs are joined.
#[derive(Module, Debug)]
pub(super) struct ElanBlock {
    cv1: ConvNorm,
    cv2: (CspLayer, ConvNorm),
    cv3: (CspLayer, ConvNorm),
    cv4: ConvNorm,
}

impl ElanBlock {
    /// `[2 * hidden, hidden]` channels, `depth` blocks a chain.
    pub(super) fn new(config: &Config, depth: usize, device: &Device) -> Self {
        let hidden = config.hidden;
        // Officially `round(expansion * hidden // 2)`, where `//` already rounds down.
        let inner = (config.expansion * hidden as f64 / 2.0).floor() as usize;
        let conv =
            |from, to, kernel| ConvNorm::new([from, to], kernel, 1, Activation::Silu, device);
        let chain =
            |from| (CspLayer::new([from, inner], inner, depth, device), conv(inner, inner, 3));
        Self {
            cv1: conv(2 * hidden, 2 * hidden, 1),
            cv2: chain(hidden),
            cv3: chain(inner),
            cv4: conv(2 * hidden + 2 * inner, hidden, 1),
        }
    }

    pub(super) fn forward(&self, input: Tensor<4>) -> Tensor<4> {
        let both = self.cv1.forward(input);
        let hidden = both.dims()[1] / 2;
        let second = both.clone().narrow(1, hidden, hidden);
        let third = self.cv2.1.forward(self.cv2.0.forward(second));
        let fourth = self.cv3.1.forward(self.cv3.0.forward(third.clone()));
        self.cv4.forward(Tensor::cat(vec![both, third, fourth], 1))
    }
}
