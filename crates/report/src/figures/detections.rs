//! The paper's Fig. 7: what detectors find in one image, side by side.

use crate::canvas::{Ink, PAGE, Sheet, line, sheet, text, text_width};
use crate::error::Error;
use crate::figures::look::{Look, polygon};
use crate::figures::page::{MARGIN, Words};
use crate::figures::raster::Underlay;
use crate::figures::theme::{BLACK, PAPER, SERIES};

/// An image: red, green and blue of each pixel, row by row.
#[derive(Clone, Debug, PartialEq)]
pub struct Picture {
    pub width: u32,
    pub height: u32,
    pub rgb: Vec<u8>,
}

/// What one detector found.
#[derive(Clone, Debug, PartialEq)]
pub struct Findings {
    pub name: String,
    pub boxes: Vec<Found>,
}

/// A box in pixels of the image.
#[derive(Clone, Debug, PartialEq)]
pub struct Found {
    /// `[x, y, width, height]`
    pub bbox: [f64; 4],
    pub label: String,
    pub kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A detection that agrees with a target.
    Hit,
    /// One that agrees with none.
    Wrong,
    /// A target that nothing found.
    Missed,
}

impl Kind {
    /// Solid, dashed, dotted; and blue, orange, yellow.
    fn look(self) -> Look {
        match self {
            Self::Hit => Look::of_line(0).colored(SERIES[2]),
            Self::Wrong => Look::of_line(1).colored(SERIES[1]),
            Self::Missed => Look::of_line(2).colored(SERIES[3]),
        }
    }
}

/// Draws the image once for each detector; the pictures lie under the document, see
/// [`Underlay::embed`].
pub fn detections(
    picture: &Picture,
    detectors: &[Findings],
    about: &str,
) -> Result<(String, Vec<Underlay>), Error> {
    const GAP: f64 = 12.0;
    const HEAD: f64 = 18.0;
    let across = detectors.len().clamp(1, 2);
    let width = (PAGE - 2.0 * MARGIN - (across - 1) as f64 * GAP) / across as f64;
    let scale = width / f64::from(picture.width.max(1));
    let height = f64::from(picture.height) * scale;
    let caption = format!(
        "Solid: detections that agree with a target; dashed: detections that agree with none; dotted: targets that were missed. {about}"
    );
    let words = Words::new(PAGE, "", &caption);
    let rows = detectors.len().div_ceil(across);
    let bottom = words.top() + rows as f64 * (HEAD + height + 8.0);
    let mut underlays = Vec::new();
    let svg = sheet(PAGE, words.height(bottom), |root| {
        words.draw(root, bottom)?;
        for (at, detector) in detectors.iter().enumerate() {
            let left = MARGIN + (at % across) as f64 * (width + GAP);
            let top = words.top() + (at / across) as f64 * (HEAD + height + 8.0) + HEAD;
            text(root, &detector.name, left, top - HEAD / 2.0, Ink::small().bold())?;
            underlays.push(Underlay { left, top, width, height });
            let inside = |x: f64, y: f64| {
                (left + (x * scale).clamp(0.0, width), top + (y * scale).clamp(0.0, height))
            };
            for found in &detector.boxes {
                outline(root, found, inside)?;
            }
            for found in &detector.boxes {
                label(root, found, inside, left + width)?;
            }
        }
        Ok(())
    })?;
    Ok((svg, underlays))
}

type Place<'a> = &'a dyn Fn(f64, f64) -> (f64, f64);

fn outline(
    root: &Sheet<'_>,
    found: &Found,
    inside: impl Fn(f64, f64) -> (f64, f64),
) -> Result<(), Error> {
    let corners = corners(found, &inside);
    // A pale line under the coloured one: it is seen on any picture.
    line(root, &corners, PAPER, 3.0)?;
    found.kind.look().line(root, &corners)
}

fn corners(found: &Found, inside: Place<'_>) -> Vec<(f64, f64)> {
    let [x, y, w, h] = found.bbox;
    [(x, y), (x + w, y), (x + w, y + h), (x, y + h), (x, y)].map(|(x, y)| inside(x, y)).to_vec()
}

fn label(
    root: &Sheet<'_>,
    found: &Found,
    inside: impl Fn(f64, f64) -> (f64, f64),
    end: f64,
) -> Result<(), Error> {
    if found.label.is_empty() {
        return Ok(());
    }
    let (x, y) = inside(found.bbox[0], found.bbox[1]);
    let ink = Ink::small().size(8.0);
    let width = text_width(&found.label, ink) + 4.0;
    let x = x.min(end - width);
    let patch = [(x, y), (x + width, y), (x + width, y + 10.0), (x, y + 10.0)];
    polygon(root, &patch, &PAPER)?;
    text(root, &found.label, x + 2.0, y + 5.0, ink.color(BLACK))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_detector_has_its_picture_and_boxes_stay_inside_it() {
        let picture = Picture { width: 4, height: 2, rgb: vec![90; 24] };
        let found = |kind| Found { bbox: [-3.0, 0.5, 90.0, 1.0], label: "cat 0.9".into(), kind };
        let findings = |name: &str, kind| Findings { name: name.into(), boxes: vec![found(kind)] };
        let all =
            [findings("a", Kind::Hit), findings("b", Kind::Wrong), findings("c", Kind::Missed)];
        let (svg, underlays) = detections(&picture, &all, "").unwrap();
        assert_eq!(underlays.len(), 3);
        assert_eq!(svg.matches("cat 0.9").count(), 3);
        let embedded = Underlay::embed(&svg, &picture, &underlays).unwrap();
        assert_eq!(embedded.matches("data:image/png;base64,").count(), 1, "one copy is enough");
        assert_eq!(embedded.matches("<use ").count(), 3);
    }
}
