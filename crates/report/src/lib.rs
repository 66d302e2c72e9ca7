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
mod error;
mod facts;
mod figure;
mod files;
mod frame;
mod gather;
mod markdown;
mod number;
mod panel;
#[cfg(test)]
mod samples;
mod study;
mod terminal;

pub use bars::{BarPanel, BarRow, bars, write_figure};
pub use error::Error;
pub use files::{Difference, Document, check, write};
pub use frame::Cell;
pub use gather::{gather, seeds};
pub use study::Study;
pub use terminal::{table as terminal_table, width as terminal_width};

/// The names of all files that a report may have.
pub const FILES: [&str; 6] =
    ["table.md", "table.csv", "figure.png", "figure.svg", "curve.png", "curve.svg"];

/// The files of a report, in the order in which a reader opens them.
pub fn render(study: &Study) -> Result<Vec<Document>, Error> {
    let mut documents = vec![
        Document { name: "table.md", content: markdown::page(study).into_bytes() },
        Document { name: "table.csv", content: csv::table(study).into_bytes() },
    ];
    let figure = figure::figure(study)?;
    documents.push(Document { name: "figure.png", content: canvas::png(&figure)? });
    documents.push(Document { name: "figure.svg", content: figure.into_bytes() });
    if let Some(curve) = curve::curve(study)? {
        documents.push(Document { name: "curve.png", content: canvas::png(&curve)? });
        documents.push(Document { name: "curve.svg", content: curve.into_bytes() });
    }
    Ok(documents)
}
