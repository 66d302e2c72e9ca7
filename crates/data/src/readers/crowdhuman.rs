//! CrowdHuman's `annotation_*.odgt`: one JSON object a line, an image each.
//!
//! Persons have a full box (`fbox`). As in its evaluation, `mask` regions and persons with
//! `extra.ignore` are not asked for: they are not trained on and absorb detections.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::findings::Kind;
use super::index::{Category, Index, Object};
use super::loose::{Loose, parse};
use super::paths::{self, file_stem};
use super::{Format, SplitFiles};

#[derive(Deserialize)]
struct Line {
    #[serde(rename = "ID", default)]
    id: Loose,
    gtboxes: Vec<Person>,
}

#[derive(Deserialize)]
struct Person {
    #[serde(default)]
    tag: Loose,
    #[serde(default)]
    fbox: Loose,
    #[serde(default)]
    extra: Extra,
}

#[derive(Default, Deserialize)]
struct Extra {
    #[serde(default)]
    ignore: Loose,
}

/// The id that conversions to COCO give to persons.
const PERSON: i64 = 1;

pub fn find(root: &Path) -> Vec<SplitFiles> {
    ["", "annotations"]
        .iter()
        .flat_map(|folder| paths::with_extension(&root.join(folder), "odgt"))
        .map(|annotations| files(root, &annotations))
        .collect()
}

/// Where the split of an annotation file is.
pub fn files(root: &Path, annotations: &Path) -> SplitFiles {
    let stem = file_stem(annotations);
    let split = stem.strip_prefix("annotation_").unwrap_or(&stem).to_owned();
    let capital = format!("CrowdHuman_{split}");
    let places = [&split, "Images", "images", &capital].map(str::to_owned);
    let nested = [
        format!("{split}/Images"),
        format!("{capital}/Images"),
        format!("Images/{split}"),
        format!("images/{split}"),
    ];
    // The archives of the training images are numbered.
    let parts =
        (1..=9).flat_map(|part| [format!("{capital}0{part}/Images"), format!("{capital}0{part}")]);
    let images = nested.into_iter().chain(places).chain(parts).map(|place| root.join(place));
    let mut images: Vec<PathBuf> = images.filter(|folder| folder.is_dir()).collect();
    images.push(root.to_owned());
    SplitFiles { split, annotations: annotations.to_owned(), images, ..SplitFiles::default() }
}

pub fn read(files: &SplitFiles) -> Index {
    let root = files.images.last().cloned().unwrap_or_default();
    let mut index = Index::new(Format::CrowdHuman, &files.split, &files.annotations, &root);
    index.categories = vec![Category { id: PERSON, name: "person".into() }];
    let text = match super::read_text(&files.annotations) {
        Ok(text) => text,
        Err(message) => {
            index.findings.add(Kind::BrokenFile, || message);
            return index;
        }
    };
    // With a single folder of images, names are relative to it.
    if let [only] | [only, _] = files.images.as_slice() {
        index.images_dir = only.clone();
    }
    let folders: Vec<String> = files
        .images
        .iter()
        .filter_map(|folder| folder.strip_prefix(&index.images_dir).ok())
        .map(|folder| folder.to_string_lossy().into_owned())
        .collect();
    let mut ids = BTreeSet::new();
    for (number, line) in (1..).zip(text.lines()) {
        if line.trim().is_empty() {
            continue;
        }
        match parse::<Line>(line.as_bytes()) {
            Ok(line) => read_line(&mut index, &line, number, &folders, &mut ids),
            Err(error) => {
                index.findings.add(Kind::BrokenEntry, || format!("line {number}: {error}"))
            }
        }
    }
    index.inspect();
    index
}

fn read_line(
    index: &mut Index,
    line: &Line,
    number: usize,
    folders: &[String],
    ids: &mut BTreeSet<String>,
) {
    let Some(id) = line.id.text() else {
        index.findings.add(Kind::BrokenEntry, || format!("line {number}: ID is {}", line.id));
        return;
    };
    if !ids.insert(id.clone()) {
        index.findings.add(Kind::ImageIdTwice, || format!("line {number}: {id}"));
        return;
    }
    let name = paths::safe_name(&id);
    if name.is_none() {
        index.findings.add(Kind::PathOutside, || id.clone());
    }
    let relative = name.map(|name| {
        let places = folders.iter().map(|folder| match folder.as_str() {
            "" => name.clone(),
            folder => format!("{folder}/{name}"),
        });
        places
            .filter_map(|place| paths::with_any_extension(&index.images_dir, &place))
            .next()
            .unwrap_or_else(|| format!("{name}.jpg"))
    });
    super::add_image(index, index.images.len() as i64, relative, id.clone(), None);
    for (at, person) in line.gtboxes.iter().enumerate() {
        let findings = &mut index.findings;
        let called = || format!("{id}, box {at}");
        let (Some(tag), Some(ignored)) = (person.tag.text(), person.extra.ignore.flag()) else {
            findings.add(Kind::BrokenEntry, || {
                format!("{}: tag {}, ignore {}", called(), person.tag, person.extra.ignore)
            });
            continue;
        };
        let mask = tag == "mask";
        if !mask && tag != "person" {
            findings.add(Kind::UnknownCategory, || format!("{}: {tag}", called()));
            continue;
        }
        let Some(bbox) = person.fbox.four() else {
            findings.add(Kind::BadBox, || format!("{}: {}", called(), person.fbox));
            continue;
        };
        let object = Object {
            bbox,
            class: 0,
            area: bbox[2] * bbox[3],
            crowd: mask,
            ignored: ignored && !mask,
        };
        if let Some(image) = index.images.last_mut() {
            image.objects.push(object);
        }
    }
}
