//! Transforms of boxes alone: annotations, the sanitizer, sizes.

use deim_data::Image;
use deim_data::Sample;
use deim_data::readers::{IndexImage, Object};
use deim_data::transforms::boxes::sanitize;
use deim_data::transforms::resize::shorter_to;
use serde::Deserialize;

use super::transform::boxes;
use crate::case::{Case, CaseError};
use crate::compare::Check;

/// Stands for NaN in the cases.
const NAN: f32 = -12345.0;

/// Boxes of a case, as corners.
pub fn corners(case: &Case, name: &str) -> Result<Vec<[f32; 4]>, CaseError> {
    let array = case.array(name)?;
    if array.shape.len() != 2 || array.shape[1] != 4 {
        return Err(CaseError::new(format!("{name}: expected boxes, found {:?}", array.shape)));
    }
    Ok(array.f32s().as_chunks::<4>().0.to_vec())
}

/// A sample of boxes, numbered by their labels, in an image of no pixels.
fn numbered(boxes: Vec<[f32; 4]>) -> Sample {
    Sample {
        image: Image { width: 0, height: 0, pixels: Vec::new() },
        labels: (0..boxes.len() as u32).collect(),
        boxes,
        image_id: 0,
        original_size: [0, 0],
        dropped_boxes: 0,
    }
}

pub fn sanitizer(case: &Case, check: &mut Check) -> Result<(), CaseError> {
    // The sides of a box that is kept make an area of at least 1 as well.
    for key in ["min_size", "min_area"] {
        check.same(key, &case.number(key)?, &1.0);
    }
    let canvas = case.counts("canvas_hw")?;
    let [height, width] = canvas[..] else {
        return Err(CaseError::new("case.toml: 'canvas_hw' is not a height and a width"));
    };
    let nan = |value: f32| if value == NAN { f32::NAN } else { value };
    let mut sample = numbered(corners(case, "boxes")?);
    sample.boxes.iter_mut().for_each(|rect| *rect = rect.map(nan));
    sanitize(&mut sample, [width, height]);
    let kept: Vec<usize> = sample.labels.iter().map(|&label| label as usize).collect();
    check.same("kept_labels", &kept, &case.indices("kept_labels")?);
    Ok(())
}

pub fn shapes(case: &Case, check: &mut Check) -> Result<(), CaseError> {
    let sizes = case.indices("input_wh")?;
    let name = "output_wh_320";
    let ours: Vec<usize> = sizes
        .chunks_exact(2)
        .flat_map(|size| <[usize; 2]>::from(shorter_to(size[0], size[1], 320)))
        .collect();
    check.same(name, &ours, &case.indices(name)?);
    Ok(())
}

/// One entry of a COCO file.
#[derive(Deserialize)]
struct Annotation {
    bbox: [f64; 4],
    category_id: i64,
    area: f64,
    #[serde(default)]
    iscrowd: u8,
}

/// What training sees of an image's annotations.
pub fn annotations(case: &Case, check: &mut Check) -> Result<(), CaseError> {
    let annotations: Vec<Annotation> = case.json("annotations.json")?;
    let ids: Vec<i64> = case.array("coco_ids")?.values.iter().map(|&id| id as i64).collect();
    let object = |annotation: &Annotation| {
        let class = ids.binary_search(&annotation.category_id);
        let class = class.map_err(|_| {
            CaseError::new(format!("annotations.json: category {}", annotation.category_id))
        })?;
        Ok(Object {
            bbox: annotation.bbox,
            class: class as u32,
            area: annotation.area,
            crowd: annotation.iscrowd != 0,
            ignored: false,
        })
    };
    let objects = annotations.iter().map(object).collect::<Result<Vec<_>, CaseError>>()?;

    let size = case.counts("image_wh")?;
    check.same("orig_size", &size, &case.indices("orig_size")?);
    let size: [u32; 2] = match size[..] {
        [width, height] => [width as u32, height as u32],
        _ => return Err(CaseError::new("case.toml: 'image_wh' is not a width and a height")),
    };
    let kept: Vec<f64> = objects
        .iter()
        .filter(|object| object.training_box(size).is_ok())
        .map(|object| object.area)
        .collect();
    let image =
        IndexImage { id: 0, name: String::new(), path: None, size: Some(size), bytes: 0, objects };
    let (ours, labels): (Vec<_>, Vec<u32>) = image.training_boxes(size).unzip();
    let tolerance = case.tolerance("box")?;
    boxes(case, check, "boxes", &ours, tolerance)?;
    check.same("area", &kept, &case.array("area")?.values);
    let classes: Vec<usize> = labels.iter().map(|&label| label as usize).collect();
    check.same("labels_remapped", &classes, &case.indices("labels_remapped")?);
    let raw: Vec<usize> = classes.iter().map(|&class| ids[class] as usize).collect();
    check.same("labels_raw", &raw, &case.indices("labels_raw")?);
    Ok(())
}
