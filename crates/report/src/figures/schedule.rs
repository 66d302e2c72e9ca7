//! The paper's Fig. 5: the learning rate over the epochs, and what happens to images meanwhile.

use crate::axis::Axis;
use crate::canvas::{COLUMN, GREY, Ink, PALE, Sheet, line, sheet, text, text_width};
use crate::error::Error;
use crate::figures::chart::{ABOVE, BELOW, Chart, Frame};
use crate::figures::look::{Look, polygon, simplify};
use crate::figures::page::{MARGIN, Words};
use crate::figures::theme::MIDDLE;

/// A recipe over its epochs.
#[derive(Clone, Debug, PartialEq)]
pub struct Recipe {
    pub name: String,
    pub epochs: u32,
    /// `(epochs trained, learning rate)`
    pub rates: Vec<(f64, f64)>,
    /// What is on from which epoch to before which, in the order in which it is drawn.
    pub spans: Vec<Span>,
}

/// Something that is on for some epochs.
#[derive(Clone, Debug, PartialEq)]
pub struct Span {
    pub name: String,
    pub from: u32,
    pub until: u32,
}

/// Height of a span, in CSS pixels.
const BAR: f64 = 15.0;

/// Draws a recipe as an SVG document.
pub fn schedule(recipe: &Recipe) -> Result<String, Error> {
    let names = recipe.spans.iter().map(|span| text_width(&span.name, Ink::small()));
    let left = MARGIN + names.fold(26.0, f64::max) + 6.0;
    let caption = format!(
        "{}: learning rate of the head and, below, what is on when. Numbers are the epochs between which it is.",
        recipe.name
    );
    let words = Words::new(COLUMN, "", &caption);
    let top = words.top() + ABOVE;
    let spans = top + 92.0;
    let bottom = spans + 8.0 + recipe.spans.len() as f64 * BAR;
    sheet(COLUMN, words.height(bottom + BELOW), |root| {
        words.draw(root, bottom + BELOW)?;
        let across = Axis::whole(0, recipe.epochs, 6);
        let highest = recipe.rates.iter().map(|(_, rate)| *rate).fold(0.0, f64::max);
        // The power of ten that leaves one digit before the point.
        let power = highest.max(f64::MIN_POSITIVE).log10().floor();
        let scale = 10f64.powf(-power);
        let up = Axis::between(0.0, highest * scale * 1.08, 3);
        let name = format!("learning rate (1e{power})").replace('-', "\u{2212}");
        let frame = Frame { left, right: COLUMN - MARGIN - 6.0, top, bottom };
        let chart = Chart::split(root, frame, spans, [&across, &up], ["epoch", &name])?;
        let rates: Vec<_> =
            recipe.rates.iter().map(|(epoch, rate)| (*epoch, rate * scale)).collect();
        Look::of_line(0).line(root, &simplify(&chart.places(&rates)))?;
        line(root, &[(left, spans), (frame.right, spans)], PALE, 0.7)?;
        for (at, span) in recipe.spans.iter().enumerate() {
            draw(root, &chart, span, spans + 8.0 + (at as f64 + 0.5) * BAR)?;
        }
        Ok(())
    })
}

fn draw(root: &Sheet<'_>, chart: &Chart<'_, '_>, span: &Span, y: f64) -> Result<(), Error> {
    let x = |epoch: u32| chart.at(f64::from(epoch), 0.0).0;
    let (from, until) = (x(span.from), x(span.until));
    let (top, bottom) = (y - BAR / 2.0 + 2.0, y + BAR / 2.0 - 2.0);
    polygon(root, &[(from, top), (until, top), (until, bottom), (from, bottom)], &MIDDLE)?;
    text(root, &span.name, chart.frame.left - 6.0, y, Ink::small().right())?;
    let words = format!("{}\u{2013}{}", span.from, span.until);
    let width = text_width(&words, Ink::small());
    let ink = Ink::small().color(GREY);
    // Beside the bar, where there is room.
    if until + width + 4.0 < chart.frame.right {
        text(root, &words, until + 4.0, y, ink)
    } else if from - width - 4.0 > chart.frame.left {
        text(root, &words, from - 4.0, y, ink.right())
    } else {
        text(root, &words, (from + until) / 2.0, y, Ink::small().centred())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_span_is_named_and_says_its_epochs() {
        let span = |name: &str, from, until| Span { name: name.into(), from, until };
        let recipe = Recipe {
            name: "DEIM".into(),
            epochs: 60,
            rates: vec![(0.0, 0.0), (1.0, 2e-4), (60.0, 1e-4)],
            spans: vec![span("mosaic & mixup", 4, 34), span("stage 2", 58, 60)],
        };
        let svg = schedule(&recipe).unwrap();
        for words in ["mosaic &amp; mixup", "4\u{2013}34", "58\u{2013}60", "1e\u{2212}4"] {
            assert!(svg.contains(words), "{words}");
        }
    }
}
