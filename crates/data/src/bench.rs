//! How fast images become batches, on one core: what `deim bench data` prints.

use std::sync::Arc;
use std::time::{Duration, Instant};

use deim_spec::Config;

use crate::dataset::Dataset;
use crate::error::DataError;
use crate::loader::{EvalLoader, TrainLoader};

/// Parts of the way from files to batches, each with those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Reading and decoding alone.
    Decode,
    /// Decoded, resized, stacked: what evaluation does.
    Evaluate,
    /// Photometric distortion, zoom-out, crop, flip, resize, and stacking.
    Base,
    /// The same with mosaic, mixup and multi-scale as the recipe has them.
    Dense,
}

impl Stage {
    pub const ALL: [Self; 4] = [Self::Decode, Self::Evaluate, Self::Base, Self::Dense];

    pub fn name(self) -> &'static str {
        match self {
            Self::Decode => "decode",
            Self::Evaluate => "evaluate",
            Self::Base => "base",
            Self::Dense => "dense",
        }
    }
}

/// What a stage did.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rate {
    pub stage: Stage,
    /// Images that came out.
    pub images: u64,
    pub seconds: f64,
}

impl Rate {
    pub fn per_second(&self) -> f64 {
        self.images as f64 / self.seconds.max(f64::MIN_POSITIVE)
    }
}

/// Goes through the data set, again and again, until `at_least` has passed. The first pass is not
/// counted, so that files are in the system's cache, as they are for the peer.
pub fn measure(
    dataset: &Arc<dyn Dataset>,
    config: &Config,
    stage: Stage,
    at_least: Duration,
) -> Result<Rate, DataError> {
    let mut config = config.clone();
    if stage == Stage::Base {
        config.augment.mosaic = 0.0;
        config.augment.mixup = 0.0;
        config.augment.multi_scale_repeat = 0;
    }
    // Dense O2O, as long as it lasts.
    let phases = config.phases();
    let epochs = phases.augment_start..phases.flat.max(phases.augment_start + 1);
    let train = TrainLoader::new(Arc::clone(dataset), &config, 0, 0)?;
    let evaluate = EvalLoader::new(Arc::clone(dataset), &config, 0)?;
    let pass = |epoch: u32| -> Result<u64, DataError> {
        let counted = |batches: crate::Batches| {
            batches.map(|batch| Ok(batch?.targets.len() as u64)).sum::<Result<u64, DataError>>()
        };
        match stage {
            Stage::Decode => (0..dataset.len()).map(|index| dataset.sample(index).map(|_| 1)).sum(),
            Stage::Evaluate => counted(evaluate.batches()),
            Stage::Base | Stage::Dense => counted(train.batches(epoch, 0)),
        }
    };
    pass(epochs.start)?;
    let mut rate = Rate { stage, images: 0, seconds: 0.0 };
    let start = Instant::now();
    for epoch in epochs.cycle() {
        rate.images += pass(epoch)?;
        if start.elapsed() >= at_least {
            break;
        }
    }
    rate.seconds = start.elapsed().as_secs_f64();
    Ok(rate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_stage_counts_the_images_that_come_out() {
        let mut config = Config::default();
        config.data.input_size = 64;
        config.data.batch_size = 4;
        config.data.synthetic.train_images = 10;
        config.data.synthetic.scene_size = 64;
        let splits = crate::open(&config.data, None).unwrap();
        for stage in Stage::ALL {
            let rate = measure(&splits.train, &config, stage, Duration::ZERO).unwrap();
            let is_trained = matches!(stage, Stage::Base | Stage::Dense);
            assert_eq!(rate.images, if is_trained { 8 } else { 10 }, "{}", stage.name());
            assert!(rate.per_second() > 0.0);
        }
    }
}
