//! The fusion block of version `rt_detrv2`, and a part of that of version `dfine`
//! (deim-facts 3.14).

use burn::module::Module;
use burn::tensor::{Device, Tensor};

use crate::layers::{Activation, ConvNorm};

/// A 3x3 and a 1x1 convolution side by side.
#[derive(Module, Debug)]
struct VggBlock {
    conv1: ConvNorm,
    conv2: ConvNorm,
}

/// A chain of blocks and a shortcut around it.
#[derive(Module, Debug)]
pub(super) struct CspLayer {
    conv1: ConvNorm,
    conv2: ConvNorm,
    bottlenecks: Vec<VggBlock>,
    conv3: Option<ConvNorm>,
}

impl CspLayer {
    /// `depth` blocks with `inner` channels.
    pub(super) fn new([from, to]: [usize; 2], inner: usize, depth: usize, device: &Device) -> Self {
        let conv =
            |from, to, kernel, activation| ConvNorm::new([from, to], kernel, 1, activation, device);
        let none = Activation::Identity;
        let block =
            || VggBlock { conv1: conv(inner, inner, 3, none), conv2: conv(inner, inner, 1, none) };
        Self {
            conv1: conv(from, inner, 1, Activation::Silu),
            conv2: conv(from, inner, 1, Activation::Silu),
            bottlenecks: (0..depth).map(|_| block()).collect(),
            conv3: (inner != to).then(|| conv(inner, to, 1, Activation::Silu)),
        }
    }

    pub(super) fn forward(&self, input: Tensor<4>) -> Tensor<4> {
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
