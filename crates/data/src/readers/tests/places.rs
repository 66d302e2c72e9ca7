//! Where splits, annotations and images are looked for.

use serde_json::json;
use tempfile::TempDir;

use super::model::*;
use super::*;

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
    assert!(
        only_train.contains("`val` or `test`") && only_train.contains("train2017"),
        "{only_train}"
    );
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
