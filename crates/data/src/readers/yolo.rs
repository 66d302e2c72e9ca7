//! YOLO folders: `images/` and `labels/` side by side, with or without `data.yaml`.
//!
//! A label file has a line an object: the class and the box's centre and size as shares of the
//! image, or the class and the corners of a polygon, whose bounding box is used.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::findings::Kind;
use super::index::{Category, Index, Object};
use super::paths::{self, file_name};
use super::yaml::{Yaml, parse};
use super::{Format, SplitFiles};

/// The splits of `data.yaml`, else those that the folders show.
pub fn find(root: &Path) -> Vec<SplitFiles> {
    let sheets = ["data.yaml", "data.yml", "dataset.yaml"].map(|name| root.join(name));
    let sheets = sheets.into_iter().filter(|path| path.is_file());
    for sheet in sheets.chain(paths::with_extension(root, "yaml")) {
        let splits = files(root, &sheet);
        if !splits.is_empty() {
            return splits;
        }
    }
    let classes = class_list(root);
    let mut found = Vec::new();
    for split in ["train", "val", "valid", "test"] {
        for (images, labels) in [
            (format!("images/{split}"), format!("labels/{split}")),
            (format!("{split}/images"), format!("{split}/labels")),
        ] {
            if root.join(&images).is_dir() && root.join(&labels).is_dir() {
                found.push(SplitFiles {
                    split: split.to_owned(),
                    annotations: root.join(labels),
                    images: vec![root.join(images)],
                    classes: classes.clone(),
                    ..SplitFiles::default()
                });
            }
        }
    }
    if found.is_empty() && root.join("images").is_dir() && root.join("labels").is_dir() {
        found.push(SplitFiles {
            split: "all".into(),
            annotations: root.join("labels"),
            images: vec![root.join("images")],
            classes,
            ..SplitFiles::default()
        });
    }
    found
}

/// The splits that a `data.yaml` names, or the one of a folder of labels.
pub fn files(root: &Path, annotations: &Path) -> Vec<SplitFiles> {
    if annotations.is_dir() {
        let images = swap(&annotations.to_string_lossy(), "labels", "images").map(PathBuf::from);
        return vec![SplitFiles {
            split: file_name(annotations),
            annotations: annotations.to_owned(),
            images: vec![images.filter(|p| p.is_dir()).unwrap_or_else(|| root.to_owned())],
            classes: class_list(root),
            ..SplitFiles::default()
        }];
    }
    let Ok(values) = super::read_text(annotations).and_then(|text| parse(&text)) else {
        return Vec::new();
    };
    if !values.contains_key("names") {
        return Vec::new();
    }
    let own = annotations.parent().unwrap_or(root);
    let base = match values.get("path") {
        Some(Yaml::Scalar(path)) => {
            [own.join(path), own.to_owned()].into_iter().find(|p| p.is_dir())
        }
        _ => None,
    };
    let base = base.unwrap_or_else(|| own.to_owned());
    let mut found = Vec::new();
    for split in ["train", "val", "test"] {
        let places = match values.get(split) {
            Some(Yaml::Scalar(place)) if !place.is_empty() => vec![place.clone()],
            Some(Yaml::List(places)) => places.clone(),
            _ => continue,
        };
        // Exports often say `../train/images` for `train/images`.
        let place = |place: &String| {
            let inside = place.trim_start_matches("../").to_owned();
            [base.join(place), base.join(inside)].into_iter().find(|path| path.exists())
        };
        let found_places: Vec<PathBuf> = places.iter().filter_map(place).collect();
        if found_places.is_empty() {
            continue;
        }
        let list = found_places.iter().find(|path| path.is_file()).cloned();
        found.push(SplitFiles {
            split: split.to_owned(),
            annotations: annotations.to_owned(),
            images: if list.is_some() { vec![base.clone()] } else { found_places },
            list,
            classes: Some(annotations.to_owned()),
        });
    }
    found
}

fn class_list(root: &Path) -> Option<PathBuf> {
    ["classes.txt", "obj.names", "labels/classes.txt"]
        .map(|name| root.join(name))
        .into_iter()
        .find(|path| path.is_file())
}

pub fn read(splits: &[SplitFiles]) -> Vec<Index> {
    splits.iter().map(read_split).collect()
}

fn read_split(files: &SplitFiles) -> Index {
    let root = common(&files.images);
    let mut index = Index::new(Format::Yolo, &files.split, &files.annotations, &root);
    match files.classes.as_deref().map(class_names) {
        Some(Ok(categories)) => index.categories = categories,
        Some(Err(message)) => index.findings.add(Kind::BrokenFile, || message),
        None => {
            let example = || "expected names in data.yaml, classes.txt or obj.names".to_owned();
            index.findings.add(Kind::BrokenFile, example);
        }
    }
    let names: Vec<String> = match files.list.as_deref().map(super::read_text) {
        Some(Ok(text)) => {
            let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
            lines.map(str::to_owned).collect()
        }
        Some(Err(message)) => {
            index.findings.add(Kind::BrokenFile, || message);
            Vec::new()
        }
        None => {
            let below = |folder: &PathBuf| {
                let prefix = folder.strip_prefix(&root).unwrap_or(Path::new("")).to_owned();
                let names = paths::files_below(folder, paths::named_like_an_image);
                names.into_iter().map(move |name| prefix.join(name).to_string_lossy().into_owned())
            };
            files.images.iter().flat_map(below).collect()
        }
    };
    let mut labels_used = BTreeSet::new();
    for name in names {
        let labels = read_image(&mut index, files, &name);
        labels_used.extend(labels);
    }
    count_lonely_labels(&mut index, files, &labels_used);
    index.inspect();
    index
}

/// The deepest folder that holds all of these.
fn common(folders: &[PathBuf]) -> PathBuf {
    let first = folders.first().cloned().unwrap_or_default();
    let holds_all = |candidate: &&Path| folders.iter().all(|folder| folder.starts_with(candidate));
    first.ancestors().find(holds_all).unwrap_or(Path::new("")).to_owned()
}

fn class_names(path: &Path) -> Result<Vec<Category>, String> {
    let text = super::read_text(path)?;
    let wrong = |what: &str| format!("{}: {what}", path.display());
    let extension = path.extension().unwrap_or_default();
    if extension != "yaml" && extension != "yml" {
        let names = text.lines().map(str::trim).filter(|line| !line.is_empty());
        return Ok((0..)
            .zip(names)
            .map(|(id, name)| Category { id, name: name.to_owned() })
            .collect());
    }
    let mut values = parse(&text).map_err(|error| wrong(&error))?;
    let mut categories = match values.remove("names") {
        Some(Yaml::List(names)) => {
            (0..).zip(names).map(|(id, name)| Category { id, name }).collect::<Vec<_>>()
        }
        Some(Yaml::Map(names)) => names
            .into_iter()
            .map(|(id, name)| {
                let id = id
                    .parse()
                    .map_err(|_| wrong(&format!("expected a class number, found `{id}`")))?;
                Ok(Category { id, name })
            })
            .collect::<Result<Vec<_>, String>>()?,
        _ => return Err(wrong("expected `names` to be a list or a map")),
    };
    categories.sort_by_key(|category| category.id);
    if let Some(pair) = categories.windows(2).find(|pair| pair[0].id == pair[1].id) {
        return Err(wrong(&format!("class {} appears twice", pair[0].id)));
    }
    if let Some(Yaml::Scalar(count)) = values.get("nc")
        && count.parse() != Ok(categories.len())
    {
        return Err(wrong(&format!("nc is {count}, but names has {}", categories.len())));
    }
    Ok(categories)
}

/// Adds an image with its labels and gives the path where its labels are.
fn read_image(index: &mut Index, files: &SplitFiles, name: &str) -> Option<PathBuf> {
    // Lists hold absolute paths at times, which are used when they lead into the data set.
    let inside = Path::new(name).strip_prefix(&index.images_dir).ok();
    let relative = match inside {
        Some(inside) => paths::safe_name(&inside.to_string_lossy()),
        None => paths::safe_name(name.strip_prefix("./").unwrap_or(name)),
    };
    if relative.is_none() {
        index.findings.add(Kind::PathOutside, || name.to_owned());
    }
    let labels = relative.as_ref().map(|relative| label_path(index, files, relative));
    super::add_image(index, index.images.len() as i64, relative, name.to_owned(), None);
    let labels = labels?;
    paths::length(&labels)?;
    match super::read_text(&labels) {
        Ok(text) => {
            for (number, line) in (1..).zip(text.lines()) {
                if !line.trim().is_empty() {
                    read_line(index, line, &format!("{}:{number}", file_name(&labels)));
                }
            }
        }
        Err(message) => index.findings.add(Kind::BrokenEntry, || message),
    }
    Some(labels)
}

/// Where the labels of an image are: in the folder of annotations, else beside the images with
/// `labels` for the last `images`.
fn label_path(index: &Index, files: &SplitFiles, relative: &str) -> PathBuf {
    let in_folder = files.annotations.join(relative).with_extension("txt");
    if files.annotations.is_dir() {
        return in_folder;
    }
    let image = index.images_dir.join(relative);
    swap(&image.to_string_lossy(), "images", "labels")
        .map_or(image, PathBuf::from)
        .with_extension("txt")
}

/// The path with its last folder called `from` called `to`.
fn swap(path: &str, from: &str, to: &str) -> Option<String> {
    let mut parts: Vec<&str> = path.split('/').collect();
    let at = parts.iter().rposition(|part| *part == from)?;
    parts[at] = to;
    Some(parts.join("/"))
}

fn read_line(index: &mut Index, line: &str, place: &str) {
    let findings = &mut index.findings;
    let Some(image) = index.images.last_mut() else { return };
    let mut words = line.split_whitespace();
    let class = words.next().unwrap_or_default();
    // `1.0` is written by table programs.
    let id = class.parse::<f64>().ok().filter(|id| id.fract() == 0.0 && id.abs() < 1e9);
    let Some(id) = id.map(|id| id as i64) else {
        findings.add(Kind::BrokenEntry, || format!("{place}: class `{class}`"));
        return;
    };
    let Ok(class) = index.categories.binary_search_by_key(&id, |category| category.id) else {
        findings.add(Kind::UnknownCategory, || format!("{place}: class {id}"));
        return;
    };
    let values: Vec<f64> = words.map(|word| word.parse().unwrap_or(f64::NAN)).collect();
    if values.iter().any(|value| !value.is_finite()) || values.len() < 4 {
        findings.add(Kind::BadBox, || format!("{place}: {line}"));
        return;
    }
    // Without a size there is no box in pixels; the file's own finding tells why.
    let Some([width, height]) = image.size.map(|size| size.map(f64::from)) else { return };
    let [centre_x, centre_y, share_x, share_y] = match values.as_slice() {
        [x, y, w, h] => [*x, *y, *w, *h],
        points if points.len() >= 6 && points.len().is_multiple_of(2) => {
            findings.add(Kind::Polygon, || place.to_owned());
            let bounds = |offset: usize| {
                let side = points.iter().skip(offset).step_by(2);
                side.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| {
                    (low.min(*value), high.max(*value))
                })
            };
            let ((left, right), (top, bottom)) = (bounds(0), bounds(1));
            [(left + right) / 2.0, (top + bottom) / 2.0, right - left, bottom - top]
        }
        _ => {
            findings.add(Kind::BadBox, || format!("{place}: {line}"));
            return;
        }
    };
    let bbox = [
        (centre_x - share_x / 2.0) * width,
        (centre_y - share_y / 2.0) * height,
        share_x * width,
        share_y * height,
    ];
    if bbox.iter().any(|value| !value.is_finite()) {
        findings.add(Kind::BadBox, || format!("{place}: {line}"));
        return;
    }
    let class = class as u32;
    let area = bbox[2] * bbox[3];
    image.objects.push(Object { bbox, class, area, crowd: false, ignored: false });
}

/// Label files whose image is gone.
fn count_lonely_labels(index: &mut Index, files: &SplitFiles, used: &BTreeSet<PathBuf>) {
    let mut folders = BTreeSet::new();
    if files.annotations.is_dir() {
        folders.insert(files.annotations.clone());
    } else if files.list.is_none() {
        let swapped =
            files.images.iter().filter_map(|f| swap(&f.to_string_lossy(), "images", "labels"));
        folders.extend(swapped.map(PathBuf::from));
    }
    for folder in folders {
        for name in paths::files_below(&folder, |name| name.ends_with(".txt")) {
            let path = folder.join(&name);
            if !used.contains(&path) && file_name(&path) != "classes.txt" {
                index.findings.add(Kind::LabelWithoutImage, || name);
            }
        }
    }
}
