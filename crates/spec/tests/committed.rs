//! The experiments and schemas of this repository.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};

use deim_spec::survey::{self, Holds};
use deim_spec::{Config, Experiment, Options, cell_id, load, schema};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn experiment(name: &str) -> Experiment {
    load(&root().join("experiments"), name, &Options::default())
        .unwrap_or_else(|error| panic!("{error}"))
}

fn row<'a>(experiment: &'a Experiment, title: &str) -> &'a Config {
    let found = experiment.rows.iter().find(|row| row.title() == title);
    &found.unwrap_or_else(|| panic!("no row {title} in {}", experiment.name)).config
}

#[test]
fn every_file_below_experiments_is_sound() {
    let directory = root().join("experiments");
    let files = survey::everything(&directory).expect("a readable directory");
    let mut kinds = [0, 0, 0];
    for file in &files {
        match survey::check(&directory, file).unwrap_or_else(|error| panic!("{error}")) {
            Holds::Experiment(_) => kinds[0] += 1,
            Holds::Part => kinds[1] += 1,
            Holds::Paper(_) => kinds[2] += 1,
        }
    }
    assert!(
        kinds.iter().all(|&count| count > 0),
        "{kinds:?} experiments, parts and published tables"
    );
}

/// Cells that several experiments ask for are trained once, so they have to be the same.
#[test]
fn experiments_share_their_common_cells() {
    let [gamma, dense, components, losses, epochs] =
        ["gamma", "dense-o2o", "components", "losses", "epochs"].map(experiment);
    let deim = row(&gamma, "loss.gamma = 1.5");
    assert_eq!(deim, row(&dense, "augment.mosaic = 0.5, augment.mixup = 0.5"));
    assert_eq!(deim, row(&components, "ingredients = Dense O2O + MAL"));
    assert_eq!(deim, row(&losses, "loss = MAL"));
    assert_eq!(deim, row(&epochs, &format!("epochs = {}, recipe = DEIM", deim.epochs)));
    assert_eq!(
        row(&components, "ingredients = MAL"),
        row(&dense, "augment.mosaic = 0.0, augment.mixup = 0.0"),
    );
    assert_eq!(row(&components, "ingredients = Dense O2O"), row(&losses, "loss = VFL"));
}

#[test]
fn every_experiment_compares_with_the_row_its_question_asks_about() {
    for (name, reference) in [
        ("gamma", "loss.gamma = 1.5"),
        ("dense-o2o", "augment.mosaic = 0.0, augment.mixup = 0.0"),
        ("components", "ingredients = baseline"),
        ("losses", "loss = MAL"),
        ("epochs", "epochs = 24, recipe = baseline"),
    ] {
        let experiment = experiment(name);
        assert_eq!(experiment.rows[experiment.reference].title(), reference, "{name}");
    }
}

#[test]
fn rows_of_components_differ_in_ingredients_alone() {
    let components = experiment("components");
    let mut stripped: Vec<Config> = components.rows.into_iter().map(|row| row.config).collect();
    for config in &mut stripped {
        (config.augment.mosaic, config.augment.mixup) = (0.0, 0.0);
        config.loss = Default::default();
    }
    assert!(stripped.iter().all(|config| *config == stripped[0]));
}

#[test]
fn half_budget_is_half_of_the_full_one() {
    let epochs: Vec<u32> = experiment("epochs").rows.iter().map(|row| row.config.epochs).collect();
    assert_eq!(epochs, [epochs[0], epochs[0], epochs[0] / 2, epochs[0] / 2]);
}

#[test]
fn published_numbers_stand_beside_their_rows() {
    let published = |name: &str| -> Vec<Option<f64>> { published(experiment(name)) };
    assert_eq!(published("gamma"), [52.2, 52.4, 52.1, 51.9].map(Some));
    assert_eq!(published("dense-o2o"), [51.7, 51.5, 51.9, 52.5].map(Some));
    assert_eq!(published("components"), [Some(53.4), Some(53.6), None, Some(53.9)]);
}

/// The published AP of every row.
fn published(experiment: Experiment) -> Vec<Option<f64>> {
    let paper = experiment.paper.expect("has a published table");
    let ap = |row: &deim_spec::Row| paper.row_for(&row.settings).and_then(|row| row.ap);
    experiment.rows.iter().map(ap).collect()
}

/// The rows are what they are on RT-DETRv2; detector and published numbers are D-FINE's.
#[test]
fn components_run_on_both_families() {
    let options = Options { scale: Some("mini-dfine".into()), ..Options::default() };
    let dfine = load(&root().join("experiments"), "components", &options).expect("sound");
    let rtdetrv2 = experiment("components");
    for (one, other) in dfine.rows.iter().zip(&rtdetrv2.rows) {
        assert_eq!(one.settings, other.settings);
        assert_eq!(one.config.model.decoder.kind, deim_spec::config::DecoderKind::Dfine);
        assert!(one.config.loss.union_set);
        let (mut one, other) = (one.config.clone(), other.config.clone());
        (one.model, one.loss.union_set) = (other.model.clone(), other.loss.union_set);
        // The parts of D-FINE do not train the padding of denoising, as the official code does not.
        one.denoising = other.denoising.clone();
        assert_eq!(one, other, "only the detector differs");
    }
    assert_eq!(published(dfine), [Some(54.0), Some(54.2), None, Some(54.6)]);
}

#[test]
fn the_r50_part_is_the_built_in_model() {
    let r50 = deim_spec::official::model("r50").expect("one of the ten");
    let part = r50.architecture().unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(part.model, Config::default().model);
}

/// A key that came later is not written at the value that means what was computed before.
#[test]
fn precision_keeps_the_ids_of_committed_cells_in_f32_and_gives_others_in_bf16() {
    let ledger = root().join("results/gamma/mini/ledger.jsonl");
    let ledger = std::fs::read_to_string(ledger).expect("a committed ledger");
    let started: Vec<serde_json::Value> = ledger
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .filter(|line: &serde_json::Value| line["event"] == "started")
        .collect();
    let ids = |set: &[&str]| -> Vec<Option<String>> {
        let set = set.iter().map(|flag| (*flag).to_owned()).collect();
        let options = Options { scale: Some("mini".into()), set, ..Options::default() };
        let gamma = load(&root().join("experiments"), "gamma", &options).expect("sound");
        let id = |line: &serde_json::Value| {
            let wanted = line["settings"]["loss.gamma"].as_str()?;
            let row = gamma.rows.iter().find(|row| row.settings[0].1 == wanted)?;
            let [manifest, class] = ["manifest", "device_class"].map(|key| line[key].as_str());
            let numerics = u32::try_from(line["numerics"].as_u64()?).ok()?;
            Some(cell_id(&row.config, line["seed"].as_u64()?, manifest?, numerics, class?))
        };
        started.iter().map(id).collect()
    };
    let recorded: Vec<_> =
        started.iter().map(|line| line["cell"].as_str().map(str::to_owned)).collect();
    assert!(recorded.len() >= 4 && recorded.iter().all(Option::is_some), "{recorded:?}");
    assert_eq!(ids(&[]), recorded);
    assert_eq!(ids(&["model.precision=f32"]), recorded);
    let other = ids(&["model.precision=bf16"]);
    assert!(other.iter().all(|id| id.is_some() && !recorded.contains(id)), "{other:?}");
}

#[test]
fn schema_files_are_current() {
    for (name, text) in schema::files() {
        let committed =
            std::fs::read_to_string(root().join("schema").join(name)).unwrap_or_default();
        assert!(committed == text, "schema/{name} is not current: run `deim spec schema`");
    }
}

#[test]
fn schemas_know_what_the_loader_knows() {
    let [experiment, part] = schema::files()
        .into_iter()
        .map(|(_, text)| serde_json::from_str::<serde_json::Value>(&text).expect("JSON"))
        .collect::<Vec<_>>()
        .try_into()
        .expect("two files");
    for (schema, pointer) in [(&experiment, ""), (&experiment, "/$defs/Scale"), (&part, "")] {
        let keys = schema.pointer(&format!("{pointer}/properties")).expect("properties");
        assert!(keys.get("extends").is_some() && keys.get("loss").is_some());
        let closed = schema.pointer(&format!("{pointer}/additionalProperties"));
        assert_eq!(closed, Some(&serde_json::Value::Bool(false)), "{pointer}");
    }
    assert_eq!(experiment["required"], serde_json::json!(["title", "question"]));
    assert!(part.pointer("/properties/title").is_none());
    assert!(experiment.pointer("/$defs/Loss/properties/gamma/description").is_some());
}
