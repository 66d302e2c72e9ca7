//! What stands around a figure: its title above, its caption below.

use crate::canvas::{GREY, Ink, LARGE, LINE, Sheet, text, wrap};
use crate::error::Error;
use crate::study::Study;

/// Empty space around a figure, in CSS pixels.
pub const MARGIN: f64 = 8.0;
const TITLE: Ink = Ink::small().size(LARGE).bold();
const TITLE_LINE: f64 = LINE + 1.0;
const CAPTION: Ink = Ink::small().color(GREY);

/// Title and caption, broken into lines.
pub struct Words {
    title: Vec<String>,
    caption: Vec<String>,
}

impl Words {
    /// An empty title or caption takes no room.
    pub fn new(width: f64, title: &str, caption: &str) -> Self {
        let width = width - 2.0 * MARGIN;
        Self { title: wrap(title, width, TITLE), caption: wrap(caption, width, CAPTION) }
    }

    /// Where the figure may begin.
    pub fn top(&self) -> f64 {
        MARGIN + self.title.len() as f64 * TITLE_LINE + 4.0
    }

    /// The height of all when the figure ends at `bottom`.
    pub fn height(&self, bottom: f64) -> f64 {
        bottom + 4.0 + self.caption.len() as f64 * LINE + MARGIN
    }

    pub fn draw(&self, root: &Sheet<'_>, bottom: f64) -> Result<(), Error> {
        for (at, line) in self.title.iter().enumerate() {
            text(root, line, MARGIN, MARGIN + (at as f64 + 0.5) * TITLE_LINE, TITLE)?;
        }
        for (at, line) in self.caption.iter().enumerate() {
            text(root, line, MARGIN, bottom + 4.0 + (at as f64 + 0.5) * LINE, CAPTION)?;
        }
        Ok(())
    }
}

/// The end of every caption of measured numbers: on what, and whether all of it is there.
pub fn measured_on(study: &Study) -> String {
    let mut words = format!("Measured on {}, scale {}.", study.data_name, study.scale);
    if study.missing() > 0 {
        let (missing, planned) = (study.missing(), study.planned());
        words.push_str(&format!(" Incomplete: {missing} of {planned} cells are missing."));
    }
    words
}
