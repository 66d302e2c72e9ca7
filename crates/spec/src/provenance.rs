//! Where each resolved value comes from.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

use crate::config::Config;
use crate::keys::{leaf_paths, whole};
use crate::node::Node;
use crate::source::{Place, Sources};

/// The origin of one value.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub enum Origin {
    /// Nothing sets it: the official recipe, built in.
    Default,
    /// Computed from other values by the recipe's rule for epochs.
    Derived,
    /// A line of a file, the experiment's or a part's.
    File { path: String, line: usize },
    /// A `--set` of the command line, as written.
    Flag(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Default => f.write_str("built-in default"),
            Origin::Derived => f.write_str("derived from the epoch budget"),
            Origin::File { path, line } => write!(f, "{path}:{line}"),
            Origin::Flag(text) => f.write_str(text),
        }
    }
}

/// The origin of every value of a configuration, by dotted key.
pub type Provenance = BTreeMap<String, Origin>;

/// Where a key was written: its value's place, or that of the list or table around it.
pub(crate) fn place_of(merged: &Node, path: &str) -> Option<Place> {
    let segments: Vec<&str> = path.split('.').collect();
    // Only an element of a list may be looked for in vain: the list as a whole then stands for it.
    (1..=segments.len()).rev().find_map(|length| {
        let node = merged.at(&segments[..length])?;
        (length == segments.len() || node.table().is_none()).then_some(node.place)
    })
}

pub(crate) fn of(config: &Config, merged: &Node, sources: &Sources) -> Provenance {
    let origin = |path: &str| match place_of(merged, path) {
        Some(place) if sources.get(place).is_flag => Origin::Flag(sources.get(place).text.clone()),
        Some(place) => {
            Origin::File { path: sources.get(place).name.clone(), line: sources.line(place) }
        }
        // Nothing can be written for these two by default: resolving fills them in.
        None if path == "schedule.flat_epoch" || path == "schedule.stop_epoch" => Origin::Derived,
        None => Origin::Default,
    };
    let paths = leaf_paths(&whole(config)).into_iter();
    paths.map(|path| (path.clone(), origin(&path))).collect()
}
