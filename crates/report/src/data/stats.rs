//! What a data set consists of, as tables.

use comfy_table::Cell;
use deim_data::check::{AREAS, Stats, Summary};

use super::tables::{lines, right, table};

/// The numbers of each split, then its classes.
pub fn stats_text(stats: &[Stats], width: Option<u16>) -> String {
    let mut numbers = table(width);
    let mut header = vec![Cell::new("")];
    header.extend(stats.iter().map(|stats| right(&stats.split)));
    numbers.set_header(header);
    let mut row = |name: &str, value: &dyn Fn(&Stats) -> String| {
        let mut cells = vec![Cell::new(name)];
        cells.extend(stats.iter().map(|stats| right(&value(stats))));
        numbers.add_row(cells);
    };
    row("images", &|s| s.images.to_string());
    row("images without boxes", &|s| s.images_without_boxes.to_string());
    row("image width, min / median / max", &|s| range(&s.image_width));
    row("image height, min / median / max", &|s| range(&s.image_height));
    row("boxes to train on", &|s| s.boxes.to_string());
    row("objects left out", &|s| s.left_out.to_string());
    row("boxes per image, mean", &|s| format!("{:.2}", s.boxes_per_image.mean));
    row("boxes per image, median / 95% / max", &|s| {
        let Summary { median, p95, max, .. } = s.boxes_per_image;
        format!("{median} / {p95} / {max}")
    });
    row("side of a box in pixels, min / median / max", &|s| range(&s.box_side));
    for (at, (name, _)) in AREAS.iter().enumerate() {
        row(&format!("{name} boxes"), &|s| {
            let share = s.areas[at] as f64 / s.boxes.max(1) as f64 * 100.0;
            format!("{} ({share:.1}%)", s.areas[at])
        });
    }
    row("manifest", &|s| s.manifest.chars().take(16).collect());

    let mut classes = table(width);
    let mut header: Vec<Cell> = vec![right("id"), "class".into()];
    header.extend(stats.iter().map(|stats| right(&format!("{}: boxes (images)", stats.split))));
    classes.set_header(header);
    for (id, name) in class_names(stats) {
        let mut cells = vec![right(&id.to_string()), Cell::new(&name)];
        cells.extend(stats.iter().map(|stats| {
            let class = stats.classes.iter().find(|class| class.id == id && class.name == name);
            right(&class.map_or("-".into(), |class| format!("{} ({})", class.boxes, class.images)))
        }));
        classes.add_row(cells);
    }
    format!("{}{}", lines(&numbers), lines(&classes))
}

/// The classes of all splits together, in ascending order of id.
pub fn class_names(stats: &[Stats]) -> Vec<(i64, String)> {
    let mut names: Vec<(i64, String)> = stats
        .iter()
        .flat_map(|s| s.classes.iter().map(|class| (class.id, class.name.clone())))
        .collect();
    names.sort();
    names.dedup();
    names
}

fn range(summary: &Summary) -> String {
    format!("{:.0} / {:.0} / {:.0}", summary.min, summary.median, summary.max)
}
