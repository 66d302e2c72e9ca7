//! `deim data`: what is found in data sets with everything wrong, and what is counted in good ones.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod hostile;

use std::fs;
use std::path::Path;
use std::process::Command;

use image::ExtendedColorType::Rgb8;
use insta::assert_snapshot;
use serde_json::{Value, json};
use tempfile::TempDir;

/// Runs `deim data` in a folder and gives its exit code, output and errors.
fn data(folder: &Path, args: &[&str]) -> (Option<i32>, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_deim"))
        .arg("data")
        .args(args)
        .current_dir(folder)
        .env("NO_COLOR", "1")
        .env_remove("COLUMNS")
        .output()
        .unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

/// Runs `deim data check` on a data set that `write` makes.
fn check(write: fn(&Path), more: &[&str]) -> (Option<i32>, String, String) {
    let folder = TempDir::new().unwrap();
    write(&folder.path().join("hostile"));
    data(folder.path(), &[&["check", "hostile"], more].concat())
}

#[test]
fn everything_wrong_with_a_coco_data_set_is_in_one_table() {
    let (code, out, err) = check(hostile::coco, &[]);
    assert_eq!((code, err.as_str()), (Some(1), ""));
    assert_snapshot!("check_coco", out);
    assert!(!out.contains('\u{1b}'), "names of a file reach the terminal as they are");
}

#[test]
fn everything_wrong_with_the_other_formats_is_too() {
    for (name, write) in [
        ("voc", hostile::voc as fn(&Path)),
        ("yolo", hostile::yolo),
        ("crowdhuman", hostile::crowdhuman),
    ] {
        let (code, out, err) = check(write, &[]);
        assert_eq!((code, err.as_str()), (Some(1), ""), "{name}");
        assert_snapshot!(format!("check_{name}"), out);
    }
}

#[test]
fn json_has_what_the_table_has() {
    let (code, out, _) = check(hostile::coco, &["--json"]);
    let value: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(
        (code, &value["passed"], &value["format"]),
        (Some(1), &json!(false), &json!("coco"))
    );
    let findings = value["splits"][0]["findings"].as_array().unwrap();
    let of = |kind: &str| findings.iter().find(|found| found["kind"] == kind).unwrap();
    assert_eq!(of("truncated")["count"], 3);
    assert_eq!(of("truncated")["level"], "error");
    assert_eq!(
        of("truncated")["examples"][0].as_str().unwrap().split(':').next(),
        Some("half.jpg")
    );
}

#[test]
fn what_check_reports_stats_counts_and_preview_refuses() {
    for (name, write) in [
        ("coco", hostile::coco as fn(&Path)),
        ("voc", hostile::voc),
        ("yolo", hostile::yolo),
        ("crowdhuman", hostile::crowdhuman),
    ] {
        let folder = TempDir::new().unwrap();
        write(&folder.path().join("hostile"));
        let (code, out, err) = data(folder.path(), &["stats", "hostile", "--out", "figure.png"]);
        assert_eq!((code, err.as_str()), (Some(0), ""), "{name}");
        assert!(out.contains("boxes to train on") && !out.contains('\u{1b}'), "{name}: {out}");
        assert!(folder.path().join("figure.png").is_file(), "{name}");
        let (code, out, err) = data(folder.path(), &["preview", "hostile", "--out", "grid.png"]);
        assert_eq!((code, out.as_str()), (Some(2), ""), "{name}");
        assert!(err.contains("`deim data check` lists everything"), "{name}: {err}");
        assert!(!err.contains('\u{1b}') && !folder.path().join("grid.png").exists(), "{name}");
    }
}

#[test]
fn images_that_fail_only_when_they_are_decoded_are_named_by_stats_and_preview() {
    let folder = TempDir::new().unwrap();
    good(&folder.path().join("good"));
    let path = folder.path().join("good/train2017/train2017-1.jpg");
    let bytes = fs::read(&path).unwrap();
    fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
    let (code, _, err) = data(folder.path(), &["stats", "good", "--deep"]);
    assert_eq!((code, err.as_str()), (Some(0), ""), "a hash needs no picture");
    let (code, _, err) = data(folder.path(), &["preview", "good", "--out", "grid.png"]);
    assert!(code == Some(2) && err.contains("train2017-1.jpg: the file is cut short"), "{err}");
    // The other image is still to be had.
    let one = ["preview", "good", "--transform", "none", "--count", "1", "--out", "grid.png"];
    assert_eq!(data(folder.path(), &one).0, Some(0));
}

#[test]
fn a_preview_is_a_page_of_what_was_asked_for() {
    let folder = TempDir::new().unwrap();
    good(&folder.path().join("good"));
    let preview = |more: &[&str]| {
        let args = [&["preview", "--out", "grid.png"], more].concat();
        let (code, out, err) = data(folder.path(), &args);
        let page = image::open(folder.path().join("grid.png")).map(|page| page.into_rgb8());
        let _ = fs::remove_file(folder.path().join("grid.png"));
        (code, out, err, page.ok())
    };
    let (code, out, err, page) = preview(&["good", "--transform", "none"]);
    assert_eq!((code, err.as_str()), (Some(0), ""));
    assert_eq!(
        out,
        "No transform: good, train2017: 2 images with 3 boxes, none dropped. grid.png\n"
    );
    // Two pictures in a row, 300 dots an inch on 178 mm.
    let page = page.unwrap();
    assert_eq!(page.width(), 2100);
    assert!(page.height() < 1500, "{}", page.height());
    let again = preview(&["good", "--transform", "none"]).3.unwrap();
    assert_eq!(page, again, "the same request gives other pixels");
    let val = preview(&["good", "--transform", "none", "--split", "val"]);
    assert!(val.1.contains("good, val2017: 1 image with 3 boxes"), "{}", val.1);
    let flipped = preview(&["good", "--transform", "flip"]).3.unwrap();
    assert_ne!(page, flipped);

    let experiments = concat!(env!("CARGO_MANIFEST_DIR"), "/experiments");
    let scenes = |more: &[&str]| {
        let gamma = ["--experiment", "gamma", "--experiments", experiments, "--count", "4"];
        preview(&[&gamma, more].concat())
    };
    let (code, out, err, page) = scenes(&["--transform", "batch", "--first", "3"]);
    assert_eq!((code, err.as_str()), (Some(0), ""));
    assert!(out.starts_with("Step 3 of epoch 1 of 24, seed 0: synthetic scenes, train, recipe of"));
    assert_ne!(page, scenes(&["--transform", "batch", "--first", "3", "--seed", "1"]).3);
    for transform in deim_data::preview::Transform::ALL {
        assert_eq!(scenes(&["--transform", transform.name()]).0, Some(0), "{transform}");
    }
}

#[test]
fn a_preview_that_cannot_be_is_refused_in_words() {
    let folder = TempDir::new().unwrap();
    good(&folder.path().join("good"));
    for (args, expected) in [
        (&["--out", "grid.gif"][..], "--out grid.gif: expected a name in .png"),
        (&["--transform", "mosiac", "--out", "a.png"], "found `mosiac`"),
        (&["good", "--split", "nope", "--out", "a.png"], "expected one of train2017, val2017"),
        (&["good", "--first", "7", "--out", "a.png"], "sample 7 was asked of a split of 2 images"),
        (&["--epoch", "60", "--out", "a.png"], "expected 0 to 59"),
        (&["--split", "test", "--out", "a.png"], "expected one of train, val"),
        (&["good", "--transform", "batch", "--out", "a.png"], "has 2 images, fewer than one batch"),
        (&["--count", "0", "--out", "a.png"], "1..=144"),
        (&["--row", "2", "--out", "a.png"], "--experiment"),
        (&["nowhere", "--out", "a.png"], "nowhere: no such folder"),
        (&["good", "--out", "no/such/folder/a.png"], "no/such/folder"),
    ] {
        let (code, out, err) = data(folder.path(), &[&["preview"], args].concat());
        assert_eq!((code, out.as_str()), (Some(2), ""), "{args:?}");
        assert!(err.contains(expected), "{args:?}: {err}");
        assert!(!folder.path().join("a.png").exists(), "{args:?}");
    }
}

/// A data set with nothing wrong: three images and two classes.
fn good(root: &Path) {
    for (split, count) in [("train2017", 2_u8), ("val2017", 1)] {
        let images: Vec<Value> = (0..count)
            .map(|id| {
                let name = format!("{split}-{id}.jpg");
                let bytes = hostile::jpeg([200, 150], Rgb8, id + 10 * count);
                hostile::write(root, &format!("{split}/{name}"), bytes);
                json!({"id": id, "file_name": name, "width": 200, "height": 150})
            })
            .collect();
        let annotation = |id: u8, class: u8, side: u32| {
            json!({"id": id + 1, "image_id": id % count, "category_id": class,
                   "bbox": [4, 5, side, side], "area": side * side, "iscrowd": 0})
        };
        let file = json!({
            "images": images,
            "annotations": [annotation(0, 3, 20), annotation(1, 8, 60), annotation(2, 8, 120)],
            "categories": [{"id": 3, "name": "cat"}, {"id": 8, "name": "dog"}],
        });
        hostile::write(root, &format!("annotations/instances_{split}.json"), file.to_string());
    }
}

#[test]
fn a_good_data_set_passes_and_is_counted() {
    let folder = TempDir::new().unwrap();
    good(&folder.path().join("good"));
    let (code, out, err) = data(folder.path(), &["check", "good"]);
    assert_eq!((code, err.as_str()), (Some(0), ""));
    assert_snapshot!("check_good", out);
    let (code, out, err) = data(folder.path(), &["stats", "good", "--out", "figure.svg"]);
    assert_eq!((code, err.as_str()), (Some(0), ""));
    // The lengths of the JPEG files are those of the encoder.
    let mut settings = insta::Settings::clone_current();
    settings.add_filter(r"\b[0-9a-f]{16}\b", "[manifest......]");
    settings.bind(|| assert_snapshot!("stats_good", out));
    let figure = fs::read_to_string(folder.path().join("figure.svg")).unwrap();
    for word in ["What good consists of", "train2017", "cat", "medium", "3 to 4"] {
        assert!(figure.contains(word), "{word}");
    }
    let (code, _, err) = data(folder.path(), &["stats", "good", "--out", "figure.gif"]);
    assert!(code == Some(2) && err.contains(".svg or .png"), "{err}");
}

#[test]
fn the_manifest_tells_data_apart_and_not_places() {
    let folder = TempDir::new().unwrap();
    let manifests = |place: &str, more: &[&str]| -> Vec<String> {
        let (code, out, err) = data(folder.path(), &[&["stats", place, "--json"], more].concat());
        assert_eq!(code, Some(0), "{err}");
        let value: Value = serde_json::from_str(&out).unwrap();
        let splits = value["splits"].as_array().unwrap().iter();
        splits.map(|split| split["manifest"].as_str().unwrap().to_owned()).collect()
    };
    good(&folder.path().join("one"));
    good(&folder.path().join("moved/two"));
    let [one, deep] = [manifests("one", &[]), manifests("one", &["--deep"])];
    assert_eq!(one, manifests("moved/two", &[]));
    assert_eq!(deep, manifests("moved/two", &["--deep"]));
    assert_ne!(one[0], one[1]);
    // A changed byte of the same file is seen by the deep one only, a longer file by both.
    let path = folder.path().join("moved/two/train2017/train2017-0.jpg");
    let mut bytes = fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&path, &bytes).unwrap();
    assert_eq!(one, manifests("moved/two", &[]));
    let changed = manifests("moved/two", &["--deep"]);
    assert_eq!((changed[0] == deep[0], changed[1] == deep[1]), (false, true));
    bytes.push(0);
    fs::write(&path, &bytes).unwrap();
    assert_ne!(one[0], manifests("moved/two", &[])[0]);
}

#[test]
fn what_is_no_data_set_is_told_with_what_was_looked_for() {
    let folder = TempDir::new().unwrap();
    fs::create_dir(folder.path().join("empty")).unwrap();
    let (code, out, err) = data(folder.path(), &["check", "empty"]);
    assert_eq!((code, out.as_str()), (Some(2), ""));
    assert_snapshot!("no_data_set", err);
    let (code, _, err) = data(folder.path(), &["check", "nowhere"]);
    assert!(code == Some(2) && err.contains("nowhere: no such folder"), "{err}");
    let (code, _, err) = data(folder.path(), &["stats", "empty", "--format", "kitti"]);
    assert!(code == Some(2) && err.contains("expected one of"), "{err}");
    let (code, _, err) = data(folder.path(), &["check", "empty", "--annotations", "gone.json"]);
    assert!(code == Some(2) && err.contains("gone.json"), "{err}");
}
