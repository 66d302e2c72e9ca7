//! COCO metrics against pycocotools' numbers.

use burn::tensor::Device;
use deim_eval::{ClassMetrics, Evaluation, GroundTruth, evaluate, read_detections};

use super::loss::failed;
use crate::case::{Case, CaseError};
use crate::compare::{Check, Tolerance};

pub fn verify(case: &Case, _device: &Device, check: &mut Check) -> Result<(), CaseError> {
    let truth = GroundTruth::from_file(&case.folder.join("gt.json")).map_err(failed)?;
    let detections = read_detections(&case.folder.join("dt.json")).map_err(failed)?;
    let ours = evaluate(&truth, &detections).map_err(failed)?;
    let tolerance = case.tolerance("stats")?;

    let stats = ours.metrics.stats();
    check.values("stats", &stats, &case.array("stats")?.values, tolerance)?;
    check.values("case.toml: stats", &stats, &case.numbers("stats")?, tolerance)?;
    if case.has("stats_faster_coco_eval") && case.text("faster_coco_eval_error")?.is_empty() {
        let expected = &case.array("stats_faster_coco_eval")?.values;
        check.values("stats_faster_coco_eval", &stats, expected, tolerance)?;
    }

    let ids: Vec<i64> = ours.classes.iter().map(|class| class.category_id).collect();
    let expected: Vec<i64> =
        case.array("category_ids")?.values.iter().map(|&id| id as i64).collect();
    check.same("category_ids", &ids, &expected);
    if ids != expected {
        return Ok(());
    }
    let number = |value: Option<f64>| value.unwrap_or(-1.0);
    let row = |class: &ClassMetrics| [class.ap, class.ap50, class.ap75, class.ar100].map(number);
    let per_class: Vec<f64> = ours.classes.iter().flat_map(row).collect();
    check.values("per_class", &per_class, &case.array("per_class")?.values, tolerance)?;
    curves(case, &ours, tolerance, check)
}

/// The accumulated arrays, in full where the case has them and as means over recall.
fn curves(
    case: &Case,
    ours: &Evaluation,
    tolerance: Tolerance,
    check: &mut Check,
) -> Result<(), CaseError> {
    let [ious, recalls, categories, areas, limits] = ours.curves.shape;
    let shape = [ious, categories, areas, limits];
    let mut means = Vec::new();
    let mut recall = Vec::new();
    for iou in 0..ious {
        for category in 0..categories {
            for area in 0..areas {
                for limit in 0..limits {
                    let values = ours.curves.precision_at(iou, category, area, limit);
                    means.push(values.sum::<f64>() / recalls as f64);
                    recall.push(ours.curves.recall_at(iou, category, area, limit));
                }
            }
        }
    }
    let expected = &case.shaped("precision_mean", &shape)?.values;
    check.values("precision_mean", &means, expected, tolerance)?;
    check.values("recall", &recall, &case.shaped("recall", &shape)?.values, tolerance)?;
    if case.has("precision") {
        let expected = &case.shaped("precision", &ours.curves.shape)?.values;
        check.values("precision", &ours.curves.precision, expected, tolerance)?;
    }
    Ok(())
}
