//! Places for labels beside points, so that none covers another or a mark.

use crate::canvas::{Ink, Sheet, text, text_width};
use crate::error::Error;
use crate::figures::chart::Frame;

/// Left, top, right, bottom, in CSS pixels.
type Patch = [f64; 4];

/// Half the height of a line of text.
const HALF: f64 = 6.0;
/// From the middle of a mark to a label beside it.
const BESIDE: f64 = 6.0;

/// Nobody wants a label that leaves its frame.
const OUTSIDE: f64 = 20.0;

/// What is taken already.
pub struct Labels {
    frame: Frame,
    taken: Vec<Patch>,
}

impl Labels {
    pub fn new(frame: Frame) -> Self {
        Self { frame, taken: Vec::new() }
    }

    /// Nothing is written over a mark here.
    pub fn keep_clear(&mut self, (x, y): (f64, f64), reach: f64) {
        self.taken.push([x - reach, y - reach, x + reach, y + reach]);
    }

    /// Nothing is written over this line, if it can be helped.
    pub fn keep_line_clear(&mut self, points: &[(f64, f64)]) {
        for pair in points.windows(2) {
            let [(x, y), (to_x, to_y)] = [pair[0], pair[1]];
            let steps = ((to_x - x).hypot(to_y - y) / 4.0).ceil().max(1.0);
            for step in 0..=steps as usize {
                let share = step as f64 / steps;
                self.keep_clear((x + (to_x - x) * share, y + (to_y - y) * share), 1.2);
            }
        }
    }

    /// Writes a label beside a point, where it covers least of what is there.
    pub fn write(
        &mut self,
        root: &Sheet<'_>,
        (x, y): (f64, f64),
        words: &str,
        ink: Ink,
    ) -> Result<(), Error> {
        let width = text_width(words, ink);
        let right = x + BESIDE;
        let left = x - BESIDE - width;
        let middle = x - width / 2.0;
        let (above, below) = (y - BESIDE - HALF, y + BESIDE + HALF);
        let candidates = [
            (right, y),
            (left, y),
            (middle, above),
            (middle, below),
            (right - 2.0, above + 3.0),
            (right - 2.0, below - 3.0),
            (left + 2.0, above + 3.0),
            (left + 2.0, below - 3.0),
            (right + 8.0, above - 8.0),
            (left - 8.0, above - 8.0),
            (right + 8.0, below + 8.0),
            (left - 8.0, below + 8.0),
        ];
        let patch = |&(left, y): &(f64, f64)| [left, y - HALF, left + width, y + HALF];
        // A label that touches a line is better than one that nobody finds.
        const FARTHER: f64 = 3.0;
        let costs = candidates
            .iter()
            .enumerate()
            .map(|(at, place)| (self.covered(patch(place)) + FARTHER * at as f64, *place));
        let best = costs.min_by(|(a, _), (b, _)| a.total_cmp(b));
        let place = best.map_or(candidates[0], |(_, place)| place);
        self.taken.push(patch(&place));
        text(root, words, place.0, place.1, ink)
    }

    /// How much of what is taken, or of the world outside the frame, a patch covers.
    fn covered(&self, patch: Patch) -> f64 {
        let Frame { left, right, top, bottom } = self.frame;
        let inside = overlap(patch, [left, top, right, bottom]);
        let area = (patch[2] - patch[0]) * (patch[3] - patch[1]);
        let taken: f64 = self.taken.iter().map(|other| overlap(patch, *other)).sum();
        OUTSIDE * (area - inside) + taken
    }
}

fn overlap(a: Patch, b: Patch) -> f64 {
    let wide = a[2].min(b[2]) - a[0].max(b[0]);
    let high = a[3].min(b[3]) - a[1].max(b[1]);
    wide.max(0.0) * high.max(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::canvas::{COLUMN, sheet};

    #[test]
    fn two_labels_of_one_point_do_not_cover_each_other_or_leave_the_frame() {
        let frame = Frame { left: 0.0, right: 200.0, top: 0.0, bottom: 100.0 };
        let mut labels = Labels::new(frame);
        sheet(COLUMN, 100.0, |root| {
            for words in ["first", "second", "third"] {
                labels.write(root, (190.0, 50.0), words, Ink::small())?;
            }
            Ok(())
        })
        .unwrap();
        for (at, patch) in labels.taken.iter().enumerate() {
            assert!(patch[0] >= 0.0 && patch[2] <= 200.0, "{patch:?}");
            assert!(labels.taken[..at].iter().all(|other| overlap(*patch, *other) == 0.0));
        }
    }
}
