//! The sheet that figures are drawn on: an SVG in tenths of a pixel, and its PNG.
//!
//! plotters' SVG backend has whole-number coordinates only, so a figure is drawn ten times too large
//! and the finished document is told its true size. A CSS pixel is 0.75 pt: text of 12 px is 9 pt in
//! print when the figure keeps its width of 178 mm (two columns of a paper).

use std::sync::{Arc, OnceLock};

use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use resvg::{tiny_skia, usvg};

use crate::error::Error;

/// Units of a drawing in one CSS pixel.
pub const UNIT: f64 = 10.0;
/// Width of every figure in CSS pixels: 178 mm, two columns of a paper.
pub const WIDTH: f64 = 672.0;
/// Smallest text, in CSS pixels: 9 pt.
pub const SMALL: f64 = 12.0;
/// Titles, in CSS pixels: 10.5 pt.
pub const LARGE: f64 = 14.0;
/// Pixels of the PNG for one CSS pixel: 300 dots an inch.
const PNG_SCALE: f32 = 3.125;
/// plotters divides the size of a font by this before it writes it.
const PLOTTERS_FONT_FACTOR: f64 = 1.24;
/// What a viewer without the first font may use; the others are narrower, so nothing overlaps.
const FONTS: &str = "DejaVu Sans, Verdana, Arial, Helvetica, sans-serif";

pub const BLACK: RGBColor = RGBColor(0x1a, 0x1a, 0x1a);
pub const GREY: RGBColor = RGBColor(0x59, 0x59, 0x59);
pub const PALE: RGBColor = RGBColor(0xd9, 0xd9, 0xd9);
pub const SHADE: RGBColor = RGBColor(0xf4, 0xf4, 0xf4);

pub type Sheet<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// A length in CSS pixels as a whole number of drawing units.
pub fn units(pixels: f64) -> i32 {
    (pixels * UNIT).round() as i32
}

/// Draws a figure of the given height in CSS pixels and gives the SVG document.
pub fn sheet(
    height: f64,
    draw: impl FnOnce(&Sheet<'_>) -> Result<(), Error>,
) -> Result<String, Error> {
    let (wide, high) = (units(WIDTH), units(height));
    let mut svg = String::new();
    {
        let root =
            SVGBackend::with_string(&mut svg, (wide as u32, high as u32)).into_drawing_area();
        root.fill(&WHITE).map_err(Error::drawing)?;
        draw(&root)?;
        root.present().map_err(Error::drawing)?;
    }
    let drawn = format!("width=\"{wide}\" height=\"{high}\" viewBox");
    Ok(svg.replacen(&drawn, &format!("width=\"{WIDTH}\" height=\"{height}\" viewBox"), 1))
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

/// Width of a line of text in CSS pixels, with the font of the PNG.
pub fn text_width(line: &str, ink: Ink) -> f64 {
    let weight = if ink.bold { "bold" } else { "normal" };
    let escaped = line.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    let svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"9\" height=\"9\"><text font-family=\"{FONTS}\" \
         font-size=\"{}\" font-weight=\"{weight}\">{escaped}</text></svg>",
        ink.size
    );
    usvg::Tree::from_str(&svg, &usvg_options())
        .map(|tree| f64::from(tree.root().abs_bounding_box().width()))
        .unwrap_or_else(|_| line.chars().count() as f64 * ink.size * 0.7)
}

/// Renders a figure at 300 dots an inch.
pub fn png(svg: &str) -> Result<Vec<u8>, Error> {
    let tree = usvg::Tree::from_str(svg, &usvg_options()).map_err(Error::drawing)?;
    let side = |length: f32| (length * PNG_SCALE).ceil() as u32;
    let (wide, high) = (side(tree.size().width()), side(tree.size().height()));
    let mut pixmap = tiny_skia::Pixmap::new(wide, high)
        .ok_or_else(|| Error::Drawing(format!("a picture of {wide}x{high} pixels")))?;
    resvg::render(
        &tree,
        tiny_skia::Transform::from_scale(PNG_SCALE, PNG_SCALE),
        &mut pixmap.as_mut(),
    );
    pixmap.encode_png().map_err(Error::drawing)
}

/// Whether two PNGs show the same picture: the rasteriser may round differently on another
/// processor, so a small difference of a channel is no difference.
pub fn same_picture(left: &[u8], right: &[u8]) -> bool {
    const ROUNDING: u8 = 8;
    if left == right {
        return true;
    }
    match (tiny_skia::Pixmap::decode_png(left), tiny_skia::Pixmap::decode_png(right)) {
        (Ok(left), Ok(right)) => {
            (left.width(), left.height()) == (right.width(), right.height())
                && left
                    .data()
                    .iter()
                    .zip(right.data())
                    .all(|(left, right)| left.abs_diff(*right) <= ROUNDING)
        }
        _ => false,
    }
}

/// The embedded fonts and nothing of the machine: a PNG looks the same everywhere.
fn usvg_options() -> usvg::Options<'static> {
    static FONT_FILES: OnceLock<Arc<usvg::fontdb::Database>> = OnceLock::new();
    let fonts = FONT_FILES.get_or_init(|| {
        let mut fonts = usvg::fontdb::Database::new();
        fonts.load_font_data(dejavu::sans::regular().to_vec());
        fonts.load_font_data(dejavu::sans::bold().to_vec());
        Arc::new(fonts)
    });
    usvg::Options {
        font_family: "DejaVu Sans".to_owned(),
        fontdb: Arc::clone(fonts),
        ..usvg::Options::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wider_text_measures_wider_and_bold_wider_still() {
        let plain = text_width("gamma 1.5", Ink::small());
        assert!(plain > 30.0 && plain < 100.0, "{plain}");
        assert!(text_width("gamma 1.5, mixup 0.5", Ink::small()) > plain);
        assert!(text_width("gamma 1.5", Ink::small().bold()) > plain);
    }

    #[test]
    fn wrapping_keeps_every_word_and_the_width() {
        let paragraph = "Does the exponent of the quality target <matter> & by how much?";
        let lines = wrap(paragraph, 120.0, Ink::small());
        assert!(lines.len() > 2);
        assert_eq!(lines.join(" "), paragraph);
        assert!(lines.iter().all(|line| text_width(line, Ink::small()) <= 120.0));
    }

    #[test]
    fn the_png_has_the_size_of_the_sheet_and_shows_its_text() {
        let blank = sheet(40.0, |_| Ok(())).unwrap();
        let drawn = sheet(40.0, |root| text(root, "AP (%)", 20.0, 20.0, Ink::small())).unwrap();
        let (blank, drawn) = (png(&blank).unwrap(), png(&drawn).unwrap());
        let picture = tiny_skia::Pixmap::decode_png(&drawn).unwrap();
        assert_eq!((picture.width(), picture.height()), (2100, 125));
        let dark = picture.pixels().iter().filter(|pixel| pixel.red() < 128).count();
        assert!(dark > 200, "{dark} dark pixels: the text is not there");
        assert!(same_picture(&drawn, &drawn));
        assert!(!same_picture(&drawn, &blank));
        assert!(!same_picture(&drawn, b"no picture"));
    }
}
