//! A split of a data set and its detections as COCO files, which every COCO tool reads.

use serde::Serialize;

use crate::error::EvalError;
use crate::ground_truth::{Annotation, Category, GroundTruth};
use crate::metrics::Detection;

/// An image of a split.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ListedImage {
    pub id: i64,
    pub width: u32,
    pub height: u32,
    /// Its file, relative to the folder of the images.
    pub file_name: String,
}

/// Everything that detections of a split are compared with.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CocoSet {
    pub images: Vec<ListedImage>,
    pub categories: Vec<Category>,
    pub annotations: Vec<Annotation>,
}

#[derive(Serialize)]
struct File<'a> {
    /// Some versions of pycocotools look for both and stop where there is none.
    info: Info<'a>,
    licenses: [(); 0],
    images: &'a [ListedImage],
    categories: &'a [Category],
    annotations: Vec<FileAnnotation<'a>>,
}

#[derive(Serialize)]
struct Info<'a> {
    description: &'a str,
}

#[derive(Serialize)]
struct FileAnnotation<'a> {
    id: i64,
    image_id: i64,
    category_id: i64,
    bbox: &'a [f64; 4],
    area: f64,
    iscrowd: u8,
}

impl CocoSet {
    pub fn ground_truth(&self) -> Result<GroundTruth, EvalError> {
        let images: Vec<i64> = self.images.iter().map(|image| image.id).collect();
        GroundTruth::from_parts(&images, &self.categories, &self.annotations)
    }

    /// The text of a COCO annotation file; `description` says what it is of.
    pub fn to_json(&self, description: &str) -> String {
        let annotations = self.annotations.iter().map(|one| FileAnnotation {
            id: one.id,
            image_id: one.image_id,
            category_id: one.category_id,
            bbox: &one.bbox,
            area: one.area,
            iscrowd: one.crowd.into(),
        });
        let file = File {
            info: Info { description },
            licenses: [],
            images: &self.images,
            categories: &self.categories,
            annotations: annotations.collect(),
        };
        serde_json::to_string(&file).expect("plain values with names")
    }
}

/// The text of a COCO result file, with every digit: its metrics are those of the detections.
pub fn detections_to_json(detections: &[Detection]) -> String {
    serde_json::to_string(detections).expect("plain values with names")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{detections_from_json, evaluate};

    fn set() -> CocoSet {
        let object = |id, bbox: [f64; 4], crowd| Annotation {
            id,
            image_id: 7,
            category_id: 3,
            bbox,
            area: bbox[2] * bbox[3] / 3.0,
            crowd,
        };
        CocoSet {
            images: vec![ListedImage { id: 7, width: 90, height: 60, file_name: "a.png".into() }],
            categories: vec![Category { id: 3, name: "cat \"and\" dog".into() }],
            annotations: vec![
                object(1, [1.0 / 3.0, 2.0, 40.0, 33.3], false),
                object(2, [50.0, 5.0, 30.0, 30.0], true),
            ],
        }
    }

    #[test]
    fn what_is_written_measures_as_what_is_in_memory() {
        let set = set();
        let found = |bbox, score| Detection { image_id: 7, category_id: 3, bbox, score };
        let detections = vec![
            found([0.4, 2.1, 41.0, 30.0], f64::from(0.7_f32)),
            found([52.0, 6.0, 20.0, 20.0], 0.9),
            found([1.0, 30.0, 20.0, 20.0], 0.3),
        ];
        let own = evaluate(&set.ground_truth().unwrap(), &detections).unwrap();
        let truth = GroundTruth::from_json(&set.to_json("a test")).unwrap();
        let again = detections_from_json(&detections_to_json(&detections)).unwrap();
        assert_eq!(again, detections);
        let read = evaluate(&truth, &again).unwrap();
        assert_eq!(read.metrics, own.metrics);
        assert!(own.metrics.ap.is_some_and(|ap| ap > 0.1 && ap < 1.0), "{:?}", own.metrics);
        assert!(truth.notes().is_empty(), "{:?}", truth.notes());
    }
}
