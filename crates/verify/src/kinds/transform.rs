//! The training transforms, one official operation after the other.
//!
//! All these cases are of one kind, so what a case is about is told by what it holds.

use burn::tensor::Device;
use deim_data::Image;
use deim_data::transforms::photometric::{
    adjust_brightness, adjust_contrast, adjust_hue, adjust_saturation,
};
use sha2::{Digest, Sha256};

use super::{transform_batch, transform_boxes, transform_pipeline, transform_pixels};
use crate::case::{Case, CaseError};
use crate::compare::{Check, Tolerance};

pub fn verify(case: &Case, _device: &Device, check: &mut Check) -> Result<(), CaseError> {
    let file = |name: &str| case.folder.join(name).is_file();
    let key = |key: &str| case.says(key);
    let notes = case.text("notes")?;
    if file("plan.json") {
        transform_pipeline::verify(case, check)
    } else if file("annotations.json") {
        transform_boxes::annotations(case, check)
    } else if key("tiles") {
        transform_pipeline::mosaic(case, check)
    } else if key("beta") {
        transform_batch::mixup(case, check)
    } else if key("angle_deg") {
        transform_pixels::affine(case, check)
    } else if key("permutations") {
        transform_pixels::permuted(case, check)
    } else if key("side_range") {
        transform_pixels::zoom_out(case, check)
    } else if key("trials") {
        transform_pixels::cropped(case, check)
    } else if key("min_size") {
        transform_boxes::sanitizer(case, check)
    } else if key("factors") {
        factors(case, check, notes)
    } else if case.has("table") {
        transform_pixels::convert(case, check)
    } else if case.has("0.contrast_before") {
        transform_pixels::photometric(case, check)
    } else if case.has("input_wh") {
        transform_boxes::shapes(case, check)
    } else if case.names().any(|name| name.starts_with("index_")) {
        transform_batch::multi_scale(case, check)
    } else if case.names().all(|name| name.contains("_repeat")) {
        transform_batch::scale_lists(case, check)
    } else if case.has("0.out") {
        transform_pixels::flipped(case, check)
    } else {
        transform_pixels::resized(case, check)
    }
}

/// Four cases that differ in nothing but their notes: "adjust brightness on ...".
fn factors(case: &Case, check: &mut Check, notes: &str) -> Result<(), CaseError> {
    let word = notes.strip_prefix("adjust ").and_then(|rest| rest.split(' ').next());
    let adjust: fn(&mut Image, f64) = match word {
        Some("brightness") => |image, factor| adjust_brightness(image, factor as f32),
        Some("contrast") => |image, factor| adjust_contrast(image, factor as f32),
        Some("saturation") => |image, factor| adjust_saturation(image, factor as f32),
        Some("hue") => adjust_hue,
        _ => return Err(CaseError::new(format!("case.toml: notes name no adjustment: {notes}"))),
    };
    let factors = case.array("factors")?.values.clone();
    check.same("case.toml: factors", &case.numbers("factors")?, &factors);
    transform_pixels::each_image(case, check, factors.len(), |image, at| {
        adjust(image, factors[at]);
    })
}

/// How far an image may be off.
#[derive(Clone, Copy, Debug)]
pub enum Allowed {
    /// Every value by so many levels.
    Levels(f64),
    /// So large a share of the pixels by anything.
    Pixels(f64),
}

impl Allowed {
    /// `<prefix>pixel_abs` or `<prefix>differing_pixel_fraction` of the case.
    pub fn of(case: &Case, prefix: &str) -> Result<Self, CaseError> {
        let key = |name: &str| format!("tolerance.{prefix}{name}");
        match case.optional(&key("pixel_abs"), Case::number)? {
            Some(levels) => Ok(Self::Levels(levels)),
            None => case.number(&key("differing_pixel_fraction")).map(Self::Pixels),
        }
    }
}

/// Compares an image with what a case holds of it: its shape, all of its pixels or every fifth row
/// and column, and the sum of all values. Where nothing of that differs, its hash has to be the
/// same; where something does, within the tolerance, no hash could be.
pub fn image(
    case: &Case,
    check: &mut Check,
    name: &str,
    ours: &Image,
    allowed: Allowed,
) -> Result<(), CaseError> {
    let shape: Vec<usize> = case.indices(&format!("{name}.shape"))?;
    check.same(&format!("{name}.shape"), &[ours.height, ours.width, 3].to_vec(), &shape);
    if shape != [ours.height, ours.width, 3] {
        return Ok(());
    }
    let thinned = format!("{name}.strided5");
    let (stored, values) = if case.has(name) {
        (name, ours.pixels.clone())
    } else {
        (thinned.as_str(), every_fifth(ours))
    };
    let expected = &case.array(stored)?.values;
    let values: Vec<f64> = values.into_iter().map(f64::from).collect();
    let sum: u64 = ours.pixels.iter().map(|&value| u64::from(value)).sum();
    let expected_sum = &case.array(&format!("{name}.sum"))?.values;
    let count = ours.pixels.len() as f64;
    let off = values.iter().zip(expected).map(|(ours, expected)| (ours - expected).abs());
    let off = off.sum::<f64>();
    let of_sum = match allowed {
        Allowed::Levels(levels) => {
            let tolerance = Tolerance { absolute: levels, relative: 0.0 };
            check.values(stored, &values, expected, tolerance)?;
            levels * count
        }
        Allowed::Pixels(share) => {
            let pixels = values.chunks_exact(3).zip(expected.chunks_exact(3));
            let differing = pixels.filter(|(ours, expected)| ours != expected).count();
            let ours = differing as f64 * 3.0 / values.len().max(1) as f64;
            let tolerance = Tolerance { absolute: share, relative: 0.0 };
            check.values(&format!("{stored}: share differing"), &[ours], &[0.0], tolerance)?;
            share * count * 255.0
        }
    };
    // Of an image that is stored as a whole, the sum is off by what its values are off at most.
    let of_sum = if stored == name { off } else { of_sum };
    let tolerance = Tolerance { absolute: of_sum, relative: 0.0 };
    check.values(&format!("{name}.sum"), &[sum as f64], expected_sum, tolerance)?;
    if values == *expected && [sum as f64] == expected_sum[..] {
        hash(case, check, &format!("{name}.sha256"), &ours.pixels)?;
    }
    Ok(())
}

/// Compares the SHA-256 of an image's bytes.
pub fn hash(case: &Case, check: &mut Check, name: &str, bytes: &[u8]) -> Result<(), CaseError> {
    let ours: Vec<f64> = Sha256::digest(bytes).iter().map(|&byte| f64::from(byte)).collect();
    check.same(name, &ours, &case.array(name)?.values);
    Ok(())
}

/// Rows and columns 2, 7, 12, ...
fn every_fifth(image: &Image) -> Vec<u8> {
    let rows = image.pixels.chunks_exact(image.width.max(1) * 3).skip(2).step_by(5);
    rows.flat_map(|row| row.chunks_exact(3).skip(2).step_by(5).flatten().copied()).collect()
}

/// Compares boxes.
pub fn boxes(
    case: &Case,
    check: &mut Check,
    name: &str,
    ours: &[[f32; 4]],
    tolerance: Tolerance,
) -> Result<(), CaseError> {
    let expected = case.shaped(name, &[ours.len(), 4])?;
    let ours: Vec<f64> = ours.iter().flatten().map(|&edge| f64::from(edge)).collect();
    check.values(name, &ours, &expected.values, tolerance)
}

/// Compares labels, which are equal or wrong.
pub fn labels(case: &Case, check: &mut Check, name: &str, ours: &[u32]) -> Result<(), CaseError> {
    let ours: Vec<usize> = ours.iter().map(|&label| label as usize).collect();
    check.same(name, &ours, &case.indices(name)?);
    Ok(())
}
