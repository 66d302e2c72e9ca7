//! What the lines of a ledger say about each cell, taken together.

use std::collections::BTreeMap;

use deim_train::events::EpochRecord;

use crate::record::{Finished, Latency, Line, Provenance, Record};

/// The life of one cell.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// The process that worked on it last.
    pub provenance: Option<Provenance>,
    /// When its first process began.
    pub began: Option<String>,
    /// When the last thing happened to it, measurements of its speed aside.
    pub last: String,
    /// How many processes worked on it.
    pub processes: usize,
    /// Epochs that ended. A resumed cell repeats the epoch it was killed in: the later record
    /// stands, since the result follows from it.
    pub epochs: BTreeMap<u32, EpochRecord>,
    /// Seconds of training and evaluation over all processes, repeated epochs included.
    pub seconds: f64,
    /// The first result; a cell has one.
    pub finished: Option<Finished>,
    /// The last measurement of its detector's speed.
    pub latency: Option<Latency>,
    /// Why the last process failed; none once another has begun.
    pub failed: Option<Failure>,
}

/// How a process failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    pub reason: String,
    /// A signal ended it; see [`Record::Failed`].
    pub killed: bool,
}

impl History {
    fn add(&mut self, line: &Line) {
        if !matches!(line.record, Record::Latency(_)) {
            self.last.clone_from(&line.at);
        }
        match &line.record {
            Record::Started(provenance) => {
                self.began.get_or_insert_with(|| line.at.clone());
                self.provenance = Some((**provenance).clone());
                self.processes += 1;
                self.failed = None;
            }
            Record::Epoch(epoch) => {
                self.seconds += epoch.seconds.train + epoch.seconds.evaluate;
                self.epochs.insert(epoch.epoch, (**epoch).clone());
            }
            Record::Finished(finished) => {
                self.finished.get_or_insert_with(|| (**finished).clone());
                self.failed = None;
            }
            Record::Latency(latency) => self.latency = Some((**latency).clone()),
            Record::Failed { reason, killed } => {
                self.failed = Some(Failure { reason: reason.clone(), killed: *killed });
            }
        }
    }

    /// Epochs that need not be trained again: one more than the last that ended.
    pub fn epochs_done(&self) -> u32 {
        self.epochs.keys().next_back().map_or(0, |epoch| epoch + 1)
    }
}

/// The history of every cell in a ledger, by id.
pub fn by_cell(lines: &[Line]) -> BTreeMap<String, History> {
    let mut histories: BTreeMap<String, History> = BTreeMap::new();
    for line in lines {
        histories.entry(line.cell.clone()).or_default().add(line);
    }
    histories
}

/// The history of one cell.
pub fn of_cell(lines: &[Line], cell: &str) -> History {
    let mut history = History::default();
    for line in lines.iter().filter(|line| line.cell == cell) {
        history.add(line);
    }
    history
}

#[cfg(test)]
mod tests {
    use deim_train::events::Seconds;

    use super::*;

    fn line(record: Record) -> Line {
        Line { at: "2025-01-01T00:00:00Z".into(), cell: "a".into(), record }
    }

    fn epoch(number: u32, loss: f64) -> Line {
        let seconds = Seconds { train: 2.0, evaluate: 1.0, wait: 0.5 };
        line(Record::Epoch(Box::new(EpochRecord {
            epoch: number,
            loss,
            seconds,
            ..Default::default()
        })))
    }

    #[test]
    fn a_repeated_epoch_is_replaced_and_its_time_is_paid_twice() {
        let lines = [epoch(0, 9.0), epoch(1, 8.0), epoch(1, 7.0)];
        let history = of_cell(&lines, "a");
        assert_eq!(history.epochs_done(), 2);
        assert_eq!(history.epochs[&1].loss, 7.0);
        assert_eq!(history.seconds, 9.0);
    }

    #[test]
    fn a_later_latency_replaces_an_earlier_one_and_the_cell_is_no_younger() {
        let lines = crate::samples::finished_lines("a", crate::samples::provenance());
        let mut all = lines.clone();
        for median_ms in [3.0, 2.0] {
            let at = "2026-01-01T00:00:00Z".into();
            let record = Record::Latency(Box::new(crate::samples::latency(median_ms)));
            all.push(Line { at, cell: "a".into(), record });
        }
        let history = of_cell(&all, "a");
        assert_eq!(history.latency.as_ref().map(|latency| latency.median_ms), Some(2.0));
        let before = of_cell(&lines, "a");
        assert_eq!((history.last, history.finished), (before.last, before.finished));
    }

    #[test]
    fn a_failure_lasts_until_something_better_happens() {
        let failed = line(Record::Failed { reason: "no".into(), killed: false });
        assert!(of_cell(std::slice::from_ref(&failed), "a").failed.is_some());
        let lines = [failed, line(Record::Started(Box::new(crate::samples::provenance())))];
        assert!(of_cell(&lines, "a").failed.is_none());
        assert_eq!(by_cell(&lines).len(), 1);
    }
}
