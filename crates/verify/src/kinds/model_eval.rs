//! A whole detector in evaluation: the output of every module that was recorded, selected tokens,
//! predictions, post-processed detections.

use burn::tensor::Device;
use deim_model::outputs::Prediction;
use deim_model::{Detector, trace};
use deim_train::postprocess::{Ranked, rank};

use super::detector;
use super::modules::Modules;
use crate::case::{Case, CaseError};
use crate::compare::{Check, Tolerance};
use crate::selection::{Bounds, Selection};

/// COCO's numbers of its 80 classes: 1 to 90 without these ten.
const ABSENT_CATEGORIES: [usize; 10] = [12, 26, 29, 30, 45, 66, 68, 69, 71, 83];

pub fn verify(case: &Case, device: &Device, check: &mut Check) -> Result<(), CaseError> {
    let config = detector::config(case)?;
    let detector = detector::filled(case, &config, device)?;
    compare(case, &detector, device, check)
}

fn compare(
    case: &Case,
    detector: &Detector,
    device: &Device,
    check: &mut Check,
) -> Result<(), CaseError> {
    let images = detector::images(case, case.text("seed")?, device)?;
    let pixels: Vec<f32> = images.clone().into_data().iter().collect();
    let exact = Tolerance { absolute: 0.0, relative: f64::from(f32::EPSILON) };
    check.array(case, "image.first64", &pixels[..64], exact)?;
    let mut modules = Modules::new(case)?;
    modules.tensor("image", images.clone(), check)?;

    // On a device without gradients every part runs as in evaluation. All heads predict, as in training:
    // the official code runs more of them in evaluation than a prediction needs.
    let encode = || {
        let features = detector.features(images.clone());
        let encoded = detector.encode(features.clone());
        (features.len(), encoded)
    };
    let ((levels, encoded), outputs) = trace::recorded(encode);
    modules.outputs(outputs, None, check)?;
    same_levels(case, "backbone", levels, check);
    same_levels(case, "encoder", encoded.len(), check);
    let (outputs, inner) = trace::recorded(|| detector.decode(encoded, None));
    let bounds = Bounds {
        score: case.tolerance("pred_logits")?,
        gap: case.number("tolerance.topk_swap_score_gap")?,
    };
    let selection = Selection::compare(case, "", &outputs, bounds, check)?;
    modules.outputs(inner, Some(&selection), check)?;
    modules.finish()?;

    let prediction = detector.infer(images);
    let logits: Vec<f32> = prediction.logits.clone().into_data().iter().collect();
    let boxes: Vec<f32> = prediction.boxes.clone().into_data().iter().collect();
    selection.rows(case, "pred_logits", &logits, case.tolerance("pred_logits")?, check)?;
    selection.rows(case, "pred_boxes", &boxes, case.tolerance("pred_boxes")?, check)?;
    // The prediction of inference is that of training's last layer.
    post_processed(case, prediction, check)
}

/// As many levels as the official part hands on.
fn same_levels(case: &Case, part: &str, ours: usize, check: &mut Check) {
    let stored = (0..).take_while(|level| case.has(&format!("probe.{part}.{level}.stat")));
    check.same(&format!("probe.{part}.levels"), &ours, &stored.count());
}

/// A stored detection.
struct Stored {
    label: usize,
    corners: [f64; 4],
    score: f64,
}

/// Compares the detections by rank; equally good ones may have changed places.
fn post_processed(case: &Case, prediction: Prediction, check: &mut Check) -> Result<(), CaseError> {
    let size = case.indices("orig_size")?;
    let [width, height] = size[..] else {
        return Err(CaseError::new("orig_size is not a width and a height"));
    };
    let stored = stored(case)?;
    let found = rank(prediction, &[[width as u32, height as u32]], stored.len());
    let found = found.into_iter().next().unwrap_or_default();
    check.same("post.labels.count", &found.len(), &stored.len());

    // The sigmoid is at most a quarter as steep as its argument.
    let quarter = |tolerance: f64| tolerance / 4.0;
    let scores: Vec<f64> = found.iter().map(|found| f64::from(found.score)).collect();
    let tolerance =
        Tolerance { absolute: quarter(case.number("tolerance.pred_logits_abs")?), relative: 0.0 };
    check.values("post.scores", &scores, &case.array("post.scores")?.values, tolerance)?;

    let gap = quarter(case.number("tolerance.topk_swap_score_gap")?);
    // A corner is a centre and half a side, in shares of the image.
    let reach = 1.5 * case.number("tolerance.pred_boxes_abs")?;
    let tolerances = [width, height, width, height]
        .map(|side| Tolerance { absolute: reach * side as f64, relative: 0.0 });
    let near = |ours: &Ranked, stored: &Stored| {
        ours.class == stored.label
            && corners(ours)
                .iter()
                .zip(stored.corners)
                .zip(tolerances)
                .all(|((ours, stored), tolerance)| (ours - stored).abs() <= tolerance.absolute)
    };
    let least = stored.last().map_or(0.0, |stored| stored.score);
    for (place, expected) in stored.iter().enumerate() {
        let swapped = |ours: &&Ranked| {
            (f64::from(ours.score) - expected.score).abs() <= gap && near(ours, expected)
        };
        let ours = found.get(place).filter(|ours| near(ours, expected));
        match ours.or_else(|| found.iter().find(swapped)) {
            Some(ours) => {
                let values = corners(ours);
                for ((ours, expected), tolerance) in
                    values.into_iter().zip(expected.corners).zip(tolerances)
                {
                    check.values("post.boxes", &[ours], &[expected], tolerance)?;
                }
            }
            // The last places may go to another of the same score.
            None if expected.score - least <= gap => {}
            None => check.same(&format!("post.labels[{place}]"), &None, &Some(expected.label)),
        }
    }
    Ok(())
}

fn stored(case: &Case) -> Result<Vec<Stored>, CaseError> {
    let labels = case.indices("post.labels")?;
    let count = labels.len();
    let categories = case.indices("post.category_ids")?;
    let classes: Vec<usize> = (1..=90).filter(|id| !ABSENT_CATEGORIES.contains(id)).collect();
    let expected: Option<Vec<usize>> =
        labels.iter().map(|&label| classes.get(label).copied()).collect();
    if expected.as_ref() != Some(&categories) {
        return Err(CaseError::new("post.category_ids are not COCO's ids of post.labels"));
    }
    let boxes = &case.shaped("post.boxes", &[count, 4])?.values;
    let scores = &case.shaped("post.scores", &[count])?.values;
    let corners = boxes.as_chunks::<4>().0;
    Ok(labels
        .into_iter()
        .zip(corners)
        .zip(scores)
        .map(|((label, &corners), &score)| Stored { label, corners, score })
        .collect())
}

fn corners(found: &Ranked) -> [f64; 4] {
    let [x, y, width, height] = found.bbox;
    [x, y, x + width, y + height]
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::Path;

    use burn::tensor::TensorData;
    use deim_model::weights;

    use super::*;
    use crate::case;

    #[test]
    fn coco_has_eighty_classes() {
        assert_eq!((1..=90).filter(|id| !ABSENT_CATEGORIES.contains(id)).count(), 80);
    }

    /// The arrays of a committed case that notice when one weight of its detector is another.
    fn beyond_with(name: &str, parameter: &str) -> Vec<String> {
        let cases = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/reference/cases");
        let folder = cases.join("model_eval").join(name);
        let case = Case::load(&folder, case::table(&folder).unwrap(), true).unwrap();
        let device = Device::flex();
        let config = detector::config(&case).unwrap();
        let detector = detector::filled(&case, &config, &device).unwrap();
        let mut tensors: BTreeMap<String, TensorData> =
            weights::read(&detector).into_iter().collect();
        let data = tensors.get_mut(parameter).expect("a parameter");
        let mut values: Vec<f32> = data.iter().collect();
        values[0] += 0.5;
        *data = TensorData::new(values, data.shape.to_vec());
        let detector = weights::load(detector, &tensors).unwrap();
        let mut check = Check::default();
        // Other tokens may be chosen, which ends the comparison.
        let _ = compare(&case, &detector, &device, &mut check);
        check.beyond.into_iter().map(|worst| worst.tensor).collect()
    }

    #[test]
    fn a_wrong_weight_shows_in_the_module_that_has_it_and_in_none_before() {
        for (case, parameter, first, before) in [
            ("n", "backbone.stem.stem3.bn.bias", "backbone.stem", "image"),
            ("n", "encoder.input_proj.1.norm.bias", "encoder.input_proj.1", "encoder.input_proj.0"),
            (
                "n",
                "encoder.fpn_blocks.0.cv4.norm.bias",
                "encoder.fpn_blocks.0",
                "encoder.lateral_convs.0",
            ),
            (
                "n",
                "decoder.decoder.layers.1.self_attn.in_proj_weight",
                "decoder.decoder.layers.1.self_attn.1",
                "decoder.decoder.layers.0",
            ),
            (
                "n",
                "decoder.decoder.layers.1.gateway.norm.bias",
                "decoder.decoder.layers.1.gateway",
                "decoder.decoder.layers.1.cross_attn",
            ),
            (
                "n",
                "decoder.pre_bbox_head.layers.2.bias",
                "decoder.pre_bbox_head",
                "decoder.enc_output",
            ),
            ("r18", "backbone.conv1.conv1_3.norm.bias", "backbone.conv1", "image"),
            (
                "r18",
                "decoder.enc_bbox_head.layers.2.bias",
                "decoder.enc_bbox_head",
                "decoder.enc_score_head",
            ),
            (
                "r18",
                "decoder.decoder.layers.2.norm2.bias",
                "decoder.decoder.layers.2.norm2",
                "decoder.query_pos_head#2",
            ),
        ] {
            let beyond = beyond_with(case, parameter);
            let wrong = |module: &str| {
                let parts =
                    ["shape", "stat", "samples"].map(|part| format!("probe.{module}.{part}"));
                beyond.iter().any(|tensor| parts.contains(tensor))
            };
            assert!(wrong(first), "{case}, {parameter}: not {first}, but {beyond:?}");
            assert!(!wrong(before), "{case}, {parameter}: {before} in {beyond:?}");
        }
    }
}
