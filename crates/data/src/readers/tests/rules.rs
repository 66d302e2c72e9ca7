//! What training and evaluation see of what a file says.

use std::sync::Arc;

use image::ExtendedColorType;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::model::*;
use super::*;
use crate::check::check;
use crate::dataset::Dataset;

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
    let dataset = RealDataset::open(index.clone()).unwrap();
    assert_eq!(dataset.notes().get("damaged_image"), None);
    let _ = (dataset.sample(0).unwrap(), dataset.sample(0).unwrap());
    assert_eq!(dataset.notes().get("damaged_image"), Some(&1));
    // A process that goes on with the run has not seen the image, and notes it all the same.
    let later = RealDataset::open(index).unwrap();
    later.remember(&dataset.seen());
    assert_eq!(later.notes(), dataset.notes());
    let _ = later.sample(0).unwrap();
    assert_eq!(later.notes(), dataset.notes());
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
