//! What official state dicts hold beside the weights that we keep: counters and constants.
//!
//! PyTorch's strict loading wants every one of them, so that what is saved here has them all; what is read
//! here needs none, but a constant that contradicts the model says that the file is another model's.

use std::collections::BTreeMap;

use burn::module::Module;
use deim_spec::Config;
use deim_spec::config::DecoderKind;
use deim_weights::Tensor;

use crate::weights;

/// Half the width of D-FINE's bins around zero; every config has this one (deim-facts 3.12).
const UP: f32 = 0.5;

/// The complete official state dict of a module: its weights, its counters and its constants.
pub fn state_dict(module: &impl Module, config: &Config) -> BTreeMap<String, Tensor> {
    let weights = weights::read(module).into_iter().map(|(name, data)| {
        let values: Vec<f32> = data.iter().collect();
        (name, Tensor::from_f32s(&data.shape.to_vec(), &values))
    });
    complete(weights.collect(), config)
}

/// The weights with what belongs to them: a counter for each batch norm, and, where there is a decoder,
/// its constants. What is there already stays.
pub fn complete(
    mut tensors: BTreeMap<String, Tensor>,
    config: &Config,
) -> BTreeMap<String, Tensor> {
    let counters: Vec<String> = tensors
        .keys()
        .filter_map(|name| name.strip_suffix("running_mean"))
        .map(|norm| format!("{norm}num_batches_tracked"))
        .collect();
    let mut missing: BTreeMap<String, Tensor> =
        counters.into_iter().map(|name| (name, Tensor::from_i64s(&[], &[0]))).collect();
    if tensors.keys().any(|name| name.starts_with("decoder.")) {
        missing.extend(constants(config));
    }
    for (name, tensor) in missing {
        tensors.entry(name).or_insert(tensor);
    }
    tensors
}

/// The constants of a decoder by their official names (deim-facts 3.12 and 5).
pub fn constants(config: &Config) -> BTreeMap<String, Tensor> {
    let model = &config.model;
    let decoder = &model.decoder;
    let mut constants = BTreeMap::new();
    let scales: Vec<f32> = decoder
        .points
        .iter()
        .flat_map(|&count| std::iter::repeat_n((1.0 / count as f64) as f32, count))
        .collect();
    for layer in 0..decoder.layers {
        constants.insert(
            format!("decoder.decoder.layers.{layer}.cross_attn.num_points_scale"),
            Tensor::from_f32s(&[scales.len()], &scales),
        );
    }
    let (anchors, valid) = anchors(config.data.input_size, &model.strides);
    let tokens = valid.len();
    constants.insert("decoder.anchors".into(), Tensor::from_f32s(&[1, tokens, 4], &anchors));
    constants.insert("decoder.valid_mask".into(), Tensor::from_bools(&[1, tokens, 1], &valid));
    if decoder.kind == DecoderKind::Dfine {
        // The same two twice; the scale is an integer in every official file.
        let scale = match decoder.reg_scale.fract() == 0.0 {
            true => Tensor::from_i64s(&[1], &[decoder.reg_scale as i64]),
            false => Tensor::from_f32s(&[1], &[decoder.reg_scale as f32]),
        };
        for place in ["decoder", "decoder.decoder"] {
            constants.insert(format!("{place}.up"), Tensor::from_f32s(&[1], &[UP]));
            constants.insert(format!("{place}.reg_scale"), scale.clone());
        }
    }
    constants
}

/// The anchors of a square image before the sigmoid, infinite where they are not valid.
fn anchors(side: usize, strides: &[usize]) -> (Vec<f32>, Vec<bool>) {
    let (mut anchors, mut valid) = (Vec::new(), Vec::new());
    for (level, &stride) in strides.iter().enumerate() {
        let cells = side / stride;
        let size = 0.05 * 2_f32.powi(level as i32);
        for place in 0..cells * cells {
            let centre = |cell: usize| (cell as f32 + 0.5) / cells as f32;
            let anchor = [centre(place % cells), centre(place / cells), size, size];
            let usable = anchor.iter().all(|&share| share > 0.01 && share < 0.99);
            let logit =
                |share: f32| if usable { (share / (1.0 - share)).ln() } else { f32::INFINITY };
            anchors.extend(anchor.map(logit));
            valid.push(usable);
        }
    }
    (anchors, valid)
}

/// Whether a name is of something that a model computes or counts itself: nothing to load.
pub fn is_computed(name: &str) -> bool {
    let last = name.rsplit('.').next().unwrap_or(name);
    let constants =
        ["num_batches_tracked", "num_points_scale", "anchors", "valid_mask", "up", "reg_scale"];
    constants.contains(&last)
}

/// Whether a constant depends on the size of the images and on nothing else.
pub fn is_of_image_size(name: &str) -> bool {
    name == "decoder.anchors" || name == "decoder.valid_mask"
}

/// Whether the shape of a tensor follows from the number of classes.
pub fn is_class_head(name: &str) -> bool {
    ["decoder.enc_score_head.", "decoder.dec_score_head.", "decoder.denoising_class_embed."]
        .iter()
        .any(|head| name.starts_with(head))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(kind: DecoderKind, strides: &[usize], points: &[usize]) -> Config {
        let mut config = Config::default();
        config.model.strides = strides.to_vec();
        config.model.decoder.kind = kind;
        config.model.decoder.points = points.to_vec();
        config
    }

    #[test]
    fn d_fine_has_its_scale_twice_and_rtdetrv2_has_none() {
        let of = |kind| constants(&config(kind, &[8, 16, 32], &[3, 6, 3]));
        let (dfine, rtdetrv2) = (of(DecoderKind::Dfine), of(DecoderKind::Rtdetrv2));
        let names: Vec<&str> =
            dfine.keys().filter(|&name| !rtdetrv2.contains_key(name)).map(String::as_str).collect();
        assert_eq!(
            names,
            ["decoder.decoder.reg_scale", "decoder.decoder.up", "decoder.reg_scale", "decoder.up"]
        );
        assert_eq!(dfine["decoder.reg_scale"], Tensor::from_i64s(&[1], &[4]));
        assert_eq!(dfine["decoder.up"], Tensor::from_f32s(&[1], &[0.5]));
        let scales = dfine["decoder.decoder.layers.5.cross_attn.num_points_scale"].f32s();
        assert_eq!(scales[2..4], [1.0 / 3.0, 1.0 / 6.0]);
    }

    #[test]
    fn anchors_are_those_of_the_levels_that_the_decoder_sees() {
        let of = |strides: &[usize]| {
            constants(&config(DecoderKind::Dfine, strides, &[6, 6]))["decoder.valid_mask"].f64s()
        };
        // deim-facts 5: 316 of 8400 anchors are not valid at 640 pixels.
        let valid = of(&[8, 16, 32]);
        assert_eq!(
            (valid.len(), valid.iter().filter(|&&usable| usable == 0.0).count()),
            (8400, 316)
        );
        // D-FINE-N has no level of stride 8.
        assert_eq!(of(&[16, 32]).len(), 2000);
        let (anchors, _) = anchors(640, &[16, 32]);
        assert_eq!(anchors.len(), 8000);
        assert!((anchors[2] - (0.05_f32 / 0.95).ln()).abs() < 1e-6);
        assert!((anchors[1600 * 4 + 2] - (0.1_f32 / 0.9).ln()).abs() < 1e-6);
    }

    #[test]
    fn a_backbone_gets_counters_and_no_constants() {
        let tensor = Tensor::from_f32s(&[1], &[0.0]);
        let backbone = BTreeMap::from([("stem.bn.running_mean".to_owned(), tensor)]);
        let complete = complete(backbone, &Config::default());
        let names: Vec<&String> = complete.keys().collect();
        assert_eq!(names, ["stem.bn.num_batches_tracked", "stem.bn.running_mean"]);
        assert_eq!(complete["stem.bn.num_batches_tracked"], Tensor::from_i64s(&[], &[0]));
    }
}
