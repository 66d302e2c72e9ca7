//! Readers, from files that tests write.

mod hostile;
mod model;
mod places;
mod round_trips;
mod rules;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::*;
use model::{picture, read_one, write};

/// One image of 20 x 10 pixels with these annotations.
pub fn tiny_coco(annotations: &Value) -> (TempDir, Index) {
    let folder = TempDir::new().unwrap();
    picture(folder.path(), "images/a.png", [20, 10]);
    let file = json!({
        "images": [{"id": 7, "file_name": "a.png", "width": 20, "height": 10}],
        "annotations": annotations,
        "categories": [{"id": 90, "name": "late"}, {"id": -3, "name": "early"}],
    });
    write(folder.path(), "annotations/train.json", file.to_string());
    let index = read_one(folder.path());
    (folder, index)
}

pub fn annotation(id: i64, bbox: Value) -> Value {
    json!({"id": id, "image_id": 7, "category_id": 90, "bbox": bbox, "area": 4, "iscrowd": 0})
}
