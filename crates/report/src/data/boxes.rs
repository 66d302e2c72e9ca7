//! Boxes and the tags with their class names, readable over any picture.

use std::collections::BTreeMap;

use plotters::style::RGBColor;

use crate::canvas::{FONTS, Ink, text_width};

/// Vivid colours that neighbouring class numbers can be told apart by, on photographs as well.
const COLOURS: [RGBColor; 10] = [
    RGBColor(0xff, 0xb0, 0x00),
    RGBColor(0x29, 0xb6, 0xf6),
    RGBColor(0xff, 0x52, 0x52),
    RGBColor(0x66, 0xe0, 0x5a),
    RGBColor(0xe0, 0x6b, 0xff),
    RGBColor(0x1d, 0xe9, 0xd0),
    RGBColor(0xff, 0x8a, 0x3d),
    RGBColor(0x8c, 0x9e, 0xff),
    RGBColor(0xf4, 0xf0, 0x4d),
    RGBColor(0xff, 0x80, 0xab),
];

/// Longer class names are cut.
const LONGEST: usize = 22;

/// A rectangle in CSS pixels of the page: left, top, right, bottom.
pub type Rect = [f64; 4];

/// A box on the page.
pub struct Marked {
    pub rect: Rect,
    pub class: usize,
    /// What its tag says, see [`name`].
    pub name: String,
    pub dashed: bool,
}

/// Widths of texts for one CSS pixel of height; measuring is slow and class names repeat.
#[derive(Default)]
pub struct Widths(BTreeMap<String, f64>);

impl Widths {
    const MEASURED_AT: f64 = 20.0;

    pub fn of(&mut self, text: &str, size: f64) -> f64 {
        if let Some(width) = self.0.get(text) {
            return width * size;
        }
        let width = text_width(text, Ink::small().size(Self::MEASURED_AT)) / Self::MEASURED_AT;
        self.0.insert(text.to_owned(), width);
        width * size
    }
}

/// The SVG elements of the boxes of one picture, which takes the room `within` on the page.
pub fn draw(marked: &[Marked], within: Rect, widths: &mut Widths) -> String {
    // Many boxes are small ones; their lines must not hide what they are about.
    let (line, size) = match marked.len() {
        0..=12 => (1.4, 8.0),
        13..=40 => (1.0, 6.5),
        _ => (0.8, 5.0),
    };
    let mut order: Vec<&Marked> = marked.iter().collect();
    order.sort_by(|a, b| area(b.rect).total_cmp(&area(a.rect)));
    let mut svg = String::new();
    for marked in &order {
        let [x1, y1, x2, y2] = marked.rect;
        let dashes = if marked.dashed {
            format!(" stroke-dasharray=\"{0} {0}\"", line * 2.5)
        } else {
            String::new()
        };
        let (wide, high) = (x2 - x1, y2 - y1);
        for (colour, width, dashes) in
            [("#000000", line + 1.2, ""), (&hex(colour(marked.class)), line, dashes.as_str())]
        {
            svg.push_str(&format!(
                "<rect x=\"{x1:.2}\" y=\"{y1:.2}\" width=\"{wide:.2}\" height=\"{high:.2}\" \
                 fill=\"none\" stroke=\"{colour}\" stroke-width=\"{width:.2}\"{dashes}/>\n"
            ));
        }
    }
    // Small boxes choose first: large ones have more places for their tags.
    let mut taken: Vec<Rect> = Vec::new();
    for marked in order.iter().rev() {
        let name = &marked.name;
        let (wide, high) = (widths.of(name, size) + size * 0.5, size * 1.25);
        let tag = place(marked.rect, [wide, high], within, &taken);
        taken.push(tag);
        let RGBColor(red, green, blue) = colour(marked.class);
        let light = 299 * u32::from(red) + 587 * u32::from(green) + 114 * u32::from(blue) > 110_000;
        svg.push_str(&format!(
            "<rect x=\"{:.2}\" y=\"{:.2}\" width=\"{wide:.2}\" height=\"{high:.2}\" fill=\"{}\" \
             stroke=\"#000000\" stroke-width=\"0.4\"/>\n{}",
            tag[0],
            tag[1],
            hex(colour(marked.class)),
            text(
                name,
                [tag[0] + size * 0.25, tag[1] + size * 0.98],
                size,
                if light { "#000000" } else { "#FFFFFF" },
                false,
            ),
        ));
    }
    svg
}

/// A line of text that begins at a point of its base line.
pub fn text(line: &str, [x, y]: [f64; 2], size: f64, colour: &str, bold: bool) -> String {
    let weight = if bold { " font-weight=\"bold\"" } else { "" };
    let line = escaped(line);
    format!(
        "<text x=\"{x:.2}\" y=\"{y:.2}\" font-family=\"{FONTS}\" font-size=\"{size:.2}\" \
         fill=\"{colour}\"{weight}>{line}</text>\n"
    )
}

/// Text of a file in a document: no markup, and nothing that XML does not allow.
fn escaped(line: &str) -> String {
    let allowed = |c: char| {
        if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') { '\u{fffd}' } else { c }
    };
    let line: String = line.chars().map(allowed).collect();
    line.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// The words of a tag: a class, and how sure a detector is of it.
pub fn name(class: &str, score: Option<f32>) -> String {
    match score {
        Some(score) => format!("{} {score:.2}", short(class)),
        None => short(class),
    }
}

fn short(name: &str) -> String {
    let mut chars = name.chars();
    let mut short: String = chars.by_ref().take(LONGEST).collect();
    if chars.next().is_some() {
        short.push('\u{2026}');
    }
    short
}

/// Where a tag goes: the first place at the box's corners that no other tag has, else the first.
fn place(rect: Rect, [wide, high]: [f64; 2], within: Rect, taken: &[Rect]) -> Rect {
    let [x1, y1, x2, y2] = rect;
    let corners = [
        [x1, y1 - high],
        [x1, y1],
        [x2 - wide, y1 - high],
        [x2 - wide, y1],
        [x1, y2],
        [x1, y2 - high],
        [x2 - wide, y2],
        [x2 - wide, y2 - high],
        [x2, y1],
        [x1 - wide, y1],
    ];
    let moved = corners.map(|[x, y]| {
        let x = x.min(within[2] - wide).max(within[0]);
        let y = y.min(within[3] - high).max(within[1]);
        [x, y, x + wide, y + high]
    });
    let free = |tag: &&Rect| !taken.iter().any(|other| overlap(**tag, *other));
    *moved.iter().find(free).unwrap_or(&moved[0])
}

fn overlap(a: Rect, b: Rect) -> bool {
    a[0] < b[2] && b[0] < a[2] && a[1] < b[3] && b[1] < a[3]
}

fn area([x1, y1, x2, y2]: Rect) -> f64 {
    (x2 - x1) * (y2 - y1)
}

fn colour(class: usize) -> RGBColor {
    COLOURS[class % COLOURS.len()]
}

fn hex(RGBColor(red, green, blue): RGBColor) -> String {
    format!("#{red:02X}{green:02X}{blue:02X}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_stay_on_the_picture_and_off_each_other_where_there_is_room() {
        let within = [0.0, 0.0, 100.0, 100.0];
        let first = place([0.0, 0.0, 50.0, 50.0], [20.0, 10.0], within, &[]);
        assert_eq!(first, [0.0, 0.0, 20.0, 10.0], "above the picture is no room");
        let second = place([0.0, 0.0, 50.0, 50.0], [20.0, 10.0], within, &[first]);
        assert!(!overlap(first, second), "{second:?}");
        let last = place([95.0, 95.0, 99.0, 99.0], [20.0, 10.0], within, &[]);
        assert!(last[2] <= 100.0 && last[3] <= 100.0, "{last:?}");
    }

    #[test]
    fn names_of_files_cannot_become_markup() {
        let svg = text("<b>&\u{1b}[2J", [0.0, 0.0], 8.0, "#000000", false);
        assert!(svg.contains("&lt;b&gt;&amp;\u{fffd}[2J</text>"), "{svg}");
        assert_eq!(short(&"x".repeat(99)).chars().count(), LONGEST + 1);
    }
}
