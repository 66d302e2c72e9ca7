//! Pascal VOC: `Annotations/*.xml`, the splits in `ImageSets/Main/*.txt`, images in `JPEGImages/`.
//!
//! Corners are used as they are written. `difficult` objects are not asked for by its evaluation:
//! they are not trained on and absorb detections.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use roxmltree::{Document, Node};

use super::findings::{Findings, Kind};
use super::index::{Category, Index, Object};
use super::paths::{self, file_name, file_stem};
use super::{Format, SplitFiles};

/// The VOC folders below `root`: itself, or those of a development kit.
pub fn find(root: &Path) -> Vec<SplitFiles> {
    let mut folders = vec![root.to_owned(), root.join("VOCdevkit")];
    for place in [root.to_owned(), root.join("VOCdevkit")] {
        folders
            .extend(paths::entries(&place).into_iter().filter(|p| file_name(p).starts_with("VOC")));
    }
    folders.dedup();
    folders.retain(|folder| !paths::with_extension(&folder.join("Annotations"), "xml").is_empty());
    let several = folders.len() > 1;
    let mut found = Vec::new();
    for folder in folders {
        for mut split in splits(&folder, &folder.join("Annotations")) {
            if several {
                split.split = format!("{}-{}", file_name(&folder), split.split);
            }
            found.push(split);
        }
    }
    found
}

/// Where everything is if the annotations are in this folder.
pub fn files(root: &Path, annotations: &Path) -> SplitFiles {
    SplitFiles {
        split: "all".into(),
        annotations: annotations.to_owned(),
        list: None,
        classes: class_list(root),
        images: image_folders(root),
    }
}

fn splits(root: &Path, annotations: &Path) -> Vec<SplitFiles> {
    let lists = paths::with_extension(&root.join("ImageSets/Main"), "txt");
    let named = |wanted: &str| lists.iter().find(|list| file_stem(list) == wanted).cloned();
    let mut lists: Vec<PathBuf> = ["train", "val", "test"].into_iter().filter_map(named).collect();
    // It holds what train and val hold.
    if lists.is_empty() {
        lists.extend(named("trainval"));
    }
    let all = files(root, annotations);
    if lists.is_empty() {
        return vec![all];
    }
    lists
        .into_iter()
        .map(|list| SplitFiles { split: file_stem(&list), list: Some(list), ..all.clone() })
        .collect()
}

fn class_list(root: &Path) -> Option<PathBuf> {
    ["label_list.txt", "labels.txt"].map(|name| root.join(name)).into_iter().find(|p| p.is_file())
}

fn image_folders(root: &Path) -> Vec<PathBuf> {
    let mut folders: Vec<PathBuf> =
        ["JPEGImages", "images"].map(|name| root.join(name)).into_iter().collect();
    folders.retain(|folder| folder.is_dir());
    folders.push(root.to_owned());
    folders
}

/// One annotation file, with its objects' class names.
struct Sheet {
    file_name: Option<String>,
    size: Option<[u32; 2]>,
    objects: Vec<(String, Object)>,
    findings: Findings,
}

/// Reads all splits: the class table is that of all annotation files together.
pub fn read(splits: &[SplitFiles]) -> Vec<Index> {
    let mut sheets: BTreeMap<PathBuf, BTreeMap<String, Result<Sheet, String>>> = BTreeMap::new();
    for files in splits {
        sheets.entry(files.annotations.clone()).or_insert_with(|| {
            let files = paths::with_extension(&files.annotations, "xml");
            files.into_iter().map(|path| (file_stem(&path), sheet(&path))).collect()
        });
    }
    let listed = splits.iter().find_map(|files| files.classes.as_deref()).map(super::read_text);
    let (names, broken) = match listed {
        Some(Ok(text)) => (
            text.lines().map(str::trim).filter(|l| !l.is_empty()).map(str::to_owned).collect(),
            None,
        ),
        Some(Err(message)) => (Vec::new(), Some(message)),
        None => {
            let sheets = sheets.values().flat_map(|folder| folder.values().flatten());
            let objects = sheets.flat_map(|sheet| &sheet.objects);
            let names: BTreeSet<&String> = objects.map(|(name, _)| name).collect();
            (names.into_iter().cloned().collect::<Vec<String>>(), None)
        }
    };
    splits
        .iter()
        .map(|files| {
            let mut index = read_split(files, &sheets[&files.annotations], &names);
            if let Some(message) = &broken {
                index.findings.add(Kind::BrokenFile, || message.clone());
            }
            index
        })
        .collect()
}

fn read_split(
    files: &SplitFiles,
    sheets: &BTreeMap<String, Result<Sheet, String>>,
    names: &[String],
) -> Index {
    let folder = files.images.first().cloned().unwrap_or_default();
    let source = files.list.as_ref().unwrap_or(&files.annotations);
    let mut index = Index::new(Format::Voc, &files.split, source, &folder);
    index.categories =
        (0..).zip(names).map(|(id, name)| Category { id, name: name.clone() }).collect();
    let stems: Vec<String> = match files.list.as_deref().map(super::read_text) {
        Some(Ok(text)) => text
            .lines()
            .filter_map(|line| line.split_whitespace().next())
            .map(str::to_owned)
            .collect(),
        Some(Err(message)) => {
            index.findings.add(Kind::BrokenFile, || message);
            Vec::new()
        }
        None => sheets.keys().cloned().collect(),
    };
    let classes: BTreeMap<&str, u32> = names.iter().map(String::as_str).zip(0..).collect();
    for stem in stems {
        read_image(&mut index, &stem, sheets.get(&stem), &classes);
    }
    index.inspect();
    index
}

fn read_image(
    index: &mut Index,
    stem: &str,
    sheet: Option<&Result<Sheet, String>>,
    classes: &BTreeMap<&str, u32>,
) {
    let sheet = match sheet {
        Some(Ok(sheet)) => Some(sheet),
        Some(Err(message)) => {
            index.findings.add(Kind::BrokenEntry, || message.clone());
            None
        }
        None => {
            index.findings.add(Kind::BrokenEntry, || format!("{stem}.xml is missing"));
            None
        }
    };
    let name = paths::safe_name(stem);
    if name.is_none() {
        index.findings.add(Kind::PathOutside, || stem.to_owned());
    }
    let relative = name.map(|name| {
        let by_stem = paths::with_any_extension(&index.images_dir, &name);
        let told = || {
            let told = paths::safe_name(sheet?.file_name.as_deref()?)?;
            paths::length(&index.images_dir.join(&told)).map(|_| told)
        };
        by_stem.or_else(told).unwrap_or_else(|| format!("{name}.jpg"))
    });
    let size = sheet.and_then(|sheet| sheet.size);
    super::add_image(index, index.images.len() as i64, relative, stem.to_owned(), size);
    let Some(sheet) = sheet else { return };
    index.findings.merge(&sheet.findings);
    for (class_name, object) in &sheet.objects {
        match classes.get(class_name.as_str()) {
            Some(&class) => {
                if let Some(image) = index.images.last_mut() {
                    image.objects.push(Object { class, ..*object });
                }
            }
            None => {
                index.findings.add(Kind::UnknownCategory, || format!("{stem}: {class_name}"));
            }
        }
    }
}

fn sheet(path: &Path) -> Result<Sheet, String> {
    let text = super::read_text(path)?;
    parse(&text, &file_stem(path)).map_err(|error| format!("{}: {error}", path.display()))
}

/// Elements may not nest deeper than this: the parser descends into each.
const DEEPEST: usize = 64;

fn parse(text: &str, stem: &str) -> Result<Sheet, String> {
    if deepest(text) > DEEPEST {
        return Err(format!("expected at most {DEEPEST} nested elements"));
    }
    let document = Document::parse(text).map_err(|error| error.to_string())?;
    let root = document.root_element();
    if root.tag_name().name() != "annotation" {
        return Err(format!("expected <annotation>, found <{}>", root.tag_name().name()));
    }
    let size = child(root, "size").and_then(|size| {
        let [width, height] = ["width", "height"].map(|side| number(child(size, side)?));
        let whole = |side: f64| (side >= 1.0 && side <= f64::from(u32::MAX)).then_some(side as u32);
        Some([whole(width?)?, whole(height?)?])
    });
    let mut findings = Findings::default();
    let mut objects = Vec::new();
    for (at, object) in root.children().filter(|node| node.has_tag_name("object")).enumerate() {
        let name = child(object, "name").and_then(|name| name.text()).map(str::trim);
        let Some(name) = name.filter(|name| !name.is_empty()) else {
            findings.add(Kind::BrokenEntry, || format!("{stem}, object {at}: no name"));
            continue;
        };
        let bounds = child(object, "bndbox");
        let corners = ["xmin", "ymin", "xmax", "ymax"].map(|side| number(child(bounds?, side)?));
        let [Some(left), Some(top), Some(right), Some(bottom)] = corners else {
            findings.add(Kind::BadBox, || format!("{stem}, object {at} ({name})"));
            continue;
        };
        let bbox = [left, top, right - left, bottom - top];
        if bbox.iter().any(|value| !value.is_finite()) {
            findings.add(Kind::BadBox, || format!("{stem}, object {at} ({name})"));
            continue;
        }
        let difficult = child(object, "difficult").and_then(number).is_some_and(|flag| flag != 0.0);
        let object =
            Object { bbox, class: 0, area: bbox[2] * bbox[3], crowd: false, ignored: difficult };
        objects.push((name.to_owned(), object));
    }
    let file_name =
        child(root, "filename").and_then(|name| name.text()).map(|name| name.trim().to_owned());
    Ok(Sheet { file_name, size, objects, findings })
}

fn child<'a, 'input>(node: Node<'a, 'input>, name: &str) -> Option<Node<'a, 'input>> {
    node.children().find(|child| child.has_tag_name(name))
}

/// The finite number that an element holds.
fn number(node: Node<'_, '_>) -> Option<f64> {
    let value: f64 = node.text()?.trim().parse().ok()?;
    value.is_finite().then_some(value)
}

/// An upper bound of how deep the elements of a text nest.
fn deepest(text: &str) -> usize {
    let (mut depth, mut most) = (0_usize, 0);
    for (at, _) in text.match_indices('<') {
        let rest = &text.as_bytes()[at + 1..];
        match rest.first() {
            Some(b'/') => depth = depth.saturating_sub(1),
            Some(b'!' | b'?') | None => {}
            Some(_) => {
                let end = rest.iter().position(|byte| matches!(byte, b'>' | b'<')).unwrap_or(0);
                if end == 0 || rest[end - 1] != b'/' {
                    depth += 1;
                    most = most.max(depth);
                }
            }
        }
    }
    most
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "<annotation><filename>a.jpg</filename><size><width>10</width>\
        <height>20</height></size><object><name> cat </name><difficult>1</difficult>\
        <bndbox><xmin>1.5</xmin><ymin>2</ymin><xmax>4</xmax><ymax>6</ymax></bndbox></object>\
        </annotation>";

    #[test]
    fn an_object_has_its_corners_and_its_difficulty() {
        let sheet = parse(GOOD, "a").unwrap();
        assert_eq!((sheet.size, sheet.file_name.as_deref()), (Some([10, 20]), Some("a.jpg")));
        let (name, object) = &sheet.objects[0];
        assert_eq!(
            (name.as_str(), object.bbox, object.ignored),
            ("cat", [1.5, 2.0, 2.5, 4.0], true)
        );
    }

    #[test]
    fn what_is_no_number_is_counted() {
        for bad in ["NaN", "inf", "1e400", "", "12px"] {
            let sheet = parse(&GOOD.replace("1.5", bad), "a").unwrap();
            assert_eq!((sheet.objects.len(), sheet.findings.count(Kind::BadBox)), (0, 1), "{bad}");
        }
        let sheet = parse(&GOOD.replace(" cat ", " "), "a").unwrap();
        assert_eq!(sheet.findings.count(Kind::BrokenEntry), 1);
    }

    #[test]
    fn hostile_xml_is_refused() {
        let deep = format!("{}{}", "<a>".repeat(200_000), "</a>".repeat(200_000));
        assert!(parse(&deep, "a").err().unwrap().contains("nested"));
        let bomb =
            "<!DOCTYPE x [<!ENTITY a \"aaaa\"><!ENTITY b \"&a;&a;\">]><annotation>&b;</annotation>";
        assert!(parse(bomb, "a").is_err());
        assert!(parse(&GOOD[..GOOD.len() - 9], "a").is_err());
        assert!(parse("<html></html>", "a").err().unwrap().contains("<html>"));
    }
}
