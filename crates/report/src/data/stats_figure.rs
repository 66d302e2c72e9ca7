//! What a data set consists of, as a drawing.

use std::cmp::Reverse;
use std::path::Path;

use deim_data::check::{AREAS, Stats};

use super::stats::class_names;
use crate::bars::{BarPanel, BarRow, Block, bars};
use crate::error::Error;

/// More classes than this become one row.
const CLASSES: usize = 29;
/// So few stand beside the other panels, more below them in columns.
const FEW: usize = 9;
const COLUMNS: usize = 3;

/// The counts of boxes per image, areas and classes, split beside split.
pub fn stats_figure(folder: &Path, stats: &[Stats]) -> Result<String, Error> {
    let series: Vec<String> = stats.iter().map(|stats| stats.split.clone()).collect();
    let areas = AREAS.iter().enumerate().map(|(at, (name, _))| row(stats, name, &|s| s.areas[at]));
    let panel = |title: &str, rows| BarPanel::new(title, rows, stats.len());
    let per_image = panel("Images by number of boxes", per_image(stats));
    let areas = panel("Boxes by area, as COCO counts it", areas.collect());
    let classes = panel("Boxes by class", classes(stats));
    let blocks: Vec<Block> = match classes.rows.len() <= FEW {
        true => vec![vec![vec![per_image], vec![areas, classes]]],
        false => vec![vec![vec![per_image], vec![areas]], classes.in_columns(COLUMNS)],
    };
    // `.` has no name of its own.
    let whole = folder.canonicalize().unwrap_or_else(|_| folder.to_owned());
    let name = whole.file_name().unwrap_or(whole.as_os_str()).to_string_lossy().into_owned();
    let caption = "Shares of each split; the number beside a bar is the count. Boxes are those that \
                   training sees; small ones have an annotated area below 32 x 32 pixels, large ones \
                   of at least 96 x 96.";
    bars(&format!("What {name} consists of"), caption, &series, &blocks)
}

fn row(stats: &[Stats], label: &str, value: &dyn Fn(&Stats) -> usize) -> BarRow {
    BarRow { label: label.to_owned(), counts: stats.iter().map(value).collect() }
}

/// Images with 0, 1, 2, 3 to 4, 5 to 8, ... boxes.
fn per_image(stats: &[Stats]) -> Vec<BarRow> {
    let most = stats.iter().map(|stats| stats.images_by_boxes.len()).max().unwrap_or(0);
    let mut ends = vec![0, 1, 2];
    while ends[ends.len() - 1] + 1 < most {
        ends.push(ends[ends.len() - 1] * 2);
    }
    let mut first = 0;
    let mut rows = Vec::new();
    for end in ends {
        let label = if first == end { end.to_string() } else { format!("{first} to {end}") };
        let counted = first..end + 1;
        rows.push(row(stats, &label, &|s| {
            let images = s.images_by_boxes.iter().enumerate();
            images.filter(|(boxes, _)| counted.contains(boxes)).map(|(_, count)| count).sum()
        }));
        first = end + 1;
    }
    rows
}

/// The largest classes first, the smallest together.
fn classes(stats: &[Stats]) -> Vec<BarRow> {
    let boxes = |s: &Stats, id: i64, name: &str| {
        let of_it = s.classes.iter().filter(|class| class.id == id && class.name == name);
        of_it.map(|class| class.boxes).sum()
    };
    let names = class_names(stats).into_iter();
    let mut classes: Vec<BarRow> =
        names.map(|(id, name)| row(stats, &name, &|s| boxes(s, id, &name))).collect();
    classes.sort_by_key(|row| Reverse(row.counts.iter().sum::<usize>()));
    let rest = classes.split_off(classes.len().min(CLASSES));
    if !rest.is_empty() {
        let label = match rest.len() {
            1 => "1 more class".to_owned(),
            more => format!("{more} more classes"),
        };
        let together = |at: usize| rest.iter().map(|row| row.counts[at]).sum();
        classes.push(BarRow { label, counts: (0..stats.len()).map(together).collect() });
    }
    classes
}

#[cfg(test)]
mod tests {
    use deim_data::check::{ClassStats, Summary};

    use super::*;

    fn stats(split: &str, classes: usize, images_by_boxes: Vec<usize>) -> Stats {
        let class = |id: usize| ClassStats {
            id: id as i64,
            name: format!("class {id}"),
            boxes: id,
            images: 1,
        };
        Stats {
            split: split.into(),
            images: images_by_boxes.iter().sum(),
            images_without_boxes: images_by_boxes[0],
            boxes: 0,
            left_out: 0,
            boxes_per_image: Summary::default(),
            images_by_boxes,
            areas: [1, 2, 3],
            box_side: Summary::default(),
            image_width: Summary::default(),
            image_height: Summary::default(),
            classes: (0..classes).map(class).collect(),
            manifest: String::new(),
        }
    }

    #[test]
    fn no_image_is_lost_between_the_ranges() {
        let stats =
            [stats("train", 1, vec![5, 4, 3, 2, 1, 1, 0, 0, 0, 7]), stats("val", 1, vec![1])];
        let rows = per_image(&stats);
        let labels: Vec<&str> = rows.iter().map(|row| row.label.as_str()).collect();
        assert_eq!(labels, ["0", "1", "2", "3 to 4", "5 to 8", "9 to 16"]);
        let of = |at: usize| rows.iter().map(|row| row.counts[at]).collect::<Vec<_>>();
        assert_eq!((of(0), of(1)), (vec![5, 4, 3, 3, 1, 7], vec![1, 0, 0, 0, 0, 0]));
    }

    #[test]
    fn classes_are_sorted_by_size_and_the_smallest_are_one_row() {
        let rows = classes(&[stats("train", CLASSES + 3, vec![1])]);
        assert_eq!(rows.len(), CLASSES + 1);
        assert_eq!(rows[0].label, format!("class {}", CLASSES + 2));
        assert_eq!(rows[CLASSES].label, "3 more classes");
        assert_eq!(rows[CLASSES].counts, [1 + 2]);
    }

    #[test]
    fn a_class_of_another_name_under_the_same_number_is_another_class() {
        let mut val = stats("val", 2, vec![1]);
        val.classes[1].name = "renamed".into();
        let rows = classes(&[stats("train", 2, vec![1]), val]);
        let found =
            |label: &str| rows.iter().find(|row| row.label == label).unwrap().counts.clone();
        assert_eq!((found("class 1"), found("renamed")), (vec![1, 0], vec![0, 1]));
    }
}
