//! Backbones: images to feature maps of several resolutions.

mod presnet;

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use deim_spec::config::Model;

use presnet::PResNet;

/// A backbone of one of the kinds. Names of variants are no part of official names; see
/// `weights::official_name`.
#[derive(Module, Debug)]
pub enum Backbone {
    PResNet(PResNet),
}

impl Backbone {
    pub fn new(model: &Model, device: &Device) -> Self {
        Self::PResNet(PResNet::new(&model.backbone, model.strides.len(), device))
    }

    /// Channels of the levels that [`Backbone::forward`] returns.
    pub fn channels(model: &Model) -> Vec<usize> {
        let stages = PResNet::channels(&model.backbone);
        stages[stages.len() - model.strides.len()..].to_vec()
    }

    /// `[batch, 3, h, w]` to the levels of `model.strides`, finest first.
    pub fn forward(&self, images: Tensor<4>) -> Vec<Tensor<4>> {
        match self {
            Self::PResNet(net) => net.forward(images),
        }
    }
}
