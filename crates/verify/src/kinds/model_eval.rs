//! A whole detector in evaluation: levels, selected tokens, predictions, post-processed detections.

use burn::tensor::{Device, Tensor};
use deim_model::outputs::Prediction;
use deim_train::postprocess::{Ranked, rank};

use super::detector;
use crate::case::{Case, CaseError};
use crate::compare::{Check, Tolerance};
use crate::probe;
use crate::selection::{Bounds, Selection};

/// COCO's numbers of its 80 classes: 1 to 90 without these ten.
const ABSENT_CATEGORIES: [usize; 10] = [12, 26, 29, 30, 45, 66, 68, 69, 71, 83];

pub fn verify(case: &Case, device: &Device, check: &mut Check) -> Result<(), CaseError> {
    let config = detector::config(case)?;
    let detector = detector::filled(case, &config, device)?;
    let images = detector::images(case, case.text("seed")?, device)?;
    let to_std = case.number("tolerance.probe_rel_to_std")?;
    let pixels: Vec<f32> = images.clone().into_data().iter().collect();
    let exact = Tolerance { absolute: 0.0, relative: f64::from(f32::EPSILON) };
    check.array(case, "image.first64", &pixels[..64], exact)?;
    probe::compare(case, "probe.image", images.clone(), to_std, check)?;

    // On a device without gradients every part runs as in evaluation.
    let features = detector.features(images.clone());
    levels(case, "probe.backbone", &features, to_std, check)?;
    let encoded = detector.encode(features);
    levels(case, "probe.encoder", &encoded, to_std, check)?;
    let outputs = detector.decode(encoded, None);
    let bounds = Bounds {
        score: case.tolerance("pred_logits")?,
        gap: case.number("tolerance.topk_swap_score_gap")?,
    };
    let selection = Selection::compare(case, "", &outputs, bounds, check)?;

    let prediction = detector.infer(images);
    let logits: Vec<f32> = prediction.logits.clone().into_data().iter().collect();
    let boxes: Vec<f32> = prediction.boxes.clone().into_data().iter().collect();
    selection.rows(case, "pred_logits", &logits, case.tolerance("pred_logits")?, check)?;
    selection.rows(case, "pred_boxes", &boxes, case.tolerance("pred_boxes")?, check)?;
    // The prediction of inference is that of training's last layer.
    post_processed(case, prediction, check)
}

/// The levels that a part hands on.
pub fn levels(
    case: &Case,
    prefix: &str,
    levels: &[Tensor<4>],
    to_std: f64,
    check: &mut Check,
) -> Result<(), CaseError> {
    for (index, level) in levels.iter().enumerate() {
        probe::compare(case, &format!("{prefix}.{index}"), level.clone(), to_std, check)?;
    }
    let next = format!("{prefix}.{}.stat", levels.len());
    check.same(&format!("{prefix}.levels"), &case.has(&next), &false);
    Ok(())
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
    use super::*;

    #[test]
    fn coco_has_eighty_classes() {
        assert_eq!((1..=90).filter(|id| !ABSENT_CATEGORIES.contains(id)).count(), 80);
    }
}
