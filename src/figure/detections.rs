//! One image with the detections of some COCO files, each beside the others.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use deim_data::decode;
use deim_data::readers::{self, Index, Options};
use deim_eval::{Detection, read_detections};
use deim_report::figures::detections::{Findings, Found, Kind, Picture, detections};
use deim_report::figures::raster::Underlay;

/// Overlap from which a detection agrees with a target.
const AGREES: f64 = 0.5;

/// What to draw.
pub struct Order<'a> {
    pub data: &'a Path,
    pub annotations: Option<&'a Path>,
    /// The id of the image; none takes the first that has objects.
    pub image: Option<i64>,
    /// Detections with a lower score are left out.
    pub score: f64,
    pub files: &'a [PathBuf],
}

/// Writes the figure as what its name ends with: `.svg` or `.png`.
pub fn write(order: &Order<'_>, out: &Path) -> anyhow::Result<()> {
    let options =
        Options { annotations: order.annotations.map(Path::to_owned), ..Options::default() };
    let splits = readers::read(order.data, &options)?.splits;
    let wanted = |image: &readers::IndexImage| match order.image {
        Some(id) => image.id == id,
        None => !image.objects.is_empty(),
    };
    // The last split is that which is measured on, where there are two.
    let found = splits
        .iter()
        .rev()
        .find_map(|split| Some((split, split.images.iter().find(|i| wanted(i))?)));
    let Some((split, image)) = found else {
        match order.image {
            Some(id) => bail!("{} has no image with the id {id}", order.data.display()),
            None => bail!("{} has no image with objects", order.data.display()),
        }
    };
    let path =
        image.path.as_ref().with_context(|| format!("the file of {} is missing", image.name))?;
    let pixels =
        decode::read(path).with_context(|| format!("cannot read {}", path.display()))?.image;
    let picture = Picture {
        width: pixels.width as u32,
        height: pixels.height as u32,
        rgb: pixels.pixels.clone(),
    };
    let mut all = Vec::new();
    for file in order.files {
        let own = read_detections(file)?.into_iter();
        let own = own.filter(|one| one.image_id == image.id && one.score >= order.score);
        let name = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        all.push(Findings { name, boxes: judge(split, image, own.collect()) });
    }
    let about = format!(
        "A detection agrees from an IoU of {AGREES} on, with the same class; scores below {} left out. Image {} of {}.",
        order.score, image.id, split.split
    );
    let (svg, places) = detections(&picture, &all, &about)?;
    match out.extension().and_then(|ending| ending.to_str()) {
        Some("svg") => {
            deim_report::write_file(out, Underlay::embed(&svg, &picture, &places)?.as_bytes())?
        }
        Some("png") => deim_report::write_file(out, &Underlay::png(&svg, &picture, &places)?)?,
        _ => bail!("{}: expected a name in .svg or .png", out.display()),
    }
    Ok(())
}

/// Which detections agree with a target, the best scores first, and which targets are left.
fn judge(split: &Index, image: &readers::IndexImage, mut found: Vec<Detection>) -> Vec<Found> {
    found.sort_by(|a, b| b.score.total_cmp(&a.score));
    let mut left: Vec<_> =
        image.objects.iter().filter(|object| !object.crowd && !object.ignored).collect();
    let mut boxes = Vec::new();
    for one in found {
        let class = split.categories.iter().position(|category| category.id == one.category_id);
        let best = left
            .iter()
            .enumerate()
            .filter(|(_, object)| Some(object.class as usize) == class)
            .map(|(at, object)| (at, overlap(object.bbox, one.bbox)))
            .filter(|(_, iou)| *iou >= AGREES)
            .max_by(|a, b| a.1.total_cmp(&b.1));
        let name = class.map_or("?", |class| split.categories[class].name.as_str());
        let label = format!("{name} {:.2}", one.score);
        let kind = match best {
            Some((at, _)) => {
                left.remove(at);
                Kind::Hit
            }
            None => Kind::Wrong,
        };
        boxes.push(Found { bbox: one.bbox, label, kind });
    }
    boxes.extend(left.into_iter().map(|object| Found {
        bbox: object.bbox,
        label: split.categories[object.class as usize].name.clone(),
        kind: Kind::Missed,
    }));
    boxes
}

/// Intersection over union of two boxes `[x, y, width, height]`.
fn overlap(a: [f64; 4], b: [f64; 4]) -> f64 {
    let side = |axis: usize| {
        let low = a[axis].max(b[axis]);
        let high = (a[axis] + a[axis + 2]).min(b[axis] + b[axis + 2]);
        (high - low).max(0.0)
    };
    let both = side(0) * side(1);
    let either = a[2] * a[3] + b[2] * b[3] - both;
    if either > 0.0 { both / either } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overlaps_are_shares_of_the_union() {
        assert_eq!(overlap([0.0, 0.0, 2.0, 2.0], [1.0, 0.0, 2.0, 2.0]), 1.0 / 3.0);
        assert_eq!(overlap([0.0, 0.0, 2.0, 2.0], [5.0, 0.0, 2.0, 2.0]), 0.0);
        assert_eq!(overlap([0.0; 4], [0.0; 4]), 0.0);
    }
}
