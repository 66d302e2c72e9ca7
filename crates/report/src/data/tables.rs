//! The look of the tables, and the lines above them.

use std::path::Path;

use comfy_table::{Cell, CellAlignment, ContentArrangement, LineStyle, Table, TableStyle};
use deim_data::readers::Reading;

/// An empty table, at most `width` columns wide.
pub fn table(width: Option<u16>) -> Table {
    let mut table = Table::new();
    let rule = LineStyle::none().fill('\u{2500}').junction('\u{2500}');
    table.load_style(TableStyle::new().top_border(rule).header_separator(rule).bottom_border(rule));
    table.force_no_tty();
    if let Some(width) = width {
        table.set_content_arrangement(ContentArrangement::Dynamic).set_width(width);
    }
    table
}

pub fn right(text: &str) -> Cell {
    Cell::new(text).set_alignment(CellAlignment::Right)
}

/// The lines of a table without the blanks at their ends.
pub fn lines(table: &Table) -> String {
    table.lines().map(|line| format!("{}\n", line.trim_end())).collect()
}

/// `1 image`, `2 images`, `0 classes`.
pub fn count(number: usize, what: &str) -> String {
    let ending = match number {
        1 => "",
        _ if what.ends_with(['s', 'x']) => "es",
        _ => "s",
    };
    format!("{number} {what}{ending}")
}

/// What was read and from where, a line a split.
pub fn head(folder: &Path, reading: &Reading) -> String {
    let mut text = format!("{} data set in {}", reading.format, folder.display());
    if !reading.also.is_empty() {
        let names: Vec<&str> = reading.also.iter().map(|format| format.name()).collect();
        text.push_str(&format!("; it also looks like {}, which --format reads", names.join(", ")));
    }
    text.push('\n');
    let shown = |path: &Path| {
        let inside = path.strip_prefix(folder).unwrap_or(path);
        if inside.as_os_str().is_empty() { ".".to_owned() } else { inside.display().to_string() }
    };
    for split in &reading.splits {
        text.push_str(&format!(
            "{}: {} of {} in {}; {}, images in {}\n",
            split.split,
            count(split.objects(), "object"),
            count(split.categories.len(), "class"),
            count(split.images.len(), "image"),
            shown(&split.annotations),
            shown(&split.images_dir),
        ));
    }
    text
}
