//! Grouped horizontal bars: what a data set consists of, split beside split.
//!
//! A bar's length is the row's share of its series, so that splits of different size compare; the
//! count stands beside it. Readable in grey: series differ by how dark they are, the last hollow.

use plotters::prelude::*;

use crate::canvas::{
    BLACK, GREY, Ink, LINE, PAGE, PALE, Sheet, line, sheet, text, text_width, units,
};
use crate::error::Error;
use crate::figures::page::{MARGIN, Words};
use crate::figures::theme::{MIDDLE, PAPER};

const BAR: f64 = 11.0;
/// Between the bars of two rows.
const ROW_GAP: f64 = 4.0;
/// Between a label and its bars, and between a bar and its count.
const GAP: f64 = 5.0;
/// Between columns.
const GUTTER: f64 = 22.0;
/// The title of a panel.
const HEAD: f64 = 24.0;
/// The part of a column's width that labels may take.
const LABELS: f64 = 0.45;
/// The labels of its scale.
const SCALE: f64 = 20.0;
const FILLS: [RGBColor; 3] = [BLACK, MIDDLE, PAPER];

/// Rows of bars under a heading.
#[derive(Clone, Debug, PartialEq)]
pub struct BarPanel {
    pub title: String,
    pub rows: Vec<BarRow>,
    /// What each series adds up to.
    totals: Vec<usize>,
    /// The share that its longest bar shows.
    longest: f64,
}

/// A label and a count for each series.
#[derive(Clone, Debug, PartialEq)]
pub struct BarRow {
    pub label: String,
    pub counts: Vec<usize>,
}

/// Panels side by side: columns, each a stack of panels.
pub type Block = Vec<Vec<BarPanel>>;

impl BarPanel {
    /// All rows of something of which there are this many series.
    pub fn new(title: &str, rows: Vec<BarRow>, series: usize) -> Self {
        let count = |row: &BarRow, at: usize| row.counts.get(at).copied().unwrap_or(0);
        let totals: Vec<usize> = (0..series)
            .map(|at| rows.iter().map(|row| count(row, at)).sum::<usize>().max(1))
            .collect();
        let shares = rows.iter().flat_map(|row| {
            totals.iter().enumerate().map(|(at, total)| count(row, at) as f64 / *total as f64)
        });
        let longest = shares.fold(0.01, f64::max);
        Self { title: title.to_owned(), rows, totals, longest }
    }

    /// The same rows in columns of the same scale, to be read down each of them.
    pub fn in_columns(self, columns: usize) -> Block {
        let long = self.rows.len().div_ceil(columns.max(1)).max(1);
        let part = |(at, rows): (usize, &[BarRow])| {
            let title = if at == 0 { self.title.clone() } else { String::new() };
            vec![Self { title, rows: rows.to_vec(), ..self.clone() }]
        };
        self.rows.chunks(long).enumerate().map(part).collect()
    }

    fn share(&self, series: usize, count: usize) -> f64 {
        count as f64 / self.totals.get(series).copied().unwrap_or(1) as f64
    }

    fn row_height(&self) -> f64 {
        self.totals.len().max(1) as f64 * BAR + ROW_GAP
    }

    fn height(&self) -> f64 {
        HEAD + self.rows.len() as f64 * self.row_height() + SCALE
    }

    /// Whether both are parts of one panel.
    fn is_of(&self, other: &Self) -> bool {
        self.totals == other.totals && self.longest == other.longest
    }

    /// Widths of the longest label and the longest count in a column of this width.
    fn room(&self, width: f64) -> [f64; 2] {
        let size = |text: &str| text_width(text, Ink::small());
        let labels = self.rows.iter().map(|row| size(&shorten(&row.label, width * LABELS)));
        let counts =
            self.rows.iter().flat_map(|row| &row.counts).map(|count| size(&grouped(*count)));
        [labels.fold(0.0, f64::max), counts.fold(0.0, f64::max)]
    }

    /// Shares with a line and a label: at most four of them, at round numbers of percent.
    fn ticks(&self) -> Vec<f64> {
        let steps = [0.01, 0.02, 0.05, 0.1, 0.2, 0.25, 0.5];
        let step = steps.into_iter().find(|step| self.longest / step < 5.0).unwrap_or(1.0);
        (0..=(self.longest / step) as usize).map(|at| at as f64 * step).collect()
    }
}

/// Draws the blocks below each other as an SVG document.
pub fn bars(
    title: &str,
    caption: &str,
    series: &[String],
    blocks: &[Block],
) -> Result<String, Error> {
    let words = Words::new(PAGE, title, caption);
    let height = |block: &Block| {
        let columns = block.iter().map(|column| column.iter().map(BarPanel::height).sum());
        columns.fold(0.0, f64::max)
    };
    let top = words.top() + LINE;
    let bottom = top + blocks.iter().map(height).sum::<f64>();
    sheet(PAGE, words.height(bottom), |root| {
        words.draw(root, bottom)?;
        legend(root, series, words.top() + 4.0)?;
        let mut y = top;
        for block in blocks {
            let columns = block.len().max(1) as f64;
            let width = (PAGE - 2.0 * MARGIN - (columns - 1.0) * GUTTER) / columns;
            for (at, column) in block.iter().enumerate() {
                let left = MARGIN + at as f64 * (width + GUTTER);
                let mut y = y;
                for (place, panel) in column.iter().enumerate() {
                    // Columns of one panel have one scale.
                    let parts = block.iter().filter_map(|column| column.get(place));
                    let parts = parts.filter(|part| part.is_of(panel));
                    let room = parts.map(|part| part.room(width)).fold([0.0; 2], widest);
                    draw_panel(root, panel, room, [left, left + width], y)?;
                    y += panel.height();
                }
            }
            y += height(block);
        }
        Ok(())
    })
}

fn legend(root: &Sheet<'_>, series: &[String], y: f64) -> Result<(), Error> {
    let mut x = MARGIN;
    for (at, name) in series.iter().enumerate() {
        bar(root, [x, x + BAR], y, at)?;
        text(root, name, x + BAR + GAP, y, Ink::small())?;
        x += BAR + GAP + text_width(name, Ink::small()) + 3.0 * GAP;
    }
    Ok(())
}

fn widest(one: [f64; 2], other: [f64; 2]) -> [f64; 2] {
    [one[0].max(other[0]), one[1].max(other[1])]
}

fn draw_panel(
    root: &Sheet<'_>,
    panel: &BarPanel,
    room: [f64; 2],
    sides: [f64; 2],
    y: f64,
) -> Result<(), Error> {
    let (left, right) = (sides[0] + room[0] + GAP, sides[1] - room[1] - GAP);
    let x = |share: f64| left + (right - left) * share / panel.longest;

    text(root, &panel.title, sides[0], y + HEAD / 2.0, Ink::small().bold())?;
    let top = y + HEAD;
    let bottom = top + panel.rows.len() as f64 * panel.row_height();
    for tick in panel.ticks() {
        line(root, &[(x(tick), top), (x(tick), bottom + 3.0)], PALE, 0.8)?;
        let label = format!("{:.0}%", tick * 100.0);
        text(root, &label, x(tick), bottom + 10.0, Ink::small().color(GREY).centred())?;
    }
    for (place, row) in panel.rows.iter().enumerate() {
        let first = top + place as f64 * panel.row_height() + (ROW_GAP + BAR) / 2.0;
        let middle = first + (panel.totals.len().max(1) - 1) as f64 * BAR / 2.0;
        let label = shorten(&row.label, (sides[1] - sides[0]) * LABELS);
        text(root, &label, left - GAP, middle, Ink::small().right())?;
        for (at, count) in row.counts.iter().enumerate() {
            let y = first + at as f64 * BAR;
            let end = x(panel.share(at, *count));
            if *count > 0 {
                bar(root, [left, end.max(left + 1.0)], y, at)?;
            }
            // Over the lines of the scale.
            let number = grouped(*count);
            let wide = text_width(&number, Ink::small());
            let behind = [
                (units(end + 1.5), units(y - BAR / 2.0 + 1.0)),
                (units(end + GAP + wide), units(y + BAR / 2.0 - 1.0)),
            ];
            root.draw(&Rectangle::new(behind, PAPER.filled())).map_err(Error::drawing)?;
            text(root, &number, end + GAP - 1.0, y, Ink::small())?;
        }
    }
    line(root, &[(left, top), (left, bottom)], BLACK, 1.0)
}

/// `118,287`.
fn grouped(count: usize) -> String {
    let digits = count.to_string();
    let mut grouped = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// A label that leaves room for its bar.
fn shorten(label: &str, room: f64) -> String {
    let mut short = label.to_owned();
    let mut kept: Vec<char> = label.chars().take(60).collect();
    while text_width(&short, Ink::small()) > room && kept.pop().is_some() {
        short = format!("{}\u{2026}", kept.iter().collect::<String>().trim_end());
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
    use crate::figures::raster::png;

    fn panel(rows: &[(&str, &[usize])]) -> BarPanel {
        let series = rows.iter().map(|(_, counts)| counts.len()).max().unwrap_or(0);
        let rows = rows
            .iter()
            .map(|(label, counts)| BarRow { label: (*label).into(), counts: counts.to_vec() })
            .collect();
        BarPanel::new("classes", rows, series)
    }

    #[test]
    fn every_label_and_count_is_drawn_and_markup_is_escaped() {
        let panel = panel(&[("cat <b>", &[7, 0]), ("dog", &[12_345, 45])]);
        let blocks = [vec![vec![panel]]];
        let svg = bars("a & b", "caption", &["train".into(), "val".into()], &blocks).unwrap();
        for word in ["cat &lt;b&gt;", "dog", "12,345", "45", "train", "val", "caption", "50%"] {
            assert!(svg.contains(word), "{word}");
        }
        assert!(!svg.contains("<b>"));
        assert!(png(&svg).is_ok());
    }

    #[test]
    fn columns_keep_the_order_the_scale_and_every_row() {
        let whole = panel(&[("a", &[60]), ("b", &[20]), ("c", &[15]), ("d", &[4]), ("e", &[1])]);
        let columns = whole.clone().in_columns(3);
        let rows: Vec<BarRow> = columns.iter().flatten().flat_map(|p| p.rows.clone()).collect();
        assert_eq!((columns.len(), rows), (3, whole.rows.clone()));
        assert!(columns.iter().flatten().all(|part| part.longest == 0.6 && part.totals == [100]));
        assert_eq!(columns[1][0].title, "");
    }

    #[test]
    fn a_scale_has_a_few_round_shares() {
        for (rows, expected) in [(1, 5), (3, 4), (20, 3), (200, 2)] {
            let rows = vec![BarRow { label: "a".into(), counts: vec![1] }; rows];
            let ticks = BarPanel::new("", rows, 1).ticks();
            assert_eq!(ticks.len(), expected, "{ticks:?}");
        }
    }

    #[test]
    fn nothing_to_draw_is_still_a_sheet() {
        assert!(bars("", "", &[], &[vec![vec![panel(&[])]]]).is_ok());
        assert!(bars("t", "", &["train".into()], &[vec![vec![panel(&[("a", &[0])])]]]).is_ok());
    }

    #[test]
    fn a_long_label_is_cut_to_its_room() {
        let short = shorten(&"class name ".repeat(20), 80.0);
        assert!(short.ends_with('\u{2026}') && text_width(&short, Ink::small()) <= 80.0, "{short}");
        assert_eq!(shorten("cat", 80.0), "cat");
    }
}
