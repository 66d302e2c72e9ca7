//! What is written in each format reads back equal; hostile files are findings and never panics.

use std::fs;
use std::sync::Arc;

use image::ExtendedColorType;
use proptest::prelude::*;
use proptest::sample::Index as Position;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::*;
use crate::check::check;
use crate::dataset::Dataset;

/// A data set in memory, to be written in every format.
#[derive(Clone, Debug)]
struct Model {
    categories: Vec<Category>,
    images: Vec<ModelImage>,
}

#[derive(Clone, Debug)]
struct ModelImage {
    id: i64,
    size: [u32; 2],
    objects: Vec<Object>,
}

/// Eighths are exact in decimals and in sums.
fn eighths(range: std::ops::Range<i32>) -> impl Strategy<Value = f64> {
    range.prop_map(|eighth| f64::from(eighth) / 8.0)
}

fn objects(classes: u32) -> impl Strategy<Value = Vec<Object>> {
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

fn model() -> impl Strategy<Value = Model> {
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
    fn numbered(mut self, crowds: bool) -> Self {
        self.categories.sort_by(|left, right| left.name.cmp(&right.name));
        (0..).zip(&mut self.categories).for_each(|(id, category)| category.id = id);
        for (id, image) in (0..).zip(&mut self.images) {
            image.id = id;
            image.objects.iter_mut().for_each(|object| object.crowd &= crowds);
        }
        self
    }

    fn check(&self, index: &Index, exact: bool) -> Result<(), TestCaseError> {
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

/// What annotation files are made of, and what should not be in them.
const WORDS: [&str; 32] = [
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    "\"id\"",
    "\"bbox\"",
    "\"image_id\"",
    "\"a.png\"",
    "NaN",
    "-1",
    "1e999",
    "9223372036854775808",
    "null",
    "\"",
    "\\u0000",
    "<object>",
    "</object>",
    "<name>",
    "<bndbox><xmin>",
    "</xmin>",
    "&x;",
    "<![CDATA[",
    "<!--",
    "0 0.5",
    " inf ",
    "\n",
    "- ",
    "'",
    "\u{feff}",
    "../",
];

fn write(root: &Path, name: &str, content: impl AsRef<[u8]>) {
    let path = root.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, content).unwrap();
}

fn picture(root: &Path, name: &str, [width, height]: [u32; 2]) {
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

fn read_one(root: &Path) -> Index {
    let mut reading = read(root, &Options::default()).unwrap();
    assert_eq!(reading.splits.len(), 1, "{:?}", reading.splits);
    reading.splits.remove(0)
}

fn coco_json(model: &Model, folder: &str) -> Value {
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

fn write_coco(root: &Path, model: &Model) {
    write(root, "annotations/instances_train2017.json", coco_json(model, "").to_string());
    for image in &model.images {
        picture(root, &format!("train2017/{}.png", image.id), image.size);
    }
}

fn write_objects365(root: &Path, model: &Model) {
    let json = coco_json(model, "images/v2/patch16/");
    write(root, "train/zhiyuan_objv2_train.json", json.to_string());
    for image in &model.images {
        picture(root, &format!("train/patch16/{}.png", image.id), image.size);
    }
}

fn write_crowdhuman(root: &Path, model: &Model) {
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

fn write_voc(root: &Path, model: &Model) {
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

fn write_yolo(root: &Path, model: &Model) {
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

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn coco_reads_back(model in model()) {
        let folder = TempDir::new().unwrap();
        write_coco(folder.path(), &model);
        let index = read_one(folder.path());
        prop_assert_eq!((index.format, index.split.as_str()), (Format::Coco, "train2017"));
        model.check(&index, true)?;
    }

    #[test]
    fn objects365_reads_back_from_its_patches(model in model()) {
        let folder = TempDir::new().unwrap();
        write_objects365(folder.path(), &model);
        let index = read_one(folder.path());
        prop_assert_eq!(index.format, Format::Objects365);
        model.check(&index, true)?;
    }

    #[test]
    fn crowdhuman_reads_back(model in model(), ignored: bool) {
        let mut model = model.numbered(true);
        model.categories = vec![Category { id: 1, name: "person".into() }];
        for object in model.images.iter_mut().flat_map(|image| &mut image.objects) {
            object.class = 0;
            object.ignored = ignored && !object.crowd;
        }
        let folder = TempDir::new().unwrap();
        write_crowdhuman(folder.path(), &model);
        let index = read_one(folder.path());
        prop_assert_eq!((index.format, index.split.as_str()), (Format::CrowdHuman, "val"));
        model.check(&index, true)?;
    }

    #[test]
    fn voc_reads_back(model in model(), ignored: bool) {
        let mut model = model.numbered(false);
        model.images.iter_mut().flat_map(|i| &mut i.objects).for_each(|o| o.ignored = ignored);
        let folder = TempDir::new().unwrap();
        write_voc(folder.path(), &model);
        let index = read_one(folder.path());
        prop_assert_eq!((index.format, index.split.as_str()), (Format::Voc, "train"));
        model.check(&index, true)?;
    }

    #[test]
    fn yolo_reads_back(model in model()) {
        let model = model.numbered(false);
        let folder = TempDir::new().unwrap();
        write_yolo(folder.path(), &model);
        let index = read_one(folder.path());
        prop_assert_eq!((index.format, index.split.as_str()), (Format::Yolo, "train"));
        model.check(&index, false)?;
    }

    /// Words of the formats in any order are findings, too.
    #[test]
    fn nonsense_gives_an_answer(
        words in prop::collection::vec(prop::sample::select(WORDS.to_vec()), 0..40),
        bytes in prop::collection::vec(any::<u8>(), 0..40),
    ) {
        let folder = TempDir::new().unwrap();
        let root = folder.path();
        let text = words.concat();
        picture(root, "images/a.png", [8, 8]);
        for (name, head) in [
            ("annotations/train.json", "{\"images\":[{\"id\":1,\"file_name\":\"a.png\"}],\"annotations\":["),
            ("annotation_train.odgt", "{\"ID\":\"a\",\"gtboxes\":["),
            ("Annotations/a.xml", "<annotation><object><name>a"),
            ("labels/a.txt", "0 0.5 0.5 0.1 "),
            ("data.yaml", "names: [a, b]\ntrain: images\nval: "),
        ] {
            for head in ["", head] {
                write(root, name, [head.as_bytes(), text.as_bytes(), &bytes].concat());
                for format in Format::ALL {
                    let options = Options { format: Some(format), ..Options::default() };
                    let Ok(reading) = read(root, &options) else { continue };
                    check(&reading.splits, 1, &|_| {});
                }
            }
        }
    }

    /// Files of every format with some bytes changed, and cut: an answer, and no panic, from the
    /// readers, from the check, from the statistics and from what training would ask.
    #[test]
    fn damaged_data_sets_give_an_answer(
        model in model(),
        format in 0..5,
        target: Position,
        changes in prop::collection::vec((any::<Position>(), any::<u8>()), 0..6),
        cut in prop::option::of(any::<Position>()),
    ) {
        let model = model.numbered(true);
        let folder = TempDir::new().unwrap();
        let root = folder.path();
        [write_coco, write_objects365, write_crowdhuman, write_voc, write_yolo][format as usize](root, &model);
        let files = paths::files_below(root, |_| true);
        let path = root.join(&files[target.index(files.len())]);
        let mut bytes = fs::read(&path).unwrap();
        if !bytes.is_empty() {
            for (at, value) in changes {
                let at = at.index(bytes.len());
                bytes[at] = value;
            }
            if let Some(cut) = cut {
                bytes.truncate(cut.index(bytes.len()));
            }
        }
        fs::write(&path, bytes).unwrap();
        let Ok(reading) = read(root, &Options::default()) else { return Ok(()) };
        let report = check(&reading.splits, 2, &|_| {});
        prop_assert_eq!(report.findings.len(), reading.splits.len());
        for index in reading.splits {
            let _ = crate::check::Stats::of(&index, index.manifest(None));
            let Ok(dataset) = RealDataset::open(index) else { continue };
            for at in 0..dataset.len() {
                let _ = (dataset.sample(at), dataset.truth(at));
            }
        }
    }
}

/// One image of 20 x 10 pixels with these annotations.
fn tiny_coco(annotations: &Value) -> (TempDir, Index) {
    let folder = TempDir::new().unwrap();
    picture(folder.path(), "images/a.png", [20, 10]);
    let file = json!({
        "images": [{"id": 7, "file_name": "a.png", "width": 20, "height": 10}],
        "annotations": annotations,
        "categories": [{"id": 90, "name": "late"}, {"id": -3, "name": "early"}],
    });
    write(folder.path(), "annotations/train.json", file.to_string());
    let index = read_one(folder.path());
    (folder, index)
}

fn annotation(id: i64, bbox: Value) -> Value {
    json!({"id": id, "image_id": 7, "category_id": 90, "bbox": bbox, "area": 4, "iscrowd": 0})
}

#[test]
fn training_sees_clamped_boxes_and_evaluation_all_of_them_under_their_own_ids() {
    let mut crowd = annotation(4, json!([0, 0, 20, 10]));
    crowd["iscrowd"] = json!(1);
    let (_folder, index) = tiny_coco(&json!([
        annotation(1, json!([-2, 1, 6, 4])),
        annotation(2, json!([5, 5, 0, 4])),
        annotation(3, json!([5, 5, -1, 4])),
        crowd,
        annotation(5, json!([30, 5, 4, 4])),
    ]));
    for kind in [Kind::BoxClamped, Kind::BoxEmpty, Kind::BoxInverted, Kind::Crowd, Kind::BoxOutside]
    {
        assert_eq!(index.findings.count(kind), 1, "{kind:?}");
    }
    let dataset = RealDataset::open(index).unwrap();
    assert_eq!((dataset.notes()["box_clamped"], dataset.notes()["crowd"]), (1, 1));
    let sample = dataset.sample(0).unwrap();
    assert_eq!((sample.image.width, sample.image.height, sample.image_id), (20, 10, 7));
    assert_eq!(
        (sample.boxes.as_slice(), sample.labels.as_slice()),
        (&[[0.0, 1.0, 4.0, 5.0]][..], &[1][..])
    );
    let truth = dataset.truth(0).unwrap();
    assert_eq!((truth.objects.len(), truth.size), (5, [20, 10]));
    assert_eq!(truth.objects[0].bbox, [-2.0, 1.0, 6.0, 4.0]);
    assert!(truth.objects[3].crowd && !truth.objects[0].crowd);
    assert_eq!(dataset.category_ids(), [-3, 90]);
    assert_eq!(dataset.classes(), ["early", "late"]);
    assert!(matches!(dataset.sample(1), Err(crate::DataError::Index { index: 1, len: 1 })));
}

#[test]
fn what_would_spoil_a_run_is_refused_with_an_example() {
    let nan = json!([1, 2, "NaN", 4]);
    let good = annotation(1, json!([1, 1, 4, 4]));
    let with = |key: &str, value: Value| {
        let mut entry = annotation(2, json!([1, 2, 4, 4]));
        entry[key] = value;
        entry
    };
    for (entry, kind) in [
        (with("bbox", nan), Kind::BadBox),
        (with("bbox", json!([1, 2, 3])), Kind::BadBox),
        (with("bbox", json!(null)), Kind::BadBox),
        (with("category_id", json!(5)), Kind::UnknownCategory),
        (with("category_id", json!("cat")), Kind::BrokenEntry),
        (with("image_id", json!([7])), Kind::BrokenEntry),
        (with("iscrowd", json!(2)), Kind::BrokenEntry),
        (with("id", json!(1)), Kind::AnnotationIdTwice),
    ] {
        let (_folder, index) = tiny_coco(&json!([good, entry]));
        assert_eq!(index.findings.count(kind), 1, "{entry}: {:?}", index.findings);
        let error = RealDataset::open(index).err().unwrap().to_string();
        assert!(error.contains(kind.title()) && error.contains("train.json"), "{error}");
    }
    let (_folder, index) = tiny_coco(&json!([good, with("image_id", json!(8))]));
    assert_eq!(index.findings.count(Kind::UnlistedAnnotation), 1);
    assert!(RealDataset::open(index).is_ok());
}

#[test]
fn names_that_leave_the_folder_are_not_followed() {
    let folder = TempDir::new().unwrap();
    picture(folder.path(), "secret.png", [4, 4]);
    picture(folder.path(), "set/images/a.png", [4, 4]);
    let outside = folder.path().join("secret.png");
    for name in
        ["../secret.png", "../../secret.png", outside.to_str().unwrap(), "a/../../../secret.png"]
    {
        let file = json!({
            "images": [
                {"id": 1, "file_name": "a.png", "width": 4, "height": 4},
                {"id": 2, "file_name": name, "width": 4, "height": 4},
            ],
            "annotations": [],
            "categories": [],
        });
        write(folder.path(), "set/annotations/train.json", file.to_string());
        let index = read_one(&folder.path().join("set"));
        assert_eq!(index.findings.count(Kind::PathOutside), 1, "{name}");
        assert_eq!((index.images[1].path.as_ref(), index.images[1].name.as_str()), (None, name));
    }
}

#[test]
fn an_image_of_another_size_than_annotated_is_refused_when_it_is_decoded() {
    let (folder, index) = tiny_coco(&json!([annotation(1, json!([1, 1, 4, 4]))]));
    picture(folder.path(), "images/a.png", [10, 20]);
    let report = check(std::slice::from_ref(&index), 1, &|_| {});
    assert_eq!(report.findings[0].count(Kind::SizeMismatch), 1);
    assert!(report.findings[0].get(Kind::SizeMismatch).unwrap().examples[0].ends_with("turned"));
    let error = RealDataset::open(index).unwrap().sample(0).err().unwrap().to_string();
    assert!(error.contains("a.png") && error.contains("[20, 10]"), "{error}");
}

#[test]
fn damage_that_training_lives_with_is_noted_once_an_image() {
    let (folder, mut index) = tiny_coco(&json!([annotation(1, json!([1, 1, 4, 4]))]));
    let mut bytes = Vec::new();
    image::codecs::jpeg::JpegEncoder::new(&mut bytes)
        .encode(&[9; 20 * 10], 20, 10, ExtendedColorType::L8)
        .unwrap();
    // A marker that has no business between the last block and the end.
    let end = bytes.len() - 2;
    bytes.splice(end..end, [0xff, 0xc9, 0, 2]);
    write(folder.path(), "images/a.jpg", bytes);
    index.images[0].path = Some(folder.path().join("images/a.jpg"));
    let dataset = RealDataset::open(index).unwrap();
    assert_eq!(dataset.notes().get("damaged_image"), None);
    let _ = (dataset.sample(0).unwrap(), dataset.sample(0).unwrap());
    assert_eq!(dataset.notes().get("damaged_image"), Some(&1));
}

#[test]
fn a_loader_takes_a_data_set_of_files() {
    let model = Model {
        categories: vec![Category { id: 3, name: "cat".into() }],
        images: (0..5)
            .map(|id| ModelImage { id, size: [20, 10 + id as u32], objects: Vec::new() })
            .collect(),
    };
    let folder = TempDir::new().unwrap();
    write_coco(folder.path(), &model);
    let mut index = read_one(folder.path());
    index.findings = Findings::default();
    let dataset = Arc::new(RealDataset::open(index).unwrap());
    let mut config = deim_spec::config::Config::default();
    (config.data.eval_batch_size, config.data.input_size) = (2, 32);
    let loader = crate::EvalLoader::new(dataset, &config, 2).unwrap();
    let ids: Vec<i64> = loader.batches().flat_map(|batch| batch.unwrap().image_ids).collect();
    assert_eq!(ids, [0, 1, 2, 3, 4]);
}

#[test]
fn broken_files_of_the_right_name_are_findings_and_not_silence() {
    for text in ["", "{", "[]", "{\"images\": []}", "\u{1F4A5}", &"[".repeat(100_000)] {
        let folder = TempDir::new().unwrap();
        write(folder.path(), "annotations/instances_val.json", text);
        let index = read_one(folder.path());
        assert_eq!(index.findings.count(Kind::BrokenFile), 1, "{text:.40}");
    }
}

#[test]
fn python_s_nan_spoils_its_box_only() {
    let folder = TempDir::new().unwrap();
    picture(folder.path(), "a.png", [20, 10]);
    let text = r#"{"images": [{"id": 1, "file_name": "a.png", "width": 20, "height": 10}],
        "annotations": [
            {"id": 1, "image_id": 1, "category_id": 1, "bbox": [NaN, 0, 4, 4], "area": NaN},
            {"id": 2, "image_id": 1, "category_id": 1, "bbox": [1, 0, 4, 4], "area": Infinity}],
        "categories": [{"id": 1, "name": "NaN"}]}"#;
    write(folder.path(), "annotations/train.json", text);
    let index = read_one(folder.path());
    assert_eq!((index.findings.count(Kind::BadBox), index.findings.count(Kind::BadArea)), (1, 1));
    assert_eq!((index.images[0].objects[0].area, index.categories[0].name.as_str()), (16.0, "NaN"));
}

#[test]
fn the_manifest_follows_what_identifies_the_data_and_not_where_it_lies() {
    let one = json!([annotation(1, json!([1, 1, 4, 4]))]);
    let manifest = |annotations: &Value| {
        let (_folder, index) = tiny_coco(annotations);
        index.manifest(None)
    };
    assert_eq!(manifest(&one), manifest(&one));
    let mut crowd = one.clone();
    crowd[0]["iscrowd"] = json!(1);
    let moved = json!([annotation(1, json!([1, 1, 4, 4.000001]))]);
    let renumbered = json!([annotation(2, json!([1, 1, 4, 4]))]);
    assert_ne!(manifest(&one), manifest(&crowd));
    assert_ne!(manifest(&one), manifest(&moved));
    assert_eq!(manifest(&one), manifest(&renumbered), "ids of annotations name nothing");
    let (_folder, index) = tiny_coco(&one);
    let deep = index.manifest(Some(&[[1; 32]]));
    assert_ne!(deep, index.manifest(None));
    assert_ne!(deep, index.manifest(Some(&[[2; 32]])));
}

#[test]
fn a_training_and_a_validation_split_are_paired_by_name() {
    let folder = TempDir::new().unwrap();
    let root = folder.path();
    for (split, name) in [("test", "c"), ("train2017", "a"), ("val2017", "b")] {
        picture(root, &format!("{split}/{name}.png"), [20, 10]);
        let file = json!({
            "images": [{"id": 7, "file_name": format!("{name}.png"), "width": 20, "height": 10}],
            "annotations": [annotation(1, json!([1, 1, 4, 4]))],
            "categories": [{"id": 90, "name": "cat"}],
        });
        write(root, &format!("annotations/instances_{split}.json"), file.to_string());
    }
    let reading = read(root, &Options::default()).unwrap();
    let names: Vec<&str> = reading.splits.iter().map(|index| index.split.as_str()).collect();
    assert_eq!(names, ["train2017", "val2017", "test"]);
    let splits = pair(root, reading.splits.clone()).unwrap();
    assert_ne!(splits.train.manifest(), splits.val.manifest());
    let only_train = pair(root, reading.splits[..1].to_vec()).err().unwrap().to_string();
    assert!(only_train.contains("`val` or `test`") && only_train.contains("train2017"), "{only_train}");
    let mut other = reading.splits;
    other[1].categories[0].id = 91;
    assert!(pair(root, other).is_err());
}

#[test]
fn a_development_kit_of_several_years_has_their_splits() {
    let folder = TempDir::new().unwrap();
    let model = Model {
        categories: vec![Category { id: 0, name: "cat".into() }],
        images: vec![ModelImage { id: 0, size: [20, 10], objects: Vec::new() }],
    };
    for year in ["VOC2007", "VOC2012"] {
        write_voc(&folder.path().join("VOCdevkit").join(year), &model);
    }
    let reading = read(folder.path(), &Options::default()).unwrap();
    let names: Vec<&str> = reading.splits.iter().map(|index| index.split.as_str()).collect();
    assert_eq!(names, ["VOC2007-train", "VOC2012-train"]);
    let missing: u64 = reading.splits.iter().map(|i| i.findings.count(Kind::MissingImage)).sum();
    assert_eq!(missing, 0);
}

#[test]
fn crowdhuman_s_numbered_archives_are_one_split() {
    let folder = TempDir::new().unwrap();
    for (part, id) in [("1", "a"), ("2", "b")] {
        picture(folder.path(), &format!("CrowdHuman_train0{part}/Images/{id}.png"), [20, 10]);
    }
    let lines = "{\"ID\": \"a\", \"gtboxes\": []}\n{\"ID\": \"b\", \"gtboxes\": []}\n";
    write(folder.path(), "annotation_train.odgt", lines);
    let index = read_one(folder.path());
    assert_eq!(index.findings.count(Kind::MissingImage), 0);
    assert_eq!(index.images[1].name, "CrowdHuman_train02/Images/b.png");
    assert_eq!(index.images[1].size, Some([20, 10]));
}

#[test]
fn yolo_lists_and_folders_without_a_sheet_are_read() {
    let folder = TempDir::new().unwrap();
    let root = folder.path();
    picture(root, "images/train/a.png", [20, 10]);
    picture(root, "images/train/b.png", [20, 10]);
    write(root, "labels/train/a.txt", "1 0.5 0.5 0.5 0.5\n");
    write(root, "classes.txt", "cat\ndog\n");
    let index = read_one(root);
    assert_eq!((index.images.len(), index.images[0].objects[0].class), (2, 1));
    assert_eq!(index.images[0].objects[0].bbox, [5.0, 2.5, 10.0, 5.0]);
    let absolute = root.join("images/train/a.png");
    write(root, "train.txt", format!("{}\n./images/train/b.png\n/etc/x.png\n", absolute.display()));
    write(root, "data.yaml", "names: {0: cat, 1: dog}\ntrain: train.txt\n");
    let index = read_one(root);
    assert_eq!((index.images.len(), index.images[0].objects.len()), (3, 1));
    assert_eq!(index.findings.count(Kind::PathOutside), 1);
    assert_eq!(index.findings.count(Kind::MissingImage), 0);
}

#[test]
fn given_paths_are_read_wherever_they_are() {
    let model = Model {
        categories: vec![Category { id: 3, name: "cat".into() }],
        images: vec![ModelImage { id: 5, size: [20, 10], objects: Vec::new() }],
    };
    let folder = TempDir::new().unwrap();
    let root = folder.path();
    write(root, "labels.json", coco_json(&model, "").to_string());
    picture(root, "elsewhere/deep/5.png", [20, 10]);
    let options = Options {
        images: Some(root.join("elsewhere/deep")),
        annotations: Some(root.join("labels.json")),
        ..Options::default()
    };
    let reading = read(root, &options).unwrap();
    assert_eq!(reading.splits[0].findings.count(Kind::MissingImage), 0);
    let missing = Options { images: Some(root.join("no")), ..Options::default() };
    assert!(matches!(read(root, &missing), Err(ReadError::NoAnnotations(_))));
    let error = read(&root.join("elsewhere"), &Options::default()).err().unwrap().to_string();
    assert!(error.contains("looked for") && error.contains("odgt"), "{error}");
    assert!(matches!(read(&root.join("no"), &Options::default()), Err(ReadError::NoFolder(_))));
}
