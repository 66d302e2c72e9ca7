//! One decoder layer: queries attend to each other, look into the image, then a feed-forward part.

use burn::module::Module;
use burn::tensor::activation::sigmoid;
use burn::tensor::{Bool, Device, Tensor};
use deim_spec::config::{Decoder as Config, DecoderKind};

use crate::attention::{DeformableAttention, SelfAttention};
use crate::layers::{Activation, LayerNorm, Linear};
use crate::trace;

/// D-FINE keeps what goes into the last norm of a layer within the range of 16-bit floats.
const LARGEST: f64 = 65504.0;

/// What every layer looks at.
pub(super) struct Scene {
    /// `[batch, tokens, hidden]`
    pub memory: Tensor<3>,
    pub levels: Vec<[usize; 2]>,
    pub blocked: Option<Tensor<2, Bool>>,
}

/// One decoder layer.
#[derive(Module, Debug)]
pub(super) struct DecoderLayer {
    self_attn: SelfAttention,
    norm1: LayerNorm,
    cross_attn: DeformableAttention,
    /// RT-DETRv2 adds what a query saw and normalises.
    norm2: Option<LayerNorm>,
    /// D-FINE weighs the query against what it saw.
    gateway: Option<Gate>,
    linear1: Linear,
    linear2: Linear,
    norm3: LayerNorm,
    #[module(skip)]
    activation: Activation,
}

impl DecoderLayer {
    pub fn new(config: &Config, activation: Activation, device: &Device) -> Self {
        let Config { hidden, heads, feedforward, .. } = *config;
        let gated = config.kind == DecoderKind::Dfine;
        Self {
            self_attn: SelfAttention::new(hidden, heads, device),
            norm1: LayerNorm::new(hidden, device),
            cross_attn: DeformableAttention::new(config, device),
            norm2: (!gated).then(|| LayerNorm::new(hidden, device)),
            gateway: gated.then(|| Gate::new(hidden, device)),
            linear1: Linear::new(hidden, feedforward, device),
            linear2: Linear::new(feedforward, hidden, device),
            norm3: LayerNorm::new(hidden, device),
            activation,
        }
    }

    pub fn forward(
        &self,
        queries: Tensor<3>,
        boxes: Tensor<3>,
        position: Tensor<3>,
        scene: &Scene,
    ) -> Tensor<3> {
        let attended =
            self.self_attn.forward(queries.clone(), position.clone(), scene.blocked.as_ref());
        let queries = self.norm1.forward(queries + attended);
        trace::record("norm1", &queries);
        let looked = queries.clone() + position;
        let seen = self.cross_attn.forward(looked, boxes, scene.memory.clone(), &scene.levels);
        trace::record("cross_attn", &seen);
        let queries = match (&self.gateway, &self.norm2) {
            (Some(gate), _) => gate.forward(queries, seen),
            (None, Some(norm)) => norm.forward(queries + seen),
            (None, None) => queries + seen,
        };
        trace::record(if self.gateway.is_some() { "gateway" } else { "norm2" }, &queries);
        let inner = self.linear1.activated(queries.clone(), self.activation);
        let output = queries + self.linear2.forward(inner);
        let output = if self.gateway.is_some() { output.clamp(-LARGEST, LARGEST) } else { output };
        self.norm3.forward(output)
    }
}

/// Two inputs, each with a learnt weight per channel, summed and normalised (deim-facts 3.12).
#[derive(Module, Debug)]
pub(super) struct Gate {
    gate: Linear,
    norm: LayerNorm,
}

impl Gate {
    fn new(hidden: usize, device: &Device) -> Self {
        Self {
            gate: Linear::new(2 * hidden, 2 * hidden, device),
            norm: LayerNorm::new(hidden, device),
        }
    }

    fn forward(&self, own: Tensor<3>, seen: Tensor<3>) -> Tensor<3> {
        let hidden = own.dims()[2];
        let both = Tensor::cat(vec![own, seen], 2);
        let weighted = sigmoid(self.gate.forward(both.clone())) * both;
        let sum = weighted.clone().narrow(2, 0, hidden) + weighted.narrow(2, hidden, hidden);
        self.norm.forward(sum)
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::TensorData;

    use super::*;

    #[test]
    fn a_fresh_gate_takes_half_of_both_inputs() {
        // Weights and biases of a gate start at zero; see `init`.
        let device = Device::flex();
        let gate = Gate::new(4, &device);
        let tensor = |values: [f32; 4]| {
            Tensor::<3>::from_data(TensorData::new(values.to_vec(), [1, 1, 4]), &device)
        };
        let (own, seen) = (tensor([1.0, -2.0, 0.5, 3.0]), tensor([0.0, 4.0, 2.5, -1.0]));
        let expected = gate.norm.forward((own.clone() + seen.clone()) * 0.5);
        let difference = (gate.forward(own, seen) - expected).abs().max().into_scalar::<f32>();
        assert!(difference < 1e-6, "{difference}");
    }
}
