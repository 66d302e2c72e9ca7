//! The twelve COCO numbers, per class and per threshold, through hotcoco.

use std::collections::BTreeMap;

use hotcoco::types;
use hotcoco::{AccumulatedEval, COCOeval, IouType};
use serde::Serialize;

use crate::error::EvalError;
use crate::ground_truth::GroundTruth;
use crate::metrics::{Detection, Metrics};

/// Everything one evaluation gives.
#[derive(Clone, Debug, PartialEq)]
pub struct Evaluation {
    pub metrics: Metrics,
    /// One entry per category, in ascending order of category id.
    pub classes: Vec<ClassMetrics>,
    pub curves: Curves,
    /// What was ignored or replaced in the input, with its count.
    pub notes: BTreeMap<String, u64>,
}

/// The numbers of one class; `None` where the class has no object to find.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ClassMetrics {
    pub category_id: i64,
    pub name: String,
    pub ap: Option<f64>,
    pub ap50: Option<f64>,
    pub ap75: Option<f64>,
    /// Average recall with 100 detections an image.
    pub ar100: Option<f64>,
}

/// pycocotools' accumulated arrays, row-major; -1 where there is nothing to measure.
#[derive(Clone, Debug, PartialEq)]
pub struct Curves {
    /// IoU thresholds (10), recall points (101), categories, areas (all, small, medium, large),
    /// detections an image (1, 10, 100).
    pub shape: [usize; 5],
    /// `[iou, recall, category, area, detections]`
    pub precision: Vec<f64>,
    /// `[iou, category, area, detections]`
    pub recall: Vec<f64>,
}

/// Position of IoU 0.75 among the thresholds 0.50, 0.55, ...
const IOU_75: usize = 5;

impl Curves {
    /// Precision at the 101 recall points of one IoU threshold, category, area and detection limit.
    pub fn precision_at(
        &self,
        iou: usize,
        category: usize,
        area: usize,
        limit: usize,
    ) -> impl Iterator<Item = f64> + '_ {
        let [_, recalls, categories, areas, limits] = self.shape;
        (0..recalls).map(move |recall| {
            let row = (iou * recalls + recall) * categories + category;
            self.precision[(row * areas + area) * limits + limit]
        })
    }

    /// Largest recall of one IoU threshold, category, area and detection limit.
    pub fn recall_at(&self, iou: usize, category: usize, area: usize, limit: usize) -> f64 {
        let [_, _, categories, areas, limits] = self.shape;
        self.recall[((iou * categories + category) * areas + area) * limits + limit]
    }

    fn class_precision(&self, ious: std::ops::Range<usize>, category: usize) -> Option<f64> {
        mean(ious.flat_map(|iou| self.precision_at(iou, category, 0, self.shape[4] - 1)))
    }

    fn class_recall(&self, category: usize) -> Option<f64> {
        let limit = self.shape[4] - 1;
        mean((0..self.shape[0]).map(|iou| self.recall_at(iou, category, 0, limit)))
    }
}

/// Compares detections with the ground truth, as `COCOeval(iouType="bbox")` does.
///
/// Detections of a category that the ground truth does not list are ignored, with a note, as
/// pycocotools ignores them. Those of an unknown image are an error, as they are there: the file
/// belongs to other images.
pub fn evaluate(truth: &GroundTruth, detections: &[Detection]) -> Result<Evaluation, EvalError> {
    let mut notes = truth.notes().clone();
    let mut unknown = 0;
    let mut results = Vec::with_capacity(detections.len());
    for (position, detection) in detections.iter().enumerate() {
        let wrong = |what: String| EvalError::Entry {
            origin: "detections".into(),
            what: format!("entry {position}: {what}"),
        };
        if !detection.score.is_finite() || detection.bbox.iter().any(|v| !v.is_finite()) {
            return Err(wrong(format!(
                "expected finite numbers, found box {:?} and score {}",
                detection.bbox, detection.score
            )));
        }
        let Some(image_id) = truth.image_position(detection.image_id) else {
            return Err(wrong(format!(
                "image id {} is not among the {} images of {}",
                detection.image_id,
                truth.images.len(),
                truth.origin
            )));
        };
        let Some(category_id) = truth.category_position(detection.category_id) else {
            unknown += 1;
            continue;
        };
        results.push(types::Annotation {
            image_id,
            category_id,
            bbox: Some(detection.bbox),
            score: Some(detection.score),
            ..Default::default()
        });
    }
    if unknown > 0 {
        notes.insert("detections of categories that are not listed: ignored".into(), unknown);
    }

    let results = truth.coco.load_res_anns(results)?;
    let mut library = COCOeval::new(truth.coco.clone(), results, IouType::Bbox);
    library.evaluate()?;
    library.accumulate();
    // The lines themselves are for pycocotools' habit of printing; only the numbers are wanted.
    library.summarize_lines();
    let stats = library.stats().and_then(|stats| <[f64; 12]>::try_from(stats).ok());
    let (Some(stats), Some(accumulated)) = (stats, library.accumulated()) else {
        return Err(EvalError::Entry {
            origin: "hotcoco".into(),
            what: format!("expected 12 numbers, found {:?}", library.stats()),
        });
    };
    let curves = Curves::from(accumulated);
    let classes = truth
        .categories
        .iter()
        .enumerate()
        .map(|(row, category)| ClassMetrics {
            category_id: category.id,
            name: category.name.clone(),
            ap: curves.class_precision(0..curves.shape[0], row),
            ap50: curves.class_precision(0..1, row),
            ap75: curves.class_precision(IOU_75..IOU_75 + 1, row),
            ar100: curves.class_recall(row),
        })
        .collect();
    Ok(Evaluation { metrics: Metrics::from_stats(stats), classes, curves, notes })
}

impl From<&AccumulatedEval> for Curves {
    fn from(accumulated: &AccumulatedEval) -> Self {
        let shape = &accumulated.shape;
        Self {
            shape: [shape.t, shape.r, shape.k, shape.a, shape.m],
            precision: accumulated.precision.clone(),
            recall: accumulated.recall.clone(),
        }
    }
}

/// Mean of the measured values; `None` when all are -1.
fn mean(values: impl Iterator<Item = f64>) -> Option<f64> {
    let (sum, count) = values
        .filter(|&value| value > -1.0)
        .fold((0.0, 0_u32), |(sum, count), value| (sum + value, count + 1));
    (count > 0).then(|| sum / f64::from(count))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ground_truth::{Annotation, Category};

    fn truth(boxes: &[[f64; 4]]) -> GroundTruth {
        let annotations: Vec<Annotation> = (1..)
            .zip(boxes)
            .map(|(id, &bbox)| Annotation {
                id,
                image_id: -5,
                category_id: 90,
                bbox,
                area: bbox[2] * bbox[3],
                crowd: false,
            })
            .collect();
        let category = Category { id: 90, name: "toothbrush".into() };
        GroundTruth::from_parts(&[-5], &[category], &annotations).unwrap()
    }

    fn detection(bbox: [f64; 4], score: f64) -> Detection {
        Detection { image_id: -5, category_id: 90, bbox, score }
    }

    #[test]
    fn perfect_detections_reach_one_and_a_shift_does_not() {
        let truth = truth(&[[0.0, 0.0, 40.0, 40.0]]);
        let perfect = evaluate(&truth, &[detection([0.0, 0.0, 40.0, 40.0], 0.5)]).unwrap();
        assert!((perfect.metrics.ap.unwrap() - 1.0).abs() < 1e-12);
        assert_eq!(perfect.classes[0].category_id, 90);
        assert_eq!(perfect.metrics.ap_small, None);
        // IoU 36/44 = 0.818: right at the seven thresholds up to 0.80.
        let shifted = evaluate(&truth, &[detection([4.0, 0.0, 40.0, 40.0], 0.5)]).unwrap();
        assert!((shifted.metrics.ap.unwrap() - 0.7).abs() < 1e-12);
        assert!((shifted.classes[0].ap.unwrap() - 0.7).abs() < 1e-12);
        assert!((shifted.classes[0].ar100.unwrap() - 0.7).abs() < 1e-12);
    }

    #[test]
    fn nothing_to_find_is_undefined_and_nothing_found_is_zero() {
        let nothing = evaluate(&truth(&[]), &[detection([0.0, 0.0, 9.0, 9.0], 0.5)]).unwrap();
        assert_eq!(nothing.metrics, Metrics::default());
        let missed = evaluate(&truth(&[[0.0, 0.0, 40.0, 40.0]]), &[]).unwrap();
        assert_eq!(missed.metrics.ap, Some(0.0));
    }

    #[test]
    fn a_detection_that_cannot_be_placed_is_an_error_or_a_counted_note() {
        let truth = truth(&[[0.0, 0.0, 40.0, 40.0]]);
        let mut stray = detection([0.0, 0.0, 40.0, 40.0], 0.5);
        stray.category_id = 1;
        let evaluation = evaluate(&truth, &[stray.clone()]).unwrap();
        assert_eq!(evaluation.notes.values().copied().collect::<Vec<_>>(), [1]);
        stray.image_id = 3;
        let error = evaluate(&truth, &[stray.clone()]).unwrap_err().to_string();
        assert_eq!(
            error,
            "detections: entry 0: image id 3 is not among the 1 images of ground truth"
        );
        stray.score = f64::NAN;
        assert!(evaluate(&truth, &[stray]).unwrap_err().to_string().contains("finite"));
    }
}
