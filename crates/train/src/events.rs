//! What a training run tells its observer, in the order it happens.

use std::collections::BTreeMap;

use deim_eval::Metrics;
use serde::{Deserialize, Serialize};

use crate::pretrained::Fitted;

/// One thing that happened in a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Event {
    /// The run is about to make its first step.
    Started {
        epochs: u32,
        steps_per_epoch: u64,
        /// Epoch and step of the checkpoint it goes on from; none for a fresh run.
        resumed_at: Option<[u64; 2]>,
        /// What a fresh run took from a file; none where its weights are random or a checkpoint's.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pretrained: Option<Fitted>,
    },
    /// A first step at a size of the images, which is forgotten: a GPU prepares for each size once.
    Warming { size: usize, done: usize, of: usize },
    /// An optimizer step was made.
    Step { epoch: u32, step: u64, loss: f64, learning_rate: f64 },
    /// The averaged model is being evaluated.
    Evaluating { epoch: u32 },
    /// An epoch ended.
    Epoch(EpochRecord),
}

/// What one epoch gave. Everything but the seconds is a function of the cell.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct EpochRecord {
    /// Counted from 0.
    pub epoch: u32,
    pub steps: u64,
    /// Mean total loss over the epoch's steps.
    pub loss: f64,
    /// Mean of each weighted loss term over the epoch's steps, by its official name (`loss_mal_aux_0`).
    pub losses: BTreeMap<String, f64>,
    /// Base learning rate of the epoch's last step.
    pub learning_rate: f64,
    /// Mean targets an image, after augmentation.
    pub targets_per_image: f64,
    /// Mean positives an image: queries of the last layer matched to a target.
    pub positives_per_image: f64,
    /// COCO numbers of the averaged model; none when the epoch was not evaluated.
    pub metrics: Option<Metrics>,
    /// Whether the epoch began by going back to the best checkpoint of stage 1.
    pub reloaded_best: bool,
    /// Things that were dropped, skipped or replaced, with their counts.
    pub notes: BTreeMap<String, u64>,
    pub seconds: Seconds,
}

/// Where an epoch's time went.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Seconds {
    pub train: f64,
    pub evaluate: f64,
    /// Part of `train` spent waiting for the loader.
    pub wait: f64,
}

/// What a finished run gave.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// COCO numbers of the averaged model after the last epoch: what tables show.
    pub last: Metrics,
    /// The best epoch by AP on the validation split, shown beside the last, never instead of it.
    pub best: Metrics,
    pub best_epoch: u32,
    pub steps: u64,
    pub parameters: u64,
    /// blake3 of the final averaged weights file.
    pub weights: String,
    /// What tells two choices of GPU kernels apart; see `deim_lab::kernels`. None on the CPU.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kernels: Option<String>,
    /// What reading and decoding the data left out or changed, by split, with its counts.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub notes: BTreeMap<String, u64>,
}
