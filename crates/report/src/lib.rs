//! Tables and figures as pure functions of a ledger, the resolved experiment and the paper's numbers.
//!
//! [`gather`] matches the cells of an experiment with a ledger in polars frames and gives a [`Study`],
//! [`render`] turns that into documents, [`write`] puts them into a folder and [`check`] compares
//! them with what is there. Nothing here reads a clock, a path or the
//! machine: the same ledger gives the same bytes.

mod axis;
mod bars;
mod canvas;
mod csv;
mod curve;
pub mod data;
mod error;
mod facts;
mod figure;
pub mod figures;
mod files;
mod frame;
mod gather;
pub mod html;
mod latency;
mod latex;
mod markdown;
mod number;
mod panel;
mod printed;
#[cfg(test)]
mod samples;
mod study;
mod terminal;

pub use error::Error;
pub use figures::raster::write_figure;
pub use figures::theme::Theme;
use figures::{FIGURES, Figure, raster};
pub use files::{Difference, Document, check, write, write_atomically as write_file};
pub use frame::Cell;
pub use gather::{gather, seeds};
pub use study::Study;
pub use terminal::{table as terminal_table, width as terminal_width};

/// The names of all files that a report may have.
pub const FILES: [&str; 13] = [
    "table.md",
    "table.csv",
    "table.tex",
    "figure.png",
    "figure.svg",
    "curve.png",
    "curve.svg",
    "cost.svg",
    "latency.svg",
    "areas.svg",
    "positives.svg",
    "terms.svg",
    "time.svg",
];

/// The files of a report, in the order in which a reader opens them.
pub fn render(study: &Study) -> Result<Vec<Document>, Error> {
    let mut figures = Vec::new();
    for figure in &FIGURES {
        figures.extend(figure.draw(study)?.map(|svg| (figure, svg)));
    }
    let drawn: Vec<&Figure> = figures.iter().map(|(figure, _)| *figure).collect();
    let mut documents = vec![
        Document { name: "table.md", content: markdown::page(study, &drawn).into_bytes() },
        Document { name: "table.csv", content: csv::table(study).into_bytes() },
        Document { name: "table.tex", content: latex::page(study).into_bytes() },
    ];
    for (figure, svg) in figures {
        if let Some(name) = figure.png {
            documents.push(Document { name, content: raster::png(&svg)? });
        }
        documents.push(Document { name: figure.svg, content: svg.into_bytes() });
    }
    Ok(documents)
}
