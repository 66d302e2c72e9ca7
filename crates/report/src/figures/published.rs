//! The paper's Fig. 1: published AP against training cost and against latency.

use plotters::prelude::RGBColor;

use crate::axis::Axis;
use crate::canvas::{GREY, Ink, PAGE, Sheet, line, sheet, text};
use crate::error::Error;
use crate::figures::chart::{ABOVE, BELOW, Chart, Frame, legend, legend_height};
use crate::figures::labels::Labels;
use crate::figures::look::{Look, REACH};
use crate::figures::page::{MARGIN, Words};

/// A published detector.
#[derive(Clone, Debug, PartialEq)]
pub struct Published {
    /// Its name, for example `DEIM-D-FINE-L`.
    pub detector: String,
    pub epochs: Option<f64>,
    pub latency_ms: Option<f64>,
    /// In percent.
    pub ap: f64,
    /// Whether any of these numbers is doubted.
    pub is_doubted: bool,
}

impl Published {
    /// The name without the size and without what follows a comma.
    fn family(&self) -> &str {
        self.parts().0
    }

    fn size(&self) -> &str {
        self.parts().1
    }

    fn parts(&self) -> (&str, &str) {
        let name = self.detector.split(',').next().unwrap_or_default();
        // One size has a dash of its own.
        let odd = name.strip_suffix("-R50-m").map(|family| (family, "R50-m"));
        odd.or_else(|| name.rsplit_once('-')).unwrap_or((name, ""))
    }
}

/// The families that the figure is about, each pair with and without DEIM.
const PAIRS: [[&str; 2]; 2] = [["D-FINE", "DEIM-D-FINE"], ["RT-DETRv2", "DEIM-RT-DETRv2"]];
const TITLE: &str = "Published AP against training cost and latency";

/// Draws the published numbers as an SVG document; `source` says where they were read.
pub fn published(detectors: &[Published], source: &str) -> Result<String, Error> {
    const GAP: f64 = 48.0;
    let caption = format!(
        "Published, not measured here: all marks are hollow. Left: lines lead from a detector to the same with DEIM. Right: \
         lines join the sizes of a family; crosses: other detectors. A question mark: a number that is doubted. AP on COCO \
         val2017, latency of one image on a T4. {source}"
    );
    let words = Words::new(PAGE, TITLE, &caption);
    let entries: Vec<(Look, String)> =
        families().map(|(look, family)| (look, family.to_owned())).collect();
    let sides = [MARGIN + 26.0, PAGE - MARGIN];
    let top = words.top() + legend_height(&entries, sides) + 8.0 + ABOVE;
    let bottom = top + 230.0;
    let width = (sides[1] - sides[0] - GAP) / 2.0;
    sheet(PAGE, words.height(bottom + BELOW), |root| {
        words.draw(root, bottom + BELOW)?;
        legend(root, &entries, sides, words.top())?;
        let left = Frame { left: sides[0], right: sides[0] + width, top, bottom };
        cost(root, detectors, left)?;
        latency(root, detectors, Frame { left: left.right + GAP, right: sides[1], ..left })
    })
}

/// The looks of the named families: circle and diamond, square and triangle.
fn families() -> impl Iterator<Item = (Look, &'static str)> {
    PAIRS.iter().enumerate().flat_map(|(pair, names)| {
        let looks = [Look::open(2 * pair, pair), Look::open([1, 4][pair], 3 - pair)];
        looks.into_iter().zip(*names)
    })
}

fn look_of(family: &str) -> Option<Look> {
    families().find(|(_, name)| *name == family).map(|(look, _)| look)
}

const OTHER: RGBColor = GREY;

fn axes(points: &[(f64, f64)], most: f64) -> [Axis; 2] {
    [Axis::between(0.0, most, 6), Axis::around(points.iter().map(|(_, ap)| *ap), 6)]
}

/// AP over epochs.
fn cost(root: &Sheet<'_>, detectors: &[Published], frame: Frame) -> Result<(), Error> {
    let is_shown = |one: &&Published| one.epochs.is_some() && look_of(one.family()).is_some();
    let shown: Vec<&Published> = detectors.iter().filter(is_shown).collect();
    let point = |one: &Published| (one.epochs.unwrap_or_default(), one.ap);
    let points: Vec<_> = shown.iter().map(|one| point(one)).collect();
    let most = points.iter().map(|(epochs, _)| *epochs).fold(1.0, f64::max);
    let [across, up] = axes(&points, most * 1.08);
    let chart = Chart::new(root, frame, [&across, &up], ["epochs of training", "AP (%)"])?;
    let mut labels = Labels::new(frame);
    for place in chart.places(&points) {
        labels.keep_clear(place, REACH + 1.0);
    }
    for [without, with] in PAIRS {
        for better in shown.iter().filter(|one| one.family() == with) {
            let same = |one: &&&Published| one.family() == without && one.size() == better.size();
            for baseline in shown.iter().filter(same) {
                let ends = [point(baseline), point(better)];
                let ends = chart.places(&ends);
                line(root, &ends, GREY, 0.6)?;
                labels.keep_line_clear(&ends);
            }
        }
    }
    for one in &shown {
        let (x, y) = point(one);
        mark(&chart, look_of(one.family()), (x, y))?;
    }
    for one in &shown {
        let (x, y) = point(one);
        let doubt = if one.is_doubted { "?" } else { "" };
        labels.write(root, chart.at(x, y), &format!("{}{doubt}", one.size()), Ink::small())?;
    }
    Ok(())
}

/// AP over latency, a line a family.
fn latency(root: &Sheet<'_>, detectors: &[Published], frame: Frame) -> Result<(), Error> {
    let shown: Vec<&Published> = detectors.iter().filter(|one| one.latency_ms.is_some()).collect();
    let point = |one: &Published| (one.latency_ms.unwrap_or_default(), one.ap);
    let points: Vec<_> = shown.iter().map(|one| point(one)).collect();
    let most = points.iter().map(|(latency, _)| *latency).fold(1.0, f64::max) * 1.06;
    let [across, up] = axes(&points, most);
    let names = ["latency (ms)", "AP (%)"];
    let chart = Chart::new(root, frame, [&across, &up], names)?;
    let mut labels = Labels::new(frame);
    let mut of_families: Vec<(&str, Vec<(f64, f64)>)> = Vec::new();
    for one in &shown {
        match of_families.iter_mut().find(|(family, _)| *family == one.family()) {
            Some((_, points)) => points.push(point(one)),
            None => of_families.push((one.family(), vec![point(one)])),
        }
    }
    for (_, points) in &mut of_families {
        points.sort_by(|a, b| a.0.total_cmp(&b.0));
        points.dedup();
        let places = chart.places(points);
        labels.keep_line_clear(&places);
        for place in places {
            labels.keep_clear(place, REACH + 1.0);
        }
    }
    // Those that the figure is about lie on top.
    of_families.sort_by_key(|(family, _)| look_of(family).is_some());
    for (family, points) in &of_families {
        let look = look_of(family);
        line(root, &chart.places(points), look.map_or(OTHER, |look| look.color), 0.8)?;
        points.iter().try_for_each(|&place| mark(&chart, look, place))?;
    }
    for one in shown.iter().filter(|one| one.is_doubted) {
        let (x, y) = point(one);
        labels.write(root, chart.at(x, y), "?", Ink::small())?;
    }
    for (family, points) in of_families.iter().filter(|(family, _)| look_of(family).is_none()) {
        let Some(&(x, y)) = points.last() else { continue };
        labels.write(root, chart.at(x, y), family, Ink::small().color(OTHER))?;
    }
    Ok(())
}

/// A hollow mark; a small one for what the figure is not about.
fn mark(chart: &Chart<'_, '_>, look: Option<Look>, (x, y): (f64, f64)) -> Result<(), Error> {
    let place = chart.at(x, y);
    match look {
        Some(look) => look.marker(chart.root, place),
        None => text(chart.root, "\u{00d7}", place.0, place.1, Ink::small().color(OTHER).centred()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(detector: &str, epochs: f64, latency: Option<f64>, ap: f64) -> Published {
        let detector = detector.to_owned();
        Published { detector, epochs: Some(epochs), latency_ms: latency, ap, is_doubted: false }
    }

    #[test]
    fn families_are_named_once_and_sizes_stand_beside_their_marks() {
        let detectors = [
            one("D-FINE-L", 72.0, Some(8.07), 54.0),
            one("DEIM-D-FINE-L", 50.0, Some(8.07), 54.7),
            one("YOLOv8-X", 500.0, Some(16.59), 53.9),
        ];
        let svg = published(&detectors, "tables").unwrap();
        assert_eq!(svg.matches("\nL\n").count(), 2, "the sizes of the two D-FINE");
        assert_eq!(svg.matches("\nYOLOv8\n").count(), 1);
        assert!(svg.contains("Published, not measured here"));
    }

    #[test]
    fn a_name_is_a_family_and_a_size() {
        for (name, parts) in [
            ("DEIM-RT-DETRv2-M*", ("DEIM-RT-DETRv2", "M*")),
            ("RT-DETRv2-R50, 36 epochs", ("RT-DETRv2", "R50")),
            ("RT-DETRv2-R50-m", ("RT-DETRv2", "R50-m")),
        ] {
            assert_eq!(one(name, 60.0, None, 53.2).parts(), parts);
        }
    }
}
