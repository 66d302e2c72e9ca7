//! TOML experiments to validated, resolved, hashed cells.
//!
//! [`load`] is the way in. A [`Row`] times a seed is a cell, and [`cell_id`] names it.

pub mod config;
pub mod experiment;
pub mod keys;
pub mod official;
pub mod paper;
pub mod provenance;
pub mod schema;
pub mod show;
pub mod survey;

mod alias;
mod axes;
mod checks;
mod embedded;
mod error;
mod file;
mod flags;
mod id;
mod node;
mod parts;
mod source;
mod typed;

pub use alias::name as experiment_name;
pub use config::Config;
pub use error::SpecError;
pub use experiment::{Axis, Experiment, Options, Row, load, names};
pub use file::Expected;
pub use id::{Recorded, cell_id};
pub use paper::{Doubt, Doubts, PaperRow, PaperTable};
pub use provenance::{Origin, Provenance};
