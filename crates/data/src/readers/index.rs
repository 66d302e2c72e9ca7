//! The one form that every annotation format is read into, with the rules that turn its objects
//! into training boxes (deim-facts 3.1) and into ground truth.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::Format;
use super::findings::{Findings, Kind};
use crate::dataset::{Truth, TruthObject};

/// A class as the data set names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Category {
    /// The data set's own id.
    pub id: i64,
    pub name: String,
}

/// One annotated object, as the file has it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Object {
    /// `[x, y, width, height]` in pixels; finite, but otherwise anything.
    pub bbox: [f64; 4],
    /// Index into the sorted categories.
    pub class: u32,
    /// What COCO's size classes go by.
    pub area: f64,
    /// A region of many objects (COCO's `iscrowd`, CrowdHuman's `mask`).
    pub crowd: bool,
    /// An object that nobody should ask for (CrowdHuman's `ignore`, VOC's `difficult`).
    pub ignored: bool,
}

/// One listed image.
#[derive(Clone, Debug, PartialEq)]
pub struct IndexImage {
    pub id: i64,
    /// Relative to the image folder, with `/`.
    pub name: String,
    /// Where the file is; none where it is not or must not be looked for.
    pub path: Option<PathBuf>,
    /// Width and height that the annotations give, else those in the file's header.
    pub size: Option<[u32; 2]>,
    /// Length of the file.
    pub bytes: u64,
    pub objects: Vec<Object>,
}

/// The annotations of one split.
#[derive(Clone, Debug, PartialEq)]
pub struct Index {
    pub format: Format,
    /// `train2017`, `val`, ...
    pub split: String,
    /// The file or folder that the annotations came from.
    pub annotations: PathBuf,
    pub images_dir: PathBuf,
    pub images: Vec<IndexImage>,
    /// In ascending order of id: a class is a position in it.
    pub categories: Vec<Category>,
    pub findings: Findings,
}

/// Why an object has no training box.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dropped {
    Crowd,
    Ignored,
    Inverted,
    Empty,
    Outside,
}

impl Object {
    /// The box that training sees in an image of `size`: corners, inside the image, and whether
    /// the image's edge cut it. In 32 bits from the first step, as the official loader computes.
    pub fn training_box(&self, size: [u32; 2]) -> Result<([f32; 4], bool), Dropped> {
        if self.crowd {
            return Err(Dropped::Crowd);
        }
        if self.ignored {
            return Err(Dropped::Ignored);
        }
        let [x, y, width, height] = self.bbox.map(|value| value as f32);
        let [right, bottom] = size.map(|side| side as f32);
        let whole = [x, y, x + width, y + height];
        let cut = [
            whole[0].clamp(0.0, right),
            whole[1].clamp(0.0, bottom),
            whole[2].clamp(0.0, right),
            whole[3].clamp(0.0, bottom),
        ];
        if cut[2] > cut[0] && cut[3] > cut[1] {
            return Ok((cut, cut != whole));
        }
        Err(if width < 0.0 || height < 0.0 {
            Dropped::Inverted
        } else if whole[2] <= whole[0] || whole[3] <= whole[1] {
            Dropped::Empty
        } else {
            Dropped::Outside
        })
    }
}

impl IndexImage {
    /// What training sees of the objects in the decoded image of `size`.
    pub fn training_boxes(&self, size: [u32; 2]) -> impl Iterator<Item = ([f32; 4], u32)> {
        self.objects
            .iter()
            .filter_map(move |object| Some((object.training_box(size).ok()?.0, object.class)))
    }

    /// What evaluation measures against: every object, unclamped.
    pub fn truth(&self, size: [u32; 2]) -> Truth {
        let objects = self.objects.iter().map(|object| TruthObject {
            bbox: object.bbox,
            class: object.class,
            area: object.area,
            crowd: object.crowd || object.ignored,
        });
        Truth { image_id: self.id, size, objects: objects.collect() }
    }
}

impl Index {
    /// An empty index, to be filled by a reader.
    pub(crate) fn new(format: Format, split: &str, annotations: &Path, images_dir: &Path) -> Self {
        Self {
            format,
            split: split.to_owned(),
            annotations: annotations.to_owned(),
            images_dir: images_dir.to_owned(),
            images: Vec::new(),
            categories: Vec::new(),
            findings: Findings::default(),
        }
    }

    /// Number of objects of all kinds.
    pub fn objects(&self) -> usize {
        self.images.iter().map(|image| image.objects.len()).sum()
    }

    /// Whether two splits can train and measure the same detector.
    pub fn same_categories(&self, other: &Self) -> bool {
        self.categories == other.categories
    }

    /// Counts what is odd about the objects and the lists, once a reader is done.
    pub(crate) fn inspect(&mut self) {
        let mut findings = std::mem::take(&mut self.findings);
        let mut used = vec![false; self.categories.len()];
        let mut learnt = 0_u64;
        let mut names = BTreeSet::new();
        for image in &self.images {
            if !names.insert(image.name.as_str()) {
                findings.add(Kind::NameTwice, || image.name.clone());
            }
            if image.objects.is_empty() {
                findings.add(Kind::WithoutBoxes, || image.name.clone());
            }
            let mut seen: BTreeMap<(u32, [u64; 4]), ()> = BTreeMap::new();
            for object in &image.objects {
                used[object.class as usize] = true;
                let example = || format!("{}: {}", image.name, show_box(object.bbox));
                // Without a size nothing is outside.
                let size = image.size.unwrap_or([u32::MAX; 2]);
                match object.training_box(size) {
                    Ok((_, clamped)) => {
                        learnt += 1;
                        if clamped && image.size.is_some() {
                            findings.add(Kind::BoxClamped, example);
                        }
                    }
                    Err(Dropped::Crowd) => findings.add(Kind::Crowd, example),
                    Err(Dropped::Ignored) => findings.add(Kind::Ignored, example),
                    Err(Dropped::Inverted) => findings.add(Kind::BoxInverted, example),
                    Err(Dropped::Empty) => findings.add(Kind::BoxEmpty, example),
                    Err(Dropped::Outside) => findings.add(Kind::BoxOutside, example),
                }
                let key = (object.class, object.bbox.map(f64::to_bits));
                if seen.insert(key, ()).is_some() {
                    findings.add(Kind::BoxTwice, example);
                }
            }
        }
        let broken = findings.count(Kind::BrokenFile) > 0;
        if self.images.is_empty() && !broken {
            findings.add(Kind::NoImages, || self.annotations.display().to_string());
        } else if learnt == 0 && !broken {
            findings.add(Kind::NothingToLearn, || self.split.clone());
        }
        for (category, used) in self.categories.iter().zip(used) {
            if !used {
                findings
                    .add(Kind::CategoryUnused, || format!("{} ({})", category.name, category.id));
            }
        }
        let mut names = BTreeSet::new();
        for category in &self.categories {
            if !names.insert(category.name.as_str()) {
                let id = category.id;
                findings.add(Kind::CategoryNameTwice, || format!("{} ({id})", category.name));
            }
        }
        self.findings = findings;
    }

    /// A hash of everything that the annotations say, and of the names and lengths of the image
    /// files; of the files' bytes instead, where `contents` gives a hash of each image's.
    ///
    /// It does not depend on where the data set lies. Without `contents` it takes a file that was
    /// changed without changing its length for the same file.
    pub fn manifest(&self, contents: Option<&[[u8; 32]]>) -> String {
        let mut hash = blake3::Hasher::new();
        let mut text = |text: &str| {
            hash.update(&(text.len() as u64).to_le_bytes());
            hash.update(text.as_bytes());
        };
        text(if contents.is_some() { "deim index 1 deep" } else { "deim index 1" });
        for category in &self.categories {
            text("category");
            text(&category.name);
        }
        text("images");
        for image in &self.images {
            text(&image.name);
        }
        let mut number = |value: u64| {
            hash.update(&value.to_le_bytes());
        };
        for category in &self.categories {
            number(category.id as u64);
        }
        for (at, image) in self.images.iter().enumerate() {
            number(image.id as u64);
            let [width, height] = image.size.unwrap_or_default();
            number(u64::from(width));
            number(u64::from(height));
            match contents.and_then(|contents| contents.get(at)) {
                Some(content) => content.chunks_exact(8).for_each(|part| {
                    number(part.iter().rev().fold(0, |sum, byte| sum << 8 | u64::from(*byte)));
                }),
                None => number(image.bytes),
            }
            number(image.objects.len() as u64);
            for object in &image.objects {
                object.bbox.iter().for_each(|value| number(value.to_bits()));
                number(object.area.to_bits());
                number(u64::from(object.class));
                number(u64::from(object.crowd) | u64::from(object.ignored) << 1);
            }
        }
        hash.finalize().to_hex().to_string()
    }
}

/// `[10, 20, 30.5, 1e300]`
pub(crate) fn show_box(bbox: [f64; 4]) -> String {
    let number = |value: f64| match value.abs() {
        0.0 | 1e-6..1e9 => value.to_string(),
        _ => format!("{value:e}"),
    };
    format!("[{}]", bbox.map(number).join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(bbox: [f64; 4]) -> Object {
        Object { bbox, class: 0, area: 1.0, crowd: false, ignored: false }
    }

    #[test]
    fn boxes_are_clamped_or_dropped_as_the_official_loader_does() {
        let size = [10, 20];
        let of = |bbox| object(bbox).training_box(size);
        assert_eq!(of([1.0, 2.0, 3.0, 4.0]), Ok(([1.0, 2.0, 4.0, 6.0], false)));
        assert_eq!(of([-1.0, 2.0, 30.0, 4.0]), Ok(([0.0, 2.0, 10.0, 6.0], true)));
        assert_eq!(of([11.0, 2.0, 3.0, 4.0]), Err(Dropped::Outside));
        assert_eq!(of([1.0, 2.0, -3.0, 4.0]), Err(Dropped::Inverted));
        assert_eq!(of([1.0, 2.0, 0.0, 4.0]), Err(Dropped::Empty));
        let crowd = Object { crowd: true, ..object([1.0, 2.0, 3.0, 4.0]) };
        assert_eq!(crowd.training_box(size), Err(Dropped::Crowd));
    }

    #[test]
    fn ignored_objects_absorb_detections_at_evaluation() {
        let ignored = Object { ignored: true, ..object([0.0, 0.0, 5.0, 5.0]) };
        let image = IndexImage {
            id: 3,
            name: "a.png".into(),
            path: None,
            size: None,
            bytes: 0,
            objects: vec![ignored, object([-5.0, 0.0, 10.0, 5.0])],
        };
        let truth = image.truth([10, 20]);
        assert_eq!(
            (truth.image_id, truth.objects[0].crowd, truth.objects[1].crowd),
            (3, true, false)
        );
        assert_eq!(truth.objects[1].bbox, [-5.0, 0.0, 10.0, 5.0]);
        assert_eq!(image.training_boxes([10, 20]).count(), 1);
    }
}
