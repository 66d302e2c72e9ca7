//! Figures: what they show, that they can be repeated, and what is refused.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod micro;

use std::fs;
use std::path::Path;

use micro::{Lab, Told};
use serde_json::json;

const EXPERIMENTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/experiments");

/// The figures of the paper, written into a laboratory.
fn paper(lab: &Lab, more: &[&str]) -> Told {
    lab.deim(&[&["report", "paper", "--experiments", EXPERIMENTS], more].concat())
}

fn read(lab: &Lab, name: &str) -> String {
    fs::read_to_string(lab.path().join("results/paper").join(name)).unwrap()
}

#[test]
fn the_loss_figures_show_the_values_of_the_official_code() {
    let lab = Lab::new();
    let told = paper(&lab, &[]);
    assert_eq!(told.code, Some(0), "{told}");
    // deim-facts 3.11, single logits: (.9, .05), (.1, .95) and (.9, .5) under VFL and MAL.
    let surfaces = read(&lab, "fig2-surfaces.svg");
    for value in ["0.11", "2.28", "2.08", "2.14", "0.60", "1.53"] {
        assert!(surfaces.contains(&format!("\n{value}\n")), "{value} is not in fig. 2");
    }
    let losses = read(&lab, "fig4-losses.svg");
    assert!(losses.contains("IoU 0.05") && losses.contains("IoU 0.95"));
}

#[test]
fn the_schedule_figure_has_the_boundaries_of_sixty_epochs() {
    let lab = Lab::new();
    paper(&lab, &[]);
    let schedule = read(&lab, "fig5-schedule.svg");
    for span in ["4\u{2013}34", "4\u{2013}58", "0\u{2013}58", "58\u{2013}60", "0\u{2013}60"] {
        assert!(schedule.contains(span), "{span}");
    }
}

#[test]
fn the_published_figure_has_every_official_family_and_says_that_nothing_is_measured() {
    let lab = Lab::new();
    paper(&lab, &[]);
    let published = read(&lab, "fig1-published.svg");
    for words in ["DEIM-D-FINE", "DEIM-RT-DETRv2", "YOLO11", "Published, not measured here"] {
        assert!(published.contains(words), "{words}");
    }
}

#[test]
fn the_matches_figure_bounds_the_ratio_by_ten() {
    let lab = Lab::new();
    paper(&lab, &[]);
    let matches = read(&lab, "fig3-matches.svg");
    assert!(matches.contains("640 images"), "{}", &matches[matches.len() - 900..]);
    assert!(matches.contains("No detector is involved"));
}

#[test]
fn figures_of_the_paper_are_the_same_bytes_whatever_the_threads() {
    let mut all = Vec::new();
    for threads in ["1", "3"] {
        let lab = Lab::new();
        let mut command = lab.command(&["report", "paper", "--experiments", EXPERIMENTS]);
        assert!(command.env("RAYON_NUM_THREADS", threads).status().unwrap().success());
        let folder = lab.path().join("results/paper");
        let mut files: Vec<_> =
            fs::read_dir(folder).unwrap().map(|file| file.unwrap().path()).collect();
        files.sort();
        assert_eq!(files.len(), 5);
        all.push(files.iter().map(|file| fs::read(file).unwrap()).collect::<Vec<_>>());
    }
    assert!(all[0] == all[1], "a figure depends on the number of threads");
}

#[test]
fn an_edited_figure_of_the_paper_fails_the_check_and_a_rounded_coordinate_does_not() {
    let lab = Lab::new();
    paper(&lab, &[]);
    let told = paper(&lab, &["--check"]);
    assert_eq!(told.code, Some(0), "{told}");
    assert!(told.out.contains("5 figures follow from"), "{told}");

    let path = lab.path().join("results/paper/fig2-surfaces.svg");
    let drawn = fs::read_to_string(&path).unwrap();
    fs::write(&path, drawn.replacen("\n2.28\n", "\n0.28\n", 1)).unwrap();
    let told = paper(&lab, &["--check"]);
    assert_eq!(told.code, Some(1), "{told}");
    assert!(told.out.contains("fig2-surfaces.svg: differs from line"), "{told}");

    let at = drawn.find("points=\"").unwrap() + 8;
    let end = at + drawn[at..].find(',').unwrap();
    let moved = drawn[at..end].parse::<i64>().unwrap() + 1;
    fs::write(&path, format!("{}{moved}{}", &drawn[..at], &drawn[end..])).unwrap();
    assert_eq!(paper(&lab, &["--check"]).code, Some(0));
    fs::write(&path, format!("{}{}{}", &drawn[..at], moved + 3, &drawn[end..])).unwrap();
    assert_eq!(paper(&lab, &["--check"]).code, Some(1));

    fs::remove_file(&path).unwrap();
    let told = lab.deim(&["report", "--check", "--experiments", EXPERIMENTS]);
    assert!(told.out.contains("fig2-surfaces.svg: is missing"), "{told}");
}

#[test]
fn a_published_table_that_is_gone_is_named() {
    let lab = Lab::new();
    let told = lab.deim(&["report", "paper"]);
    assert_eq!(told.code, Some(2), "{told}");
    assert!(told.err.contains("table1.toml"), "{told}");
}

#[test]
fn exported_figures_have_one_theme_and_a_png_each() {
    let lab = Lab::new();
    for cell in &lab.plan("micro").cells {
        lab.pretend_finished("micro", cell, 0.3);
    }
    let told = lab.deim(&["report", "micro", "--figures", "out", "--theme", "grey"]);
    assert_eq!(told.code, Some(0), "{told}");
    let out = lab.path().join("out");
    for figure in ["figure", "curve", "cost", "positives", "time"] {
        let name = format!("micro-default-{figure}");
        let svg = fs::read_to_string(out.join(format!("{name}.svg"))).unwrap();
        for color in svg.split("\"#").skip(1) {
            assert!(color[..2] == color[2..4] && color[..2] == color[4..6], "{}", &color[..6]);
        }
        assert!(!svg.contains("prefers-color-scheme"), "{name} has two themes");
        assert!(fs::read(out.join(format!("{name}.png"))).unwrap().starts_with(b"\x89PNG"));
    }
    let told = lab.deim(&["report", "micro", "--theme", "dark"]);
    assert_eq!(told.code, Some(2), "a theme without a folder has no effect: {told}");
}

/// A COCO data set of one image with two objects, and detections that find one of them.
fn coco(folder: &Path) {
    let images = folder.join("coco/val2017");
    fs::create_dir_all(&images).unwrap();
    fs::create_dir_all(folder.join("coco/annotations")).unwrap();
    let pixels = vec![120; 64 * 48 * 3];
    image::save_buffer(images.join("a.png"), &pixels, 64, 48, image::ExtendedColorType::Rgb8)
        .unwrap();
    let object = |id: i64, bbox: [f64; 4]| json!({"id": id, "image_id": 7, "category_id": 1, "bbox": bbox, "area": bbox[2] * bbox[3], "iscrowd": 0});
    let truth = json!({
        "images": [{"id": 7, "file_name": "a.png", "width": 64, "height": 48}],
        "annotations": [object(1, [4.0, 4.0, 20.0, 20.0]), object(2, [40.0, 20.0, 16.0, 20.0])],
        "categories": [{"id": 1, "name": "cat"}],
    });
    fs::write(folder.join("coco/annotations/instances_val2017.json"), truth.to_string()).unwrap();
    let found = |bbox: [f64; 4], score: f64| json!({"image_id": 7, "category_id": 1, "bbox": bbox, "score": score});
    let wrong = found([30.0, 2.0, 9.0, 9.0], 0.8);
    let pair = json!([found([4.0, 4.0, 20.0, 19.0], 0.9), wrong, found([0.0, 0.0, 9.0, 9.0], 0.1)]);
    fs::write(folder.join("base.json"), pair.to_string()).unwrap();
    fs::write(folder.join("deim.json"), json!([wrong]).to_string()).unwrap();
}

#[test]
fn detections_are_told_right_wrong_and_missed_beside_each_other() {
    let lab = Lab::new();
    coco(lab.path());
    let order = ["figure", "detections", "--data", "coco", "base.json", "deim.json", "--out"];
    let told = lab.deim(&[&order[..], &["pair.svg"]].concat());
    assert_eq!(told.code, Some(0), "{told}");
    let svg = fs::read_to_string(lab.path().join("pair.svg")).unwrap();
    for (words, times) in [
        ("\nbase\n", 1),
        ("\ndeim\n", 1),
        ("\ncat 0.90\n", 1),
        ("\ncat 0.80\n", 2),
        ("\ncat 0.10\n", 0),
        // One target missed by the first, two by the second.
        ("\ncat\n", 3),
        ("data:image/png;base64,", 1),
    ] {
        assert_eq!(svg.matches(words).count(), times, "{words:?}");
    }
    let told = lab.deim(&[&order[..], &["pair.png"]].concat());
    assert_eq!(told.code, Some(0), "{told}");
    let told = lab.deim(&[&order[..], &["pair.svg", "--image", "8"]].concat());
    assert_eq!(told.code, Some(2), "{told}");
    assert!(told.err.contains("coco has no image with the id 8"), "{told}");
    let told = lab.deim(&[&order[..], &["pair.bmp"]].concat());
    assert!(told.err.contains(".svg or .png"), "{told}");
}

#[test]
fn precision_and_recall_say_the_ap_of_each_file() {
    let lab = Lab::new();
    coco(lab.path());
    let gt = "coco/annotations/instances_val2017.json";
    let told = lab.deim(&[
        "figure",
        "precision-recall",
        "--gt",
        gt,
        "base.json",
        "deim.json",
        "--out",
        "pr.svg",
    ]);
    assert_eq!(told.code, Some(0), "{told}");
    let svg = fs::read_to_string(lab.path().join("pr.svg")).unwrap();
    let coco = lab.deim(&["coco-eval", "--gt", gt, "--dt", "base.json", "--json"]);
    let metrics: serde_json::Value = serde_json::from_str(&coco.out).unwrap();
    let ap = metrics.pointer("/metrics/ap").or(metrics.get("ap")).and_then(|ap| ap.as_f64());
    let label = format!("base (AP {:.1})", 100.0 * ap.unwrap());
    assert!(svg.contains(&label), "{label} is not in the figure");
    assert!(svg.contains("deim (AP 0.0)"));
}

#[test]
fn matches_of_a_folder_count_its_images() {
    let lab = Lab::new();
    coco(lab.path());
    let told = lab.deim(&["figure", "matches", "coco", "--input", "96", "--out", "matches.svg"]);
    assert_eq!(told.code, Some(0), "{told}");
    let svg = fs::read_to_string(lab.path().join("matches.svg")).unwrap();
    assert!(svg.contains("1 image of coco (val2017)"), "{svg}");
    let told = lab.deim(&["figure", "matches", "coco", "--input", "8", "--out", "m.svg"]);
    assert!(told.err.contains("expected at least 32 pixels, found 8"), "{told}");
}
