//! The ledger's lines: one JSON object an event, only ever appended.

use std::collections::BTreeMap;

use deim_data::Place;
use deim_spec::Recorded;
use deim_train::events::{EpochRecord, Summary};
use deim_train::pretrained::Fitted;
use serde::{Deserialize, Serialize};

/// One line of a ledger.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Line {
    /// When it was written, UTC, RFC 3339.
    pub at: String,
    /// The id of the cell it is about.
    pub cell: String,
    #[serde(flatten)]
    pub record: Record,
}

/// What happened to a cell.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Record {
    /// A process began or resumed the cell.
    Started(Box<Provenance>),
    /// An epoch ended.
    Epoch(Box<EpochRecord>),
    /// The cell is done; nothing about it follows.
    Finished(Box<Finished>),
    /// The cell ended in an error; it may be retried.
    Failed {
        reason: String,
        /// A signal ended the process: nothing is wrong with the cell, and the next command goes on
        /// with it unasked.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        killed: bool,
    },
}

/// Everything that the cell's id was computed from, and who computed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Provenance {
    pub experiment: String,
    pub scale: String,
    /// The values of the experiment's axes in this cell, by key, in axis order as the spec prints them.
    pub settings: BTreeMap<String, String>,
    pub seed: u64,
    pub config: Recorded,
    /// Identity of the data set.
    pub manifest: String,
    /// Where its files were; none where its images were drawn.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<Place>,
    /// What a fresh start took from a file of weights.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pretrained: Option<Fitted>,
    /// Version of the numerics; raised by hand whenever a change of code changes a number.
    pub numerics: u32,
    /// `cpu`, `cuda` or `vulkan`, with a number where several shared each batch: part of the id.
    pub device_class: String,
    /// What the device calls itself, for the reader.
    pub device: String,
    pub threads: usize,
    /// Version of the program and, where known, the commit it was built from.
    pub program: String,
    /// Epoch and step it went on from; none for a fresh start.
    pub resumed_at: Option<[u64; 2]>,
    /// `experiment/scale` whose ledger these lines were copied from; none where the cell was trained.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reused_from: Option<String>,
}

/// The result of a cell.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Finished {
    #[serde(flatten)]
    pub summary: Summary,
    /// Seconds of training and evaluation over all of the cell's processes.
    pub seconds: f64,
}
