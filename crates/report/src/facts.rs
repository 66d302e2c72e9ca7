//! What a study says about itself in words: its axes, data, budgets and the paper's table.

use std::collections::{BTreeMap, BTreeSet};

use deim_spec::config::Source;
use deim_spec::paper::QUANTITIES;
use deim_spec::{Config, Expected, Experiment, PaperTable};

use crate::frame::Frames;
use crate::number::{exact, list, short};
use crate::study::{Row, RowCost, SYNTHETIC};

/// The last part of each dotted key, where that is enough to tell the keys apart.
pub fn short_names(keys: &[String]) -> Vec<String> {
    let last = |key: &str| key.rsplit('.').next().unwrap_or(key).to_owned();
    let names: Vec<String> = keys.iter().map(|key| last(key)).collect();
    if names.iter().collect::<BTreeSet<_>>().len() == names.len() { names } else { keys.to_vec() }
}

/// The data sets, usually one: every scene's origin, or the manifest of the files.
pub fn data_sets(experiment: &Experiment, frames: &Frames) -> Vec<String> {
    let sets = experiment.rows.iter().map(|row| &row.config);
    distinct(sets.flat_map(|config| match config.data.source {
        Source::Synthetic => vec![scenes(config)],
        Source::Folder => files(experiment, config, frames),
    }))
}

fn scenes(config: &Config) -> String {
    let scenes = &config.data.synthetic;
    format!(
        "synthetic scenes (seed {}) of {} px with {} to {} objects, {} to train on and {} to validate on, input {} px",
        scenes.seed,
        scenes.scene_size,
        scenes.min_objects,
        scenes.max_objects,
        scenes.train_images,
        scenes.val_images,
        config.data.input_size
    )
}

/// What is known of a data set of files: its manifest, and what the scale takes it for.
fn files(experiment: &Experiment, config: &Config, frames: &Frames) -> Vec<String> {
    let taken_for = match experiment.expects {
        Some(expected) => format!(", which the scale takes for {}", expected.title()),
        None => String::new(),
    };
    let side = config.data.input_size;
    let describe = |manifest: String| {
        format!("images of files, data set {manifest}{taken_for}; input {side} px")
    };
    manifests(frames).into_iter().map(describe).collect()
}

/// The data sets of files, by the first characters of their manifests.
fn manifests(frames: &Frames) -> Vec<String> {
    let of_files = frames.origins.values().filter(|origin| {
        origin.config.get("data.source").and_then(|source| source.as_str()) == Some("folder")
    });
    distinct_sorted(of_files.map(|origin| short(&origin.manifest).to_owned()))
}

/// The data sets in a few words, for figures and heads of columns.
pub fn data_name(experiment: &Experiment, frames: &Frames) -> String {
    let sources = experiment.rows.iter().map(|row| row.config.data.source);
    let names = distinct(sources.map(|source| match source {
        Source::Synthetic => SYNTHETIC.to_owned(),
        Source::Folder => format!("files (data set {})", manifests(frames).join(", ")),
    }));
    list(&names)
}

/// What a row's detector costs at the side of its input.
pub fn cost(experiment: &Experiment, config: &Config) -> RowCost {
    let classes = match config.data.source {
        Source::Synthetic => Some(deim_data::synthetic::CLASSES.len()),
        Source::Folder => experiment.expects.and_then(Expected::classes),
    };
    let side = config.data.input_size;
    let cost = classes.map(|classes| deim_eval::cost(config, classes, side));
    RowCost { epochs: config.epochs, cost, side, classes }
}

pub fn budgets(experiment: &Experiment, rows: &[Row]) -> Vec<String> {
    let budgets = experiment.rows.iter().zip(rows).map(|(setting, row)| {
        let config = &setting.config;
        let steps = match row.mean("steps") {
            Some(steps) => format!(", {} steps", exact(steps)),
            None => String::new(),
        };
        format!("{} epochs{steps} of {} images", config.epochs, config.data.batch_size)
    });
    distinct(budgets)
}

/// What the paper measured on: the table's title and what its rows say about themselves, once where
/// they agree and row by row where they do not.
pub fn published(experiment: &Experiment, paper: &PaperTable) -> String {
    let rows: Vec<_> = experiment.rows.iter().map(|row| paper.row_for(&row.settings)).collect();
    // What is a column of the published table is not repeated here.
    let is_circumstance = |key: &&String| *key == "epochs" || !QUANTITIES.contains(&key.as_str());
    let keys = rows.iter().flatten().flat_map(|row| row.about.keys()).filter(is_circumstance);
    let keys: BTreeSet<&String> = keys.collect();
    let mut description = paper.title.clone();
    for key in keys {
        let values: Vec<String> = rows
            .iter()
            .map(|row| row.and_then(|row| row.about.get(key)))
            .map(|value| {
                value.map_or("none".to_owned(), |value| match value.as_str() {
                    Some(text) => text.to_owned(),
                    None => value.to_string(),
                })
            })
            .collect();
        let known = rows.iter().zip(&values).filter(|(row, _)| row.is_some());
        let distinct = distinct(known.map(|(_, value)| value.clone()));
        match distinct.as_slice() {
            [value] => description.push_str(&format!(", {key} {value}")),
            _ => description.push_str(&format!(", {key} by row: {}", values.join(", "))),
        }
    }
    description
}

/// How many cells were trained for which other experiment.
pub fn reused(frames: &Frames) -> BTreeMap<String, usize> {
    let mut reused = BTreeMap::new();
    for from in frames.origins.values().filter_map(|origin| origin.reused_from.as_ref()) {
        *reused.entry(from.clone()).or_insert(0) += 1;
    }
    reused
}

/// Each value once, in the order of first appearance.
pub fn distinct(values: impl Iterator<Item = String>) -> Vec<String> {
    let mut seen = Vec::new();
    for value in values {
        if !seen.contains(&value) {
            seen.push(value);
        }
    }
    seen
}

pub fn distinct_sorted<T: Ord>(values: impl Iterator<Item = T>) -> Vec<T> {
    values.collect::<BTreeSet<T>>().into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_short_where_that_is_enough() {
        let keys = |keys: &[&str]| keys.iter().map(|key| (*key).to_owned()).collect::<Vec<_>>();
        assert_eq!(short_names(&keys(&["loss.gamma", "augment.mosaic"])), ["gamma", "mosaic"]);
        assert_eq!(
            short_names(&keys(&["loss.gamma", "matcher.gamma"])),
            ["loss.gamma", "matcher.gamma"]
        );
    }

    #[test]
    fn the_paper_is_described_once_where_its_rows_agree_and_row_by_row_where_not() {
        let mut experiment = crate::samples::experiment();
        let mut paper = experiment.paper.take().unwrap();
        assert_eq!(published(&experiment, &paper), "gamma of MAL on COCO, epochs 24");
        paper.rows[0].about.insert("epochs".to_owned(), 72.into());
        assert_eq!(
            published(&experiment, &paper),
            "gamma of MAL on COCO, epochs by row: 72, 24, none"
        );
    }

    #[test]
    fn a_key_of_the_data_makes_a_second_data_set() {
        let experiment = crate::samples::experiment();
        let mut other = experiment.rows[0].config.clone();
        other.data.synthetic.train_images = 7;
        let sets = distinct([scenes(&experiment.rows[0].config), scenes(&other)].into_iter());
        assert_eq!(sets.len(), 2);
        assert!(sets[1].contains("7 to train on"), "{}", sets[1]);
    }
}
