//! Transforms of one image: resize, flip, zoom-out, crop, photometric distortion, affine, conversion.

use deim_data::transforms::boxes::{flip, mirror, sanitize};
use deim_data::transforms::course::Course;
use deim_data::transforms::iou_crop::{self, CropDraws, IouCrop};
use deim_data::transforms::mosaic::Affine;
use deim_data::transforms::photometric::{Photometric, permute_channels};
use deim_data::transforms::resize::{rescale, resize_image, resize_shorter};
use deim_data::transforms::tensor::{target, write_chw};
use deim_data::transforms::zoom_out::ZoomOut;
use deim_data::{Image, Sample};

use super::transform::{Allowed, boxes, image, labels};
use super::transform_inputs as inputs;
use crate::case::{Case, CaseError};
use crate::compare::Check;

/// Changes the images of which the case holds results, in as many ways as there are: `0.1.out` is
/// image 0 changed in way 1.
pub fn each_image(
    case: &Case,
    check: &mut Check,
    ways: usize,
    change: impl Fn(&mut Image, usize),
) -> Result<(), CaseError> {
    let allowed = Allowed::of(case, "")?;
    for (at, sample) in inputs::of(case)?.iter().enumerate() {
        for way in 0..ways {
            let name = format!("{at}.{way}.out");
            if case.has(&format!("{name}.shape")) {
                let mut changed = sample.image.clone();
                change(&mut changed, way);
                image(case, check, &name, &changed, allowed)?;
            }
        }
    }
    Ok(())
}

/// The order of the channels.
fn permutation_of(list: &[usize]) -> Result<[usize; 3], CaseError> {
    let mut sorted = list.to_vec();
    sorted.sort_unstable();
    match <[usize; 3]>::try_from(list) {
        Ok(order) if sorted == [0, 1, 2] => Ok(order),
        _ => Err(CaseError::new(format!("{list:?} is no order of three channels"))),
    }
}

pub fn permuted(case: &Case, check: &mut Check) -> Result<(), CaseError> {
    let lists = case.lists("permutations")?;
    let order = |list: &Vec<i64>| {
        let list: Vec<usize> = list.iter().map(|&channel| channel as usize).collect();
        permutation_of(&list)
    };
    let orders = lists.iter().map(order).collect::<Result<Vec<_>, CaseError>>()?;
    each_image(case, check, orders.len(), |image, at| permute_channels(image, orders[at]))
}

pub fn flipped(case: &Case, check: &mut Check) -> Result<(), CaseError> {
    let tolerance = case.tolerance("box")?;
    for (at, mut sample) in inputs::of(case)?.into_iter().enumerate() {
        mirror(&mut sample.image);
        flip(&mut sample.boxes, sample.image.width);
        image(case, check, &format!("{at}.out"), &sample.image, Allowed::of(case, "")?)?;
        boxes(case, check, &format!("{at}.boxes"), &sample.boxes, tolerance)?;
    }
    Ok(())
}

/// `0.r640` is image 0 at 640 x 640, `0.r96x160` at height 96 and width 160, and the shorter side
/// of `0.s320` is 320.
pub fn resized(case: &Case, check: &mut Check) -> Result<(), CaseError> {
    let tolerance = case.tolerance("box")?;
    let allowed = Allowed::of(case, "")?;
    for (at, sample) in inputs::of(case)?.iter().enumerate() {
        let prefix = format!("{at}.");
        let results =
            case.names().filter_map(|name| name.strip_prefix(&prefix)?.strip_suffix(".shape"));
        for result in results {
            let wrong = || CaseError::new(format!("'{prefix}{result}' names no size"));
            let side = |text: &str| text.parse::<usize>().map_err(|_| wrong());
            let small = match result.split_at_checked(1) {
                Some(("s", short)) => resize_shorter(sample, side(short)?),
                Some(("r", size)) => {
                    let (height, width) = size.split_once('x').unwrap_or((size, size));
                    let (width, height) = (side(width)?, side(height)?);
                    let mut small = Sample {
                        image: resize_image(&sample.image, width, height),
                        ..sample.clone()
                    };
                    let from = [sample.image.width, sample.image.height];
                    rescale(&mut small.boxes, from, [width, height]);
                    small
                }
                _ => return Err(wrong()),
            };
            image(case, check, &format!("{prefix}{result}"), &small.image, allowed)?;
            boxes(case, check, &format!("{prefix}{result}.boxes"), &small.boxes, tolerance)?;
        }
    }
    Ok(())
}

pub fn affine(case: &Case, check: &mut Check) -> Result<(), CaseError> {
    check.same("interpolation", &case.text("interpolation")?, &"nearest");
    check.same("fill", &case.integer("fill")?, &0);
    let (angles, scales) = (case.numbers("angle_deg")?, case.numbers("scale")?);
    let shifts = case.lists("translate_xy")?;
    if angles.len() != scales.len() || angles.len() != shifts.len() {
        return Err(CaseError::new("case.toml: an angle, a shift and a scale for every map"));
    }
    let tolerance = case.tolerance("box")?;
    for (at, sample) in inputs::of(case)?.into_iter().enumerate() {
        for (way, ((&degrees, &scale), shift)) in
            angles.iter().zip(&scales).zip(&shifts).enumerate()
        {
            let shift = shift_of(shift)?;
            let ours = Affine { degrees, shift, scale }.apply(sample.clone());
            let name = format!("{at}.{way}");
            image(case, check, &format!("{name}.out"), &ours.image, Allowed::of(case, "")?)?;
            boxes(case, check, &format!("{name}.boxes"), &ours.boxes, tolerance)?;
        }
    }
    Ok(())
}

/// Right and down.
pub fn shift_of(list: &[i64]) -> Result<[i64; 2], CaseError> {
    let pair = <[i64; 2]>::try_from(list);
    pair.map_err(|_| CaseError::new("case.toml: 'translate_xy' is not a pair"))
}

pub fn zoom_out(case: &Case, check: &mut Check) -> Result<(), CaseError> {
    check.same("fill", &case.integer("fill")?, &0);
    check.same("side_range", &case.numbers("side_range")?, &vec![1.0, 4.0]);
    let tolerance = case.tolerance("box")?;
    for (at, sample) in inputs::of(case)?.iter().enumerate() {
        for way in 0.. {
            let name = format!("{at}.{way}");
            if !case.has(&format!("{name}.draws")) {
                break;
            }
            // The first draw is the probability's, which was 1.
            let draws = case.shaped(&format!("{name}.draws"), &[4])?.f32s();
            let (width, height) = (sample.image.width, sample.image.height);
            let zoom = ZoomOut::from_units(width, height, [draws[1], draws[2], draws[3]]);
            let right = zoom.width - zoom.left - width;
            let bottom = zoom.height - zoom.top - height;
            let padding = vec![zoom.left, zoom.top, right, bottom];
            let key = format!("{name}.padding_ltrb");
            check.same(&key, &padding, &case.indices(&key)?);

            let course = Course { zoom_out: Some(zoom), ..Course::default() };
            let seen = course.frame(&sample.image).render(&sample.image);
            image(case, check, &format!("{name}.out"), &seen, Allowed::of(case, "")?)?;
            let mut moved = sample.boxes.clone();
            zoom.shift(&mut moved);
            boxes(case, check, &format!("{name}.boxes"), &moved, tolerance)?;
        }
    }
    Ok(())
}

/// Draws that the official pipeline made.
struct Recorded<'a> {
    draws: std::slice::Iter<'a, f32>,
    missing: usize,
}

impl Recorded<'_> {
    fn next(&mut self) -> f32 {
        self.draws.next().copied().unwrap_or_else(|| {
            self.missing += 1;
            0.0
        })
    }
}

impl CropDraws for Recorded<'_> {
    fn applies(&mut self, probability: f64) -> bool {
        f64::from(self.next()) < probability
    }

    fn option(&mut self, count: usize) -> usize {
        // When draws are missing, "no crop" ends the search.
        if self.draws.len() == 0 { count - 1 } else { self.next() as usize % count }
    }

    fn share(&mut self) -> f32 {
        self.next()
    }
}

pub fn cropped(case: &Case, check: &mut Check) -> Result<(), CaseError> {
    let options: Vec<f32> = case.numbers("options")?.iter().map(|&least| least as f32).collect();
    check.same("options", &options, &iou_crop::OPTIONS.to_vec());
    check.same("trials", &case.count("trials")?, &iou_crop::TRIALS);
    for (key, ours) in [
        ("min_scale", iou_crop::SMALLEST),
        ("max_scale", 1.0),
        ("min_aspect_ratio", *iou_crop::ASPECT.start() as f32),
        ("max_aspect_ratio", *iou_crop::ASPECT.end() as f32),
    ] {
        check.same(key, &ours, &(case.number(key)? as f32));
    }
    let samples = inputs::of(case)?;
    for at in 0..case.count("count")? {
        let of = |name: &str| format!("{at}.{name}");
        let source = case.indices(&of("image"))?;
        let sample = source.first().and_then(|&source| samples.get(source));
        let sample = sample.ok_or_else(|| CaseError::new(format!("{at}.image: no such image")))?;
        let draws = case.f32s(&of("draws"))?;
        let mut recorded = Recorded { draws: draws.iter(), missing: 0 };
        let size = [sample.image.width, sample.image.height];
        // The operation itself: its probability was 1.
        let crop = IouCrop::draw(size, &sample.boxes, 1.0, &mut recorded);
        let left = recorded.draws.len() as i64 - recorded.missing as i64;
        check.same(&format!("{at}.draws left over"), &left, &0);

        let place = crop.map_or([-1; 4], |crop| {
            [crop.top, crop.left, crop.height, crop.width].map(|edge| edge as i64)
        });
        let key = of("crop_top_left_height_width");
        let expected: Vec<i64> = case.array(&key)?.values.iter().map(|&edge| edge as i64).collect();
        check.same(&key, &place.to_vec(), &expected);

        let course = Course { crop, ..Course::default() };
        let frame = course.frame(&sample.image);
        let exact = Allowed::Levels(0.0);
        image(case, check, &of("out"), &frame.render(&sample.image), exact)?;

        // Officially a box that is lost is a box of zeros until the sanitizer.
        let kept = |rect: &[f32; 4]| crop.is_none_or(|crop| crop.holds_centre(rect));
        let inside: Vec<usize> = sample.boxes.iter().map(|rect| usize::from(kept(rect))).collect();
        check.same(&of("inside"), &inside, &case.indices(&of("inside"))?);
        let mut ours = sample.clone();
        if let Some(crop) = &crop {
            crop.cut(&mut ours);
        }
        let mut remaining = ours.boxes.iter();
        let padded: Vec<[f32; 4]> = inside
            .iter()
            .map(|&inside| if inside == 1 { remaining.next().copied() } else { Some([0.0; 4]) })
            .map(Option::unwrap_or_default)
            .collect();
        let tolerance = case.tolerance("box")?;
        boxes(case, check, &of("boxes"), &padded, tolerance)?;
        sanitize(&mut ours, [frame.width, frame.height]);
        boxes(case, check, &of("sanitized_boxes"), &ours.boxes, tolerance)?;
        labels(case, check, &of("sanitized_labels"), &ours.labels)?;
    }
    Ok(())
}

pub fn photometric(case: &Case, check: &mut Check) -> Result<(), CaseError> {
    let samples = inputs::of(case)?;
    for at in 0.. {
        let of = |name: &str| format!("{at}.{name}");
        if !case.has(&of("factors")) {
            break;
        }
        let source = case.indices(&of("image"))?;
        let sample = source.first().and_then(|&source| samples.get(source));
        let sample = sample.ok_or_else(|| CaseError::new(format!("{at}.image: no such image")))?;
        let factors = &case.shaped(&of("factors"), &[4])?.values;
        let part = |index: usize| (factors[index] != -99.0).then_some(factors[index]);
        let permutation = &case.shaped(&of("permutation"), &[3])?.values;
        let distort = Photometric {
            brightness: part(0).map(|factor| factor as f32),
            contrast: part(1).map(|factor| factor as f32),
            saturation: part(2).map(|factor| factor as f32),
            hue: part(3),
            contrast_first: case.indices(&of("contrast_before"))? == [1],
            permutation: match permutation.contains(&-1.0) {
                true => None,
                false => Some(permutation_of(&case.indices(&of("permutation"))?)?),
            },
        };
        let mut ours = sample.image.clone();
        distort.apply(&mut ours);
        image(case, check, &of("out"), &ours, Allowed::of(case, "")?)?;
    }
    Ok(())
}

pub fn convert(case: &Case, check: &mut Check) -> Result<(), CaseError> {
    let values = Image { width: 256, height: 1, pixels: (0..=255).flat_map(|v| [v; 3]).collect() };
    let tolerance = case.tolerance("pixel")?;
    check.array(case, "table", &planes(&values)[..256], tolerance)?;
    let samples = inputs::of(case)?;
    let sample = samples.get(case.count("image")?);
    let sample = sample.ok_or_else(|| CaseError::new("case.toml: no such 'image'"))?;
    thinned_planes(case, check, "image_strided", &sample.image, tolerance)?;
    let ours = target(sample);
    boxes(case, check, "boxes_cxcywh", &ours.boxes, case.tolerance("box")?)
}

/// The image as the model reads it.
pub fn planes(image: &Image) -> Vec<f32> {
    let mut planes = vec![0.0; image.pixels.len()];
    write_chw(image, &mut planes);
    planes
}

/// Compares every fifth row and column of the image as the model reads it.
pub fn thinned_planes(
    case: &Case,
    check: &mut Check,
    name: &str,
    image: &Image,
    tolerance: crate::compare::Tolerance,
) -> Result<(), CaseError> {
    let planes = planes(image);
    let rows = planes.chunks_exact(image.width).enumerate();
    let ours: Vec<f32> = rows
        .filter(|(row, _)| row % image.height % 5 == 2)
        .flat_map(|(_, row)| row.iter().skip(2).step_by(5).copied())
        .collect();
    check.array(case, name, &ours, tolerance)
}
