//! The texts that values come from: files, and `--set` flags of the command line.

use std::ops::Range;

/// A stretch of one source's text, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    pub source: usize,
    pub start: usize,
    pub end: usize,
}

impl Place {
    pub fn range(self) -> Range<usize> {
        self.start..self.end
    }
}

/// One text and what to call it in a message.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    /// The path of a file as the user would write it, or the words `command line`.
    pub name: String,
    pub text: String,
    pub is_flag: bool,
}

/// Every text read while loading an experiment.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sources(Vec<Source>);

impl Sources {
    /// Takes a file's text and gives its number.
    pub fn add_file(&mut self, name: String, text: String) -> usize {
        self.0.push(Source { name, text, is_flag: false });
        self.0.len() - 1
    }

    /// Takes a flag as it was written, for example `--set loss.gamma=2`, and gives its number.
    pub fn add_flag(&mut self, text: String) -> usize {
        self.0.push(Source { name: "command line".into(), text, is_flag: true });
        self.0.len() - 1
    }

    pub fn get(&self, place: Place) -> &Source {
        &self.0[place.source]
    }

    /// The text at a place; empty if the place is not on character boundaries.
    pub fn slice(&self, place: Place) -> &str {
        self.get(place).text.get(place.range()).unwrap_or_default()
    }

    /// The line on which a place starts, counted from 1.
    pub fn line(&self, place: Place) -> usize {
        let before =
            &self.get(place).text.as_bytes()[..place.start.min(self.get(place).text.len())];
        1 + before.iter().filter(|byte| **byte == b'\n').count()
    }
}
