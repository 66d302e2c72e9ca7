//! The objects that are really there: from memory or from a COCO file.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use hotcoco::COCO;
use hotcoco::types;
use serde::{Deserialize, Serialize};

use crate::error::EvalError;
use crate::json;

/// A class of objects.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Category {
    #[serde(deserialize_with = "json::integer")]
    pub id: i64,
    pub name: String,
}

/// An object in an image.
#[derive(Clone, Debug, PartialEq)]
pub struct Annotation {
    pub id: i64,
    pub image_id: i64,
    pub category_id: i64,
    /// `[x, y, width, height]` in pixels of the image.
    pub bbox: [f64; 4],
    /// Decides whether the object counts as small, medium or large.
    pub area: f64,
    /// A crowd region: it absorbs detections and is not asked for.
    pub crowd: bool,
}

/// What detections are compared with. Cheap to evaluate against many times.
#[derive(Clone)]
pub struct GroundTruth {
    pub(crate) coco: Arc<COCO>,
    /// Image ids in ascending order; the metric library sees their positions.
    pub(crate) images: Vec<i64>,
    /// Categories in ascending order of id.
    pub(crate) categories: Vec<Category>,
    pub(crate) origin: String,
    notes: BTreeMap<String, u64>,
}

#[derive(Deserialize)]
struct File {
    images: Vec<FileImage>,
    categories: Vec<Category>,
    annotations: Vec<FileAnnotation>,
}

#[derive(Deserialize)]
struct FileImage {
    #[serde(deserialize_with = "json::integer")]
    id: i64,
}

#[derive(Deserialize)]
struct FileAnnotation {
    #[serde(deserialize_with = "json::integer")]
    id: i64,
    #[serde(deserialize_with = "json::integer")]
    image_id: i64,
    #[serde(deserialize_with = "json::integer")]
    category_id: i64,
    bbox: [f64; 4],
    area: Option<f64>,
    #[serde(default, deserialize_with = "json::flag")]
    iscrowd: bool,
}

impl GroundTruth {
    /// Reads a COCO annotation file.
    pub fn from_file(path: &Path) -> Result<Self, EvalError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| EvalError::Read { path: path.to_owned(), source })?;
        Self::parse(&text, &path.display().to_string())
    }

    /// From the text of a COCO annotation file.
    pub fn from_json(text: &str) -> Result<Self, EvalError> {
        Self::parse(text, "ground truth")
    }

    fn parse(text: &str, origin: &str) -> Result<Self, EvalError> {
        let file: File = serde_json::from_str(text).map_err(|source| EvalError::Json {
            origin: origin.to_owned(),
            expected: "a COCO ground truth (an object with images, annotations and categories)",
            source,
        })?;
        let mut without_area = 0;
        let annotations: Vec<Annotation> = file
            .annotations
            .into_iter()
            .map(|entry| Annotation {
                id: entry.id,
                image_id: entry.image_id,
                category_id: entry.category_id,
                bbox: entry.bbox,
                area: entry.area.unwrap_or_else(|| {
                    without_area += 1;
                    entry.bbox[2] * entry.bbox[3]
                }),
                crowd: entry.iscrowd,
            })
            .collect();
        let images: Vec<i64> = file.images.into_iter().map(|image| image.id).collect();
        let mut built = Self::build(&images, &file.categories, &annotations, origin)?;
        built.note("annotations without an area: the area of the box was used", without_area);
        Ok(built)
    }

    /// From a data set in memory; `images` are the ids of the evaluated images.
    pub fn from_parts(
        images: &[i64],
        categories: &[Category],
        annotations: &[Annotation],
    ) -> Result<Self, EvalError> {
        Self::build(images, categories, annotations, "ground truth")
    }

    /// The classes, in ascending order of id: the order of the rows of an evaluation.
    pub fn categories(&self) -> &[Category] {
        &self.categories
    }

    /// The evaluated images, in ascending order of id.
    pub fn images(&self) -> &[i64] {
        &self.images
    }

    /// What was ignored or replaced while building, with its count.
    pub fn notes(&self) -> &BTreeMap<String, u64> {
        &self.notes
    }

    fn build(
        images: &[i64],
        categories: &[Category],
        annotations: &[Annotation],
        origin: &str,
    ) -> Result<Self, EvalError> {
        let wrong = |what: String| EvalError::Entry { origin: origin.to_owned(), what };
        if images.is_empty() {
            return Err(wrong("expected at least one image, found none".into()));
        }
        if categories.is_empty() {
            return Err(wrong("expected at least one category, found none".into()));
        }
        let images = unique(images.iter().copied())
            .map_err(|id| wrong(format!("image id {id} appears twice")))?;
        unique(categories.iter().map(|category| category.id))
            .map_err(|id| wrong(format!("category id {id} appears twice")))?;
        unique(annotations.iter().map(|annotation| annotation.id))
            .map_err(|id| wrong(format!("annotation id {id} appears twice")))?;
        let mut categories = categories.to_vec();
        categories.sort_by_key(|category| category.id);

        let mut truth = Self {
            coco: Arc::new(COCO::from_dataset(types::Dataset::default())),
            images,
            categories,
            origin: origin.to_owned(),
            notes: BTreeMap::new(),
        };
        let [mut foreign_image, mut foreign_category, mut zero_id] = [0_u64; 3];
        let mut kept = Vec::with_capacity(annotations.len());
        for annotation in annotations {
            if !annotation.area.is_finite() || annotation.bbox.iter().any(|v| !v.is_finite()) {
                return Err(wrong(format!(
                    "annotation {}: expected finite numbers, found box {:?} and area {}",
                    annotation.id, annotation.bbox, annotation.area
                )));
            }
            // pycocotools looks annotations up by image and category, so it never sees these.
            let Some(image) = truth.image_position(annotation.image_id) else {
                foreign_image += 1;
                continue;
            };
            let Some(category) = truth.category_position(annotation.category_id) else {
                foreign_category += 1;
                continue;
            };
            zero_id += u64::from(annotation.id == 0);
            kept.push(types::Annotation {
                id: kept.len() as u64 + 1,
                image_id: image,
                category_id: category,
                bbox: Some(annotation.bbox),
                area: Some(annotation.area),
                iscrowd: annotation.crowd,
                ..Default::default()
            });
        }
        truth.note("annotations of images that are not listed: ignored", foreign_image);
        truth.note("annotations of categories that are not listed: ignored", foreign_category);
        truth.note("annotations with id 0: counted here, but as a miss by pycocotools", zero_id);
        truth.coco = Arc::new(COCO::from_dataset(types::Dataset {
            images: (1..=truth.images.len() as u64)
                .map(|id| types::Image { id, ..Default::default() })
                .collect(),
            categories: (1..)
                .zip(&truth.categories)
                .map(|(id, category)| types::Category {
                    id,
                    name: category.name.clone(),
                    ..Default::default()
                })
                .collect(),
            annotations: kept,
            ..Default::default()
        }));
        Ok(truth)
    }

    /// The metric library's id of an image. Ids of any size and sign are mapped to positions, in
    /// an order that keeps how pycocotools breaks ties between images.
    pub(crate) fn image_position(&self, id: i64) -> Option<u64> {
        self.images.binary_search(&id).ok().map(|position| position as u64 + 1)
    }

    /// The metric library's id of a category.
    pub(crate) fn category_position(&self, id: i64) -> Option<u64> {
        self.categories
            .binary_search_by_key(&id, |category| category.id)
            .ok()
            .map(|position| position as u64 + 1)
    }

    fn note(&mut self, what: &str, count: u64) {
        if count > 0 {
            self.notes.insert(what.to_owned(), count);
        }
    }
}

/// The ids in ascending order, or the first that appears twice.
fn unique(ids: impl Iterator<Item = i64>) -> Result<Vec<i64>, i64> {
    let mut seen = BTreeSet::new();
    for id in ids {
        if !seen.insert(id) {
            return Err(id);
        }
    }
    Ok(seen.into_iter().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"{"images":[{"id":7,"width":10,"height":10}],
        "categories":[{"id":3,"name":"cat"}],
        "annotations":[{"id":1,"image_id":7,"category_id":3,"bbox":[0,0,4,5],"area":20,"iscrowd":0}]}"#;

    fn message(text: &str) -> String {
        GroundTruth::from_json(text).err().expect("this must be refused").to_string()
    }

    #[test]
    fn a_good_file_has_no_notes() {
        let truth = GroundTruth::from_json(GOOD).unwrap();
        assert!(truth.notes().is_empty());
        assert_eq!((truth.images(), truth.categories()[0].id), (&[7][..], 3));
    }

    #[test]
    fn what_is_ignored_or_replaced_is_counted() {
        let text = GOOD.replace(
            r#""area":20,"iscrowd":0}"#,
            r#""iscrowd":false},
                {"id":0,"image_id":7.0,"category_id":3,"bbox":[0,0,4,5],"area":20,"iscrowd":1},
                {"id":2,"image_id":8,"category_id":3,"bbox":[0,0,4,5],"area":20},
                {"id":3,"image_id":7,"category_id":9,"bbox":[0,0,4,5],"area":20}"#,
        );
        let truth = GroundTruth::from_json(&text).unwrap();
        assert_eq!(truth.notes().values().copied().collect::<Vec<_>>(), [1, 1, 1, 1]);
    }

    #[test]
    fn errors_name_what_was_expected_and_found() {
        assert!(message("[]").contains("expected a COCO ground truth"));
        assert!(message("{").contains("EOF"));
        assert!(message(&GOOD.replace("\"id\":7", "\"id\":7.5")).contains("found 7.5"));
        assert!(message(&GOOD.replace("[0,0,4,5]", "[0,0,4]")).contains("length 3"));
        assert!(message(&GOOD.replace("\"iscrowd\":0", "\"iscrowd\":2")).contains("iscrowd"));
        assert!(
            message(r#"{"images":[],"categories":[{"id":1,"name":"a"}],"annotations":[]}"#)
                .contains("at least one image")
        );
        let doubled = GOOD.replace(
            r#"[{"id":3,"name":"cat"}]"#,
            r#"[{"id":3,"name":"cat"},{"id":3,"name":"dog"}]"#,
        );
        assert_eq!(message(&doubled), "ground truth: category id 3 appears twice");
    }

    #[test]
    fn a_missing_file_is_named() {
        let error = GroundTruth::from_file(Path::new("no/such/gt.json")).err().unwrap();
        assert!(error.to_string().starts_with("cannot read no/such/gt.json"));
    }
}
