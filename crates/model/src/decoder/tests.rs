//! Both decoders as wholes; that they compute what the official ones do is the cases' part.

use std::collections::BTreeSet;

use burn::module::ModuleVisitor;
use burn::tensor::{Bool, Distribution, Gradients, Int};
use deim_spec::config::Sampling;

use super::*;
use crate::init;
use crate::weights;

const CLASSES: usize = 5;

fn model(kind: DecoderKind) -> Model {
    let mut model = Model { queries: 12, strides: vec![16, 32], ..Model::default() };
    model.encoder.hidden = 32;
    let decoder = &mut model.decoder;
    decoder.kind = kind;
    (decoder.hidden, decoder.heads, decoder.feedforward) = (32, 4, 48);
    (decoder.layers, decoder.points) = (3, vec![3, 2]);
    decoder.query_pos = QueryPos::Default;
    model
}

fn decoder(model: &Model, device: &Device) -> Decoder {
    let decoder = init::draw(Decoder::new(model, CLASSES, true, device), model, 7);
    // Freshly made heads change no box and no score; these do.
    weights::fill(decoder, |name, shape| {
        let count: usize = shape.iter().product();
        let last = name.contains("bbox_head") || name.contains("lqe") || name.contains("gate");
        let wave = |index: usize| 0.3 * (1.7 * index as f32 + shape.len() as f32).sin();
        last.then(|| {
            let values: Vec<f32> = (0..count).map(wave).collect();
            burn::tensor::TensorData::new(values, shape.to_vec())
        })
    })
}

/// Levels of an image: finest first, each half as large.
fn levels([height, width]: [usize; 2], device: &Device) -> Vec<Tensor<4>> {
    (0..2)
        .map(|level| {
            let (height, width) = (height >> level, width >> level);
            let count = (2 * 32 * height * width) as i64;
            let values = Tensor::<1, Int>::arange(0..count, device).float();
            values.mul_scalar(0.37).sin().reshape([2, 32, height, width])
        })
        .collect()
}

/// The names of the parameters that have a gradient.
fn reached(decoder: &Decoder, gradients: &Gradients) -> BTreeSet<String> {
    struct Reached<'a>(Vec<String>, &'a Gradients, BTreeSet<String>);
    impl ModuleVisitor for Reached<'_> {
        fn enter_module(&mut self, name: &str, _: &str) {
            self.0.push(name.to_owned());
        }
        fn exit_module(&mut self, _: &str, _: &str) {
            self.0.pop();
        }
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            let name = self.0.join(".");
            if !weights::is_buffer(&name) && param.val().grad(self.1).is_some() {
                self.2.insert(name);
            }
        }
    }
    let mut reached = Reached(Vec::new(), gradients, BTreeSet::new());
    decoder.visit(&mut reached);
    reached.2
}

fn values(tensor: Tensor<3>) -> Vec<f32> {
    tensor.into_data().iter().collect()
}

#[test]
fn inference_predicts_what_training_says_of_the_layer_that_predicts() {
    let device = Device::flex();
    for kind in [DecoderKind::Rtdetrv2, DecoderKind::Dfine] {
        let mut model = model(kind);
        for eval_layer in [None, Some(1), Some(2)] {
            model.decoder.eval_layer = eval_layer;
            let decoder = decoder(&model, &device);
            let outputs = decoder.forward(levels([8, 8], &device), None);
            let expected = &outputs.matching.layers[eval_layer.unwrap_or(2)];
            let ours = decoder.infer(levels([8, 8], &device));
            assert_eq!(values(ours.logits), values(expected.logits.clone()), "{kind:?}");
            // Training gives RT-DETRv2's boxes from the undetached box of the layer before: the same.
            for (ours, expected) in values(ours.boxes).iter().zip(values(expected.boxes.clone())) {
                assert!((ours - expected).abs() < 1e-5, "{kind:?}: {ours} {expected}");
            }
        }
    }
}

#[test]
fn images_with_fewer_tokens_than_queries_have_fewer_queries() {
    for device in [Device::flex(), Device::flex().autodiff()] {
        for kind in [DecoderKind::Rtdetrv2, DecoderKind::Dfine] {
            let decoder = decoder(&model(kind), &device);
            // 4 + 1 tokens.
            let outputs = decoder.forward(levels([2, 2], &device), None);
            assert_eq!(outputs.matching.layers[2].logits.dims(), [2, 5, CLASSES]);
            assert_eq!(outputs.encoder.boxes.dims(), [2, 5, 4]);
            assert_eq!(decoder.infer(levels([2, 2], &device)).boxes.dims(), [2, 5, 4]);
        }
    }
}

#[test]
fn denoising_queries_come_apart_from_the_matching_ones() {
    let device = Device::flex();
    let model = model(DecoderKind::Dfine);
    let decoder = decoder(&model, &device);
    let (noised, matching) = (4, 12);
    let blocked = Tensor::<2, Bool>::full([16, 16], false, &device);
    // Nothing may look at the denoising queries but they themselves.
    let own = Tensor::<2, Bool>::full([matching, noised], true, &device);
    let blocked = blocked.slice_assign([noised..16, 0..noised], own);
    let queries = DenoisingQueries {
        labels: Tensor::from_ints([[0, 1, 2, 5], [3, 4, 5, 5]], &device),
        boxes_unactivated: Tensor::random([2, noised, 4], Distribution::Default, &device),
        blocked,
    };
    let with = decoder.forward(levels([8, 8], &device), Some(&queries));
    let without = decoder.forward(levels([8, 8], &device), None);
    let width = 4 * (model.decoder.reg_max + 1);
    let parts = with.denoising.as_ref().expect("denoising outputs");
    for (outputs, count) in [(parts, noised), (&with.matching, matching)] {
        let last = &outputs.layers[2];
        assert_eq!(last.corners.as_ref().expect("corners").dims(), [2, count, width]);
        assert_eq!(outputs.reference.as_ref().expect("references").dims(), [2, count, 4]);
        let pre = outputs.pre.as_ref().expect("the first placing");
        assert_eq!(pre.logits.dims(), [2, count, CLASSES]);
        // All layers' edges are relative to the box that the first layer placed.
        let reference = outputs.reference.clone().expect("references");
        assert_eq!(values(pre.boxes.clone()), values(reference));
    }
    let [with, without] = [with, without].map(|outputs| outputs.matching.layers[2].boxes.clone());
    for (with, without) in values(with).iter().zip(values(without)) {
        assert!((with - without).abs() < 1e-5, "{with} {without}");
    }
}

#[test]
fn discrete_sampling_trains_everything_but_the_offsets_and_survives_rectangles() {
    let device = Device::flex().autodiff();
    let mut model = model(DecoderKind::Rtdetrv2);
    model.decoder.sampling = Sampling::Discrete;
    let decoder = decoder(&model, &device);
    for size in [[4, 8], [8, 4]] {
        let outputs = decoder.forward(levels(size, &device), None);
        let last = outputs.matching.layers[2].clone();
        let gradients = (last.boxes.sum() + last.logits.sum()).backward();
        let reached = reached(&decoder, &gradients);
        let of_attention: Vec<&str> = reached
            .iter()
            .filter_map(|name| name.strip_prefix("decoder.layers.1.cross_attn."))
            .collect();
        let maps = ["attention_weights", "output_proj", "value_proj"];
        let expected = maps.map(|map| [format!("{map}.bias"), format!("{map}.weight")]);
        assert_eq!(of_attention, expected.as_flattened());
    }
}

#[test]
fn edges_learn_from_every_later_layer_and_the_first_placing_from_its_own_loss_only() {
    let device = Device::flex().autodiff();
    let decoder = decoder(&model(DecoderKind::Dfine), &device);
    // One pass each: going back through a graph uses it up.
    let outputs = || decoder.forward(levels([8, 8], &device), None).matching;
    let weighted = |boxes: Tensor<3>| {
        let weights = Tensor::<1>::from_floats([1.0, 2.0, 3.0, 4.0], &device);
        (boxes * weights.reshape([1, 1, 4])).sum()
    };
    // Edges add up through the layers with their gradient, but the reference passes none on.
    let gradients = weighted(outputs().layers.remove(2).boxes).backward();
    let by_boxes = reached(&decoder, &gradients);
    for layer in 0..3 {
        assert!(by_boxes.contains(&format!("dec_bbox_head.{layer}.layers.2.weight")), "{layer}");
    }
    let place = "pre_bbox_head.layers.2.weight".to_owned();
    assert!(!by_boxes.contains(&place));
    let pre = outputs().pre.expect("the first placing").boxes;
    assert!(reached(&decoder, &weighted(pre).backward()).contains(&place));
}
