//! The figures: one function each, from plain numbers to an SVG document.

use crate::error::Error;
use crate::study::Study;
use crate::{curve, figure};

pub mod areas;
pub mod chart;
pub mod cost;
pub mod detections;
pub mod labels;
pub mod latency;
pub mod look;
pub mod losses;
pub mod matches;
pub mod page;
pub mod precision_recall;
pub mod progress;
pub mod published;
pub mod raster;
pub mod schedule;
pub mod surfaces;
pub mod theme;
pub mod time;

/// A figure of an experiment, drawn from what its ledger holds.
pub struct Figure {
    /// Its name, and that of its file.
    pub name: &'static str,
    pub svg: &'static str,
    /// The file of its PNG, where a report has one.
    pub png: Option<&'static str>,
    /// What it shows, for a page without pictures.
    pub about: &'static str,
    draw: fn(&Study) -> Result<Option<String>, Error>,
}

impl Figure {
    /// The figure as an SVG document; none when the ledger holds nothing to draw.
    pub fn draw(&self, study: &Study) -> Result<Option<String>, Error> {
        (self.draw)(study)
    }
}

/// Every figure of an experiment, in the order in which a reader opens them.
pub const FIGURES: [Figure; 8] = [
    Figure {
        name: "figure",
        svg: "figure.svg",
        png: Some("figure.png"),
        about: "Every row's AP, difference and verdict",
        draw: |study| figure::figure(study).map(Some),
    },
    Figure {
        name: "curve",
        svg: "curve.svg",
        png: Some("curve.png"),
        about: "AP over epochs",
        draw: curve::curve,
    },
    Figure {
        name: "cost",
        svg: "cost.svg",
        png: None,
        about: "AP against the cost of training",
        draw: cost::cost,
    },
    Figure {
        name: "latency",
        svg: "latency.svg",
        png: None,
        about: "AP against latency",
        draw: latency::latency,
    },
    Figure {
        name: "areas",
        svg: "areas.svg",
        png: None,
        about: "AP by the size of the objects",
        draw: areas::areas,
    },
    Figure {
        name: "positives",
        svg: "positives.svg",
        png: None,
        about: "Positive samples an image over epochs",
        draw: progress::positives,
    },
    Figure {
        name: "terms",
        svg: "terms.svg",
        png: None,
        about: "Terms of the loss over epochs",
        draw: progress::terms,
    },
    Figure {
        name: "time",
        svg: "time.svg",
        png: None,
        about: "Where the time goes",
        draw: time::time,
    },
];
