use std::collections::{BTreeMap, BTreeSet};

use burn::module::{AutodiffModule, ModuleVisitor, Param};
use burn::tensor::{Gradients, TensorData};
use deim_spec::config::{Block, HgStage};

use super::*;
use crate::{init, weights};

fn hgnetv2() -> Model {
    let stage = |out, light| HgStage { middle: 4, out, blocks: 2, light, kernel: 3, layers: 2 };
    let stages = [stage(8, false), stage(8, true), stage(16, true), stage(16, true)];
    let mut model = Model::default();
    model.backbone.kind = BackboneKind::Hgnetv2;
    model.backbone.hgnetv2 = Some(HgNet { stem: [4, 8], stages, lab: true });
    model
}

fn presnet() -> Model {
    let mut model = Model::default();
    model.backbone.block = Block::Basic;
    model.backbone.blocks = [1, 1, 1, 1];
    model.backbone.stem = [4, 4, 8];
    model.backbone.widths = [8, 8, 8, 8];
    model
}

fn device() -> Device {
    Device::flex().autodiff()
}

/// A backbone as a run has it: drawn, then loaded.
fn trainable(model: &Model) -> Backbone {
    let backbone = init::draw(Backbone::new(model, &device()), model, 3);
    let tensors = weights::read(&backbone).into_iter().collect();
    weights::load(backbone, &tensors).expect("its own tensors")
}

fn images(device: &Device) -> Tensor<4> {
    let pixels = (0..2 * 3 * 64 * 64).map(|index| (index as f32 * 0.37).sin() * 0.5 + 0.5);
    Tensor::from_data(TensorData::new(pixels.collect(), [2, 3, 64, 64]), device)
}

/// The names of the tensors that get a gradient from a loss of all levels, and of all parameters.
fn gradients(backbone: &Backbone) -> (BTreeSet<String>, BTreeSet<String>) {
    struct Finder(Vec<String>, Gradients, BTreeSet<String>);
    impl ModuleVisitor for Finder {
        fn enter_module(&mut self, name: &str, _: &str) {
            self.0.push(name.to_owned());
        }
        fn exit_module(&mut self, _: &str, _: &str) {
            self.0.pop();
        }
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            let value = param.val();
            // Buffers lie on a device without gradients.
            if value.device().is_autodiff() && value.grad(&self.1).is_some() {
                self.2.insert(weights::official_name(&self.0));
            }
        }
    }
    let levels = backbone.forward(images(&device())).into_iter();
    let loss = levels.map(|level| level.square().mean()).reduce(|a, b| a + b).expect("a level");
    let mut finder = Finder(Vec::new(), loss.backward(), BTreeSet::new());
    backbone.visit(&mut finder);
    let names = weights::read(backbone).into_iter().map(|(name, _)| name);
    (finder.2, names.filter(|name| !weights::is_buffer(name)).collect())
}

fn statistics(backbone: &Backbone) -> BTreeMap<String, Vec<f32>> {
    let tensors = weights::read(backbone).into_iter();
    let buffers = tensors.filter(|(name, _)| weights::is_buffer(name));
    buffers.map(|(name, data)| (name, data.iter().collect())).collect()
}

/// Asserts that training moves all parameters but those below these prefixes.
fn assert_frozen(model: &Model, prefixes: &[&str]) {
    let (found, all) = gradients(&trainable(model));
    let frozen = |name: &String| prefixes.iter().any(|prefix| name.starts_with(prefix));
    assert!(prefixes.iter().all(|prefix| all.iter().any(|name| name.starts_with(prefix))));
    let expected: BTreeSet<_> = all.into_iter().filter(|name| !frozen(name)).collect();
    assert_eq!(found, expected);
}

#[test]
fn without_freezing_every_parameter_has_a_gradient() {
    assert_frozen(&hgnetv2(), &[]);
    assert_frozen(&presnet(), &[]);
}

#[test]
fn hgnetv2_freezes_its_stem_alone_or_also_the_stages_up_to_the_number() {
    let mut model = hgnetv2();
    model.backbone.freeze_at = 1;
    assert_frozen(&model, &["stem."]);
    model.backbone.freeze_stem_only = false;
    assert_frozen(&model, &["stem.", "stages.0.", "stages.1."]);
    model.backbone.freeze_at = 0;
    assert_frozen(&model, &["stem.", "stages.0."]);
    model.backbone.freeze_at = -1;
    assert_frozen(&model, &[]);
}

#[test]
fn presnet_freezes_its_stem_and_as_many_stages_as_the_number() {
    let mut model = presnet();
    model.backbone.freeze_at = 0;
    assert_frozen(&model, &["conv1."]);
    model.backbone.freeze_at = 2;
    assert_frozen(&model, &["conv1.", "res_layers.0.", "res_layers.1."]);
}

#[test]
fn frozen_parameters_do_not_freeze_the_statistics_beside_them() {
    let mut model = hgnetv2();
    model.backbone.freeze_at = 0;
    let backbone = trainable(&model);
    let before = statistics(&backbone);
    backbone.forward(images(&device()));
    for (name, values) in statistics(&backbone) {
        assert_ne!(values, before[&name], "{name}");
    }
}

#[test]
fn frozen_norms_train_nothing_and_keep_their_statistics() {
    for mut model in [hgnetv2(), presnet()] {
        model.backbone.freeze_norm = true;
        let backbone = trainable(&model);
        let before = statistics(&backbone);
        let (found, all) = gradients(&backbone);
        let norm = |name: &String| name.contains(".bn.") || name.contains(".norm.");
        let expected: BTreeSet<_> = all.into_iter().filter(|name| !norm(name)).collect();
        assert_eq!(found, expected);
        assert_eq!(statistics(&backbone), before);
    }
}

#[test]
fn frozen_norms_compute_the_same_in_training_and_in_evaluation() {
    for mut model in [hgnetv2(), presnet()] {
        model.backbone.freeze_norm = true;
        // Statistics that are not those of the batch, nor the identity.
        let backbone = trainable(&model);
        let tensors = weights::read(&backbone).into_iter().map(|(name, data)| {
            let shift = if weights::is_buffer(&name) { 0.1 } else { 0.0 };
            let shape = data.shape.to_vec();
            let values = data.iter::<f32>().map(|value| value + shift).collect();
            (name, TensorData::new::<f32, _>(values, shape))
        });
        let backbone = weights::load(backbone, &tensors.collect()).expect("its own tensors");
        let trained = backbone.forward(images(&device()));
        let evaluated = backbone.valid().forward(images(&Device::flex()));
        for (trained, evaluated) in trained.into_iter().zip(evaluated) {
            let worst = (trained.inner() - evaluated).abs().max().into_scalar::<f32>();
            assert!(worst < 1e-5, "off by {worst}");
        }
    }
}

#[test]
fn the_levels_have_their_strides_and_channels() {
    for mut model in [hgnetv2(), presnet()] {
        for strides in [vec![4, 8, 16, 32], vec![8, 16, 32], vec![16, 32]] {
            model.strides = strides;
            let device = Device::flex();
            let levels = Backbone::new(&model, &device).forward(images(&device));
            let channels = Backbone::channels(&model);
            assert_eq!(levels.len(), model.strides.len());
            for ((level, channels), stride) in levels.iter().zip(channels).zip(&model.strides) {
                assert_eq!(level.dims(), [2, channels, 64 / stride, 64 / stride]);
            }
        }
    }
}
