//! From an SVG document to the pixels of its PNG, with the embedded fonts and nothing of the machine.

use std::path::Path;
use std::sync::{Arc, OnceLock};

use resvg::{tiny_skia, usvg};

use crate::canvas::{FONTS, Ink, UNIT};
use crate::error::Error;
use crate::figures::detections::Picture;
use crate::figures::theme::{Theme, themed};
use crate::files::write_atomically;

/// Pixels of the PNG for one CSS pixel: 300 dots an inch.
pub const SCALE: f32 = 3.125;

/// Writes a figure as what its name ends with: `.svg` or `.png`.
pub fn write_figure(path: &Path, svg: &str) -> Result<(), Error> {
    match path.extension().and_then(|extension| extension.to_str()) {
        Some("svg") => write_atomically(path, svg.as_bytes()),
        Some("png") => write_atomically(path, &png(svg)?),
        _ => Err(Error::Drawing(format!("{}: expected a name in .svg or .png", path.display()))),
    }
}

/// Renders a figure in light colours at 300 dots an inch.
pub fn png(svg: &str) -> Result<Vec<u8>, Error> {
    png_in(svg, Theme::Light)
}

/// The same in any theme; a PNG cannot ask its reader, so that [`Theme::Reader`] is light.
pub fn png_in(svg: &str, theme: Theme) -> Result<Vec<u8>, Error> {
    encode(&pixels(svg, theme)?)
}

fn pixels(svg: &str, theme: Theme) -> Result<tiny_skia::Pixmap, Error> {
    let theme = if theme == Theme::Reader { Theme::Light } else { theme };
    let tree = usvg::Tree::from_str(&themed(svg, theme), &options()).map_err(Error::drawing)?;
    // A last pixel that is covered in part would show what lies under the page.
    let side = |length: f32| (length * SCALE).floor() as u32;
    let mut pixmap = blank(side(tree.size().width()), side(tree.size().height()))?;
    resvg::render(&tree, tiny_skia::Transform::from_scale(SCALE, SCALE), &mut pixmap.as_mut());
    Ok(pixmap)
}

fn blank(wide: u32, high: u32) -> Result<tiny_skia::Pixmap, Error> {
    tiny_skia::Pixmap::new(wide, high)
        .ok_or_else(|| Error::Drawing(format!("a picture of {wide}x{high} pixels")))
}

/// Where a picture lies under a document, in CSS pixels.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Underlay {
    pub left: f64,
    pub top: f64,
    pub width: f64,
    pub height: f64,
}

impl Underlay {
    /// The document with the picture in it, over the background and under everything else.
    pub fn embed(svg: &str, picture: &Picture, places: &[Self]) -> Result<String, Error> {
        let (head, body) = split_background(svg)?;
        let data = base64(&encode(&picture.pixmap()?)?);
        let (wide, high) = (picture.width, picture.height);
        let mut images = format!(
            "<defs><image id=\"picture\" width=\"{wide}\" height=\"{high}\" \
             href=\"data:image/png;base64,{data}\"/></defs>\n"
        );
        for place in places {
            let scale = UNIT * place.width / f64::from(wide.max(1));
            images.push_str(&format!(
                "<use href=\"#picture\" transform=\"translate({:.1} {:.1}) scale({scale:.5})\"/>\n",
                place.left * UNIT,
                place.top * UNIT
            ));
        }
        Ok(format!("{head}{images}{body}"))
    }

    /// The PNG of a document with the picture under it.
    pub fn png(svg: &str, picture: &Picture, places: &[Self]) -> Result<Vec<u8>, Error> {
        let (head, body) = split_background(svg)?;
        let mut page = pixels(&format!("{head}</svg>"), Theme::Light)?;
        let own = picture.pixmap()?;
        let paint = tiny_skia::PixmapPaint {
            quality: tiny_skia::FilterQuality::Bicubic,
            ..tiny_skia::PixmapPaint::default()
        };
        for place in places {
            let scale = SCALE * place.width as f32 / picture.width.max(1) as f32;
            let at = tiny_skia::Transform::from_scale(scale, scale)
                .post_translate(SCALE * place.left as f32, SCALE * place.top as f32);
            page.draw_pixmap(0, 0, own.as_ref(), &paint, at, None);
        }
        let root = head.split_once(">\n").map_or("", |(root, _)| root);
        let over = pixels(&format!("{root}>\n{body}"), Theme::Light)?;
        let paint = tiny_skia::PixmapPaint::default();
        page.draw_pixmap(0, 0, over.as_ref(), &paint, tiny_skia::Transform::identity(), None);
        encode(&page)
    }
}

/// A picture as it is, pixel for pixel.
pub fn picture_png(picture: &Picture) -> Result<Vec<u8>, Error> {
    encode(&picture.pixmap()?)
}

/// A document up to its background, and the rest.
fn split_background(svg: &str) -> Result<(&str, &str), Error> {
    let background = svg.find("<rect").and_then(|at| Some(at + svg[at..].find("/>\n")? + 3));
    let missing = || Error::Drawing("a document without a background".to_owned());
    Ok(svg.split_at(background.ok_or_else(missing)?))
}

impl Picture {
    fn pixmap(&self) -> Result<tiny_skia::Pixmap, Error> {
        let mut pixmap = blank(self.width, self.height)?;
        let wrong = || Error::Drawing(format!("expected {}x{} pixels", self.width, self.height));
        if self.rgb.len() != 3 * pixmap.pixels().len() {
            return Err(wrong());
        }
        for (pixel, rgb) in pixmap.pixels_mut().iter_mut().zip(self.rgb.chunks(3)) {
            let opaque = tiny_skia::PremultipliedColorU8::from_rgba(rgb[0], rgb[1], rgb[2], 255);
            *pixel = opaque.ok_or_else(wrong)?;
        }
        Ok(pixmap)
    }
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for three in bytes.chunks(3) {
        let at = |place: usize| u32::from(three.get(place).copied().unwrap_or(0));
        let all = at(0) << 16 | at(1) << 8 | at(2);
        for place in 0..4 {
            let digit = DIGITS[(all >> (18 - 6 * place) & 63) as usize];
            text.push(if place <= three.len() { char::from(digit) } else { '=' });
        }
    }
    text
}

/// Without transparency, which a drawn page does not have: a third of the size.
pub fn encode(pixmap: &tiny_skia::Pixmap) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, pixmap.width(), pixmap.height());
    encoder.set_compression(png::Compression::High);
    encoder.set_depth(png::BitDepth::Eight);
    let is_grey = |p: &tiny_skia::PremultipliedColorU8| p.red() == p.green() && p.red() == p.blue();
    let data: Vec<u8> = if pixmap.pixels().iter().all(is_grey) {
        encoder.set_color(png::ColorType::Grayscale);
        pixmap.pixels().iter().map(|pixel| pixel.red()).collect()
    } else {
        encoder.set_color(png::ColorType::Rgb);
        pixmap.pixels().iter().flat_map(|p| [p.red(), p.green(), p.blue()]).collect()
    };
    let mut writer = encoder.write_header().map_err(Error::drawing)?;
    writer.write_image_data(&data).map_err(Error::drawing)?;
    writer.finish().map_err(Error::drawing)?;
    Ok(bytes)
}

/// Draws a document over what is on a page, without a background of its own.
pub fn over(svg: &str, page: &mut tiny_skia::Pixmap) -> Result<(), Error> {
    let tree = usvg::Tree::from_str(svg, &options()).map_err(Error::drawing)?;
    resvg::render(&tree, tiny_skia::Transform::from_scale(SCALE, SCALE), &mut page.as_mut());
    Ok(())
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

/// Whether two documents draw the same but for the rounding of coordinates: the smallest step is a
/// tenth of a CSS pixel.
pub fn same_drawing(left: &str, right: &str) -> bool {
    const PLACES: [&str; 8] =
        [" points=", " x=", " y=", " cx=", " cy=", " width=", " height=", " d="];
    let (left, right): (Vec<_>, Vec<_>) = (left.split('"').collect(), right.split('"').collect());
    let mut name = "";
    left.len() == right.len()
        && left.iter().zip(&right).all(|(left, right)| {
            let is_place = PLACES.iter().any(|place| name.ends_with(place));
            name = left;
            left == right || (is_place && close(left, right))
        })
}

/// Whole numbers that differ by one at most.
fn close(left: &str, right: &str) -> bool {
    let numbers = |text: &str| -> Option<Vec<i64>> {
        text.split([',', ' ']).filter(|n| !n.is_empty()).map(|n| n.parse().ok()).collect()
    };
    match (numbers(left), numbers(right)) {
        (Some(left), Some(right)) => {
            left.len() == right.len() && left.iter().zip(&right).all(|(a, b)| (a - b).abs() <= 1)
        }
        _ => false,
    }
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
    usvg::Tree::from_str(&svg, &options())
        .map(|tree| f64::from(tree.root().abs_bounding_box().width()))
        .unwrap_or_else(|_| line.chars().count() as f64 * ink.size * 0.7)
}

/// The embedded fonts alone: a PNG looks the same everywhere.
fn options() -> usvg::Options<'static> {
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
    use crate::canvas::{PAGE, sheet, text};

    fn drawn(word: &str) -> String {
        sheet(PAGE, 40.0, |root| text(root, word, 20.0, 20.0, Ink::small())).unwrap()
    }

    #[test]
    fn a_wider_text_measures_wider_and_bold_wider_still() {
        let plain = text_width("gamma 1.5", Ink::small());
        assert!(plain > 30.0 && plain < 100.0, "{plain}");
        assert!(text_width("gamma 1.5, mixup 0.5", Ink::small()) > plain);
        assert!(text_width("gamma 1.5", Ink::small().bold()) > plain);
    }

    #[test]
    fn the_png_has_the_size_of_the_sheet_and_shows_its_text() {
        let (blank, words) = (png(&drawn("")).unwrap(), png(&drawn("AP (%)")).unwrap());
        let picture = tiny_skia::Pixmap::decode_png(&words).unwrap();
        assert_eq!((picture.width(), picture.height()), (2100, 125));
        let dark = picture.pixels().iter().filter(|pixel| pixel.red() < 128).count();
        assert!(dark > 200, "{dark} dark pixels: the text is not there");
        assert!(same_picture(&words, &words));
        assert!(!same_picture(&words, &blank));
        assert!(!same_picture(&words, b"no picture"));
    }

    #[test]
    fn the_name_of_the_file_says_what_it_becomes() {
        let error = write_figure(Path::new("figure.bmp"), "<svg/>").err().unwrap();
        assert!(error.to_string().contains(".svg or .png"));
    }

    #[test]
    fn only_the_rounding_of_a_coordinate_is_no_difference() {
        let drawing = |x: i32, word: &str| {
            format!("<text x=\"{x}\" fill=\"#100000\">{word}</text><g points=\"1,{x} 3,4 \"/>")
        };
        assert!(same_drawing(&drawing(10, "0.11"), &drawing(11, "0.11")));
        assert!(!same_drawing(&drawing(10, "0.11"), &drawing(12, "0.11")));
        assert!(!same_drawing(&drawing(10, "0.11"), &drawing(10, "0.12")));
        assert!(!same_drawing(&drawing(10, ""), &drawing(10, "").replace("#1", "#2")));
    }

    #[test]
    fn base64_has_its_known_values() {
        for (bytes, text) in [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foob", "Zm9vYg==")] {
            assert_eq!(base64(bytes.as_bytes()), text);
        }
    }

    #[test]
    fn a_picture_lies_between_background_and_drawing() {
        let picture = Picture { width: 2, height: 1, rgb: vec![255, 0, 0, 255, 0, 0] };
        let place = Underlay { left: 10.0, top: 10.0, width: 40.0, height: 20.0 };
        let png = Underlay::png(&drawn("AP"), &picture, &[place]).unwrap();
        let page = tiny_skia::Pixmap::decode_png(&png).unwrap();
        let color = |x: f32, y: f32| {
            let pixel = page.pixel((x * SCALE) as u32, (y * SCALE) as u32).unwrap();
            [pixel.red(), pixel.green(), pixel.blue()]
        };
        assert_eq!(color(48.0, 28.0), [255, 0, 0]);
        assert_eq!(color(5.0, 5.0), [255, 255, 255]);
        let written = page.pixels().iter().filter(|p| p.red() < 60 && p.green() < 60).count();
        assert!(written > 50, "the drawing is not over the picture");
    }

    #[test]
    fn the_dark_png_is_light_on_dark_and_the_plain_one_is_not() {
        let share = |theme: Theme| {
            let picture = png_in(&drawn("AP (%)"), theme).unwrap();
            let picture = tiny_skia::Pixmap::decode_png(&picture).unwrap();
            let dark = picture.pixels().iter().filter(|pixel| pixel.red() < 128).count();
            dark as f64 / picture.pixels().len() as f64
        };
        assert!(share(Theme::Dark) > 0.9 && share(Theme::Light) < 0.1);
        assert!(share(Theme::Reader) < 0.1, "the style sheet for dark pages reached the PNG");
    }
}
