//! What training starts from.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Weights that training starts from, in place of random ones.
///
/// The file is given on the command line (`--pretrained FILE`). Its content decides numbers and so is
/// part of a cell's id, as its hash; its place is not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Pretrained {
    /// Which weights of the file are used: those of the `backbone`, of the whole `detector`, or `none`.
    pub part: PretrainedPart,
    /// BLAKE3 hash of the file, 64 hexadecimal digits; absent: that of the file on the command line.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub blake3: Option<String>,
}

impl Default for Pretrained {
    fn default() -> Self {
        Self { part: PretrainedPart::Backbone, blake3: None }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum PretrainedPart {
    /// Start from random weights, where a recipe says otherwise.
    None,
    /// The backbone alone; it must fit as a whole. What else the file holds is left.
    Backbone,
    /// All that fits but the class heads must fit; those of another class count start random.
    Detector,
}
