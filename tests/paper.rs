//! The paper's tables by their numbers: what `deim plan` says they would cost.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod micro;

use micro::{Lab, Told};

/// `deim` with the experiments of this repository, and nothing trained.
fn told(arguments: &[&str]) -> Told {
    let experiments = concat!(env!("CARGO_MANIFEST_DIR"), "/experiments");
    let arguments: Vec<&str> =
        arguments.iter().copied().chain(["--experiments", experiments]).collect();
    Lab::new().deim(&arguments)
}

#[test]
fn a_table_has_a_price_without_its_data() {
    let by_number = told(&["plan", "T4", "--scale", "paper"]);
    assert_eq!(by_number.code, Some(0), "{by_number}");
    for words in [
        "dense-o2o, scale paper: 4 rows x 3 seeds = 12 cells",
        "118287 images to train on (as many as COCO 2017 has)",
        "177408",
        "no measurement on this device (cpu)",
        "340 hours of one RTX 4090 for all cells, an estimate and no measurement",
        "add --data DIR, where COCO 2017 lies and --pretrained FILE",
    ] {
        assert!(by_number.out.contains(words), "{words} is not in\n{by_number}");
    }
    let by_name = told(&["plan", "dense-o2o", "--scale", "paper"]);
    assert_eq!(by_number.out, by_name.out);
}

#[test]
fn the_price_in_json_says_on_what_it_rests() {
    let json = told(&["plan", "t7", "--scale", "paper", "--json"]);
    let value: serde_json::Value = serde_json::from_str(&json.out).unwrap();
    assert_eq!(value["experiment"], "cost");
    assert_eq!(value["rows"][0]["measured_hours"], serde_json::Value::Null);
    let hours = value["rows"][0]["estimated_hours"].as_f64().unwrap();
    assert!((hours - 85.0).abs() < 0.1, "the paper prints 85 hours in all, not {hours}");
    assert_eq!(value["missing"].as_array().unwrap().len(), 2);
}

#[test]
fn what_cannot_be_known_is_no_number() {
    let crowds = told(&["plan", "T3"]);
    assert_eq!(crowds.code, Some(0), "{crowds}");
    assert!(crowds.out.contains("an unknown number of images"), "{crowds}");
    assert!(!crowds.out.contains("RTX 4090"), "{crowds}");
}

#[test]
fn a_scale_of_files_does_not_train_without_them() {
    let refused = told(&["ablation", "T5", "--scale", "paper"]);
    assert_eq!(refused.code, Some(2), "{refused}");
    assert!(refused.err.contains("--data") || refused.err.contains("--pretrained"), "{refused}");
}

#[test]
fn a_report_is_found_by_the_number_of_its_table() {
    let lab = Lab::new();
    let path = lab.path().join("experiments/micro.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, format!("alias = [\"T5\"]\n{text}")).unwrap();
    for cell in &lab.plan("micro").cells {
        lab.pretend_finished("micro", cell, 0.3 + 0.01 * cell.row as f64);
    }
    let told = lab.deim(&["report", "T5"]);
    assert_eq!(told.code, Some(0), "{told}");
    assert!(lab.path().join("results/micro/default/table.tex").exists());
}
