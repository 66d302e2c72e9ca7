//! Readers of annotation files: COCO, Objects365, CrowdHuman, Pascal VOC and YOLO folders, all into
//! one [`Index`].
//!
//! A reader never gives up on a data set that it recognised: what it cannot use is a counted
//! [`findings::Finding`](findings::Findings) with examples. [`RealDataset::open`] refuses an index
//! with a finding that would spoil a run.

mod coco;
mod crowdhuman;
pub mod error;
pub mod findings;
pub mod index;
mod loose;
mod pair;
pub mod paths;
mod real;
#[cfg(test)]
mod tests;
mod voc;
mod yaml;
mod yolo;

use std::fmt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

pub use error::ReadError;
pub use findings::{Findings, Found, Kind, Level};
pub use index::{Category, Index, IndexImage, Object};
pub use pair::{open, open_val, pair};
pub use real::RealDataset;

use crate::decode;

/// How a data set's annotations are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    Coco,
    Objects365,
    CrowdHuman,
    Voc,
    Yolo,
}

impl Format {
    /// In the order in which they are looked for.
    pub const ALL: [Self; 5] =
        [Self::Objects365, Self::Coco, Self::CrowdHuman, Self::Voc, Self::Yolo];

    pub fn name(self) -> &'static str {
        match self {
            Self::Coco => "coco",
            Self::Objects365 => "objects365",
            Self::CrowdHuman => "crowdhuman",
            Self::Voc => "voc",
            Self::Yolo => "yolo",
        }
    }

    /// The files that tell the format.
    fn looked_for(self) -> &'static str {
        match self {
            Self::Coco => "annotations/*.json (coco)",
            Self::Objects365 => "*objv2*.json (objects365)",
            Self::CrowdHuman => "annotation_*.odgt (crowdhuman)",
            Self::Voc => "Annotations/*.xml (voc)",
            Self::Yolo => "labels/ beside images/ (yolo)",
        }
    }

    /// The splits below `root` that look like this format.
    fn find(self, root: &Path) -> Vec<SplitFiles> {
        match self {
            Self::Coco => coco::find(root),
            Self::Objects365 => {
                let mut found = coco::find(root);
                let named = |split: &SplitFiles| {
                    let name = paths::file_name(&split.annotations).to_lowercase();
                    name.contains("objv2") || name.contains("objects365") || name.contains("obj365")
                };
                found.retain(named);
                found
            }
            Self::CrowdHuman => crowdhuman::find(root),
            Self::Voc => voc::find(root),
            Self::Yolo => yolo::find(root),
        }
    }

    fn read(self, splits: &[SplitFiles]) -> Vec<Index> {
        match self {
            Self::Coco | Self::Objects365 => {
                splits.iter().map(|files| coco::read(files, self)).collect()
            }
            Self::CrowdHuman => splits.iter().map(crowdhuman::read).collect(),
            Self::Voc => voc::read(splits),
            Self::Yolo => yolo::read(splits),
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.name())
    }
}

impl std::str::FromStr for Format {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let names = Self::ALL.map(Self::name).join(", ");
        Self::ALL
            .into_iter()
            .find(|format| format.name() == name)
            .ok_or_else(|| format!("expected one of {names}, found `{name}`"))
    }
}

/// Where one split is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SplitFiles {
    pub split: String,
    /// A file, or a folder of one file an image.
    pub annotations: PathBuf,
    /// The names of the split's images, where the format has such a list.
    pub list: Option<PathBuf>,
    /// The names of the classes, where they are in a file of their own.
    pub classes: Option<PathBuf>,
    /// Where the images may be, the likeliest first.
    pub images: Vec<PathBuf>,
}

/// What the user says about a data set; the rest is found.
#[derive(Clone, Debug, Default)]
pub struct Options {
    pub format: Option<Format>,
    pub images: Option<PathBuf>,
    pub annotations: Option<PathBuf>,
}

/// A data set as it was found and read.
#[derive(Clone, Debug)]
pub struct Reading {
    pub format: Format,
    /// Other formats that the folder holds as well.
    pub also: Vec<Format>,
    pub splits: Vec<Index>,
}

/// Reads the data set in a folder: every split of the first format that is recognised.
pub fn read(root: &Path, options: &Options) -> Result<Reading, ReadError> {
    if !root.is_dir() {
        return Err(ReadError::NoFolder(root.to_owned()));
    }
    for given in [&options.images, &options.annotations].into_iter().flatten() {
        if !given.exists() {
            return Err(ReadError::NoAnnotations(given.clone()));
        }
    }
    if let Some(annotations) = &options.annotations {
        return read_given(root, annotations, options);
    }
    let wanted = Format::ALL.into_iter().filter(|f| options.format.is_none_or(|only| *f == only));
    let mut found: Vec<(Format, Vec<SplitFiles>)> =
        wanted.map(|format| (format, format.find(root))).filter(|(_, f)| !f.is_empty()).collect();
    // Objects365's files are COCO files as well.
    if found.first().is_some_and(|(format, _)| *format == Format::Objects365) {
        found.retain(|(format, _)| *format != Format::Coco);
    }
    if found.is_empty() {
        let looked_for: Vec<&str> = match options.format {
            Some(format) => vec![format.looked_for()],
            None => Format::ALL.iter().map(|format| format.looked_for()).collect(),
        };
        let looked_for = looked_for.join(", ");
        return Err(ReadError::NotADataSet { root: root.to_owned(), looked_for });
    }
    let (format, mut splits) = found.remove(0);
    let order = |split: &SplitFiles| {
        ["train", "val", "test"].iter().position(|p| phase(&split.split) == Some(p)).unwrap_or(3)
    };
    splits.sort_by_key(order);
    if let Some(images) = &options.images {
        splits.iter_mut().for_each(|split| split.images = vec![images.clone()]);
    }
    let also = found.into_iter().map(|(format, _)| format).collect();
    Ok(Reading { format, also, splits: format.read(&splits) })
}

/// Reads the one split whose annotations the user names.
fn read_given(root: &Path, annotations: &Path, options: &Options) -> Result<Reading, ReadError> {
    let extension = annotations.extension().unwrap_or_default().to_string_lossy().to_lowercase();
    let has = |extension| !paths::with_extension(annotations, extension).is_empty();
    let guessed = match extension.as_str() {
        "json" => Some(Format::Coco),
        "odgt" => Some(Format::CrowdHuman),
        "yaml" | "yml" => Some(Format::Yolo),
        _ if has("xml") => Some(Format::Voc),
        _ if has("txt") => Some(Format::Yolo),
        _ => None,
    };
    let Some(format) = options.format.or(guessed) else {
        return Err(ReadError::NotADataSet {
            root: annotations.to_owned(),
            looked_for: "a .json, .odgt or .yaml file, or a folder of .xml or .txt files".into(),
        });
    };
    let mut splits = match format {
        Format::Coco | Format::Objects365 => vec![SplitFiles {
            split: coco::split_name(annotations),
            annotations: annotations.to_owned(),
            images: coco::candidates(root, annotations),
            ..SplitFiles::default()
        }],
        Format::CrowdHuman => vec![crowdhuman::files(root, annotations)],
        Format::Voc => vec![voc::files(root, annotations)],
        Format::Yolo => yolo::files(root, annotations),
    };
    if let Some(images) = &options.images {
        splits.iter_mut().for_each(|split| split.images = vec![images.clone()]);
    }
    Ok(Reading { format, also: Vec::new(), splits: format.read(&splits) })
}

/// Which part of an experiment a split's name speaks of.
fn phase(split: &str) -> Option<&'static str> {
    let split = split.to_lowercase();
    ["train", "val", "test"].into_iter().find(|phase| split.contains(phase))
}

/// Adds an image: looks for its file, and for its size where the annotations give none.
fn add_image(
    index: &mut Index,
    id: i64,
    relative: Option<String>,
    name: String,
    size: Option<[u32; 2]>,
) {
    let mut image = IndexImage { id, name, path: None, size, bytes: 0, objects: Vec::new() };
    if let Some(relative) = relative {
        let path = index.images_dir.join(&relative);
        image.name = relative;
        match paths::length(&path) {
            Some(bytes) => {
                if size.is_none() {
                    // The other formats never give one.
                    if matches!(index.format, Format::Coco | Format::Objects365 | Format::Voc) {
                        index.findings.add(Kind::SizeFromFile, || image.name.clone());
                    }
                    // What is wrong with the file is told when it is decoded.
                    image.size = decode::read_header(&path).ok().map(|header| header.size);
                }
                image.path = Some(path);
                image.bytes = bytes;
            }
            None => index.findings.add(Kind::MissingImage, || image.name.clone()),
        }
    }
    index.images.push(image);
}

/// The whole of a text file, or what is wrong with it.
fn read_text(path: &Path) -> Result<String, String> {
    let bytes = std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?;
    let text = String::from_utf8(bytes)
        .map_err(|error| format!("{}: expected UTF-8: {error}", path.display()))?;
    Ok(text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text))
}
