//! The sheet that figures are drawn on: an SVG in tenths of a pixel.
//!
//! plotters' SVG backend has whole-number coordinates only, so a figure is drawn ten times too large
//! and the finished document is told its true size. A CSS pixel is 0.75 pt: all text is 8 pt in print
//! when a figure keeps its width, which is that of one or two columns of a paper.

use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use crate::error::Error;
use crate::figures::theme::adapt;

pub use crate::figures::raster::text_width;
pub use crate::figures::theme::{BLACK, GREY, PALE, SHADE};

/// Units of a drawing in one CSS pixel.
pub const UNIT: f64 = 10.0;
/// Width of a figure across two columns of a paper, in CSS pixels: 178 mm.
pub const PAGE: f64 = 672.0;
/// Width of a figure in one column, in CSS pixels: 85 mm.
pub const COLUMN: f64 = 321.0;
/// Height of text, in CSS pixels: 8 pt.
pub const SMALL: f64 = 10.7;
/// Titles, in CSS pixels: 9 pt.
pub const LARGE: f64 = 12.0;
/// From one line of text to the next.
pub const LINE: f64 = 15.0;
/// plotters divides the size of a font by this before it writes it.
const PLOTTERS_FONT_FACTOR: f64 = 1.24;
/// What a viewer without the first font may use; the others are narrower, so nothing overlaps.
pub const FONTS: &str = "DejaVu Sans, Verdana, Arial, Helvetica, sans-serif";

pub type Sheet<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// A length in CSS pixels as a whole number of drawing units.
pub fn units(pixels: f64) -> i32 {
    (pixels * UNIT).round() as i32
}

/// Draws a figure of the given width and height in CSS pixels and gives the SVG document.
pub fn sheet(
    width: f64,
    height: f64,
    draw: impl FnOnce(&Sheet<'_>) -> Result<(), Error>,
) -> Result<String, Error> {
    let (wide, high) = (units(width), units(height));
    let mut svg = String::new();
    {
        let root =
            SVGBackend::with_string(&mut svg, (wide as u32, high as u32)).into_drawing_area();
        root.fill(&WHITE).map_err(Error::drawing)?;
        draw(&root)?;
        root.present().map_err(Error::drawing)?;
    }
    let drawn = format!("width=\"{wide}\" height=\"{high}\" viewBox");
    let (width, height) = (f64::from(wide) / UNIT, f64::from(high) / UNIT);
    let true_size =
        format!("width=\"{width}\" height=\"{height}\" font-family=\"{FONTS}\" viewBox");
    Ok(adapt(&shorten(&svg.replacen(&drawn, &true_size, 1))))
}

/// Leaves out what plotters repeats in every element and what is so without being said.
fn shorten(svg: &str) -> String {
    let (head, body) = svg.split_once('\n').unwrap_or((svg, ""));
    let body = body
        .replace(&format!(" font-family=\"{FONTS}\""), "")
        .replace(" opacity=\"1\"", "")
        .replace(" text-anchor=\"start\"", "");
    let mut short = format!("{head}\n");
    for (at, part) in body.split("font-size=\"").enumerate() {
        let size = part.split_once('"').and_then(|(size, rest)| {
            Some(format!("font-size=\"{:.0}\"{rest}", size.parse::<f64>().ok()?))
        });
        short.push_str(if at == 0 { part } else { size.as_deref().unwrap_or(part) });
    }
    short
}

/// How a piece of text looks and which of its points is placed.
#[derive(Clone, Copy)]
pub struct Ink {
    pub size: f64,
    pub bold: bool,
    pub color: RGBColor,
    pub anchor: HPos,
}

impl Ink {
    pub const fn small() -> Self {
        Self { size: SMALL, bold: false, color: BLACK, anchor: HPos::Left }
    }

    pub const fn bold(self) -> Self {
        Self { bold: true, ..self }
    }

    pub const fn color(self, color: RGBColor) -> Self {
        Self { color, ..self }
    }

    pub const fn size(self, size: f64) -> Self {
        Self { size, ..self }
    }

    pub const fn centred(self) -> Self {
        Self { anchor: HPos::Center, ..self }
    }

    pub const fn right(self) -> Self {
        Self { anchor: HPos::Right, ..self }
    }

    /// The same as a plotters style, vertically centred on its point.
    pub fn style(&self) -> TextStyle<'_> {
        let font = FontDesc::new(
            FontFamily::Name(FONTS),
            self.size * UNIT * PLOTTERS_FONT_FACTOR,
            if self.bold { FontStyle::Bold } else { FontStyle::Normal },
        );
        TextStyle::from(font).color(&self.color).pos(Pos::new(self.anchor, VPos::Center))
    }
}

/// Writes one line of text with its capitals vertically centred on `y`; the point is in CSS pixels.
pub fn text(sheet: &Sheet<'_>, line: &str, x: f64, y: f64, ink: Ink) -> Result<(), Error> {
    // SVG centres on the middle of an `x`; capitals and digits reach a little higher.
    const CAPITALS: f64 = 0.11;
    let place = (units(x), units(y + CAPITALS * ink.size));
    sheet.draw_text(line, &ink.style(), place).map_err(Error::drawing)
}

/// Draws a line through points; all lengths are in CSS pixels.
pub fn line(
    sheet: &Sheet<'_>,
    points: &[(f64, f64)],
    color: RGBColor,
    width: f64,
) -> Result<(), Error> {
    let points: Vec<_> = points.iter().map(|(x, y)| (units(*x), units(*y))).collect();
    let style = color.stroke_width(units(width) as u32);
    sheet.draw(&PathElement::new(points, style)).map_err(Error::drawing)
}

/// Breaks text into lines that are at most `width` CSS pixels wide.
pub fn wrap(paragraph: &str, width: f64, ink: Ink) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in paragraph.split_whitespace() {
        let longer = lines.last().map(|line| format!("{line} {word}"));
        match longer {
            Some(longer) if text_width(&longer, ink) <= width => {
                *lines.last_mut().expect("longer than a line that exists") = longer;
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrapping_keeps_every_word_and_the_width() {
        let paragraph = "Does the exponent of the quality target <matter> & by how much?";
        let lines = wrap(paragraph, 120.0, Ink::small());
        assert!(lines.len() > 2);
        assert_eq!(lines.join(" "), paragraph);
        assert!(lines.iter().all(|line| text_width(line, Ink::small()) <= 120.0));
    }

    #[test]
    fn a_document_names_its_font_once_and_its_true_size() {
        let drawn = |root: &Sheet<'_>| {
            text(root, "a", 20.0, 20.0, Ink::small())?;
            text(root, "b", 20.0, 30.0, Ink::small().bold())
        };
        let svg = sheet(COLUMN, 40.0, drawn).unwrap();
        assert_eq!(svg.matches("DejaVu Sans").count(), 1, "{svg}");
        assert!(svg.starts_with("<svg width=\"321\" height=\"40\""), "{svg}");
        assert!(svg.contains("font-size=\"107\""), "{svg}");
    }
}
