//! Everything that can be found wrong with a data set, by decoding every image of it.

mod ahead;
mod stats;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

pub use ahead::map_in_order;
pub use stats::{AREAS, ClassStats, Stats, Summary};

use crate::decode::{self, FileType, PictureError};
use crate::readers::{Findings, Index, IndexImage, Kind, Level, paths};

/// What was found in each split.
#[derive(Clone, Debug)]
pub struct Report {
    /// The findings of each split, in the order of the splits.
    pub findings: Vec<Findings>,
    /// The kinds that any split has, in the order of tables.
    pub kinds: Vec<Kind>,
}

impl Report {
    /// Whether a run would go well.
    pub fn passed(&self) -> bool {
        self.kinds.iter().all(|kind| kind.level() != Level::Error)
    }

    /// How many kinds of this level were found.
    pub fn kinds_of(&self, level: Level) -> usize {
        self.kinds.iter().filter(|kind| kind.level() == level).count()
    }
}

/// What one image file is.
struct Inspected {
    hash: Option<[u8; 32]>,
    findings: Findings,
}

/// Decodes every image with `threads` threads and looks at the splits together; `progress` hears
/// how many images are done.
pub fn check(splits: &[Index], threads: usize, progress: &(dyn Fn(u64) + Sync)) -> Report {
    let images: Vec<(usize, &IndexImage)> = splits
        .iter()
        .enumerate()
        .flat_map(|(at, split)| split.images.iter().map(move |image| (at, image)))
        .collect();
    let inspected = map_in_order(&images, threads, progress, |(_, image)| inspect(image));

    let mut findings: Vec<Findings> = splits.iter().map(|split| split.findings.clone()).collect();
    for ((split, _), inspected) in images.iter().zip(&inspected) {
        findings[*split].merge(&inspected.findings);
    }
    equal_files(splits, &images, &inspected, &mut findings);
    unlisted_files(splits, &mut findings);
    let mut whole = splits
        .iter()
        .zip(&mut findings)
        .filter(|(split, _)| split.findings.count(Kind::BrokenFile) == 0);
    if let Some((first, _)) = whole.next() {
        for (split, findings) in whole.filter(|(split, _)| !split.same_categories(first)) {
            findings.add(Kind::SplitCategories, || category_difference(first, split));
        }
    }
    let kinds: BTreeSet<Kind> =
        findings.iter().flat_map(|findings| findings.iter().map(|(kind, _)| kind)).collect();
    Report { findings, kinds: kinds.into_iter().collect() }
}

/// Decodes one image and says what is odd about its file.
fn inspect(image: &IndexImage) -> Inspected {
    let mut findings = Findings::default();
    // A missing file was counted when the annotations were read.
    let Some(path) = &image.path else { return Inspected { hash: None, findings } };
    let name = || image.name.clone();
    let bytes = match decode::read_bytes(path) {
        Ok(bytes) => bytes,
        Err(error) => {
            findings.add(kind_of(&error), || format!("{}: {error}", image.name));
            return Inspected { hash: None, findings };
        }
    };
    let hash = Some(crate::content_hash(&bytes));
    let picture = match decode::decode(&bytes) {
        Ok(picture) => picture,
        Err(error) => {
            findings.add(kind_of(&error), || format!("{}: {error}", image.name));
            return Inspected { hash, findings };
        }
    };
    let header = &picture.header;
    if let Some(annotated) = image.size
        && annotated != header.size
    {
        let [width, height] = header.size;
        findings.add(Kind::SizeMismatch, || {
            let turned = if [height, width] == annotated { ", turned" } else { "" };
            let [w, h] = annotated;
            format!("{}: annotated {w} x {h}, file {width} x {height}{turned}", image.name)
        });
    }
    if let Some(damage) = &picture.damage {
        findings.add(Kind::DamagedImage, || format!("{}: {damage}", image.name));
    }
    if header.orientation != 1 {
        findings
            .add(Kind::Rotated, || format!("{}: orientation {}", image.name, header.orientation));
    }
    for kind in Kind::of_colours(header) {
        findings.add(kind, name);
    }
    let extension = path.extension().unwrap_or_default().to_string_lossy().to_lowercase();
    let fits = match header.file_type {
        FileType::Jpeg => ["jpg", "jpeg"].contains(&extension.as_str()),
        FileType::Png => extension == "png",
    };
    if !fits {
        findings.add(Kind::WrongExtension, name);
    }
    Inspected { hash, findings }
}

fn kind_of(error: &PictureError) -> Kind {
    match error {
        PictureError::Empty => Kind::EmptyFile,
        PictureError::Truncated(_) => Kind::Truncated,
        PictureError::TooManyPixels { .. } | PictureError::TooLong(_) => Kind::TooLarge,
        PictureError::Read(_)
        | PictureError::NotAFile
        | PictureError::NotAPicture(_)
        | PictureError::Broken(_) => Kind::Unreadable,
    }
}

/// Files that two splits share, and files of different names with the same bytes.
fn equal_files(
    splits: &[Index],
    images: &[(usize, &IndexImage)],
    inspected: &[Inspected],
    findings: &mut [Findings],
) {
    let mut by_path: BTreeMap<&Path, usize> = BTreeMap::new();
    let mut by_hash: BTreeMap<[u8; 32], (usize, &IndexImage)> = BTreeMap::new();
    for (&(split, image), inspected) in images.iter().zip(inspected) {
        let Some(path) = image.path.as_deref() else { continue };
        match by_path.get(path) {
            Some(&first) if first == split => continue,
            Some(&first) => {
                findings[split].add(Kind::SharedImage, || {
                    format!("{} is in {} too", image.name, splits[first].split)
                });
                continue;
            }
            None => {
                by_path.insert(path, split);
            }
        }
        // Empty files are all equal, and an error already.
        let Some(hash) = inspected.hash.filter(|_| image.bytes > 0) else { continue };
        match by_hash.get(&hash) {
            Some((first, other)) => findings[split].add(Kind::SamePicture, || {
                format!("{} and {} of {}", image.name, other.name, splits[*first].split)
            }),
            None => {
                by_hash.insert(hash, (split, image));
            }
        }
    }
}

/// Image files in the folders of the splits that none of them lists, counted for the first split
/// of each folder.
fn unlisted_files(splits: &[Index], findings: &mut [Findings]) {
    let listed: BTreeSet<&Path> =
        splits.iter().flat_map(|split| &split.images).filter_map(|i| i.path.as_deref()).collect();
    let mut folders: BTreeSet<PathBuf> = BTreeSet::new();
    for (split, findings) in splits.iter().zip(findings) {
        // A folder that holds the annotations as well holds other things too.
        if split.annotations.starts_with(&split.images_dir)
            || !folders.insert(split.images_dir.clone())
        {
            continue;
        }
        for name in paths::files_below(&split.images_dir, paths::named_like_an_image) {
            if !listed.contains(split.images_dir.join(&name).as_path()) {
                findings.add(Kind::UnlistedImage, || name);
            }
        }
    }
}

fn category_difference(first: &Index, second: &Index) -> String {
    let [left, right] = [first, second].map(|index| {
        let categories = index.categories.iter();
        categories.map(|c| format!("{} ({})", c.name, c.id)).collect::<BTreeSet<_>>()
    });
    match left.symmetric_difference(&right).next() {
        Some(only) => {
            let owner = if left.contains(only) { first } else { second };
            format!("{only} is in {} only", owner.split)
        }
        None => format!("{} and {}", first.split, second.split),
    }
}
