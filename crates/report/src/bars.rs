//! Grouped horizontal bars: what a data set consists of, split beside split.
//!
//! A bar's length is the row's share of its series, so that splits of different size compare; the
//! count stands beside it. Readable in grey: series differ by how dark they are, the last hollow.

use std::path::Path;

use plotters::prelude::*;

use crate::canvas::{
    BLACK, GREY, Ink, LARGE, Sheet, WIDTH, line, png, sheet, text, text_width, units, wrap,
};
use crate::error::Error;
use crate::files::write_atomically;

const MARGIN: f64 = 10.0;
const LINE: f64 = 17.0;
const BAR: f64 = 11.0;
const GAP: f64 = 7.0;
const HEAD: f64 = 30.0;
const TITLE: Ink = Ink::small().size(LARGE).bold();
const CAPTION: Ink = Ink::small().color(GREY);
const FILLS: [RGBColor; 3] =
    [RGBColor(0x1a, 0x1a, 0x1a), RGBColor(0x8c, 0x8c, 0x8c), RGBColor(0xff, 0xff, 0xff)];

/// Rows of bars under a heading.
#[derive(Clone, Debug, PartialEq)]
pub struct BarPanel {
    pub title: String,
    pub rows: Vec<BarRow>,
}

/// A label and a count for each series.
#[derive(Clone, Debug, PartialEq)]
pub struct BarRow {
    pub label: String,
    pub counts: Vec<usize>,
}

/// Draws the panels below each other as an SVG document.
pub fn bars(
    title: &str,
    caption: &str,
    series: &[String],
    panels: &[BarPanel],
) -> Result<String, Error> {
    let width = WIDTH - 2.0 * MARGIN;
    let (title, caption) = (wrap(title, width, TITLE), wrap(caption, width, CAPTION));
    let row = series.len().max(1) as f64 * BAR + GAP;
    let rows = |panel: &BarPanel| panel.rows.len() as f64 * row;
    let top = MARGIN + title.len() as f64 * (LINE + 2.0) + LINE + GAP;
    let bottom: f64 = top + panels.iter().map(|panel| HEAD + rows(panel)).sum::<f64>();
    let height = bottom + GAP + caption.len() as f64 * LINE + MARGIN;
    sheet(height, |root| {
        for (at, line) in title.iter().enumerate() {
            text(root, line, MARGIN, MARGIN + 8.0 + at as f64 * (LINE + 2.0), TITLE)?;
        }
        legend(root, series, top - LINE)?;
        let mut y = top;
        for panel in panels {
            text(root, &panel.title, MARGIN, y + HEAD / 2.0 + 4.0, Ink::small().bold())?;
            draw_panel(root, panel, series.len(), y + HEAD)?;
            y += HEAD + rows(panel);
        }
        for (at, line) in caption.iter().enumerate() {
            text(root, line, MARGIN, bottom + GAP + (at as f64 + 0.5) * LINE, CAPTION)?;
        }
        Ok(())
    })
}

/// Writes a figure as what its name ends with: `.svg` or `.png`.
pub fn write_figure(path: &Path, svg: &str) -> Result<(), Error> {
    match path.extension().and_then(|extension| extension.to_str()) {
        Some("svg") => write_atomically(path, svg.as_bytes()),
        Some("png") => write_atomically(path, &png(svg)?),
        _ => Err(Error::Drawing(format!("{}: expected a name in .svg or .png", path.display()))),
    }
}

fn legend(root: &Sheet<'_>, series: &[String], y: f64) -> Result<(), Error> {
    let mut x = MARGIN;
    for (at, name) in series.iter().enumerate() {
        bar(root, [x, x + BAR], y, at)?;
        text(root, name, x + BAR + 5.0, y, Ink::small())?;
        x += BAR + 5.0 + text_width(name, Ink::small()) + 2.0 * GAP;
    }
    Ok(())
}

fn draw_panel(root: &Sheet<'_>, panel: &BarPanel, series: usize, top: f64) -> Result<(), Error> {
    let widest = |ink: Ink, texts: &mut dyn Iterator<Item = String>| {
        texts.map(|text| text_width(&text, ink)).fold(0.0, f64::max)
    };
    let counts = || panel.rows.iter().flat_map(|row| row.counts.iter().copied());
    let labels = widest(Ink::small(), &mut panel.rows.iter().map(|row| row.label.clone()));
    let numbers = widest(Ink::small(), &mut counts().map(|count| count.to_string()));
    let left = MARGIN + labels.min(WIDTH / 3.0) + GAP;
    let right = WIDTH - MARGIN - numbers - GAP;
    let total = |at: usize| -> f64 {
        panel.rows.iter().filter_map(|row| row.counts.get(at)).sum::<usize>().max(1) as f64
    };
    let share = |at: usize, count: usize| count as f64 / total(at);
    let longest = panel
        .rows
        .iter()
        .flat_map(|row| row.counts.iter().enumerate().map(|(at, count)| share(at, *count)))
        .fold(f64::MIN_POSITIVE, f64::max);
    let height = series.max(1) as f64 * BAR + GAP;
    for (place, row) in panel.rows.iter().enumerate() {
        let first = top + place as f64 * height + BAR / 2.0;
        let middle = first + (series.max(1) - 1) as f64 * BAR / 2.0;
        text(root, &shorten(&row.label), left - GAP, middle, Ink::small().right())?;
        for (at, count) in row.counts.iter().enumerate() {
            let y = first + at as f64 * BAR;
            let end = left + (right - left) * share(at, *count) / longest;
            if *count > 0 {
                bar(root, [left, end.max(left + 1.0)], y, at)?;
            }
            text(root, &count.to_string(), end + 4.0, y, Ink::small().size(10.0))?;
        }
    }
    let bottom = top + panel.rows.len() as f64 * height - GAP / 2.0;
    line(root, &[(left, top - GAP / 2.0), (left, bottom)], BLACK, 1.0)
}

/// A label that leaves room for its bar.
fn shorten(label: &str) -> String {
    let mut chars = label.chars();
    let mut short: String = chars.by_ref().take(28).collect();
    if chars.next().is_some() {
        short.push('\u{2026}');
    }
    short
}

fn bar(root: &Sheet<'_>, [left, right]: [f64; 2], y: f64, series: usize) -> Result<(), Error> {
    let reach = BAR / 2.0 - 1.0;
    let corners = [(units(left), units(y - reach)), (units(right), units(y + reach))];
    let fill = FILLS[series % FILLS.len()];
    root.draw(&Rectangle::new(corners, fill.filled())).map_err(Error::drawing)?;
    let [(x0, y0), (x1, y1)] = corners;
    let border = vec![(x0, y0), (x1, y0), (x1, y1), (x0, y1), (x0, y0)];
    root.draw(&PathElement::new(border, BLACK.stroke_width(units(0.8) as u32)))
        .map_err(Error::drawing)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn panel(rows: &[(&str, &[usize])]) -> BarPanel {
        let rows = rows
            .iter()
            .map(|(label, counts)| BarRow { label: (*label).into(), counts: counts.to_vec() })
            .collect();
        BarPanel { title: "classes".into(), rows }
    }

    #[test]
    fn every_label_and_count_is_drawn_and_markup_is_escaped() {
        let panels = [panel(&[("cat <b>", &[7, 0]), ("dog", &[123, 45])])];
        let svg = bars("a & b", "caption", &["train".into(), "val".into()], &panels).unwrap();
        for word in ["cat &lt;b&gt;", "dog", "123", "45", "train", "val", "caption"] {
            assert!(svg.contains(word), "{word}");
        }
        assert!(!svg.contains("<b>"));
        assert!(png(&svg).is_ok());
    }

    #[test]
    fn nothing_to_draw_is_still_a_sheet() {
        assert!(bars("", "", &[], &[panel(&[])]).is_ok());
        assert!(bars("t", "", &["train".into()], &[panel(&[("a", &[0])])]).is_ok());
    }

    #[test]
    fn the_name_of_the_file_says_what_it_becomes() {
        let error = write_figure(Path::new("figure.bmp"), "<svg/>").err().unwrap();
        assert!(error.to_string().contains(".svg or .png"));
    }
}
