//! What an epoch adds up while it is under way, and the record made of it.

use std::collections::BTreeMap;

use deim_data::Batch;
use deim_eval::Metrics;
use serde::{Deserialize, Serialize};

use crate::events::{EpochRecord, Seconds};
use crate::step::StepResult;

/// The note of boxes that crops and the sanitizer lost.
const DROPPED_BOXES: &str = "boxes dropped by augmentation";
/// See [`deim_ops::faults`]: harmless where autotune discarded a candidate, else not.
const FAULTS: &str = "panics of a GPU's thread";

/// The sums of an epoch that is under way; part of its checkpoint.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct EpochSums {
    pub loss: f64,
    pub losses: BTreeMap<String, f64>,
    pub images: u64,
    pub targets: u64,
    pub positives: u64,
    pub learning_rate: f64,
    pub reloaded_best: bool,
    pub notes: BTreeMap<String, u64>,
}

impl EpochSums {
    /// Adds a step at this base learning rate.
    pub fn add(&mut self, result: StepResult, batch: &Batch, learning_rate: f64) {
        self.loss += result.loss;
        for (name, value) in result.terms {
            *self.losses.entry(name).or_default() += value;
        }
        self.images += batch.targets.len() as u64;
        self.targets += batch.targets.iter().map(|target| target.labels.len() as u64).sum::<u64>();
        self.positives += result.positives as u64;
        self.learning_rate = learning_rate;
        let dropped = (DROPPED_BOXES.to_owned(), batch.dropped_boxes as u64);
        let dropped = (dropped.1 > 0).then_some(dropped);
        for (note, count) in result.notes.into_iter().chain(dropped) {
            *self.notes.entry(note).or_default() += count;
        }
    }

    /// Counts panics of the devices' threads, after which a number may mean nothing.
    pub fn fault(&mut self, count: u64) {
        if count > 0 {
            *self.notes.entry(FAULTS.to_owned()).or_default() += count;
        }
    }

    /// The record of a whole epoch.
    pub fn record(
        &self,
        epoch: u32,
        steps: u64,
        metrics: Option<Metrics>,
        seconds: Seconds,
    ) -> EpochRecord {
        let images = self.images.max(1) as f64;
        let mean = |sum: f64| sum / steps as f64;
        EpochRecord {
            epoch,
            steps,
            loss: mean(self.loss),
            losses: self.losses.iter().map(|(name, &sum)| (name.clone(), mean(sum))).collect(),
            learning_rate: self.learning_rate,
            targets_per_image: self.targets as f64 / images,
            positives_per_image: self.positives as f64 / images,
            metrics,
            reloaded_best: self.reloaded_best,
            notes: self.notes.clone(),
            seconds,
        }
    }
}

#[cfg(test)]
mod tests {
    use deim_data::Target;

    use super::*;

    fn batch(dropped_boxes: usize) -> Batch {
        let target = Target { labels: vec![0, 1], boxes: vec![[0.5; 4]; 2] };
        Batch {
            images: Default::default(),
            bytes: None,
            size: 0,
            targets: vec![target, Target::default()],
            image_ids: vec![0, 1],
            original_sizes: vec![[1, 1]; 2],
            dropped_boxes,
        }
    }

    #[test]
    fn a_record_has_the_means_and_counts_of_its_steps() {
        let mut sums = EpochSums::default();
        for (loss, dropped) in [(2.0, 0), (4.0, 3), (6.0, 4)] {
            let result = StepResult {
                loss,
                terms: vec![("loss_mal".into(), loss)],
                positives: 2,
                notes: BTreeMap::from([("costs_not_a_number".into(), 1)]),
            };
            sums.add(result, &batch(dropped), 1e-3);
        }
        let record = sums.record(7, 3, None, Seconds::default());
        assert_eq!((record.loss, record.losses["loss_mal"]), (4.0, 4.0));
        assert_eq!((record.targets_per_image, record.positives_per_image), (1.0, 1.0));
        assert_eq!(record.notes[DROPPED_BOXES], 7);
        assert_eq!(record.notes["costs_not_a_number"], 3);
    }

    #[test]
    fn an_epoch_that_dropped_nothing_notes_nothing() {
        let mut sums = EpochSums::default();
        let result = StepResult { loss: 1.0, terms: vec![], positives: 0, notes: BTreeMap::new() };
        sums.add(result, &batch(0), 1e-3);
        assert!(sums.notes.is_empty());
    }
}
