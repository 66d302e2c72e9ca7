//! From a resolved experiment and the lines of its ledgers to a study.

use std::collections::{BTreeMap, BTreeSet};

use deim_eval::paired::compare_pairs;
use deim_lab::record::{Latency, Line, Provenance, Record};
use deim_spec::{Experiment, cell_id};
use polars::prelude::*;

use crate::error::Error;
use crate::facts::{
    budgets, cost, data_name, data_sets, distinct_sorted, published, reused, short_names,
};
use crate::frame::{self, Cell, Frames, METRICS, OTHERS};
use crate::number::{list, short};
use crate::study::{Against, CellResult, CurvePoint, EpochMeans, Row, Spread, Study};

/// The seeds to make cells for: those that the experiment asks for, and those that any cell of the
/// ledger finished with.
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

/// The cells of every seed that any row has finished. A seed that only some rows have is missing in
/// the others; a seed that nobody began is not missing, but not begun.
fn begun(cells: &[Cell], lines: &[Line]) -> Vec<Cell> {
    let finished = finished(lines);
    let seeds: BTreeSet<u64> = cells
        .iter()
        .filter(|cell| finished.contains(cell.id.as_str()))
        .map(|cell| cell.seed)
        .collect();
    cells.iter().filter(|cell| seeds.contains(&cell.seed)).cloned().collect()
}

/// Everything that tables and figures show, from the cells of an experiment (for all [`seeds`]) and
/// the lines of its ledgers.
pub fn gather(experiment: &Experiment, cells: &[Cell], lines: &[Line]) -> Result<Study, Error> {
    let plan = begun(cells, lines);
    let frames = frame::read(&plan, lines)?;
    if frames.origins.is_empty() {
        return Err(Error::Nothing(nothing(experiment, &frames)));
    }
    same_computation(&frames)?;
    let spreads = spreads(&frames.cells, experiment.rows.len())?;
    let curves = curves(&frames.epochs, experiment.rows.len())?;
    let epochs = epochs(&frames.epochs, experiment.rows.len())?;
    let results = results(&frames.cells, experiment.rows.len())?;
    let latencies = results.iter().map(|cells| latency(cells, &frames)).collect();
    let by_seed: Vec<BTreeMap<u64, f64>> = results
        .iter()
        .map(|cells| cells.iter().filter_map(|cell| Some((cell.seed, cell.ap?))).collect())
        .collect();
    let references = &experiment.references;
    let compared = references.iter().enumerate().filter(|(row, reference)| row != *reference);
    let pairs = compared.map(|(row, reference)| (&by_seed[*reference], &by_seed[row]));
    let mut comparisons = compare_pairs(pairs).into_iter();
    let lines = curves.into_iter().zip(epochs);
    let parts = experiment.rows.iter().zip(spreads).zip(lines).zip(results).enumerate();
    let rows = parts.map(|(at, (((setting, spreads), (curve, epochs)), cells))| {
        let ap = spreads.get("ap").copied().unwrap_or_default();
        let against = match (at == references[at]).then_some(()) {
            None => comparisons.next().map_or(Against::Reference, Against::Compared),
            Some(()) => Against::Reference,
        };
        let paper = experiment.paper.as_ref().and_then(|paper| paper.row_for(&setting.settings));
        let doubts = paper.map(|row| row.suspicious.of("ap").collect::<Vec<_>>().join("; "));
        Row {
            labels: setting.settings.iter().map(|(_, label)| label.clone()).collect(),
            cells,
            ap,
            interval: ap.interval(),
            spreads,
            against,
            paper: paper.and_then(|row| row.ap),
            doubt: doubts.filter(|doubts| !doubts.is_empty()),
            curve,
            epochs,
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
        reference: experiment.reference,
        references: references.clone(),
        costs: experiment.rows.iter().map(|row| cost(experiment, &row.config)).collect(),
        latencies,
        published: experiment.paper.clone(),
        caveats: experiment.caveats.clone(),
        paper: experiment.paper.as_ref().map(|paper| published(experiment, paper)),
        data: data_sets(experiment, &frames),
        data_name: data_name(experiment, &frames),
        device_class: first.device_class.clone(),
        devices: distinct_sorted(origins().map(|origin| origin.device.clone())),
        programs: distinct_sorted(origins().map(|origin| origin.program.clone())),
        numerics: first.numerics,
        reused: reused(&frames),
        asked: experiment.seeds.len(),
        stale: frames.stale,
        contradicted: frames.contradicted,
    })
}

/// The latest measurement of any of a row's cells: weights do not change it.
fn latency(cells: &[CellResult], frames: &Frames) -> Option<Latency> {
    let measured = cells.iter().filter_map(|cell| frames.latencies.get(&cell.id));
    measured.max_by(|a, b| a.0.cmp(&b.0)).map(|(_, latency)| latency.clone())
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
            return Err(Error::Refused(format!(
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
        return Err(Error::Refused(format!("cells of {} cannot share a table", list(&classes))));
    }
    if numerics.len() > 1 {
        let versions: Vec<String> = numerics.iter().map(u32::to_string).collect();
        return Err(Error::Refused(format!(
            "cells of numerics versions {} cannot share a table",
            list(&versions)
        )));
    }
    Ok(())
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

/// The epochs of each row, averaged over its seeds.
fn epochs(epochs: &DataFrame, rows: usize) -> Result<Vec<Vec<EpochMeans>>, Error> {
    let grouped = frame::over_seeds_by_epoch(epochs)?;
    let (row, epoch) = (grouped.column("row")?.u32()?, grouped.column("epoch")?.u32()?);
    let mut means = vec![Vec::new(); rows];
    for at in 0..grouped.height() {
        let (Some(row), Some(epoch)) = (row.get(at), epoch.get(at)) else { continue };
        let mut values = BTreeMap::new();
        for (name, _) in frame::EPOCH_COLUMNS {
            if let Some(value) = grouped.column(&format!("{name}_mean"))?.f64()?.get(at) {
                values.insert(name, value);
            }
        }
        means[row as usize].push(EpochMeans { epoch: epoch + 1, values });
    }
    Ok(means)
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

#[cfg(test)]
mod tests {
    use deim_eval::paired::Verdict;

    use super::*;
    use crate::samples;

    fn study(experiment: &Experiment, lines: &[Line]) -> Result<Study, Error> {
        let cells = samples::cells(experiment, &seeds(experiment, lines), "cpu");
        gather(experiment, &cells, lines)
    }

    #[test]
    fn a_complete_ledger_gives_means_spreads_and_verdicts() {
        let experiment = samples::experiment();
        let study = study(&experiment, &samples::ledger(&experiment)).unwrap();
        assert_eq!((study.planned(), study.missing(), study.stale), (9, 0, 0));
        for (at, row) in study.rows.iter().enumerate() {
            let values: Vec<f64> = (0..3).map(|seed| samples::ap(at, seed)).collect();
            let mean = values.iter().sum::<f64>() / 3.0;
            let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
            assert!((row.ap.mean.unwrap() - mean).abs() < 1e-12);
            assert!((row.ap.deviation.unwrap() - (squares / 2.0).sqrt()).abs() < 1e-12);
            // Student's quantile for two degrees of freedom is 4.3027.
            let [low, high] = row.interval.unwrap();
            assert!((high - low - 2.0 * 4.302_652_73 * (squares / 2.0 / 3.0).sqrt()).abs() < 1e-8);
            assert_eq!(row.curve.len(), 2);
            assert_eq!(row.mean("ap75"), None);
        }
        assert_eq!(study.rows[1].against, Against::Reference);
        assert_eq!(study.rows[0].against.verdict(), Some(Verdict::CannotTell));
        assert_eq!(study.rows[2].against.verdict(), Some(Verdict::Worse));
        assert_eq!(
            study.rows.iter().map(|row| row.paper).collect::<Vec<_>>(),
            [Some(52.2), Some(52.4), None]
        );
        assert_eq!(study.paper.as_deref(), Some("gamma of MAL on COCO, epochs 24"));
    }

    #[test]
    fn the_order_of_the_lines_does_not_matter() {
        let experiment = samples::experiment();
        let lines = samples::ledger(&experiment);
        let before = study(&experiment, &lines).unwrap();
        // Cells finish in any order; the lines of each cell keep theirs.
        let turned: Vec<Line> = lines.chunks(4).rev().flatten().cloned().collect();
        assert_eq!(study(&experiment, &turned).unwrap(), before);
    }

    #[test]
    fn a_seed_that_only_some_rows_have_is_missing_in_the_others() {
        let experiment = samples::experiment();
        let mut lines = samples::ledger(&experiment);
        let extra = samples::cells(&experiment, &[7], "cpu");
        lines.extend(samples::finished(&experiment, &extra[0], "cpu", 0.31));
        let study = study(&experiment, &lines).unwrap();
        assert_eq!((study.planned(), study.missing()), (12, 2));
        assert_eq!(study.rows[0].ap.count, 4);
        assert_eq!(study.rows[1].missing(), 1);
        // The pairs are the common seeds.
        let Against::Compared(comparison) = &study.rows[0].against else { panic!() };
        assert_eq!(comparison.seeds, 3);
    }

    #[test]
    fn seeds_that_nobody_began_are_asked_for_but_not_missing() {
        let experiment = samples::experiment();
        let lines = samples::ledger(&Experiment { seeds: vec![0, 1], ..experiment.clone() });
        let study = study(&experiment, &lines).unwrap();
        assert_eq!((study.planned(), study.missing(), study.asked), (6, 0, 3));
    }

    #[test]
    fn stale_cells_are_counted_and_never_averaged() {
        let experiment = samples::experiment();
        let lines = samples::ledger(&experiment);
        let mut changed = experiment.clone();
        changed.rows[2].config.loss.alpha = 0.5;
        let study = study(&changed, &lines).unwrap();
        assert_eq!((study.stale, study.missing()), (3, 3));
        assert_eq!(study.rows[2].ap, Spread::default());

        for row in &mut changed.rows {
            row.config.epochs = 7;
        }
        let error = self::study(&changed, &lines).unwrap_err();
        assert!(matches!(error, Error::Nothing(_)));
        assert!(error.to_string().contains("none of the 9 finished cells"), "{error}");
    }

    #[test]
    fn a_cell_that_finished_twice_counts_once_and_is_named_if_it_disagrees() {
        let experiment = samples::experiment();
        let mut lines = samples::ledger(&experiment);
        let cells = samples::cells(&experiment, &[0], "cpu");
        lines.extend(samples::finished(&experiment, &cells[0], "cpu", samples::ap(0, 0)));
        assert_eq!(study(&experiment, &lines).unwrap().contradicted, [""; 0]);
        lines.extend(samples::finished(&experiment, &cells[0], "cpu", 0.9));
        let study = study(&experiment, &lines).unwrap();
        assert_eq!(study.contradicted, [cells[0].id.clone()]);
        assert_eq!(study.rows[0].cells[0].ap, Some(samples::ap(0, 0)));
    }

    #[test]
    fn the_latest_measurement_of_any_cell_is_the_latency_of_its_row() {
        let experiment = samples::experiment();
        let mut lines = samples::ledger(&experiment);
        assert!(!study(&experiment, &lines).unwrap().has_latencies());
        let cells = samples::cells(&experiment, &[0, 1], "cpu");
        let mut measured = |cell: &Cell, at: &str, median_ms| {
            let record = Record::Latency(Box::new(samples::latency(median_ms)));
            lines.push(Line { at: at.into(), cell: cell.id.clone(), record });
        };
        measured(&cells[1], "2026-01-02T00:00:00Z", 5.0);
        measured(&cells[0], "2026-01-01T00:00:00Z", 9.0);
        let stranger = Cell { id: "of another plan".into(), ..cells[2].clone() };
        measured(&stranger, "2026-01-03T00:00:00Z", 1.0);
        let study = study(&experiment, &lines).unwrap();
        let medians = study.latencies.iter().map(|one| one.as_ref().map(|one| one.median_ms));
        assert_eq!(medians.collect::<Vec<_>>(), [Some(5.0), None, None]);
        assert_eq!((study.missing(), study.stale), (0, 0), "a measurement is no result");
    }

    #[test]
    fn devices_and_edited_lines_are_refused() {
        let experiment = samples::experiment();
        let mut lines = samples::ledger(&experiment);
        let mut cells = samples::cells(&experiment, &[0, 1, 2], "cpu");
        cells.push(samples::cells(&experiment, &[3], "cuda").remove(0));
        lines.extend(samples::finished(&experiment, &cells[9], "cuda", 0.3));
        let error = gather(&experiment, &cells, &lines).unwrap_err().to_string();
        assert!(error.contains("cpu and cuda"), "{error}");

        let mut lines = samples::ledger(&experiment);
        if let Record::Started(origin) = &mut lines[0].record {
            origin.numerics = 2;
        }
        let error = study(&experiment, &lines).unwrap_err().to_string();
        assert!(error.contains("does not follow"), "{error}");
    }

    #[test]
    fn a_result_without_a_beginning_is_refused() {
        let experiment = samples::experiment();
        let lines = samples::ledger(&experiment).split_off(1);
        let error = study(&experiment, &lines).unwrap_err().to_string();
        assert!(error.contains("a line is lost"), "{error}");
    }
}
