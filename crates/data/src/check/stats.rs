//! What a split consists of: boxes per image, areas and classes, as training sees them.

use serde::Serialize;

use crate::readers::Index;

/// COCO's classes of area in pixels, each with the first area that is too large for it.
pub const AREAS: [(&str, f64); 3] =
    [("small", 32.0 * 32.0), ("medium", 96.0 * 96.0), ("large", f64::INFINITY)];

/// The numbers of one split.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Stats {
    pub split: String,
    pub images: usize,
    pub images_without_boxes: usize,
    /// Boxes that training sees.
    pub boxes: usize,
    /// Annotated objects that it does not see: crowds, ignored ones, boxes without area inside.
    pub left_out: usize,
    pub boxes_per_image: Summary,
    /// How many images have 0, 1, 2, ... boxes.
    pub images_by_boxes: Vec<usize>,
    /// Boxes that are small, medium and large by their annotated area.
    pub areas: [usize; 3],
    /// Square root of the annotated area, in pixels.
    pub box_side: Summary,
    pub image_width: Summary,
    pub image_height: Summary,
    pub classes: Vec<ClassStats>,
    pub manifest: String,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ClassStats {
    pub id: i64,
    pub name: String,
    pub boxes: usize,
    /// Images with at least one box of the class.
    pub images: usize,
}

/// Where the values of a list lie; zeros for an empty one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Summary {
    pub min: f64,
    pub median: f64,
    pub mean: f64,
    pub p95: f64,
    pub max: f64,
}

impl Summary {
    fn of(mut values: Vec<f64>) -> Self {
        values.sort_by(f64::total_cmp);
        let (Some(min), Some(max)) = (values.first(), values.last()) else {
            return Self::default();
        };
        let at = |share: f64| values[((values.len() - 1) as f64 * share).round() as usize];
        let mean = values.iter().sum::<f64>() / values.len() as f64;
        Self { min: *min, median: at(0.5), mean, p95: at(0.95), max: *max }
    }
}

impl Stats {
    /// Counts one split. `manifest` is the hash that identifies it.
    pub fn of(index: &Index, manifest: String) -> Self {
        let mut classes: Vec<ClassStats> = index
            .categories
            .iter()
            .map(|c| ClassStats { id: c.id, name: c.name.clone(), boxes: 0, images: 0 })
            .collect();
        let (mut counts, mut sides, mut areas) = (Vec::new(), Vec::new(), [0; 3]);
        for image in &index.images {
            let size = image.size.unwrap_or([u32::MAX; 2]);
            let seen = image.objects.iter().filter(|object| object.training_box(size).is_ok());
            let mut here = vec![false; classes.len()];
            let mut count = 0;
            for object in seen {
                count += 1;
                let class = object.class as usize;
                classes[class].boxes += 1;
                here[class] = true;
                let area = AREAS.iter().position(|(_, end)| object.area < *end).unwrap_or(2);
                areas[area] += 1;
                sides.push(object.area.max(0.0).sqrt());
            }
            for (class, _) in here.iter().enumerate().filter(|(_, here)| **here) {
                classes[class].images += 1;
            }
            counts.push(count);
        }
        let boxes: usize = counts.iter().sum();
        let mut images_by_boxes = vec![0; counts.iter().max().map_or(0, |most| most + 1)];
        counts.iter().for_each(|count| images_by_boxes[*count] += 1);
        let sizes: Vec<[u32; 2]> = index.images.iter().filter_map(|image| image.size).collect();
        let side = |at: usize| Summary::of(sizes.iter().map(|size| f64::from(size[at])).collect());
        Self {
            split: index.split.clone(),
            images: index.images.len(),
            images_without_boxes: images_by_boxes.first().copied().unwrap_or(0),
            boxes,
            left_out: index.objects() - boxes,
            boxes_per_image: Summary::of(counts.iter().map(|count| *count as f64).collect()),
            images_by_boxes,
            areas,
            box_side: Summary::of(sides),
            image_width: side(0),
            image_height: side(1),
            classes,
            manifest,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_names_values_that_are_there() {
        let summary = Summary::of((0..=100).rev().map(f64::from).collect());
        assert_eq!(summary, Summary { min: 0.0, median: 50.0, mean: 50.0, p95: 95.0, max: 100.0 });
        assert_eq!(Summary::of(Vec::new()), Summary::default());
    }
}
