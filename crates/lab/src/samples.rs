//! Small records for this crate's tests.

use std::collections::BTreeMap;

use deim_spec::{Config, Recorded};
use deim_train::events::{EpochRecord, Seconds, Summary};

use crate::record::{Finished, Latency, Line, Provenance, Record};

/// Where the sample cell comes from.
pub fn provenance() -> Provenance {
    Provenance {
        experiment: "gamma".into(),
        scale: "mini".into(),
        settings: BTreeMap::from([("loss.gamma".into(), "1.5".into())]),
        seed: 0,
        config: Recorded::from(&Config::default()),
        manifest: "m".into(),
        data: None,
        pretrained: None,
        numerics: 1,
        device_class: "cpu".into(),
        device: "Flex".into(),
        threads: 1,
        program: "deim 0".into(),
        resumed_at: None,
        reused_from: None,
    }
}

/// A result.
pub fn finished(seconds: f64) -> Finished {
    Finished {
        summary: Summary {
            last: Default::default(),
            best: Default::default(),
            best_epoch: 0,
            steps: 1,
            parameters: 1,
            weights: "w".into(),
            kernels: None,
            notes: BTreeMap::new(),
        },
        seconds,
    }
}

/// A measured speed.
pub fn latency(median_ms: f64) -> Latency {
    Latency {
        median_ms,
        quartiles_ms: [median_ms, median_ms],
        runs: 50,
        batch: 1,
        size: 160,
        classes: 8,
        precision: "float32".into(),
        device_class: "cpu".into(),
        device: "a processor".into(),
        threads: 1,
        program: "deim 0".into(),
    }
}

/// The lines of a cell that was trained for one epoch and finished.
pub fn finished_lines(cell: &str, provenance: Provenance) -> Vec<Line> {
    let seconds = Seconds { train: 8.0, evaluate: 2.0, wait: 0.0 };
    [
        Record::Started(Box::new(provenance)),
        Record::Epoch(Box::new(EpochRecord { seconds, ..Default::default() })),
        Record::Finished(Box::new(finished(10.0))),
    ]
    .map(|record| Line { at: "2025-01-01T00:00:00Z".into(), cell: cell.into(), record })
    .into()
}
