//! COCO's JSON, and Objects365's, which is the same with its images in `patch*/` folders.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::findings::Kind;
use super::index::{Category, Index, Object};
use super::loose::{Loose, parse};
use super::paths::{self, file_name, file_stem};
use super::{Format, SplitFiles};

#[derive(Deserialize)]
struct File {
    images: Vec<FileImage>,
    annotations: Vec<FileAnnotation>,
    categories: Vec<FileCategory>,
}

#[derive(Deserialize)]
struct FileImage {
    #[serde(default)]
    id: Loose,
    #[serde(default)]
    file_name: Loose,
    #[serde(default)]
    width: Loose,
    #[serde(default)]
    height: Loose,
}

#[derive(Deserialize)]
struct FileAnnotation {
    #[serde(default)]
    id: Loose,
    #[serde(default)]
    image_id: Loose,
    #[serde(default)]
    category_id: Loose,
    #[serde(default)]
    bbox: Loose,
    #[serde(default)]
    area: Loose,
    #[serde(default)]
    iscrowd: Loose,
}

#[derive(Deserialize)]
struct FileCategory {
    #[serde(default)]
    id: Loose,
    #[serde(default)]
    name: Loose,
}

/// Files of COCO's `annotations/` that hold no boxes of classes.
const OTHER_TASKS: [&str; 5] =
    ["captions_", "person_keypoints_", "stuff_", "panoptic_", "image_info_"];

/// The annotation files below `root`, by where such files usually are.
pub fn find(root: &Path) -> Vec<SplitFiles> {
    let folders = ["annotations", "", "train", "val", "valid", "test"];
    let mut files: Vec<PathBuf> = folders
        .iter()
        .flat_map(|folder| paths::with_extension(&root.join(folder), "json"))
        .filter(|path| !OTHER_TASKS.iter().any(|task| file_name(path).starts_with(task)))
        .collect();
    if files.iter().any(|path| file_name(path).starts_with("instances_")) {
        files.retain(|path| file_name(path).starts_with("instances_"));
    }
    files.retain(|path| looks_right(path));
    files
        .into_iter()
        .map(|annotations| SplitFiles {
            split: split_name(&annotations),
            images: candidates(root, &annotations),
            annotations,
            ..SplitFiles::default()
        })
        .collect()
}

/// Whether a file is called as its format asks for, or mentions images early on. A broken file of
/// the right name counts: its error is worth more than silence.
fn looks_right(path: &Path) -> bool {
    if file_name(path).starts_with("instances_") {
        return true;
    }
    let in_place = path.parent().is_some_and(|folder| file_name(folder) == "annotations");
    in_place
        || parse::<BTreeMap<String, serde::de::IgnoredAny>>(&read_or_empty(path)).is_ok_and(
            |file| {
                ["images", "annotations", "categories"].iter().all(|key| file.contains_key(*key))
            },
        )
}

fn read_or_empty(path: &Path) -> Vec<u8> {
    std::fs::read(path).unwrap_or_default()
}

/// `train2017` of `instances_train2017.json`, `train` of `train/_annotations.coco.json`.
pub fn split_name(annotations: &Path) -> String {
    let stem = file_stem(annotations);
    let name = stem.strip_prefix("instances_").unwrap_or(&stem);
    let folder = annotations.parent().map(file_name).unwrap_or_default();
    if name.starts_with('_') || name == "annotations" {
        return folder;
    }
    name.to_owned()
}

/// Where the images of an annotation file may be, the most particular place first.
pub fn candidates(root: &Path, annotations: &Path) -> Vec<PathBuf> {
    let split = split_name(annotations);
    let phase = super::phase(&split);
    let own = annotations.parent().unwrap_or(root);
    let mut names = vec![split.clone(), format!("images/{split}"), format!("{split}/images")];
    if let Some(phase) = phase {
        names.extend([phase.to_owned(), format!("images/{phase}"), format!("{phase}/images")]);
    }
    names.extend(["images", "JPEGImages", "Images", "data"].map(str::to_owned));
    let mut folders: Vec<PathBuf> = names.iter().map(|name| root.join(name)).collect();
    folders.extend([own.join("images"), own.to_owned(), root.to_owned()]);
    folders.retain(|folder| folder.is_dir());
    folders
}

/// Reads one split. Nothing in the file can make this fail: what is wrong is a finding.
pub fn read(files: &SplitFiles, format: Format) -> Index {
    let first = files.images.first().cloned().unwrap_or_default();
    let mut index = Index::new(format, &files.split, &files.annotations, &first);
    let path = files.annotations.display();
    let parsed = std::fs::read(&files.annotations)
        .map_err(|error| format!("{path}: {error}"))
        .and_then(|bytes| parse::<File>(&bytes).map_err(|error| format!("{path}: {error}")));
    let file = match parsed {
        Ok(file) => file,
        Err(message) => {
            index.findings.add(Kind::BrokenFile, || message);
            return index;
        }
    };
    read_categories(&mut index, &file.categories);
    let (folder, stripped) = locate(&files.images, &file.images);
    if let Some(folder) = folder {
        index.images_dir = folder;
    }
    let positions = read_images(&mut index, &file.images, stripped);
    read_annotations(&mut index, &file.annotations, &positions);
    index.inspect();
    index
}

fn read_categories(index: &mut Index, categories: &[FileCategory]) {
    let mut by_id = BTreeMap::new();
    for category in categories {
        let Some(id) = category.id.integer() else {
            index.findings.add(Kind::BrokenEntry, || format!("category of id {}", category.id));
            continue;
        };
        let name = category.name.text().unwrap_or_else(|| id.to_string());
        if by_id.contains_key(&id) {
            index.findings.add(Kind::CategoryIdTwice, || format!("{id} ({name})"));
            continue;
        }
        by_id.insert(id, name);
    }
    index.categories = by_id.into_iter().map(|(id, name)| Category { id, name }).collect();
}

/// The folder, and the leading folders to leave out of the names, that find most of a sample of
/// the images.
fn locate(folders: &[PathBuf], images: &[FileImage]) -> (Option<PathBuf>, usize) {
    const SAMPLE: usize = 32;
    const DEEPEST: usize = 4;
    let every = images.len().div_ceil(SAMPLE).max(1);
    let names: Vec<String> = images
        .iter()
        .step_by(every)
        .filter_map(|image| paths::safe_name(&image.file_name.text()?))
        .collect();
    let mut best = (0, None, 0);
    for folder in folders {
        for stripped in 0..=DEEPEST {
            let hits = names
                .iter()
                .filter_map(|name| paths::strip(name, stripped))
                .filter(|name| paths::length(&folder.join(name)).is_some())
                .count();
            if hits > best.0 {
                best = (hits, Some(folder.clone()), stripped);
            }
        }
        if best.0 == names.len() {
            break;
        }
    }
    (best.1, best.2)
}

/// Fills the images in ascending order of id, as the official loader lists them, and gives the
/// position of each id.
fn read_images(index: &mut Index, images: &[FileImage], stripped: usize) -> BTreeMap<i64, usize> {
    let mut by_id = BTreeMap::new();
    for image in images {
        let (Some(id), Some(name)) = (image.id.integer(), image.file_name.text()) else {
            let example = || format!("image of id {} and file_name {}", image.id, image.file_name);
            index.findings.add(Kind::BrokenEntry, example);
            continue;
        };
        if by_id.contains_key(&id) {
            index.findings.add(Kind::ImageIdTwice, || format!("{id} ({name})"));
            continue;
        }
        let size = [&image.width, &image.height].map(|side| {
            side.integer().and_then(|side| u32::try_from(side).ok()).filter(|side| *side > 0)
        });
        let size = match size {
            [Some(width), Some(height)] => Some([width, height]),
            _ => None,
        };
        by_id.insert(id, (name, size));
    }
    let mut positions = BTreeMap::new();
    for (id, (name, size)) in by_id {
        positions.insert(id, index.images.len());
        let relative = paths::safe_name(&name);
        if relative.is_none() {
            index.findings.add(Kind::PathOutside, || name.clone());
        }
        let relative = relative.map(|relative| {
            paths::strip(&relative, stripped).map_or_else(|| relative.clone(), str::to_owned)
        });
        super::add_image(index, id, relative, name, size);
    }
    positions
}

fn read_annotations(
    index: &mut Index,
    annotations: &[FileAnnotation],
    positions: &BTreeMap<i64, usize>,
) {
    let mut ids = BTreeSet::new();
    let findings = &mut index.findings;
    for (at, annotation) in annotations.iter().enumerate() {
        let called = || match annotation.id.integer() {
            Some(id) => format!("annotation {id}"),
            None => format!("annotation at position {at}"),
        };
        if let Some(id) = annotation.id.integer()
            && !ids.insert(id)
        {
            findings.add(Kind::AnnotationIdTwice, || id.to_string());
        }
        let (Some(image), Some(category), Some(crowd)) = (
            annotation.image_id.integer(),
            annotation.category_id.integer(),
            annotation.iscrowd.flag(),
        ) else {
            findings.add(Kind::BrokenEntry, || {
                let FileAnnotation { image_id, category_id, iscrowd, .. } = annotation;
                format!(
                    "{}: image_id {image_id}, category_id {category_id}, iscrowd {iscrowd}",
                    called()
                )
            });
            continue;
        };
        let Some(&position) = positions.get(&image) else {
            findings.add(Kind::UnlistedAnnotation, || format!("{} of image {image}", called()));
            continue;
        };
        let Ok(class) = index.categories.binary_search_by_key(&category, |known| known.id) else {
            findings.add(Kind::UnknownCategory, || format!("{} of category {category}", called()));
            continue;
        };
        let Some(bbox) = annotation.bbox.four() else {
            findings.add(Kind::BadBox, || format!("{}: {}", called(), annotation.bbox));
            continue;
        };
        let area = annotation.area.number().unwrap_or_else(|| {
            findings.add(Kind::BadArea, || format!("{}: {}", called(), annotation.area));
            bbox[2] * bbox[3]
        });
        let object = Object { bbox, class: class as u32, area, crowd, ignored: false };
        index.images[position].objects.push(object);
    }
}
