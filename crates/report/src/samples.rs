//! A small experiment and its ledger, for this crate's tests.

use std::collections::BTreeMap;

use deim_eval::Metrics;
use deim_lab::record::{Finished, Latency, Line, Provenance, Record};
use deim_spec::{Axis, Config, Experiment, PaperRow, PaperTable, Recorded, Row, cell_id};
use deim_train::events::{EpochRecord, Summary};

use crate::frame::Cell;
use crate::gather::{gather, seeds};
use crate::study::Study;

const GAMMAS: [f64; 3] = [1.3, 1.5, 2.0];

/// Three gammas, three seeds; the paper has the first two gammas.
pub fn experiment() -> Experiment {
    let rows = GAMMAS.map(|gamma| {
        let mut config = Config::default();
        config.loss.gamma = gamma;
        let settings = vec![("loss.gamma".to_owned(), format!("{gamma:?}"))];
        Row { settings, config, provenance: BTreeMap::new() }
    });
    let published = [(1.3, 52.2), (1.5, 52.4)].map(|(gamma, ap)| PaperRow {
        settings: BTreeMap::from([("loss.gamma".to_owned(), gamma.into())]),
        about: BTreeMap::from([("epochs".to_owned(), 24.into())]),
        ap: Some(ap),
        ap50: None,
        ap75: None,
        ap_small: None,
        ap_medium: None,
        ap_large: None,
        source: None,
        suspicious: Default::default(),
        unknown: None,
    });
    Experiment {
        name: "gamma".into(),
        aliases: vec![],
        path: "experiments/gamma.toml".into(),
        title: "Effect of gamma".into(),
        question: "Does gamma matter?".into(),
        scale: "mini".into(),
        scales: vec!["mini".into()],
        axes: vec![Axis {
            name: "loss.gamma".into(),
            labels: GAMMAS.map(|gamma| format!("{gamma:?}")).into(),
        }],
        rows: rows.into(),
        reference: 1,
        references: vec![1; GAMMAS.len()],
        seeds: vec![0, 1, 2],
        paper: Some(PaperTable {
            title: "gamma of MAL on COCO".into(),
            source: "the paper".into(),
            rows: published.into(),
        }),
        expects: None,
        caveats: vec![],
    }
}

/// The cells of the experiment with these seeds, on this device class.
pub fn cells(experiment: &Experiment, seeds: &[u64], class: &str) -> Vec<Cell> {
    let rows = experiment.rows.iter().enumerate();
    rows.flat_map(|(row, spec)| {
        seeds.iter().map(move |&seed| Cell {
            row,
            seed,
            id: cell_id(&spec.config, seed, "scenes", 1, class),
        })
    })
    .collect()
}

/// An AP for a row and a seed: gamma 2.0 is clearly worse than the others.
pub fn ap(row: usize, seed: u64) -> f64 {
    0.3 + [0.001, 0.0, -0.04][row]
        + 0.01 * seed as f64
        + 0.001 * ((row as u64 * 7 + seed * 5) % 4) as f64
}

/// The lines of a finished cell: two epochs and a result.
pub fn finished(experiment: &Experiment, cell: &Cell, class: &str, ap: f64) -> Vec<Line> {
    let metrics = |ap: f64| Metrics {
        ap: Some(ap),
        ap50: Some(ap * 1.5),
        ap_small: Some(ap / 2.0),
        ..Metrics::default()
    };
    let spec = &experiment.rows[cell.row];
    let provenance = Provenance {
        experiment: experiment.name.clone(),
        scale: experiment.scale.clone(),
        settings: spec.settings.iter().cloned().collect(),
        seed: cell.seed,
        config: Recorded::from(&spec.config),
        manifest: "scenes".into(),
        data: None,
        pretrained: None,
        numerics: 1,
        device_class: class.into(),
        device: "a processor".into(),
        threads: 1,
        program: "deim 0".into(),
        resumed_at: None,
        reused_from: None,
    };
    let epoch = |epoch: u32, share: f64| {
        let metrics = Some(metrics(ap * share));
        Record::Epoch(Box::new(EpochRecord { epoch, metrics, ..EpochRecord::default() }))
    };
    let summary = Summary {
        last: metrics(ap),
        best: metrics(ap + 0.001),
        best_epoch: 1,
        steps: 64,
        parameters: 1000,
        weights: "w".into(),
        kernels: None,
        notes: BTreeMap::new(),
    };
    [
        Record::Started(Box::new(provenance)),
        epoch(0, 0.5),
        epoch(1, 1.0),
        Record::Finished(Box::new(Finished { summary, seconds: 61.0 + cell.seed as f64 })),
    ]
    .map(|record| Line { at: "2025-01-01T00:00:00Z".into(), cell: cell.id.clone(), record })
    .into()
}

/// A measured speed.
pub fn latency(median_ms: f64) -> Latency {
    Latency {
        median_ms,
        quartiles_ms: [median_ms; 2],
        runs: 50,
        batch: 1,
        size: 160,
        classes: 8,
        precision: "float32".into(),
        device_class: "cpu".into(),
        device: "a processor".into(),
        threads: 2,
        program: "deim 0".into(),
    }
}

/// A complete ledger.
pub fn ledger(experiment: &Experiment) -> Vec<Line> {
    let cells = cells(experiment, &experiment.seeds, "cpu");
    cells
        .iter()
        .flat_map(|cell| finished(experiment, cell, "cpu", ap(cell.row, cell.seed)))
        .collect()
}

/// What the experiment and its ledger give.
pub fn study() -> Study {
    let (experiment, ledger) = (experiment(), ledger(&experiment()));
    let cells = cells(&experiment, &seeds(&experiment, &ledger), "cpu");
    gather(&experiment, &cells, &ledger).expect("the samples fit together")
}
