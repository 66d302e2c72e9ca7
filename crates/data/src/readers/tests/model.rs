//! Data sets in memory, and how each format writes them.

use std::fs;

use image::ExtendedColorType;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

/// A data set in memory, to be written in every format.
#[derive(Clone, Debug)]
pub struct Model {
    pub categories: Vec<Category>,
    pub images: Vec<ModelImage>,
}

#[derive(Clone, Debug)]
pub struct ModelImage {
    pub id: i64,
    pub size: [u32; 2],
    pub objects: Vec<Object>,
}

/// Eighths are exact in decimals and in sums.
pub fn eighths(range: std::ops::Range<i32>) -> impl Strategy<Value = f64> {
    range.prop_map(|eighth| f64::from(eighth) / 8.0)
}

pub fn objects(classes: u32) -> impl Strategy<Value = Vec<Object>> {
    let bbox = [eighths(-20..300), eighths(-20..300), eighths(1..400), eighths(1..400)];
    let object = (bbox, 0..classes, any::<bool>()).prop_map(|(bbox, class, crowd)| Object {
        bbox,
        class,
        area: bbox[2] * bbox[3],
        crowd,
        ignored: false,
    });
    prop::collection::vec(object, 0..5)
}

pub fn model() -> impl Strategy<Value = Model> {
    prop::collection::btree_map(-9_i64..2000, "[a-z]{1,6}", 1..5).prop_flat_map(|names| {
        let categories: Vec<Category> = names
            .iter()
            .map(|(id, name)| Category { id: *id, name: format!("{name}{id}") })
            .collect();
        let image = ([1_u32..40, 1_u32..40], objects(names.len() as u32));
        prop::collection::btree_map(0_i64..100_000, image, 1..5).prop_map(move |images| Model {
            categories: categories.clone(),
            images: images
                .into_iter()
                .map(|(id, (size, objects))| ModelImage { id, size, objects })
                .collect(),
        })
    })
}

impl Model {
    /// Categories numbered from zero in the order of their names, for formats without ids.
    pub fn numbered(mut self, crowds: bool) -> Self {
        self.categories.sort_by(|left, right| left.name.cmp(&right.name));
        (0..).zip(&mut self.categories).for_each(|(id, category)| category.id = id);
        for (id, image) in (0..).zip(&mut self.images) {
            image.id = id;
            image.objects.iter_mut().for_each(|object| object.crowd &= crowds);
        }
        self
    }

    pub fn check(&self, index: &Index, exact: bool) -> Result<(), TestCaseError> {
        prop_assert_eq!(&index.categories, &self.categories);
        prop_assert_eq!(index.images.len(), self.images.len());
        for (read, written) in index.images.iter().zip(&self.images) {
            prop_assert_eq!(read.id, written.id);
            prop_assert_eq!(read.size, Some(written.size));
            prop_assert!(read.path.is_some());
            prop_assert_eq!(read.objects.len(), written.objects.len());
            for (read, written) in read.objects.iter().zip(&written.objects) {
                if exact {
                    prop_assert_eq!(read, written);
                    continue;
                }
                prop_assert_eq!(read.class, written.class);
                for (read, written) in read.bbox.iter().zip(&written.bbox) {
                    prop_assert!((read - written).abs() < 1e-9, "{} {}", read, written);
                }
            }
        }
        let errors: Vec<Kind> = index
            .findings
            .iter()
            .map(|(kind, _)| kind)
            .filter(|kind| kind.level() == Level::Error && *kind != Kind::NothingToLearn)
            .collect();
        prop_assert!(errors.is_empty(), "{:?}", errors);
        Ok(())
    }
}

pub fn write(root: &Path, name: &str, content: impl AsRef<[u8]>) {
    let path = root.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, content).unwrap();
}

pub fn picture(root: &Path, name: &str, [width, height]: [u32; 2]) {
    use image::ImageEncoder;
    let mut bytes = Vec::new();
    // Every picture has other bytes.
    let seed = name.bytes().fold(7_u8, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte));
    let pixels: Vec<u8> =
        (0..width * height).map(|at| (at as u8).wrapping_mul(3).wrapping_add(seed)).collect();
    image::codecs::png::PngEncoder::new(&mut bytes)
        .write_image(&pixels, width, height, ExtendedColorType::L8)
        .unwrap();
    write(root, name, bytes);
}

pub fn read_one(root: &Path) -> Index {
    let mut reading = read(root, &Options::default()).unwrap();
    assert_eq!(reading.splits.len(), 1, "{:?}", reading.splits);
    reading.splits.remove(0)
}

pub fn coco_json(model: &Model, folder: &str) -> Value {
    let annotations: Vec<Value> = model
        .images
        .iter()
        .flat_map(|image| image.objects.iter().map(move |object| (image, object)))
        .zip(1..)
        .map(|((image, object), id)| {
            json!({
                "id": id,
                "image_id": image.id,
                "category_id": model.categories[object.class as usize].id,
                "bbox": object.bbox,
                "area": object.area,
                "iscrowd": u8::from(object.crowd),
                "segmentation": {"counts": [[1, 2], 3], "size": [4, 5]},
            })
        })
        .collect();
    // The order of lists does not matter.
    let images: Vec<Value> = model
        .images
        .iter()
        .rev()
        .map(|image| {
            let [width, height] = image.size;
            let name = format!("{folder}{}.png", image.id);
            json!({"id": image.id, "file_name": name, "width": width, "height": height})
        })
        .collect();
    let categories: Vec<Value> = model
        .categories
        .iter()
        .rev()
        .map(|category| json!({"id": category.id, "name": category.name}))
        .collect();
    json!({"info": {}, "images": images, "annotations": annotations, "categories": categories})
}

pub fn write_coco(root: &Path, model: &Model) {
    write(root, "annotations/instances_train2017.json", coco_json(model, "").to_string());
    for image in &model.images {
        picture(root, &format!("train2017/{}.png", image.id), image.size);
    }
}

pub fn write_objects365(root: &Path, model: &Model) {
    let json = coco_json(model, "images/v2/patch16/");
    write(root, "train/zhiyuan_objv2_train.json", json.to_string());
    for image in &model.images {
        picture(root, &format!("train/patch16/{}.png", image.id), image.size);
    }
}

pub fn write_crowdhuman(root: &Path, model: &Model) {
    let mut lines = String::new();
    for image in &model.images {
        let boxes: Vec<Value> = image
            .objects
            .iter()
            .map(|object| {
                let tag = if object.crowd { "mask" } else { "person" };
                let ignore = u8::from(object.ignored);
                json!({"tag": tag, "fbox": object.bbox, "hbox": [0, 0, 1, 1],
                       "extra": {"ignore": ignore, "box_id": 3}, "head_attr": {"ignore": 1}})
            })
            .collect();
        let id = format!("27,{}", image.id);
        picture(root, &format!("Images/{id}.png"), image.size);
        lines.push_str(&json!({"ID": id, "gtboxes": boxes}).to_string());
        lines.push('\n');
    }
    write(root, "annotation_val.odgt", lines);
}

pub fn write_voc(root: &Path, model: &Model) {
    let mut list = String::new();
    for image in &model.images {
        let [width, height] = image.size;
        let mut sheet = format!(
            "<annotation><filename>x.png</filename><size><width>{width}</width>\
             <height>{height}</height><depth>3</depth></size>"
        );
        for object in &image.objects {
            let [x, y, w, h] = object.bbox;
            let name = &model.categories[object.class as usize].name;
            sheet.push_str(&format!(
                "<object><name>{name}</name><difficult>{}</difficult><bndbox><xmax>{}</xmax>\
                 <xmin>{x}</xmin><ymin>{y}</ymin><ymax>{}</ymax></bndbox></object>",
                u8::from(object.ignored),
                x + w,
                y + h
            ));
        }
        sheet.push_str("</annotation>");
        write(root, &format!("Annotations/im{}.xml", image.id), sheet);
        picture(root, &format!("JPEGImages/im{}.png", image.id), image.size);
        list.push_str(&format!("im{}\n", image.id));
    }
    write(root, "ImageSets/Main/train.txt", list);
    let names: Vec<&str> = model.categories.iter().map(|category| category.name.as_str()).collect();
    write(root, "label_list.txt", names.join("\n"));
}

pub fn write_yolo(root: &Path, model: &Model) {
    for image in &model.images {
        let [width, height] = image.size.map(f64::from);
        let mut lines = String::new();
        for object in &image.objects {
            let [x, y, w, h] = object.bbox;
            let class = model.categories[object.class as usize].id;
            let (cx, cy) = ((x + w / 2.0) / width, (y + h / 2.0) / height);
            lines.push_str(&format!("{class} {cx} {cy} {} {}\n", w / width, h / height));
        }
        write(root, &format!("labels/train/{:06}.txt", image.id), lines);
        picture(root, &format!("images/train/{:06}.png", image.id), image.size);
    }
    let names: Vec<&str> = model.categories.iter().map(|category| category.name.as_str()).collect();
    let sheet =
        format!("train: images/train\nval: # none\nnc: {}\nnames: {names:?}\n", names.len());
    write(root, "data.yaml", sheet);
}
