//! From a data set to batches: shuffled and augmented for training, plain and in order for evaluation.

use std::sync::Arc;

use deim_spec::config::Config;

use crate::batches::{Batches, Make};
use crate::dataset::Dataset;
use crate::draws::epoch_order;
use crate::error::DataError;
use crate::planes::Planes;
use crate::policy::Policy;
use crate::sample::{Batch, Bytes, Image, Sample, Target};
use crate::transforms::resize::resize_image;
use crate::transforms::tensor;

/// The training batches of one cell. A batch is a function of `(seed, epoch, step)` alone.
pub struct TrainLoader {
    dataset: Arc<dyn Dataset>,
    policy: Arc<Policy>,
    batch_size: usize,
    seed: u64,
    workers: usize,
    bytes: bool,
}

impl TrainLoader {
    /// `seed` is the cell's; `workers` threads make batches ahead, none makes them inline.
    pub fn new(
        dataset: Arc<dyn Dataset>,
        config: &Config,
        seed: u64,
        workers: usize,
    ) -> Result<Self, DataError> {
        let batch_size = config.data.batch_size;
        if batch_size == 0 {
            return Err(DataError::config("data.batch_size", "at least 1 image", 0));
        }
        if dataset.len() < batch_size {
            return Err(DataError::FewerThanABatch { images: dataset.len(), batch_size });
        }
        let policy = Arc::new(Policy::new(config, seed)?);
        Ok(Self { dataset, policy, batch_size, seed, workers, bytes: false })
    }

    /// The same, with images as bytes or as numbers.
    pub fn as_bytes(self, bytes: bool) -> Self {
        Self { bytes, ..self }
    }

    /// The sizes that batches may have, each once, in order.
    pub fn sizes(&self) -> Vec<usize> {
        self.policy.sizes()
    }

    /// Full batches in an epoch; images that fill no batch sit this epoch out.
    pub fn steps_per_epoch(&self) -> u64 {
        (self.dataset.len() / self.batch_size) as u64
    }

    /// The images of an epoch in the order in which its batches take them.
    pub fn order(&self, epoch: u32) -> Vec<usize> {
        epoch_order(self.seed, epoch, self.dataset.len())
    }

    /// The batches of `epoch` from `from_step` on, in order.
    pub fn batches(&self, epoch: u32, from_step: u64) -> Batches {
        let order = self.order(epoch);
        let (dataset, policy) = (Arc::clone(&self.dataset), Arc::clone(&self.policy));
        let (batch_size, bytes) = (self.batch_size, self.bytes);
        let make: Make = Arc::new(move |step| {
            let samples = order[step as usize * batch_size..][..batch_size]
                .iter()
                .map(|&index| policy.sample(&*dataset, epoch, index));
            Ok(policy.batch(collate(samples, true, bytes)?, epoch, step))
        });
        let end = self.steps_per_epoch();
        Batches::start(make, from_step.min(end)..end, self.workers)
    }
}

/// The images of a split in order, resized to the model's input and nothing else.
pub struct EvalLoader {
    dataset: Arc<dyn Dataset>,
    batch_size: usize,
    input_size: usize,
    workers: usize,
    bytes: bool,
}

impl EvalLoader {
    pub fn new(
        dataset: Arc<dyn Dataset>,
        config: &Config,
        workers: usize,
    ) -> Result<Self, DataError> {
        let (batch_size, input_size) = (config.data.eval_batch_size, config.data.input_size);
        if batch_size == 0 {
            return Err(DataError::config("data.eval_batch_size", "at least 1 image", 0));
        }
        if input_size == 0 {
            return Err(DataError::config("data.input_size", "at least 1 pixel", 0));
        }
        Ok(Self { dataset, batch_size, input_size, workers, bytes: false })
    }

    /// The same, with images as bytes or as numbers.
    pub fn as_bytes(self, bytes: bool) -> Self {
        Self { bytes, ..self }
    }

    /// Number of batches, of which the last may be smaller.
    pub fn steps(&self) -> u64 {
        self.dataset.len().div_ceil(self.batch_size) as u64
    }

    /// All images in the order of the data set. Targets are empty: evaluation reads
    /// [`Dataset::truth`], in pixels of the original image.
    pub fn batches(&self) -> Batches {
        let dataset = Arc::clone(&self.dataset);
        let (batch_size, side, bytes) = (self.batch_size, self.input_size, self.bytes);
        let make: Make = Arc::new(move |step| {
            let first = step as usize * batch_size;
            let samples = (first..dataset.len().min(first + batch_size)).map(|index| {
                let source = dataset.sample(index)?;
                Ok(evaluated(&source.image, side, source.image_id, source.original_size))
            });
            collate(samples, false, bytes)
        });
        Batches::start(make, 0..self.steps(), self.workers)
    }
}

/// A batch of one image, as evaluation would see it, for a model with inputs of this side.
pub fn single(image: &Image, side: usize) -> Result<Batch, DataError> {
    let size = [image.width as u32, image.height as u32];
    collate(std::iter::once(Ok(evaluated(image, side, 0, size))), false, false)
}

/// An image resized to the model's input and nothing else.
fn evaluated(image: &Image, side: usize, image_id: i64, original_size: [u32; 2]) -> Sample {
    Sample {
        image: resize_image(image, side, side),
        boxes: Vec::new(),
        labels: Vec::new(),
        image_id,
        original_size,
        dropped_boxes: 0,
    }
}

/// Stacks square samples of one size.
pub(crate) fn collate(
    samples: impl ExactSizeIterator<Item = Result<Sample, DataError>>,
    with_targets: bool,
    bytes: bool,
) -> Result<Batch, DataError> {
    let count = samples.len();
    let mut batch = Batch {
        images: Planes::default(),
        bytes: None,
        size: 0,
        targets: Vec::with_capacity(count),
        image_ids: Vec::with_capacity(count),
        original_sizes: Vec::with_capacity(count),
        dropped_boxes: 0,
    };
    for (position, sample) in samples.enumerate() {
        let sample = sample?;
        let volume = sample.image.pixels.len();
        if position == 0 {
            batch.size = sample.image.width;
            // The loop writes every number.
            match bytes {
                true => {
                    let (planes, side) = (vec![0; count * volume], batch.size);
                    batch.bytes = Some(Bytes { planes, side, own_share: None });
                }
                false => batch.images = Planes::filled(count * volume, |_| ()),
            }
        }
        match &mut batch.bytes {
            Some(Bytes { planes, .. }) => {
                tensor::write_bytes(&sample.image, &mut planes[position * volume..][..volume]);
            }
            None => {
                tensor::write_chw(&sample.image, &mut batch.images[position * volume..][..volume]);
            }
        }
        batch.targets.push(if with_targets { tensor::target(&sample) } else { Target::default() });
        batch.image_ids.push(sample.image_id);
        batch.original_sizes.push(sample.original_size);
        batch.dropped_boxes += sample.dropped_boxes;
    }
    Ok(batch)
}

#[cfg(test)]
#[path = "loader_tests.rs"]
mod tests;
