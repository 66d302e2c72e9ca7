//! The paper's tables: their published numbers, their experiments, their names.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::path::{Path, PathBuf};

use common::{Folder, experiment};
use deim_spec::config::{PretrainedPart, Source};
use deim_spec::official::{Recipe, model};
use deim_spec::{Experiment, Options, experiment_name, load, survey};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../experiments")
}

fn at(name: &str, scale: &str) -> Experiment {
    let options = Options { scale: Some(scale.into()), ..Options::default() };
    load(&folder(), name, &options).unwrap_or_else(|error| panic!("{error}"))
}

const TABLES: [(&str, &str); 9] = [
    ("T1", "real-time"),
    ("T2", "resnet"),
    ("T3", "crowdhuman"),
    ("T4", "dense-o2o"),
    ("T5", "gamma"),
    ("T6", "components"),
    ("T7", "cost"),
    ("T8", "objects365"),
    ("T9", "small"),
];

#[test]
fn every_table_of_the_paper_is_an_experiment_under_both_names() {
    for (table, name) in TABLES {
        let experiment = at(table, "paper");
        assert_eq!(experiment.name, name);
        assert_eq!(experiment_name(&folder(), &table.to_lowercase()).unwrap(), name);
        assert!(experiment.paper.is_some(), "{table} has no published numbers");
        assert!(experiment.expects.is_some(), "{table} does not say on which data");
        for row in &experiment.rows {
            assert_eq!(row.config.data.source, Source::Folder, "{table}: {}", row.title());
            assert_eq!(row.config.data.input_size, 640, "{table}: {}", row.title());
        }
    }
}

/// Everything but where the images and the first weights come from.
fn is_official(experiment: &Experiment, label: &str, name: &str, recipe: Recipe) {
    let row = experiment.rows.iter().find(|row| row.settings[0].1 == label);
    let mut config = row.unwrap_or_else(|| panic!("no row {label}")).config.clone();
    config.data.source = Source::Synthetic;
    assert_eq!(config.pretrained.take().unwrap().part, PretrainedPart::Backbone, "{label}");
    assert!(config == model(name).unwrap().config(recipe).unwrap(), "{label} is not official");
}

#[test]
fn rows_at_the_scale_of_the_paper_are_the_official_recipes() {
    let (baseline, deim) = (Recipe::Baseline, Recipe::Deim);
    let table = at("T1", "paper");
    for (title, name) in [("D-FINE-L", "l"), ("D-FINE-X", "x")] {
        is_official(&table, title, name, baseline);
        is_official(&table, &format!("DEIM-{title}"), name, deim);
    }
    let table = at("T2", "paper");
    for (title, name) in [("RT-DETRv2-R50", "r50"), ("RT-DETRv2-R101", "r101")] {
        is_official(&table, title, name, baseline);
        is_official(&table, &format!("DEIM-{title}, 60 epochs"), name, deim);
    }
    let table = at("T9", "paper");
    for (title, name) in [
        ("RT-DETRv2-S", "r18"),
        ("RT-DETRv2-M", "r34"),
        ("RT-DETRv2-M*", "r50_m"),
        ("D-FINE-S", "s"),
        ("D-FINE-M", "m"),
    ] {
        is_official(&table, title, name, baseline);
        is_official(&table, &format!("DEIM-{title}"), name, deim);
    }
    is_official(&at("T6", "paper"), "baseline", "r50", baseline);
    is_official(&at("T6", "paper-dfine"), "baseline", "l", baseline);
    is_official(&at("T7", "paper"), "baseline", "r50", baseline);
    is_official(&at("T7", "paper"), "DEIM", "r50", deim);
}

#[test]
fn short_runs_end_dense_o2o_where_the_long_ones_would() {
    for (name, scale, row, expected) in [
        ("T4", "paper", 0, [24, 16, 22]),
        ("T4", "paper-12-epochs", 3, [12, 10, 10]),
        ("T5", "paper", 1, [24, 16, 22]),
        ("T6", "paper", 2, [36, 22, 34]),
        ("T6", "paper-dfine", 1, [44, 22, 36]),
        ("T2", "paper", 4, [36, 22, 34]),
    ] {
        let phases = at(name, scale).rows[row].config.phases();
        assert_eq!([phases.end, phases.flat, phases.stop], expected, "{name} at {scale}");
    }
}

#[test]
fn every_detector_is_compared_with_its_own_baseline() {
    for (name, scale) in [("T1", "paper"), ("T2", "paper"), ("T9", "paper"), ("T9", "mini")] {
        let experiment = at(name, scale);
        let label = |row: usize| experiment.rows[row].settings[0].1.clone();
        for (row, reference) in experiment.references.iter().copied().enumerate() {
            let own = label(row).replace("DEIM-", "");
            assert_eq!(label(reference), own.split(',').next().unwrap(), "{name} at {scale}");
        }
    }
    assert_eq!(at("T4", "paper").references, [0, 0, 0, 0]);
}

#[test]
fn the_tables_of_mini_ask_for_cells_that_others_have() {
    let config = |name: &str, scale: &str, row: usize| at(name, scale).rows[row].config.clone();
    assert_eq!(config("T2", "mini", 0), config("epochs", "mini", 0));
    assert_eq!(config("T2", "mini", 1), config("epochs", "mini", 1));
    for row in [0, 1] {
        assert_eq!(config("T7", "mini", row), config("T2", "mini", row));
        assert_eq!(config("T9", "mini", row), config("T2", "mini", row));
        assert_eq!(config("T9", "mini", row + 2), config("T1", "mini", row));
    }
    assert_eq!(config("T1", "mini", 1), config("components", "mini-dfine", 3));
}

#[test]
fn published_tables_are_as_long_as_the_facts_have_them() {
    for (table, rows) in [
        ("detectors", 10),
        ("table1", 15),
        ("table2", 24),
        ("table3", 2),
        ("table4", 8),
        ("table5", 4),
        ("table6", 6),
        ("table7", 2),
        ("table8", 8),
        ("table9", 22),
        ("density", 3),
        ("modifications", 4),
        ("nms", 6),
        ("paddle", 10),
    ] {
        let path = folder().join(format!("paper/{table}.toml"));
        let found = survey::check(&folder(), &path.to_string_lossy()).unwrap();
        assert_eq!(found, survey::Holds::Paper(rows), "{table}");
    }
}

#[test]
fn copied_and_unknown_numbers_are_flagged_where_they_stand() {
    let small = at("T9", "paper").paper.unwrap();
    let row = |name: &str| {
        let settings = [("detector".to_owned(), name.to_owned())];
        small.row_for(&settings).unwrap_or_else(|| panic!("no row {name}"))
    };
    let copied = row("RT-DETRv2-M");
    assert_eq!(copied.suspicious.of("ap_large").count(), 1);
    assert_eq!(copied.suspicious.of("ap").count(), 0, "its AP is not doubted");
    assert_eq!((copied.number("ap75"), copied.number("latency_ms")), (Some(58.6), Some(6.4)));
    let gold = row("Gold-YOLO-S");
    assert_eq!((gold.ap75, gold.unknown.as_deref()), (None, None));
    let fine_tuned = at("T8", "paper").paper.unwrap();
    let unknown = fine_tuned.rows.iter().filter(|row| row.ap.is_none()).count();
    assert_eq!(unknown, 3, "DEIM S, M and L have no number, and say so");
}

#[test]
fn an_alias_is_another_name_and_never_two_experiments() {
    let folder = Folder::new(&[
        ("a.toml", &experiment("alias = [\"T1\", \"first\"]\n")),
        ("b.toml", &experiment("alias = [\"t1\"]\n")),
    ]);
    let loaded = load(folder.path(), "first", &Options::default()).unwrap();
    assert_eq!((loaded.name.as_str(), loaded.aliases.len()), ("a", 2));
    let told = folder.error("T1", &Options::default());
    assert!(told.contains("`T1` is ambiguous"), "{told}");
    assert!(told.contains("`a` and of `b`"), "{told}");
    let told = survey::check(folder.path(), "b").unwrap_err().to_string();
    assert!(told.contains("`t1` names two experiments"), "{told}");

    // A file's own name goes before an alias, and the check says that both exist.
    let folder =
        Folder::new(&[("a.toml", &experiment("alias = [\"b\"]\n")), ("b.toml", &experiment(""))]);
    assert_eq!(load(folder.path(), "b", &Options::default()).unwrap().name, "b");
    assert!(survey::check(folder.path(), "a").is_err());
}

const CASES: &str = "[[axis]]\nname = \"detector\"\n\
    [[axis.case]]\nlabel = \"A\"\n\
    [[axis.case]]\nlabel = \"A+\"\nagainst = \"A\"\nset = { \"loss.gamma\" = 1.0 }\n\
    [[axis.case]]\nlabel = \"B\"\nset = { \"epochs\" = 50 }\n\
    [[axis]]\nkey = \"augment.flip\"\nvalues = [0.0, 0.5]\n";

#[test]
fn a_case_is_compared_with_the_case_it_names_at_the_same_place_of_the_other_axes() {
    let folder = Folder::new(&[("a.toml", &experiment(CASES))]);
    let loaded = load(folder.path(), "a", &Options::default()).unwrap();
    assert_eq!(loaded.references, [0, 1, 0, 1, 4, 5]);
}

#[test]
fn a_case_cannot_be_compared_with_what_is_not_there_or_is_compared_itself() {
    for (against, expected) in [
        ("A++", "there is no case `A++` to compare with"),
        ("A+", "`A+` is itself compared with another case"),
    ] {
        let body =
            CASES.replace("label = \"B\"\n", &format!("label = \"B\"\nagainst = \"{against}\"\n"));
        let folder = Folder::new(&[("a.toml", &experiment(&body))]);
        let told = folder.error("a", &Options::default());
        assert!(told.contains(expected), "{told}");
    }
}

#[test]
fn a_published_row_says_something_and_doubts_what_it_says() {
    let body = "paper = \"paper/t.toml\"\n[[axis]]\nkey = \"loss.gamma\"\nvalues = [1.5]\n";
    let told = |row: &str| {
        let table = format!("title = \"T\"\nsource = \"S\"\n[[row]]\n{row}");
        let folder = Folder::new(&[("a.toml", &experiment(body)), ("paper/t.toml", &table)]);
        folder.error("a", &Options::default())
    };
    let settings = "settings = { \"loss.gamma\" = 1.5 }\n";
    assert!(told(settings).contains("a published row without a number"));
    assert!(told("settings = {}\nap = 50.0\n").contains("a published row without settings"));
    let doubt = "suspicious = [{ cells = [\"ap75\"], why = \"copied\" }]\n";
    let told = told(&format!("{settings}ap = 50.0\n{doubt}"));
    assert!(told.contains("`ap75` is no number of this row"), "{told}");
}
