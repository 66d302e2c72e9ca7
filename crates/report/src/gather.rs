//! From a resolved experiment and the lines of its ledgers to a study.

use std::collections::{BTreeMap, BTreeSet};

use deim_eval::paired::{LEVEL, compare};
use deim_eval::student;
use deim_lab::record::{Line, Provenance, Record};
use deim_spec::{Config, Experiment, PaperTable, cell_id};
use polars::prelude::*;

use crate::error::Error;
use crate::frame::{self, Cell, Frames, METRICS, OTHERS};
use crate::number::{exact, list, short};
use crate::study::{Against, CellResult, CurvePoint, Row, Spread, Study};

/// The seeds to plan for: those that the experiment asks for, and those that any cell of the ledger
/// finished with. A seed that only some rows have is missing in the others.
pub fn seeds(experiment: &Experiment, lines: &[Line]) -> Vec<u64> {
    let finished = finished(lines);
    let seen = lines.iter().filter_map(|line| match &line.record {
        Record::Started(origin) if finished.contains(line.cell.as_str()) => Some(origin.seed),
        _ => None,
    });
    experiment.seeds.iter().copied().chain(seen).collect::<BTreeSet<u64>>().into_iter().collect()
}

fn finished(lines: &[Line]) -> BTreeSet<&str> {
    let finished = lines.iter().filter(|line| matches!(line.record, Record::Finished(_)));
    finished.map(|line| line.cell.as_str()).collect()
}

/// Leaves out the seeds that nobody asked for and of which no cell is finished.
fn asked_or_finished(experiment: &Experiment, cells: &[Cell], lines: &[Line]) -> Vec<Cell> {
    let finished = finished(lines);
    let mut seeds: BTreeSet<u64> = experiment.seeds.iter().copied().collect();
    seeds.extend(
        cells.iter().filter(|cell| finished.contains(cell.id.as_str())).map(|cell| cell.seed),
    );
    cells.iter().filter(|cell| seeds.contains(&cell.seed)).cloned().collect()
}

/// Everything that tables and figures show, from the cells of an experiment (for all [`seeds`]) and
/// the lines of its ledgers. `reference` is the row that the others are compared with.
pub fn gather(
    experiment: &Experiment,
    reference: usize,
    cells: &[Cell],
    lines: &[Line],
) -> Result<Study, Error> {
    let plan = asked_or_finished(experiment, cells, lines);
    let frames = frame::read(&plan, lines)?;
    if frames.origins.is_empty() {
        return Err(Error::Nothing(nothing(experiment, &frames)));
    }
    same_computation(&frames)?;
    let spreads = spreads(&frames.cells, experiment.rows.len())?;
    let curves = curves(&frames.epochs, experiment.rows.len())?;
    let results = results(&frames.cells, experiment.rows.len())?;
    let by_seed: Vec<BTreeMap<u64, f64>> = results
        .iter()
        .map(|cells| cells.iter().filter_map(|cell| Some((cell.seed, cell.ap?))).collect())
        .collect();
    let others: Vec<BTreeMap<u64, f64>> = (0..by_seed.len())
        .filter(|row| *row != reference)
        .map(|row| by_seed[row].clone())
        .collect();
    let mut comparisons = compare(&by_seed[reference], &others).into_iter();
    let parts = experiment.rows.iter().zip(spreads).zip(curves).zip(results).enumerate();
    let rows = parts.map(|(at, (((setting, spreads), curve), cells))| {
        let ap = spreads.get("ap").copied().unwrap_or_default();
        let against = match (at == reference).then_some(()) {
            None => comparisons.next().map_or(Against::Reference, Against::Compared),
            Some(()) => Against::Reference,
        };
        let paper = experiment.paper.as_ref().and_then(|paper| paper.row_for(&setting.settings));
        let doubt = paper.and_then(|row| row.suspicious.clone());
        Row {
            labels: setting.settings.iter().map(|(_, label)| label.clone()).collect(),
            cells,
            ap,
            interval: interval(&ap),
            spreads,
            against,
            paper: paper.and_then(|row| row.ap),
            doubt,
            curve,
        }
    });
    let rows: Vec<Row> = rows.collect();
    let keys: Vec<String> = experiment.axes.iter().map(|axis| axis.name.clone()).collect();
    let origins = || frames.origins.values();
    let first = origins().next().ok_or_else(|| Error::Nothing("no finished cell".to_owned()))?;
    Ok(Study {
        name: experiment.name.clone(),
        title: experiment.title.clone(),
        question: experiment.question.clone(),
        scale: experiment.scale.clone(),
        names: short_names(&keys),
        keys,
        budget: budgets(experiment, &rows),
        rows,
        reference,
        paper: experiment.paper.as_ref().map(|paper| published(experiment, paper)),
        data: distinct(experiment.rows.iter().map(|row| data(&row.config))),
        data_name: "synthetic scenes".to_owned(),
        device_class: first.device_class.clone(),
        devices: distinct_sorted(origins().map(|origin| origin.device.clone())),
        programs: distinct_sorted(origins().map(|origin| origin.program.clone())),
        numerics: first.numerics,
        reused: reused(&frames),
        stale: frames.stale,
        contradicted: frames.contradicted,
    })
}

/// Why there is no table.
fn nothing(experiment: &Experiment, frames: &Frames) -> String {
    let (name, scale) = (&experiment.name, &experiment.scale);
    let advice = format!("run `deim ablation {name} --scale {scale}`");
    match frames.stale {
        0 => format!("{name}, scale {scale}: no cell is finished yet; {advice}"),
        stale => format!(
            "{name}, scale {scale}: none of the {stale} finished cells of the ledger is one that the experiment asks for \
             now (another spec, data set, numerics version or device class); {advice}"
        ),
    }
}

/// Refuses cells that were not computed alike, and cells that are not what their id says.
fn same_computation(frames: &Frames) -> Result<(), Error> {
    for (id, origin) in &frames.origins {
        let Provenance { config, seed, manifest, numerics, device_class, .. } = origin;
        let expected = cell_id(config, *seed, manifest, *numerics, device_class);
        if *id != expected {
            return Err(Error::Mixed(format!(
                "cell {} does not follow from what the ledger says about it (that would be {}): a line was edited, or \
                 written by another version of the program",
                short(id),
                short(&expected)
            )));
        }
    }
    let classes =
        distinct_sorted(frames.origins.values().map(|origin| origin.device_class.clone()));
    let numerics = distinct_sorted(frames.origins.values().map(|origin| origin.numerics));
    if classes.len() > 1 {
        return Err(Error::Mixed(format!("cells of {} cannot share a table", list(&classes))));
    }
    if numerics.len() > 1 {
        let versions: Vec<String> = numerics.iter().map(u32::to_string).collect();
        return Err(Error::Mixed(format!(
            "cells of numerics versions {} cannot share a table",
            list(&versions)
        )));
    }
    Ok(())
}

/// Student's 95 % interval of a mean.
fn interval(spread: &Spread) -> Option<[f64; 2]> {
    let (mean, deviation) = (spread.mean?, spread.deviation?);
    let count = spread.count as f64;
    let reach = student::quantile(1.0 - LEVEL / 2.0, count - 1.0) * deviation / count.sqrt();
    Some([mean - reach, mean + reach])
}

fn results(cells: &DataFrame, rows: usize) -> Result<Vec<Vec<CellResult>>, Error> {
    let (row, seed) = (cells.column("row")?.u32()?, cells.column("seed")?.u64()?);
    let (id, ap) = (cells.column("cell")?.str()?, cells.column("ap")?.f64()?);
    let mut results = vec![Vec::new(); rows];
    for at in 0..cells.height() {
        if let (Some(row), Some(seed), Some(id)) = (row.get(at), seed.get(at), id.get(at)) {
            results[row as usize].push(CellResult { seed, id: id.to_owned(), ap: ap.get(at) });
        }
    }
    Ok(results)
}

fn spreads(cells: &DataFrame, rows: usize) -> Result<Vec<BTreeMap<&'static str, Spread>>, Error> {
    let grouped = frame::over_seeds(cells)?;
    let row = grouped.column("row")?.u32()?;
    let mut spreads = vec![BTreeMap::new(); rows];
    for name in METRICS.iter().map(|(name, _)| *name).chain(OTHERS) {
        let number = |statistic: &str| -> Result<&Float64Chunked, Error> {
            Ok(grouped.column(&format!("{name}_{statistic}"))?.f64()?)
        };
        let (mean, deviation) = (number("mean")?, number("std")?);
        let (smallest, largest) = (number("min")?, number("max")?);
        let count = grouped.column(&format!("{name}_count"))?.u32()?;
        for at in 0..grouped.height() {
            let Some(row) = row.get(at) else { continue };
            let spread = Spread {
                count: count.get(at).unwrap_or(0) as usize,
                mean: mean.get(at),
                deviation: deviation.get(at),
                smallest: smallest.get(at),
                largest: largest.get(at),
            };
            spreads[row as usize].insert(name, spread);
        }
    }
    Ok(spreads)
}

fn curves(epochs: &DataFrame, rows: usize) -> Result<Vec<Vec<CurvePoint>>, Error> {
    let grouped = frame::over_seeds_by_epoch(epochs)?;
    let (row, epoch) = (grouped.column("row")?.u32()?, grouped.column("epoch")?.u32()?);
    let mean = grouped.column("ap_mean")?.f64()?;
    let (smallest, largest) = (grouped.column("ap_min")?.f64()?, grouped.column("ap_max")?.f64()?);
    let mut curves = vec![Vec::new(); rows];
    for at in 0..grouped.height() {
        let values = (row.get(at), epoch.get(at), mean.get(at), smallest.get(at), largest.get(at));
        if let (Some(row), Some(epoch), Some(mean), Some(smallest), Some(largest)) = values {
            curves[row as usize].push(CurvePoint { epoch: epoch + 1, mean, smallest, largest });
        }
    }
    Ok(curves)
}

/// The last part of each dotted key, where that is enough to tell the keys apart.
fn short_names(keys: &[String]) -> Vec<String> {
    let last = |key: &str| key.rsplit('.').next().unwrap_or(key).to_owned();
    let names: Vec<String> = keys.iter().map(|key| last(key)).collect();
    if names.iter().collect::<BTreeSet<_>>().len() == names.len() { names } else { keys.to_vec() }
}

fn data(config: &Config) -> String {
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

fn budgets(experiment: &Experiment, rows: &[Row]) -> Vec<String> {
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
fn published(experiment: &Experiment, paper: &PaperTable) -> String {
    let rows: Vec<_> = experiment.rows.iter().map(|row| paper.row_for(&row.settings)).collect();
    let keys: BTreeSet<&String> = rows.iter().flatten().flat_map(|row| row.about.keys()).collect();
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
fn reused(frames: &Frames) -> BTreeMap<String, usize> {
    let mut reused = BTreeMap::new();
    for from in frames.origins.values().filter_map(|origin| origin.reused_from.as_ref()) {
        *reused.entry(from.clone()).or_insert(0) += 1;
    }
    reused
}

/// Each value once, in the order of first appearance.
fn distinct(values: impl Iterator<Item = String>) -> Vec<String> {
    let mut seen = Vec::new();
    for value in values {
        if !seen.contains(&value) {
            seen.push(value);
        }
    }
    seen
}

fn distinct_sorted<T: Ord>(values: impl Iterator<Item = T>) -> Vec<T> {
    values.collect::<BTreeSet<T>>().into_iter().collect()
}
