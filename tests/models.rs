//! `deim models`: what it prints, and that it is about the detectors that train.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod micro;

use burn::tensor::Device;
use deim_model::{Detector, weights};
use deim_spec::official;
use insta::assert_snapshot;
use micro::Lab;

fn document(arguments: &[&str]) -> serde_json::Value {
    let told = Lab::new().deim(&[&["models", "--json"], arguments].concat());
    assert_eq!(told.code, Some(0), "{told}");
    serde_json::from_str(&told.out).unwrap()
}

#[test]
fn the_table_fits_a_terminal_and_explains_every_deviation() {
    let lab = Lab::new();
    let told = lab.deim(&["models"]);
    assert_eq!(told.code, Some(0), "{told}");
    assert!(told.out.lines().all(|line| line.chars().count() <= 100), "{told}");
    assert!(!told.out.contains("no reason is known"), "{told}");
    assert_snapshot!("table", told.out);
    let help = lab.deim(&["models", "--help"]);
    assert!(help.out.contains("Example: deim"), "{help}");
    let wrong = lab.deim(&["models", "--size", "100"]);
    assert_eq!(wrong.code, Some(2), "{wrong}");
    assert!(wrong.err.contains("--size 100: expected a multiple of 32"), "{wrong}");
}

/// Published operations are about images of 640 x 640 alone.
#[test]
fn json_has_published_operations_only_at_their_size() {
    for (size, published) in [("640", true), ("320", false)] {
        let document = document(&["--size", size]);
        let models = document["models"].as_array().unwrap();
        assert_eq!(models.len(), 10);
        for model in models {
            assert_eq!(model["published"]["gflops"].is_number(), published, "{model}");
            assert!(model["published"]["parameters_millions"].is_number(), "{model}");
            for deviation in model["deviations"].as_array().unwrap() {
                assert!(deviation["why"].is_string(), "{model}");
            }
        }
    }
}

/// The counts come from the configuration; the detector that is built from it has as many.
#[test]
fn parameters_are_those_of_the_detectors() {
    let document = document(&[]);
    for model in document["models"].as_array().unwrap() {
        let name = model["name"].as_str().unwrap();
        let config = official::model(name).unwrap().architecture().unwrap();
        let detector = Detector::new(&config, 80, 0, &Device::default());
        let trained = weights::read(&detector).into_iter().filter(|(name, _)| trains(name));
        let built: usize = trained.map(|(_, data)| data.num_elements()).sum();
        assert_eq!(model["parameters"]["trained"], built, "{name}");
    }
}

/// Statistics of batch norms and constants are tensors, not parameters.
fn trains(name: &str) -> bool {
    let last = name.rsplit('.').next().unwrap_or(name);
    !matches!(
        last,
        "running_mean" | "running_var" | "up" | "reg_scale" | "num_points_scale" | "anchors"
    )
}
