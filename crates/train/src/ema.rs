//! The exponential moving average of parameters and buffers (deim-facts 3.7).

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::{Device, Tensor};
use deim_model::Detector;
use deim_ops::blend_all;
use deim_spec::config;

use crate::schedule::ema_decay;

/// The averaged detector, on a device without gradients.
pub struct Ema {
    pub detector: Detector,
    decay: f64,
    warmups: u64,
    /// Updates made so far; part of the state.
    pub updates: u64,
}

impl Ema {
    /// Starts from a detector's own values.
    pub fn new(config: &config::Ema, detector: Detector) -> Self {
        Self { detector, decay: config.decay, warmups: config.warmups, updates: 0 }
    }

    /// Averages with another decay from the next update on; its warm-up goes on where it is.
    pub fn set_decay(&mut self, decay: f64) {
        self.decay = decay;
    }

    /// Where the average lies.
    pub fn device(&self) -> Device {
        self.detector.devices().swap_remove(0)
    }

    /// Moves every tensor towards the trained detector's.
    pub fn update(&mut self, trained: &Detector) {
        self.updates += 1;
        let decay = ema_decay(self.decay, self.warmups, self.updates);
        let values = |detector: &Detector| {
            let mut values = Values::default();
            detector.visit(&mut values);
            values.0
        };
        // The modules are alike, so all walks meet the same tensors in the same order.
        let blended = blend_all(values(&self.detector), values(trained), decay);
        self.detector = self.detector.clone().map(&mut Setter(blended.into_iter()));
    }
}

/// The values of all tensors of a module, flat and off the graph.
#[derive(Default)]
pub(crate) struct Values(pub Vec<Tensor<1>>);

impl ModuleVisitor for Values {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let value = param.val().reshape([-1]);
        self.0.push(if value.device().is_autodiff() { value.inner() } else { value });
    }
}

struct Setter(std::vec::IntoIter<Tensor<1>>);

impl ModuleMapper for Setter {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let blended = self.0.next().expect("two detectors of one configuration");
        param.map(|average| blended.reshape(average.shape()))
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;
    use deim_model::weights;
    use deim_spec::Config;

    use super::*;

    fn detector(seed: u64) -> Detector {
        let mut config = Config::default();
        let model = &mut config.model;
        model.backbone.block = deim_spec::config::Block::Basic;
        model.backbone.blocks = [1; 4];
        model.backbone.stem = [2; 3];
        model.backbone.widths = [2; 4];
        (model.encoder.hidden, model.encoder.heads, model.encoder.feedforward) = (8, 2, 4);
        (model.decoder.hidden, model.decoder.heads, model.decoder.feedforward) = (8, 2, 4);
        model.decoder.layers = 2;
        Detector::new(&config, 2, seed, &Device::flex())
    }

    fn weight(detector: &Detector) -> f64 {
        weights::read(detector)[0].1.iter::<f64>().next().unwrap()
    }

    #[test]
    fn another_decay_counts_from_the_next_update_on() {
        let config = config::Ema { decay: 0.9, warmups: 0, ..config::Ema::default() };
        let (start, target) = (detector(1), detector(2));
        let (from, to) = (weight(&start), weight(&target));
        let mut ema = Ema::new(&config, start);
        ema.update(&target);
        let first = 0.9 * from + 0.1 * to;
        assert!((weight(&ema.detector) - first).abs() < 1e-6);
        ema.set_decay(0.5);
        ema.update(&target);
        assert!((weight(&ema.detector) - 0.5 * (first + to)).abs() < 1e-6);
        assert_eq!(ema.updates, 2);
    }
}
