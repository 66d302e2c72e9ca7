//! Damaged and hostile files are findings and never panics.

use std::fs;

use proptest::prelude::*;
use proptest::sample::Index as Position;
use serde_json::json;
use tempfile::TempDir;

use super::model::*;
use super::*;
use crate::check::check;
use crate::dataset::Dataset;

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
proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

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
