//! Several transforms in a row: a mosaic until it is a batch's image, and whole official pipelines.

use deim_data::Sample;
use deim_data::transforms::boxes::sanitize;
use deim_data::transforms::course::Course;
use deim_data::transforms::iou_crop::IouCrop;
use deim_data::transforms::mosaic::{Affine, merge};
use deim_data::transforms::photometric::Photometric;
use deim_data::transforms::tensor::target;
use deim_data::transforms::zoom_out::ZoomOut;
use serde::Deserialize;
use serde_json::Value;

use super::transform::{Allowed, boxes, hash, image, labels};
use super::transform_inputs as inputs;
use super::transform_pixels::{planes, shift_of};
use crate::case::{Case, CaseError};
use crate::compare::{Check, Tolerance};

/// Side of the model's input in the official configurations, and of half of it, a mosaic's tile.
const INPUT: usize = 640;
const TILE: usize = 320;

fn source(samples: &[Sample], at: usize) -> Result<&Sample, CaseError> {
    samples.get(at).ok_or_else(|| CaseError::new(format!("there is no image {at}")))
}

fn merged(samples: &[Sample], tiles: &[usize], tile: usize) -> Result<Sample, CaseError> {
    let [a, b, c, d] = tiles[..] else {
        return Err(CaseError::new(format!("{} tiles, expected four", tiles.len())));
    };
    let of = |at| source(samples, at);
    Ok(merge(&[of(a)?, of(b)?, of(c)?, of(d)?], tile))
}

pub fn mosaic(case: &Case, check: &mut Check) -> Result<(), CaseError> {
    check.same("interpolation", &case.text("interpolation")?, &"nearest");
    check.same("fill", &case.integer("fill")?, &0);
    let samples = inputs::of(case)?;
    let order = case.indices("tiles")?;
    check.same("case.toml: tiles", &case.counts("tiles")?, &order);
    let merged = merged(&samples, &order, case.count("output_size")?)?;
    let cell = vec![merged.image.height / 2, merged.image.width / 2];
    check.same("max_hw", &cell, &case.indices("max_hw")?);

    let box_tolerance = case.tolerance("box")?;
    let of_merged = Allowed::of(case, "merged_")?;
    image(case, check, "merged", &merged.image, of_merged)?;
    boxes(case, check, "merged.boxes", &merged.boxes, box_tolerance)?;
    labels(case, check, "merged.labels", &merged.labels)?;

    let shift: Vec<i64> = case.numbers("translate_xy")?.iter().map(|&by| by as i64).collect();
    let affine = Affine {
        degrees: case.number("angle_deg")?,
        shift: shift_of(&shift)?,
        scale: case.number("scale")?,
    };
    let turned = affine.apply(merged);
    let mapped = Allowed::of(case, "")?;
    image(case, check, "out", &turned.image, mapped)?;
    boxes(case, check, "boxes", &turned.boxes, box_tolerance)?;
    labels(case, check, "labels", &turned.labels)?;

    let mut clean = turned.clone();
    sanitize(&mut clean, [turned.image.width, turned.image.height]);
    boxes(case, check, "sanitized_boxes", &clean.boxes, box_tolerance)?;
    labels(case, check, "sanitized_labels", &clean.labels)?;

    let done = Course::default().apply(turned, INPUT);
    image(case, check, "resized640", &done.image, mapped)?;
    boxes(case, check, "resized640.boxes", &done.boxes, box_tolerance)?;
    let last = target(&done);
    boxes(case, check, "final_boxes_cxcywh", &last.boxes, case.tolerance("final_box")?)?;
    labels(case, check, "final_labels", &last.labels)
}

/// The operations of an official pipeline that drew something, in order.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Plan {
    start_image: usize,
    mosaic_other_tiles: Vec<usize>,
    flip: bool,
    applied: Vec<(String, Value)>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct MosaicParameters {
    angle: f64,
    translate: [i64; 2],
    scale: f64,
    shear: [f64; 2],
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PhotometricParameters {
    brightness_factor: Option<f32>,
    contrast_factor: Option<f32>,
    saturation_factor: Option<f32>,
    hue_factor: Option<f64>,
    contrast_before: bool,
    channel_permutation: Option<[usize; 3]>,
}

/// Pixels on the left, above, on the right and below; none where nothing was zoomed out.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ZoomOutParameters {
    padding: Option<[usize; 4]>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CropParameters {
    top: usize,
    left: usize,
    height: usize,
    width: usize,
    is_within_crop_area: Vec<bool>,
}

fn parameters<T: serde::de::DeserializeOwned>(name: &str, value: &Value) -> Result<T, CaseError> {
    serde_json::from_value(value.clone())
        .map_err(|error| CaseError::new(format!("plan.json: {name}: {error}")))
}

/// Only the order of [`Course`] is the official one; `place` is that of the last operation seen.
fn follow(place: &mut usize, name: &str) -> Result<(), CaseError> {
    const ORDER: [&str; 8] = [
        "Mosaic",
        "RandomPhotometricDistort",
        "RandomZoomOut",
        "RandomIoUCrop",
        "RandomHorizontalFlip",
        "Resize",
        "ConvertPILImage",
        "ConvertBoxes",
    ];
    let at = ORDER.iter().position(|known| *known == name);
    let at = at.ok_or_else(|| CaseError::new(format!("plan.json: no operation '{name}'")))?;
    if at < *place {
        return Err(CaseError::new(format!("plan.json: '{name}' comes too late")));
    }
    *place = at;
    Ok(())
}

pub fn verify(case: &Case, check: &mut Check) -> Result<(), CaseError> {
    let plan: Plan = case.json("plan.json")?;
    let samples = inputs::of(case)?;
    let mut sample = source(&samples, plan.start_image)?.clone();
    let mut course = Course { flip: plan.flip, ..Course::default() };
    let mut place = 0;
    for (name, value) in &plan.applied {
        follow(&mut place, name)?;
        let [width, height] = [sample.image.width, sample.image.height];
        match name.as_str() {
            "Mosaic" => {
                let drawn: MosaicParameters = parameters(name, value)?;
                check.same("shear", &drawn.shear, &[0.0; 2]);
                let mut order = vec![plan.start_image];
                order.extend_from_slice(&plan.mosaic_other_tiles);
                let shift = drawn.translate;
                let affine = Affine { degrees: drawn.angle, shift, scale: drawn.scale };
                sample = affine.apply(merged(&samples, &order, TILE)?);
            }
            "RandomPhotometricDistort" => {
                let drawn: PhotometricParameters = parameters(name, value)?;
                course.photometric = Some(Photometric {
                    brightness: drawn.brightness_factor,
                    contrast: drawn.contrast_factor,
                    saturation: drawn.saturation_factor,
                    hue: drawn.hue_factor,
                    contrast_first: drawn.contrast_before,
                    permutation: drawn.channel_permutation,
                });
            }
            "RandomZoomOut" => {
                let drawn: ZoomOutParameters = parameters(name, value)?;
                course.zoom_out = drawn.padding.map(|[left, top, right, bottom]| ZoomOut {
                    width: left + width + right,
                    height: top + height + bottom,
                    left,
                    top,
                });
            }
            "RandomIoUCrop" if value.as_object().is_some_and(|drawn| !drawn.is_empty()) => {
                let drawn: CropParameters = parameters(name, value)?;
                let CropParameters { top, left, height, width, is_within_crop_area } = drawn;
                let crop = IouCrop { left, top, width, height };
                let mut seen = sample.boxes.clone();
                if let Some(zoom) = &course.zoom_out {
                    zoom.shift(&mut seen);
                }
                let inside: Vec<bool> = seen.iter().map(|rect| crop.holds_centre(rect)).collect();
                check.same("is_within_crop_area", &inside, &is_within_crop_area);
                course.crop = Some(crop);
            }
            "RandomHorizontalFlip" => check.same("flip", &plan.flip, &true),
            _ => {}
        }
    }

    let done = course.apply(sample, INPUT);
    let mean = Tolerance { absolute: case.number("tolerance.pixel_mean_abs")?, relative: 0.0 };
    let floats = planes(&done.image);
    let thinned: Vec<f64> = floats
        .chunks_exact(INPUT)
        .enumerate()
        .filter(|(row, _)| row % INPUT % 5 == 2)
        .flat_map(|(_, row)| row.iter().skip(2).step_by(5).map(|&value| f64::from(value)))
        .collect();
    let name = "image_strided";
    let expected = &case.shaped(name, &[3, INPUT / 5, INPUT / 5])?.values;
    let off = thinned.iter().zip(expected).map(|(ours, expected)| (ours - expected).abs());
    let off = off.sum::<f64>() / thinned.len() as f64;
    check.values(&format!("{name}: mean error"), &[off], &[0.0], mean)?;
    let sum: f64 = floats.iter().map(|&value| f64::from(value)).sum();
    let of_sum = Tolerance { absolute: mean.absolute * floats.len() as f64, relative: 0.0 };
    let expected_sum = &case.array("image_sum")?.values;
    check.values("image_sum", &[sum], expected_sum, of_sum)?;
    if thinned == *expected {
        // The hash is that of the planes.
        let pixels = done.image.pixels.as_chunks::<3>().0;
        let plane = |channel: usize| pixels.iter().map(move |pixel| pixel[channel]);
        let bytes: Vec<u8> = (0..3).flat_map(plane).collect();
        hash(case, check, "image_u8.sha256", &bytes)?;
    }
    let last = target(&done);
    boxes(case, check, "boxes_cxcywh", &last.boxes, case.tolerance("box")?)?;
    labels(case, check, "labels", &last.labels)
}
