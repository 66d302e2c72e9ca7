//! What is odd about a data set: every kind with its weight, its count and examples.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::decode::{Colour, Header};

/// How much a finding matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// It would spoil a run: training refuses it.
    Error,
    /// Training goes on, but without something or with something changed; the run counts it.
    Warning,
    /// Worth knowing.
    Note,
}

impl fmt::Display for Level {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.pad(match self {
            Self::Error => "error",
            Self::Warning => "warning",
            Self::Note => "note",
        })
    }
}

/// Every kind of finding, in the order of tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    BrokenFile,
    NoImages,
    NothingToLearn,
    MissingImage,
    PathOutside,
    EmptyFile,
    Truncated,
    Unreadable,
    TooLarge,
    Grey16,
    SizeMismatch,
    BrokenEntry,
    BadBox,
    UnknownCategory,
    CategoryIdTwice,
    ImageIdTwice,
    AnnotationIdTwice,
    SharedImage,
    SplitCategories,
    DamagedImage,
    Rotated,
    UnlistedAnnotation,
    LabelWithoutImage,
    BoxOutside,
    BoxInverted,
    BoxEmpty,
    BoxClamped,
    BoxTwice,
    BadArea,
    NameTwice,
    CategoryNameTwice,
    SamePicture,
    Crowd,
    Ignored,
    WithoutBoxes,
    CategoryUnused,
    UnlistedImage,
    Polygon,
    SizeFromFile,
    Grey,
    Cmyk,
    Palette,
    Alpha,
    SixteenBits,
    WrongExtension,
}

impl Kind {
    pub fn level(self) -> Level {
        if self < Self::DamagedImage {
            Level::Error
        } else if self < Self::Crowd {
            Level::Warning
        } else {
            Level::Note
        }
    }

    /// What making RGB of such a file's pixels does to them.
    pub fn of_colours(header: &Header) -> Vec<Self> {
        let (grey, deep) = (header.colour == Colour::Grey, header.sixteen_bits);
        let mut kinds = match header.colour {
            Colour::Grey if deep && !header.alpha => vec![Self::Grey16],
            Colour::Grey => vec![Self::Grey],
            Colour::Cmyk => vec![Self::Cmyk],
            Colour::Palette => vec![Self::Palette],
            Colour::Rgb => vec![],
        };
        if header.alpha {
            kinds.push(Self::Alpha);
        }
        if deep && (header.alpha || !grey) {
            kinds.push(Self::SixteenBits);
        }
        kinds
    }

    /// Whether it takes something away from what the file holds.
    pub fn loses(self) -> bool {
        !matches!(self, Self::Grey | Self::Cmyk | Self::Palette)
    }

    /// The name in records and JSON: `box_outside`.
    pub fn key(self) -> String {
        let words = format!("{self:?}");
        let mut key = String::new();
        for (at, c) in words.char_indices() {
            if at > 0 && c.is_ascii_uppercase() {
                key.push('_');
            }
            key.push(c.to_ascii_lowercase());
        }
        key
    }

    /// What was found, and what training does about it.
    pub fn title(self) -> &'static str {
        match self {
            Self::BrokenFile => "annotation file that cannot be read",
            Self::NoImages => "split without an image",
            Self::NothingToLearn => "split without a box to train on",
            Self::MissingImage => "image file is missing",
            Self::PathOutside => "image path leaves the image folder",
            Self::EmptyFile => "image file of zero bytes",
            Self::Truncated => "image file is cut short",
            Self::Unreadable => "file is no readable JPEG or PNG",
            Self::TooLarge => "image has too many pixels",
            Self::Grey16 => "16-bit grey image: values above 255 turn white",
            Self::SizeMismatch => "annotated size is not the file's",
            Self::BrokenEntry => "annotation that cannot be read",
            Self::BadBox => "box is not four finite numbers",
            Self::UnknownCategory => "category is not listed",
            Self::CategoryIdTwice => "category id appears twice",
            Self::ImageIdTwice => "image id appears twice",
            Self::AnnotationIdTwice => "annotation id appears twice",
            Self::SharedImage => "image file is in two splits",
            Self::SplitCategories => "splits have different categories",
            Self::DamagedImage => "damaged image, decoded as far as possible",
            Self::Rotated => "EXIF rotation, not applied",
            Self::UnlistedAnnotation => "annotation of an image that is not listed: dropped",
            Self::LabelWithoutImage => "label file without an image: not used",
            Self::BoxOutside => "box outside its image: not trained on",
            Self::BoxInverted => "box of negative width or height: not trained on",
            Self::BoxEmpty => "box of no width or height: not trained on",
            Self::BoxClamped => "box reaches over the edge: cut",
            Self::BoxTwice => "same box and class twice in an image",
            Self::BadArea => "area missing or no number: the box's is used",
            Self::NameTwice => "image file is listed twice",
            Self::CategoryNameTwice => "category name appears twice",
            Self::SamePicture => "file equal to another, byte for byte",
            Self::Crowd => "crowd region: not trained on, absorbs detections",
            Self::Ignored => "ignored object: not trained on, absorbs detections",
            Self::WithoutBoxes => "image without boxes: kept",
            Self::CategoryUnused => "category without a box",
            Self::UnlistedImage => "image file that no annotation lists: not used",
            Self::Polygon => "polygon: its bounding box is used",
            Self::SizeFromFile => "annotations give no image size: the file's is used",
            Self::Grey => "grey image: made RGB",
            Self::Cmyk => "CMYK image: made RGB",
            Self::Palette => "palette image: made RGB",
            Self::Alpha => "transparency: dropped",
            Self::SixteenBits => "16-bit colour: the high bytes are used",
            Self::WrongExtension => "name says another format than the file",
        }
    }
}

/// One kind of finding: how often, and where for example.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Found {
    pub count: u64,
    pub examples: Vec<String>,
}

/// Findings keep this many examples of each kind.
pub const EXAMPLES: usize = 5;
/// Longer examples are cut: they may hold anything that a file holds.
const EXAMPLE_CHARS: usize = 160;

/// Everything found, by kind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Findings(BTreeMap<Kind, Found>);

impl Findings {
    /// Counts one finding; the example is only made where it is kept.
    pub fn add(&mut self, kind: Kind, example: impl FnOnce() -> String) {
        let found = self.0.entry(kind).or_default();
        found.count += 1;
        if found.examples.len() < EXAMPLES {
            found.examples.push(printable(&example()));
        }
    }

    /// Adds what was found elsewhere.
    pub fn merge(&mut self, other: &Self) {
        for (kind, found) in &other.0 {
            let own = self.0.entry(*kind).or_default();
            own.count += found.count;
            let room = EXAMPLES.saturating_sub(own.examples.len());
            own.examples.extend(found.examples.iter().take(room).cloned());
        }
    }

    pub fn iter(&self) -> impl Iterator<Item = (Kind, &Found)> {
        self.0.iter().map(|(kind, found)| (*kind, found))
    }

    pub fn get(&self, kind: Kind) -> Option<&Found> {
        self.0.get(&kind)
    }

    pub fn count(&self, kind: Kind) -> u64 {
        self.get(kind).map_or(0, |found| found.count)
    }

    /// The first finding that would spoil a run.
    pub fn first_error(&self) -> Option<(Kind, &Found)> {
        self.iter().find(|(kind, _)| kind.level() == Level::Error)
    }
}

/// Text of a file that is safe to print: no control characters, and not too long.
pub(crate) fn printable(text: &str) -> String {
    let mut chars = text.chars();
    let mut line: String = chars
        .by_ref()
        .take(EXAMPLE_CHARS)
        .map(|c| if c.is_control() { '\u{fffd}' } else { c })
        .collect();
    if chars.next().is_some() {
        line.push_str("...");
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_go_on_where_examples_end() {
        let mut findings = Findings::default();
        for n in 0..12 {
            findings.add(Kind::Grey, || format!("{n}.png"));
        }
        let found = findings.get(Kind::Grey).unwrap();
        assert_eq!((found.count, found.examples.len()), (12, EXAMPLES));
        let mut both = findings.clone();
        both.merge(&findings);
        assert_eq!(both.count(Kind::Grey), 24);
        assert!(both.first_error().is_none());
        both.add(Kind::BadBox, String::new);
        assert_eq!(both.first_error().unwrap().0, Kind::BadBox);
    }

    #[test]
    fn levels_follow_the_order_of_kinds() {
        assert_eq!(Kind::SplitCategories.level(), Level::Error);
        assert_eq!(Kind::DamagedImage.level(), Level::Warning);
        assert_eq!(Kind::SamePicture.level(), Level::Warning);
        assert_eq!(Kind::Crowd.level(), Level::Note);
    }

    #[test]
    fn a_kind_has_one_name_in_records_and_in_json() {
        for kind in [Kind::Grey16, Kind::BoxOutside, Kind::Cmyk] {
            assert_eq!(serde_json::to_value(kind).unwrap(), kind.key());
        }
        assert_eq!(Kind::BoxOutside.key(), "box_outside");
    }

    #[test]
    fn examples_print_on_one_short_line() {
        assert_eq!(printable("a\x1b[2Jb\nc"), "a\u{fffd}[2Jb\u{fffd}c");
        assert_eq!(printable(&"x".repeat(1000)).len(), EXAMPLE_CHARS + 3);
    }
}
