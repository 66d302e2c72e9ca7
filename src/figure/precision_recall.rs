//! Precision over recall from COCO files of ground truth and detections.

use std::path::{Path, PathBuf};

use deim_eval::{Curves, GroundTruth, evaluate, read_detections};
use deim_report::figures::precision_recall::{PrecisionRecall, precision_recall};

/// Draws the curves of some detection files against one ground truth.
pub fn draw(truth: &Path, detections: &[PathBuf]) -> anyhow::Result<String> {
    let ground_truth = GroundTruth::from_file(truth)?;
    let mut detectors = Vec::new();
    for path in detections {
        let evaluation = evaluate(&ground_truth, &read_detections(path)?)?;
        let ap = evaluation.metrics.ap.map_or("none".into(), |ap| format!("{:.1}", 100.0 * ap));
        let name = path.file_stem().unwrap_or_default().to_string_lossy();
        let curves = &evaluation.curves;
        let ious = curves.shape[0];
        detectors.push(PrecisionRecall {
            name: format!("{name} (AP {ap})"),
            // IoU 0.50, 0.75 and all ten.
            precision: [
                mean(curves, &[0]),
                mean(curves, &[5]),
                mean(curves, &(0..ious).collect::<Vec<_>>()),
            ],
        });
    }
    let about = format!("Ground truth: {}.", file_name(truth));
    Ok(precision_recall(&detectors, &about)?)
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// Mean precision at each recall over thresholds and classes; -1 marks a class without targets.
fn mean(curves: &Curves, ious: &[usize]) -> Vec<f64> {
    let [_, recalls, categories, _, limits] = curves.shape;
    let mut sums = vec![(0.0, 0_usize); recalls];
    for &iou in ious {
        for category in 0..categories {
            let precision = curves.precision_at(iou, category, 0, limits - 1);
            for ((sum, count), value) in sums.iter_mut().zip(precision) {
                if value >= 0.0 {
                    *sum += value;
                    *count += 1;
                }
            }
        }
    }
    sums.into_iter().map(|(sum, count)| sum / count.max(1) as f64).collect()
}
