//! Recorded outputs of pycocotools 2.0.11: every statistic, class and curve must be the same.
//!
//! The cases lie under `tests/reference/cases/coco_eval` at the root of the repository; more are read
//! from the `coco_eval` folder of the tree that `DEIM_REFERENCE` names, where it is set.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};

use deim_eval::{Evaluation, GroundTruth, evaluate, read_detections};
use safetensors::SafeTensors;

const TOLERANCE: f64 = 1e-9;

fn cases() -> Vec<PathBuf> {
    let vendored =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/reference/cases/coco_eval");
    let more = std::env::var_os("DEIM_REFERENCE").map(|tree| Path::new(&tree).join("coco_eval"));
    let mut cases: Vec<PathBuf> = [Some(vendored), more]
        .into_iter()
        .flatten()
        .filter_map(|folder| std::fs::read_dir(folder).ok())
        .flatten()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.join("tensors.safetensors").is_file())
        .collect();
    cases.sort();
    cases
}

fn numbers(tensors: &SafeTensors<'_>, name: &str) -> Vec<f64> {
    let data = tensors.tensor(name).unwrap_or_else(|error| panic!("{name}: {error}"));
    data.data().chunks_exact(8).map(|bytes| f64::from_le_bytes(bytes.try_into().unwrap())).collect()
}

/// Largest absolute difference of two arrays of the same length.
fn worst(found: &[f64], expected: &[f64]) -> f64 {
    assert_eq!(found.len(), expected.len());
    found.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max)
}

fn per_class(evaluation: &Evaluation) -> Vec<f64> {
    evaluation
        .classes
        .iter()
        .flat_map(|class| [class.ap, class.ap50, class.ap75, class.ar100])
        .map(|value| value.unwrap_or(-1.0))
        .collect()
}

fn precision_means(evaluation: &Evaluation) -> Vec<f64> {
    let curves = &evaluation.curves;
    let [ious, recalls, categories, areas, limits] = curves.shape;
    let mut means = Vec::new();
    for iou in 0..ious {
        for category in 0..categories {
            for area in 0..areas {
                for limit in 0..limits {
                    let sum: f64 = curves.precision_at(iou, category, area, limit).sum();
                    means.push(sum / recalls as f64);
                }
            }
        }
    }
    means
}

fn run(case: &Path) -> (Evaluation, Vec<u8>) {
    let truth = GroundTruth::from_file(&case.join("gt.json")).unwrap();
    let detections = read_detections(&case.join("dt.json")).unwrap();
    let tensors = std::fs::read(case.join("tensors.safetensors")).unwrap();
    (evaluate(&truth, &detections).unwrap(), tensors)
}

#[test]
fn every_recorded_case_equals_pycocotools() {
    let cases = cases();
    assert!(!cases.is_empty(), "no case under tests/reference/cases/coco_eval");
    for case in &cases {
        let (evaluation, bytes) = run(case);
        let tensors = SafeTensors::deserialize(&bytes).unwrap();
        let ids: Vec<i64> = tensors
            .tensor("category_ids")
            .unwrap()
            .data()
            .chunks_exact(8)
            .map(|bytes| i64::from_le_bytes(bytes.try_into().unwrap()))
            .collect();
        let rows: Vec<i64> = evaluation.classes.iter().map(|class| class.category_id).collect();
        assert_eq!(rows, ids, "{}", case.display());
        let mut compared = vec![
            ("stats", evaluation.metrics.stats().to_vec()),
            ("per_class", per_class(&evaluation)),
            ("precision_mean", precision_means(&evaluation)),
            ("recall", evaluation.curves.recall.clone()),
        ];
        if tensors.tensor("precision").is_ok() {
            compared.push(("precision", evaluation.curves.precision.clone()));
        }
        for (name, found) in compared {
            let error = worst(&found, &numbers(&tensors, name));
            assert!(error <= TOLERANCE, "{}: {name} differs by {error:e}", case.display());
        }
    }
}

#[test]
fn a_moved_detection_is_noticed() {
    let cases = cases();
    let case = cases.iter().find(|case| case.ends_with("edge_crowd")).expect("edge_crowd");
    let truth = GroundTruth::from_file(&case.join("gt.json")).unwrap();
    let mut detections = read_detections(&case.join("dt.json")).unwrap();
    detections[0].bbox[0] += 20.0;
    let bytes = std::fs::read(case.join("tensors.safetensors")).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let found = evaluate(&truth, &detections).unwrap().metrics.stats();
    assert!(worst(&found, &numbers(&tensors, "stats")) > 1e-3);
}
