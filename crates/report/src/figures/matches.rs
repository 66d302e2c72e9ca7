//! The paper's Fig. 3: positives an image under one-to-one and one-to-many matching, and their ratio.

use crate::axis::Axis;
use crate::canvas::{PAGE, Sheet, sheet};
use crate::error::Error;
use crate::figures::chart::{ABOVE, BELOW, Chart, Frame, legend, legend_height};
use crate::figures::look::Look;
use crate::figures::page::{MARGIN, Words};

/// The positives of every image under one way to match.
#[derive(Clone, Debug, PartialEq)]
pub struct Matches {
    pub name: String,
    /// In the order of the images.
    pub positives: Vec<usize>,
}

const TITLE: &str = "Positive samples an image: one-to-one against one-to-many";

/// Draws the shares of images as an SVG document; `others` are compared with `one_to_one`, image by
/// image, and `about` says whose predictions were matched with what.
pub fn matches(one_to_one: &Matches, others: &[Matches], about: &str) -> Result<String, Error> {
    const GAP: f64 = 48.0;
    let caption = format!(
        "Left: share of images with at most so many positives. Right: share of images whose positives are at most so many times \
         those of {}; images without targets left out. {about}",
        one_to_one.name
    );
    let words = Words::new(PAGE, TITLE, &caption);
    let all: Vec<&Matches> = std::iter::once(one_to_one).chain(others).collect();
    let entries: Vec<(Look, String)> = all
        .iter()
        .enumerate()
        .map(|(at, matches)| (Look::of_row(at), matches.name.clone()))
        .collect();
    let sides = [MARGIN + 28.0, PAGE - MARGIN - 6.0];
    let top = words.top() + legend_height(&entries, sides) + 8.0 + ABOVE;
    let bottom = top + 150.0;
    let width = (sides[1] - sides[0] - GAP) / 2.0;
    let left = Frame { left: sides[0], right: sides[0] + width, top, bottom };
    let right = Frame { left: left.right + GAP, right: sides[1], ..left };
    let counts: Vec<Vec<f64>> = all
        .iter()
        .map(|matches| matches.positives.iter().map(|&count| count as f64).collect())
        .collect();
    let ratios: Vec<Vec<f64>> = others.iter().map(|matches| ratios(one_to_one, matches)).collect();
    sheet(PAGE, words.height(bottom + BELOW), |root| {
        words.draw(root, bottom + BELOW)?;
        legend(root, &entries, sides, words.top())?;
        shares(root, left, &counts, 0, "positives an image")?;
        shares(root, right, &ratios, 1, "ratio of positives")
    })
}

fn ratios(one: &Matches, other: &Matches) -> Vec<f64> {
    let pairs = one.positives.iter().zip(&other.positives).filter(|(one, _)| **one > 0);
    pairs.map(|(&one, &other)| other as f64 / one as f64).collect()
}

/// The share of values up to each value, a staircase a series.
fn shares(
    root: &Sheet<'_>,
    frame: Frame,
    series: &[Vec<f64>],
    first: usize,
    name: &str,
) -> Result<(), Error> {
    let most = series.iter().flatten().copied().fold(1.0, f64::max);
    let (across, up) = (Axis::between(0.0, most * 1.04, 6), Axis::between(0.0, 100.0, 5));
    let chart = Chart::new(root, frame, [&across, &up], [name, "images (%)"])?;
    for (at, values) in series.iter().enumerate() {
        let points = staircase(values, most * 1.04);
        chart.marked(&points, Look::of_row(first + at), at)?;
    }
    Ok(())
}

fn staircase(values: &[f64], end: f64) -> Vec<(f64, f64)> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let percent = |count: usize| 100.0 * count as f64 / sorted.len().max(1) as f64;
    let mut points = vec![(0.0, 0.0)];
    for (at, &value) in sorted.iter().enumerate() {
        if sorted.get(at + 1).is_none_or(|next| *next > value) {
            let before = points.last().map_or(0.0, |(_, share)| *share);
            points.extend([(value, before), (value, percent(at + 1))]);
        }
    }
    points.push((end, percent(sorted.len())));
    points
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_staircase_steps_once_for_each_value_and_ends_with_all_images() {
        let points = staircase(&[3.0, 1.0, 1.0, 4.0], 5.0);
        let expected = [
            (0.0, 0.0),
            (1.0, 0.0),
            (1.0, 50.0),
            (3.0, 50.0),
            (3.0, 75.0),
            (4.0, 75.0),
            (4.0, 100.0),
            (5.0, 100.0),
        ];
        assert_eq!(points, expected);
    }

    #[test]
    fn an_image_without_targets_has_no_ratio() {
        let one = Matches { name: "one".into(), positives: vec![0, 2, 3] };
        let many = Matches { name: "many".into(), positives: vec![0, 8, 30] };
        assert_eq!(ratios(&one, &many), [4.0, 10.0]);
        assert!(matches(&one, &[many], "On <scenes>.").unwrap().contains("&lt;scenes&gt;"));
    }
}
