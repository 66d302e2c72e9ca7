//! Backbones: images to feature maps of several resolutions.

mod hgnetv2;
mod presnet;

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use deim_spec::config::{BackboneKind, HgNet, Model};

use hgnetv2::HgNetV2;
use presnet::PResNet;

/// A backbone of one of the kinds. Variants are no part of official names, see
/// [`crate::weights::official_name`].
#[derive(Module, Debug)]
pub enum Backbone {
    PResNet(PResNet),
    HgNetV2(HgNetV2),
}

impl Backbone {
    pub fn new(model: &Model, device: &Device) -> Self {
        let (config, levels) = (&model.backbone, model.strides.len());
        match config.kind {
            BackboneKind::Presnet => Self::PResNet(PResNet::new(config, levels, device)),
            BackboneKind::Hgnetv2 => {
                Self::HgNetV2(HgNetV2::new(config, sizes(model), levels, device))
            }
        }
    }

    /// Channels of the levels that [`Backbone::forward`] returns.
    pub fn channels(model: &Model) -> Vec<usize> {
        let stages = match model.backbone.kind {
            BackboneKind::Presnet => PResNet::channels(&model.backbone),
            BackboneKind::Hgnetv2 => HgNetV2::channels(sizes(model)),
        };
        stages[stages.len() - model.strides.len()..].to_vec()
    }

    /// `[batch, 3, h, w]` to the levels of `model.strides`, finest first.
    pub fn forward(&self, images: Tensor<4>) -> Vec<Tensor<4>> {
        match self {
            Self::PResNet(net) => net.forward(images),
            Self::HgNetV2(net) => net.forward(images),
        }
    }
}

fn sizes(model: &Model) -> &HgNet {
    model.backbone.hgnetv2.as_ref().expect("a checked spec gives HGNetv2 its sizes")
}

#[cfg(test)]
mod tests;
