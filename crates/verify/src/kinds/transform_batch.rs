//! Transforms of whole batches: mixup, the sizes of multi-scale training, the nearest resize.

use deim_data::transforms::mixup::mixup as mix;
use deim_data::transforms::multi_scale::{generate_scales, nearest_indices, resize_planes};
use deim_data::{Batch, Target};

use super::transform::{boxes, labels};
use super::transform_boxes::corners;
use crate::case::{Case, CaseError};
use crate::compare::{Check, Tolerance};

pub fn mixup(case: &Case, check: &mut Check) -> Result<(), CaseError> {
    let tolerance = case.tolerance("")?;
    let beta = case.number("beta")?;
    let images = case.array("images")?;
    let count = images.shape.first().copied().unwrap_or(0);
    let input = |at: usize| {
        let labels = case.indices(&format!("in.{at}.labels"))?;
        let labels = labels.into_iter().map(|label| label as u32).collect();
        Ok(Target { labels, boxes: corners(case, &format!("in.{at}.boxes"))? })
    };
    let targets = (0..count).map(input).collect::<Result<Vec<_>, CaseError>>()?;
    let batch = Batch {
        images: images.f32s().into(),
        bytes: None,
        size: 0,
        image_ids: vec![0; count],
        original_sizes: vec![[0, 0]; count],
        dropped_boxes: 0,
        targets: targets.clone(),
    };
    // Areas and weights go with their boxes, which training has no use for: a second batch whose
    // labels are the numbers of all boxes tells where each went.
    let mut numbered = batch.clone();
    let (mut owner, mut area) = (Vec::new(), Vec::new());
    for (at, target) in numbered.targets.iter_mut().enumerate() {
        let first = owner.len() as u32;
        target.labels = (first..first + target.labels.len() as u32).collect();
        let areas = &case.shaped(&format!("in.{at}.area"), &[target.labels.len()])?.values;
        owner.extend(areas.iter().map(|_| at));
        area.extend_from_slice(areas);
    }
    let numbers = mix(numbered, beta);
    let mixed = mix(batch, beta);

    check.array(case, "mixed", &mixed.images, tolerance)?;
    for (at, target) in mixed.targets.iter().enumerate() {
        let of = |name: &str| format!("{at}.{name}");
        boxes(case, check, &of("boxes"), &target.boxes, tolerance)?;
        labels(case, check, &of("labels"), &target.labels)?;
        let of_numbers = numbers.targets[at].labels.iter().map(|&number| number as usize);
        let areas: Vec<f64> = of_numbers.clone().map(|number| area[number]).collect();
        check.values(&of("area"), &areas, &case.array(&of("area"))?.values, tolerance)?;
        let share = |number: usize| if owner[number] == at { beta } else { 1.0 - beta };
        let shares: Vec<f64> = of_numbers.map(share).collect();
        check.values(&of("mixup"), &shares, &case.array(&of("mixup"))?.values, tolerance)?;
    }
    Ok(())
}

/// `out56` is the batch at 56 x 56, `index_640_to_480` the source of each column.
pub fn multi_scale(case: &Case, check: &mut Check) -> Result<(), CaseError> {
    let exact = Tolerance { absolute: 0.0, relative: 0.0 };
    let images = case.array("images")?;
    let [_, _, height, width] = images.shape[..] else {
        return Err(CaseError::new("images: expected [batch, 3, height, width]"));
    };
    let number = |text: &str, name: &str| {
        text.parse::<usize>().map_err(|_| CaseError::new(format!("'{name}' names no size")))
    };
    let names: Vec<&str> = case.names().filter(|name| *name != "images").collect();
    for name in names {
        if let Some(size) = name.strip_prefix("out") {
            let size = number(size, name)?;
            let ours = resize_planes(&images.f32s(), [height, width], [size, size]);
            check.array(case, name, &ours, exact)?;
        } else if let Some((from, to)) =
            name.strip_prefix("index_").and_then(|sizes| sizes.split_once("_to_"))
        {
            let ours = nearest_indices(number(from, name)?, number(to, name)?);
            check.same(name, &ours, &case.indices(name)?);
        } else {
            return Err(CaseError::new(format!("nothing is known of '{name}'")));
        }
    }
    Ok(())
}

/// `base640_repeat3` and the like.
pub fn scale_lists(case: &Case, check: &mut Check) -> Result<(), CaseError> {
    for name in case.names() {
        let sizes = name.strip_prefix("base").and_then(|rest| rest.split_once("_repeat"));
        let sizes =
            sizes.and_then(|(base, repeat)| Some((base.parse().ok()?, repeat.parse().ok()?)));
        let (base, repeat) =
            sizes.ok_or_else(|| CaseError::new(format!("'{name}' names no size")))?;
        check.same(name, &generate_scales(base, repeat), &case.indices(name)?);
    }
    Ok(())
}
