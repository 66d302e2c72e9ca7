//! What a data set consists of, what is wrong with it and how its images look, as tables, a JSON
//! document, a figure and a sheet of images.

mod boxes;
mod check;
mod sheet;
mod stats;
mod stats_figure;
mod tables;

pub use check::{check_document, check_text};
pub use sheet::{Picture, contact_sheet};
pub use stats::stats_text;
pub use stats_figure::stats_figure;
pub use tables::{count, head};
