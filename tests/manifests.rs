//! All ten detectors against the entries of the official models: names, shapes, what trains, and in
//! which optimizer group of the DEIM recipe.
//!
//! The entries themselves are large; `tests/reference/manifests.json` keeps their counts and a hash of
//! their sorted list. Where the whole lists lie beside the workspace they are compared line by line.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::path::Path;

use burn::tensor::Device;
use deim_model::{Detector, weights};
use deim_spec::official::{self, Recipe};
use deim_train::optimizer::trained;
use deim_train::param_groups::ParamGroups;
use serde_json::Value;

const VENDORED: &str = "tests/reference/manifests.json";
const WHOLE: &str = "../shared/reference/cases/manifests";
const CLASSES: usize = 80;

/// Official entries that are not tensors of ours: a counter that nothing reads, and what the
/// constructor computes.
fn is_computed(name: &str) -> bool {
    let last = name.rsplit('.').next().unwrap_or(name);
    let computed =
        ["num_batches_tracked", "anchors", "valid_mask", "num_points_scale", "up", "reg_scale"];
    computed.contains(&last)
}

/// A detector's tensors, a line each: name, shape, and its optimizer group where it trains.
#[derive(Debug, Default, PartialEq)]
struct Listing {
    lines: BTreeSet<String>,
    trained: u64,
}

impl Listing {
    fn add(&mut self, name: &str, shape: &[usize], group: Option<usize>) {
        let group = group.map_or_else(|| "-".to_owned(), |group| group.to_string());
        self.lines.insert(format!("{name} {shape:?} {group}"));
        if group != "-" {
            self.trained += shape.iter().product::<usize>() as u64;
        }
    }

    fn hash(&self) -> String {
        let mut hasher = blake3::Hasher::new();
        for line in &self.lines {
            hasher.update(line.as_bytes());
            hasher.update(b"\n");
        }
        hasher.finalize().to_hex()[..32].to_owned()
    }
}

/// The listing of our detector.
fn ours(name: &str) -> Listing {
    let config = official::model(name).unwrap().config(Recipe::Deim).unwrap();
    let groups = ParamGroups::new(&config.optimizer).unwrap();
    let detector = Detector::new(&config, CLASSES, 0, &Device::flex().autodiff());
    let trained: BTreeSet<String> = trained(&detector).into_iter().map(|(name, _)| name).collect();
    let mut listing = Listing::default();
    for (name, data) in weights::read(&detector) {
        if !is_computed(&name) {
            let group = trained.contains(&name).then(|| groups.index(&name));
            listing.add(&name, &data.shape.to_vec(), group);
        }
    }
    listing
}

/// The listing of an official manifest.
fn official_listing(manifest: &Value) -> Listing {
    let mut listing = Listing::default();
    for entry in manifest["state_dict"].as_array().unwrap() {
        let name = entry["name"].as_str().unwrap();
        if is_computed(name) {
            continue;
        }
        let shape = entry["shape"].as_array().unwrap();
        let shape: Vec<usize> = shape.iter().map(|side| side.as_u64().unwrap() as usize).collect();
        let trains = entry["requires_grad"].as_bool().unwrap_or(false);
        let group = trains.then(|| entry["group"].as_u64().unwrap() as usize);
        listing.add(name, &shape, group);
    }
    listing
}

fn read(path: &Path) -> Value {
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

#[test]
fn every_detector_has_the_official_entries_and_groups_and_no_others() {
    let vendored = read(Path::new(VENDORED));
    let mut wrong = Vec::new();
    for official in official::models() {
        let name = official.name;
        let listing = ours(name);
        let expected = &vendored[name];
        let found = serde_json::json!({
            "tensors": listing.lines.len(),
            "trained": listing.trained,
            "hash": listing.hash(),
        });
        if &found != expected {
            wrong.push(format!("{name}: found {found}, expected {expected}"));
        }
        let whole = Path::new(WHOLE).join(format!("{name}.json"));
        if !whole.is_file() {
            println!("{name}: compared by its hash alone, {} is not here", whole.display());
            continue;
        }
        let theirs = official_listing(&read(&whole));
        let only = |a: &Listing, b: &Listing| -> Vec<String> {
            a.lines.difference(&b.lines).take(5).cloned().collect()
        };
        let (left_over, missing) = (only(&listing, &theirs), only(&theirs, &listing));
        if !left_over.is_empty() || !missing.is_empty() {
            wrong.push(format!("{name}: only ours {left_over:?}, only official {missing:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The vendored summary is what the whole manifests say, and their own counts agree with it.
#[test]
fn the_vendored_summary_is_that_of_the_official_manifests() {
    if !Path::new(WHOLE).is_dir() {
        println!("not checked: {WHOLE} is not here");
        return;
    }
    let vendored = read(Path::new(VENDORED));
    for official in official::models() {
        let manifest = read(&Path::new(WHOLE).join(format!("{}.json", official.name)));
        let listing = official_listing(&manifest);
        let expected = serde_json::json!({
            "tensors": listing.lines.len(),
            "trained": listing.trained,
            "hash": listing.hash(),
        });
        assert_eq!(vendored[official.name], expected, "{}", official.name);
        assert_eq!(manifest["num_trainable"], listing.trained, "{}", official.name);
        // What is left out and counts as a parameter are D-FINE's two frozen constants.
        let constants = manifest["num_parameters"].as_u64().unwrap() - listing.trained;
        assert_eq!(constants, if official.name.starts_with('r') { 0 } else { 2 });
    }
}
