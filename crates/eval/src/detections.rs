//! Detections in COCO's result format.

use std::path::Path;

use serde::Deserialize;

use crate::error::EvalError;
use crate::json;
use crate::metrics::Detection;

#[derive(Deserialize)]
struct FileDetection {
    #[serde(deserialize_with = "json::integer")]
    image_id: i64,
    #[serde(deserialize_with = "json::integer")]
    category_id: i64,
    bbox: [f64; 4],
    score: f64,
}

/// Reads a COCO result file: an array of detections.
pub fn read_detections(path: &Path) -> Result<Vec<Detection>, EvalError> {
    let text = std::fs::read_to_string(path)
        .map_err(|source| EvalError::Read { path: path.to_owned(), source })?;
    parse(&text, &path.display().to_string())
}

/// From the text of a COCO result file.
pub fn detections_from_json(text: &str) -> Result<Vec<Detection>, EvalError> {
    parse(text, "detections")
}

fn parse(text: &str, origin: &str) -> Result<Vec<Detection>, EvalError> {
    let entries: Vec<FileDetection> =
        serde_json::from_str(text).map_err(|source| EvalError::Json {
            origin: origin.to_owned(),
            expected: "COCO detections (an array of image_id, category_id, bbox, score)",
            source,
        })?;
    Ok(entries
        .into_iter()
        .map(|entry| Detection {
            image_id: entry.image_id,
            category_id: entry.category_id,
            bbox: entry.bbox,
            score: entry.score,
        })
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_result_file_without_scores_is_refused() {
        let text = r#"[{"image_id":1,"category_id":1,"bbox":[0,0,1,1]}]"#;
        let error = detections_from_json(text).unwrap_err().to_string();
        assert!(error.contains("missing field `score`"), "{error}");
    }

    #[test]
    fn an_object_in_place_of_the_array_is_refused() {
        let error = detections_from_json(r#"{"annotations":[]}"#).unwrap_err().to_string();
        assert!(error.starts_with("detections: expected COCO detections"), "{error}");
    }
}
