//! Ledgers as polars frames: one row a planned cell, one row an epoch of it.
//!
//! Lines are matched with the plan by cell id alone. What the plan does not know is counted as
//! stale, what it expects and nobody finished stays null; neither can reach a number.

use std::collections::{BTreeMap, BTreeSet};

use deim_eval::Metrics;
use deim_lab::record::{Finished, Latency, Line, Provenance, Record};
use deim_train::events::EpochRecord;
use polars::prelude::*;

use crate::error::Error;

/// A cell that the experiment asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cell {
    /// Index of the experiment's row it belongs to.
    pub row: usize,
    pub seed: u64,
    pub id: String,
}

/// A column's name and how its value is read.
pub type MetricColumn = (&'static str, fn(&Metrics) -> Option<f64>);

/// The metrics of a finished cell, by the name of their column.
pub const METRICS: [MetricColumn; 12] = [
    ("ap", |metrics| metrics.ap),
    ("ap50", |metrics| metrics.ap50),
    ("ap75", |metrics| metrics.ap75),
    ("ap_small", |metrics| metrics.ap_small),
    ("ap_medium", |metrics| metrics.ap_medium),
    ("ap_large", |metrics| metrics.ap_large),
    ("ar1", |metrics| metrics.ar1),
    ("ar10", |metrics| metrics.ar10),
    ("ar100", |metrics| metrics.ar100),
    ("ar_small", |metrics| metrics.ar_small),
    ("ar_medium", |metrics| metrics.ar_medium),
    ("ar_large", |metrics| metrics.ar_large),
];

/// What is measured in every epoch, by the name of its column. Terms of the loss are summed over all
/// heads and denoising queries, weights included; a term that a recipe does not have is null.
pub const EPOCH_COLUMNS: [EpochColumn; 11] = [
    ("ap", |epoch| epoch.metrics.as_ref().and_then(|metrics| metrics.ap)),
    ("targets", |epoch| Some(epoch.targets_per_image)),
    ("positives", |epoch| Some(epoch.positives_per_image)),
    ("train", |epoch| Some(epoch.seconds.train)),
    ("wait", |epoch| Some(epoch.seconds.wait)),
    ("evaluate", |epoch| Some(epoch.seconds.evaluate)),
    ("loss_class", |epoch| term(epoch, &["mal", "vfl", "focal"])),
    ("loss_bbox", |epoch| term(epoch, &["bbox"])),
    ("loss_giou", |epoch| term(epoch, &["giou"])),
    ("loss_fgl", |epoch| term(epoch, &["fgl"])),
    ("loss_ddf", |epoch| term(epoch, &["ddf"])),
];

/// A column's name and how its value is read.
pub type EpochColumn = (&'static str, fn(&EpochRecord) -> Option<f64>);

/// The sum of the losses of these kinds; a loss is called `loss_KIND` or `loss_KIND_HEAD`.
fn term(epoch: &EpochRecord, kinds: &[&str]) -> Option<f64> {
    let kind = |name: &str| name.split('_').nth(1).is_some_and(|kind| kinds.contains(&kind));
    let terms = epoch.losses.iter().filter(|(name, _)| kind(name));
    terms.map(|(_, value)| *value).reduce(|sum, value| sum + value)
}

/// Columns that are averaged over seeds besides the metrics.
pub const OTHERS: [&str; 4] = ["best_ap", "best_epoch", "seconds", "steps"];

/// What the ledgers hold about the plan.
pub struct Frames {
    /// `row, seed, cell`, then the metrics and [`OTHERS`]: null where the cell is not finished.
    /// Sorted by row and seed.
    pub cells: DataFrame,
    /// `row, seed, epoch` of the finished cells' epochs and their [`EPOCH_COLUMNS`]. Sorted in that
    /// order.
    pub epochs: DataFrame,
    /// Where each finished cell came from.
    pub origins: BTreeMap<String, Provenance>,
    /// How fast each finished cell's detector is, and when that was measured: the last time counts.
    pub latencies: BTreeMap<String, (String, Latency)>,
    /// Finished cells that the plan does not know.
    pub stale: usize,
    /// Planned cells that finished twice with different numbers; the first line counts.
    pub contradicted: Vec<String>,
}

/// Reads the lines of one or more ledgers, in order.
pub fn read(plan: &[Cell], lines: &[Line]) -> Result<Frames, Error> {
    let planned: BTreeSet<&str> = plan.iter().map(|cell| cell.id.as_str()).collect();
    let mut finished: BTreeMap<&str, &Finished> = BTreeMap::new();
    let mut contradicted = BTreeSet::new();
    let mut stale = BTreeSet::new();
    for line in lines {
        let Record::Finished(result) = &line.record else { continue };
        if !planned.contains(line.cell.as_str()) {
            stale.insert(line.cell.as_str());
            continue;
        }
        let first = finished.entry(&line.cell).or_insert(result);
        if first.summary != result.summary {
            contradicted.insert(line.cell.clone());
        }
    }
    Ok(Frames {
        cells: cells(plan, &finished)?,
        epochs: epochs(plan, &finished, lines)?,
        origins: origins(&finished, lines)?,
        latencies: latencies(&finished, lines),
        stale: stale.len(),
        contradicted: contradicted.into_iter().collect(),
    })
}

/// Mean, sample standard deviation, smallest, largest and count over the seeds of each row, in
/// columns `NAME_mean`, `NAME_std`, ... A row without finished cells has count 0 and nulls.
pub fn over_seeds(cells: &DataFrame) -> Result<DataFrame, Error> {
    let columns = METRICS.iter().map(|(name, _)| *name).chain(OTHERS);
    let spread = columns.flat_map(|name| {
        [
            col(name).mean().alias(format!("{name}_mean")),
            col(name).std(1).alias(format!("{name}_std")),
            col(name).min().alias(format!("{name}_min")),
            col(name).max().alias(format!("{name}_max")),
            col(name).count().alias(format!("{name}_count")),
        ]
    });
    let grouped =
        cells.clone().lazy().group_by_stable([col("row")]).agg(spread.collect::<Vec<_>>());
    Ok(grouped.sort(["row"], SortMultipleOptions::default()).collect()?)
}

/// Mean, smallest and largest over the seeds of each row and epoch, in columns `NAME_mean`, `NAME_min`
/// and `NAME_max`.
pub fn over_seeds_by_epoch(epochs: &DataFrame) -> Result<DataFrame, Error> {
    let spread = EPOCH_COLUMNS.iter().flat_map(|(name, _)| {
        [
            col(*name).mean().alias(format!("{name}_mean")),
            col(*name).min().alias(format!("{name}_min")),
            col(*name).max().alias(format!("{name}_max")),
        ]
    });
    let grouped = epochs
        .clone()
        .lazy()
        .group_by_stable([col("row"), col("epoch")])
        .agg(spread.collect::<Vec<_>>());
    Ok(grouped.sort(["row", "epoch"], SortMultipleOptions::default()).collect()?)
}

fn cells(plan: &[Cell], finished: &BTreeMap<&str, &Finished>) -> Result<DataFrame, Error> {
    let results: Vec<&Finished> = finished.values().copied().collect();
    let mut columns =
        vec![Column::new("cell".into(), finished.keys().copied().collect::<Vec<_>>())];
    for (name, metric) in METRICS {
        let values: Vec<Option<f64>> =
            results.iter().map(|result| metric(&result.summary.last)).collect();
        columns.push(Column::new(name.into(), values));
    }
    let number = |value: fn(&Finished) -> Option<f64>| -> Vec<Option<f64>> {
        results.iter().map(|result| value(result)).collect()
    };
    columns.extend([
        Column::new("best_ap".into(), number(|result| result.summary.best.ap)),
        Column::new("best_epoch".into(), number(|result| Some(result.summary.best_epoch.into()))),
        Column::new("seconds".into(), number(|result| Some(result.seconds))),
        Column::new("steps".into(), number(|result| Some(result.summary.steps as f64))),
    ]);
    let results = DataFrame::new(finished.len(), columns)?;
    let joined = planned(plan)?
        .join(results.lazy(), [col("cell")], [col("cell")], JoinArgs::new(JoinType::Left))
        .sort(["row", "seed"], SortMultipleOptions::default());
    Ok(joined.collect()?)
}

/// Epochs of finished cells. A resumed cell may have written an epoch twice; the later line is the
/// one that its result follows from.
fn epochs(
    plan: &[Cell],
    finished: &BTreeMap<&str, &Finished>,
    lines: &[Line],
) -> Result<DataFrame, Error> {
    let mut done: BTreeMap<(&str, u32), &EpochRecord> = BTreeMap::new();
    for line in lines {
        if let (Record::Epoch(epoch), true) =
            (&line.record, finished.contains_key(line.cell.as_str()))
        {
            done.insert((&line.cell, epoch.epoch), epoch);
        }
    }
    let mut columns = vec![
        Column::new("cell".into(), done.keys().map(|(cell, _)| *cell).collect::<Vec<_>>()),
        Column::new("epoch".into(), done.keys().map(|(_, epoch)| *epoch).collect::<Vec<_>>()),
    ];
    for (name, value) in EPOCH_COLUMNS {
        let values: Vec<Option<f64>> = done.values().map(|epoch| value(epoch)).collect();
        columns.push(Column::new(name.into(), values));
    }
    let frame = DataFrame::new(done.len(), columns)?;
    let joined = frame
        .lazy()
        .join(planned(plan)?, [col("cell")], [col("cell")], JoinArgs::new(JoinType::Inner))
        .sort(["row", "seed", "epoch"], SortMultipleOptions::default());
    Ok(joined.collect()?)
}

/// The last process that worked on each finished cell.
fn origins(
    finished: &BTreeMap<&str, &Finished>,
    lines: &[Line],
) -> Result<BTreeMap<String, Provenance>, Error> {
    let mut origins = BTreeMap::new();
    for line in lines {
        if let Record::Started(origin) = &line.record
            && finished.contains_key(line.cell.as_str())
        {
            origins.insert(line.cell.clone(), (**origin).clone());
        }
    }
    match finished.keys().find(|cell| !origins.contains_key(**cell)) {
        Some(cell) => Err(Error::Refused(format!(
            "the ledger says that cell {cell} is finished, but not who started it: a line is lost"
        ))),
        None => Ok(origins),
    }
}

fn latencies(
    finished: &BTreeMap<&str, &Finished>,
    lines: &[Line],
) -> BTreeMap<String, (String, Latency)> {
    let measured = lines.iter().filter_map(|line| match &line.record {
        Record::Latency(latency) if finished.contains_key(line.cell.as_str()) => {
            Some((line.cell.clone(), (line.at.clone(), (**latency).clone())))
        }
        _ => None,
    });
    measured.collect()
}

fn planned(plan: &[Cell]) -> Result<LazyFrame, Error> {
    let frame = df!(
        "row" => plan.iter().map(|cell| cell.row as u32).collect::<Vec<_>>(),
        "seed" => plan.iter().map(|cell| cell.seed).collect::<Vec<_>>(),
        "cell" => plan.iter().map(|cell| cell.id.as_str()).collect::<Vec<_>>(),
    )?;
    Ok(frame.lazy())
}
