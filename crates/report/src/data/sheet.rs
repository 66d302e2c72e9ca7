//! Many pictures with their boxes on one page.
//!
//! Pixels are copied into the page and the boxes are drawn over them, so that nothing hides what a
//! transform did to either: an enlarged picture shows its pixels, a box that leaves its picture is
//! seen to leave it.

use deim_data::Image;
use deim_data::transforms::resize::resize_image;
use resvg::tiny_skia::{Pixmap, PremultipliedColorU8};

use super::boxes::{self, Marked, Widths};
use crate::canvas::{GREY, Ink, LARGE, LINE, PAGE, SMALL, wrap};
use crate::error::Error;
use crate::figures::raster::{SCALE, encode, over};

const MARGIN: f64 = 10.0;
const GAP: f64 = 10.0;
/// More pictures in a row could not be read.
const MOST_COLUMNS: usize = 6;
/// How far a box may be seen to leave its picture.
const OUTSIDE: f64 = GAP / 2.0;
/// No page is higher than this many CSS pixels.
const HIGHEST: f64 = 16_000.0;

/// One picture and what is said about it.
#[derive(Clone, Debug)]
pub struct Picture {
    pub image: Image,
    /// Corners `[x1, y1, x2, y2]` in pixels of the image.
    pub boxes: Vec<[f32; 4]>,
    /// A class number for each box.
    pub classes: Vec<u32>,
    /// A score for each box, where a detector found them; shown behind the class.
    pub scores: Vec<f32>,
    /// Boxes from this one on are dashed.
    pub dashed_from: usize,
    /// Its name, and what follows below, a line each.
    pub title: String,
    pub lines: Vec<String>,
}

/// Where a picture is shown, in CSS pixels.
struct Place {
    left: f64,
    top: f64,
    width: f64,
    height: f64,
}

/// The page as a PNG of 300 dots an inch. `names` are those of the classes.
pub fn contact_sheet(
    title: &str,
    note: &str,
    pictures: &[Picture],
    names: &[String],
) -> Result<Vec<u8>, Error> {
    let columns = ((pictures.len() as f64).sqrt().ceil() as usize).clamp(1, MOST_COLUMNS);
    let side = (PAGE - 2.0 * MARGIN - (columns - 1) as f64 * GAP) / columns as f64;
    let small = if columns > 3 { 7.0 } else { 9.0 };
    let heading = wrap(title, PAGE - 2.0 * MARGIN, Ink::small().size(LARGE).bold());
    let note = wrap(note, PAGE - 2.0 * MARGIN, Ink::small().color(GREY));

    let mut widths = Widths::default();
    let mut svg = String::new();
    let mut y = MARGIN + LARGE;
    for line in &heading {
        svg.push_str(&boxes::text(line, [MARGIN, y], LARGE, "#1A1A1A", true));
        y += LINE + 2.0;
    }
    for line in &note {
        svg.push_str(&boxes::text(line, [MARGIN, y], SMALL, "#595959", false));
        y += LINE;
    }
    let mut places = Vec::with_capacity(pictures.len());
    for row in pictures.chunks(columns) {
        let sizes: Vec<[f64; 2]> = row.iter().map(|picture| fitted(&picture.image, side)).collect();
        let highest = sizes.iter().map(|size| size[1]).fold(0.0, f64::max);
        let lines = row.iter().map(|picture| 1 + picture.lines.len()).max().unwrap_or(0);
        for (at, (picture, [width, height])) in row.iter().zip(sizes).enumerate() {
            let left = MARGIN + at as f64 * (side + GAP);
            // Each stands on what is said about it.
            let place = Place { left, top: y + highest - height, width, height };
            svg.push_str(&marks(picture, &place, names, places.len(), &mut widths));
            for (number, line) in std::iter::once(&picture.title).chain(&picture.lines).enumerate()
            {
                let line = fitting(line, side, small, &mut widths);
                let base = y + highest + OUTSIDE + small * (1.0 + 1.3 * number as f64);
                let colour = if number == 0 { "#1A1A1A" } else { "#595959" };
                svg.push_str(&boxes::text(&line, [left, base], small, colour, false));
            }
            places.push(place);
        }
        y += highest + OUTSIDE + small * 1.3 * lines as f64 + GAP;
    }
    if y > HIGHEST {
        return Err(Error::Drawing(format!("{} pictures do not fit one page", pictures.len())));
    }
    let mut page = page(y + MARGIN)?;
    for (picture, place) in pictures.iter().zip(&places) {
        paste(&mut page, &picture.image, place);
    }
    let document = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{PAGE}\" height=\"{}\">\n{svg}</svg>\n",
        y + MARGIN
    );
    over(&document, &mut page)?;
    encode(&page)
}

fn page(height: f64) -> Result<Pixmap, Error> {
    let [wide, high] = [PAGE, height].map(|side| (side * f64::from(SCALE)).ceil() as u32);
    let mut page = Pixmap::new(wide, high)
        .ok_or_else(|| Error::Drawing(format!("a picture of {wide}x{high} pixels")))?;
    page.fill(resvg::tiny_skia::Color::WHITE);
    Ok(page)
}

/// The size of an image that fills a square of this side, in CSS pixels.
fn fitted(image: &Image, side: f64) -> [f64; 2] {
    let longer = image.width.max(image.height).max(1) as f64;
    // Nothing is thinner than a line.
    [image.width, image.height].map(|own| (own as f64 / longer * side).max(1.0))
}

/// Boxes, tags and the frame of a picture.
fn marks(
    picture: &Picture,
    place: &Place,
    names: &[String],
    number: usize,
    widths: &mut Widths,
) -> String {
    let Place { left, top, width, height } = *place;
    let x = width / picture.image.width.max(1) as f64;
    let y = height / picture.image.height.max(1) as f64;
    let marked: Vec<Marked> = picture
        .boxes
        .iter()
        .zip(&picture.classes)
        .enumerate()
        .map(|(at, (rect, &class))| {
            let [x1, y1, x2, y2] = rect.map(f64::from);
            Marked {
                rect: [left + x1 * x, top + y1 * y, left + x2 * x, top + y2 * y],
                class: class as usize,
                name: boxes::name(
                    names.get(class as usize).map_or("?", String::as_str),
                    picture.scores.get(at).copied(),
                ),
                dashed: at >= picture.dashed_from,
            }
        })
        .collect();
    let boxes = boxes::draw(&marked, [left, top, left + width, top + height], widths);
    let (clip_left, clip_top) = (left - OUTSIDE, top - OUTSIDE);
    let (clip_width, clip_height) = (width + 2.0 * OUTSIDE, height + 2.0 * OUTSIDE);
    format!(
        "<clipPath id=\"p{number}\"><rect x=\"{clip_left:.2}\" y=\"{clip_top:.2}\" \
         width=\"{clip_width:.2}\" height=\"{clip_height:.2}\"/></clipPath>\n\
         <rect x=\"{left:.2}\" y=\"{top:.2}\" width=\"{width:.2}\" height=\"{height:.2}\" \
         fill=\"none\" stroke=\"#8C8C8C\" stroke-width=\"0.4\"/>\n\
         <g clip-path=\"url(#p{number})\">\n{boxes}</g>\n"
    )
}

/// A line of text cut where it would leave its column.
fn fitting(line: &str, width: f64, size: f64, widths: &mut Widths) -> String {
    if widths.of(line, size) <= width {
        return line.to_owned();
    }
    let mut short: Vec<char> = line.chars().collect();
    while short.pop().is_some() {
        let cut = format!("{}\u{2026}", short.iter().collect::<String>().trim_end());
        if widths.of(&cut, size) <= width {
            return cut;
        }
    }
    String::new()
}

/// Copies an image to its place: made smaller as training does it, made larger pixel by pixel.
fn paste(page: &mut Pixmap, image: &Image, place: &Place) {
    let dots = |length: f64| (length * f64::from(SCALE)).round() as usize;
    let (left, top) = (dots(place.left), dots(place.top));
    let width = (dots(place.left + place.width) - left).max(1);
    let height = (dots(place.top + place.height) - top).max(1);
    let shown = match width < image.width && height < image.height {
        true => &resize_image(image, width, height),
        false => image,
    };
    let (page_width, page_height) = (page.width() as usize, page.height() as usize);
    let pixels = page.pixels_mut();
    for y in 0..height.min(page_height - top.min(page_height)) {
        for x in 0..width.min(page_width - left.min(page_width)) {
            let (from_x, from_y) = (x * shown.width / width, y * shown.height / height);
            let at = (from_y * shown.width + from_x) * 3;
            let [red, green, blue] = [0, 1, 2].map(|channel| shown.pixels[at + channel]);
            if let Some(pixel) = PremultipliedColorU8::from_rgba(red, green, blue, 255) {
                pixels[(top + y) * page_width + left + x] = pixel;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picture(width: usize, height: usize, rect: [f32; 4]) -> Picture {
        Picture {
            image: Image { width, height, pixels: vec![200; width * height * 3] },
            boxes: vec![rect],
            classes: vec![0],
            scores: vec![],
            dashed_from: 1,
            title: "a.png".into(),
            lines: vec!["8 x 8, 1 box".into()],
        }
    }

    fn drawn(pictures: &[Picture]) -> Pixmap {
        let png = contact_sheet("Title", "Note", pictures, &["cat".into()]).unwrap();
        Pixmap::decode_png(&png).unwrap()
    }

    /// The pixels of the first class's colour, as the smallest rectangle around them.
    fn bounds(page: &Pixmap) -> [usize; 4] {
        let width = page.width() as usize;
        let found =
            page.pixels().iter().enumerate().filter(|(_, pixel)| {
                (pixel.red(), pixel.green(), pixel.blue()) == (0xff, 0xb0, 0x00)
            });
        found.fold([usize::MAX, usize::MAX, 0, 0], |[l, t, r, b], (at, _)| {
            let (x, y) = (at % width, at / width);
            [l.min(x), t.min(y), r.max(x), b.max(y)]
        })
    }

    #[test]
    fn a_box_is_drawn_where_it_is_in_the_picture() {
        // The lower right quarter of a picture that fills the page.
        let page = drawn(&[picture(100, 100, [50.0, 50.0, 100.0, 100.0])]);
        let [left, _, right, bottom] = bounds(&page);
        let dots = |css: f64| (css * f64::from(SCALE)) as usize;
        let side = PAGE - 2.0 * MARGIN;
        assert!(left.abs_diff(dots(MARGIN + side / 2.0)) < 6, "{left}");
        assert!(right.abs_diff(dots(MARGIN + side)) < 6, "{right}");
        let whole = bounds(&drawn(&[picture(100, 100, [0.0, 0.0, 100.0, 100.0])]));
        assert!(whole[3].abs_diff(bottom) < 6 && whole[0] < dots(MARGIN) + 6);
    }

    #[test]
    fn a_box_outside_of_its_picture_is_seen_outside() {
        let inside = bounds(&drawn(&[picture(100, 100, [10.0, 10.0, 100.0, 90.0])]));
        let outside = bounds(&drawn(&[picture(100, 100, [10.0, 10.0, 100.5, 90.0])]));
        assert!(outside[2] > inside[2], "{outside:?} against {inside:?}");
    }

    #[test]
    fn pictures_of_any_shape_and_number_fit() {
        for count in [0, 1, 2, 10, 40] {
            let pictures: Vec<Picture> = (0..count)
                .map(|at| picture(1 + at * 37 % 500, 1 + at * 91 % 300, [0.0, 0.0, 1.0, 1.0]))
                .collect();
            assert_eq!(drawn(&pictures).width(), 2100, "{count}");
        }
        drawn(&[picture(3000, 1, [0.0, 0.0, 2.0, 1.0]), picture(1, 3000, [0.0, 0.0, 1.0, 9.0])]);
        let too_many = vec![picture(1, 40, [0.0; 4]); 2000];
        assert!(contact_sheet("", "", &too_many, &[]).is_err());
    }
}
