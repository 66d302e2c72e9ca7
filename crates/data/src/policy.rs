//! Which transforms a training sample goes through in which epoch (deim-facts 3.2).

use deim_spec::config::{Augment, Config, Phases};

use crate::dataset::Dataset;
use crate::draws::Draws;
use crate::error::DataError;
use crate::sample::{Batch, Sample};
use crate::transforms::boxes::{flip, sanitize};
use crate::transforms::iou_crop::IouCrop;
use crate::transforms::mixup::{draw_beta, mixup};
use crate::transforms::mosaic::{Affine, merge};
use crate::transforms::multi_scale::{generate_scales, resize_batch};
use crate::transforms::photometric::Photometric;
use crate::transforms::resize::resize;
use crate::transforms::zoom_out::ZoomOut;

/// The training transforms of one configuration and seed.
///
/// The draws of a sample are keyed by `(seed, transform, [epoch, index in the data set])`, those of
/// a batch by `(seed, transform, [epoch, step])`.
#[derive(Clone, Debug)]
pub struct Policy {
    augment: Augment,
    phases: Phases,
    input_size: usize,
    scales: Vec<usize>,
    seed: u64,
}

impl Policy {
    /// The policy of a configuration, or what in it no image can follow.
    pub fn new(config: &Config, seed: u64) -> Result<Self, DataError> {
        let augment = config.augment.clone();
        for (key, probability) in [
            ("augment.mosaic", augment.mosaic),
            ("augment.mixup", augment.mixup),
            ("augment.photometric", augment.photometric),
            ("augment.zoom_out", augment.zoom_out),
            ("augment.iou_crop", augment.iou_crop),
            ("augment.flip", augment.flip),
        ] {
            if !(0.0..=1.0).contains(&probability) {
                return Err(DataError::config(key, "a probability from 0 to 1", probability));
            }
        }
        if augment.mosaic_tile == 0 {
            return Err(DataError::config("augment.mosaic_tile", "at least 1 pixel", 0));
        }
        let input_size = config.data.input_size;
        if input_size == 0 {
            return Err(DataError::config("data.input_size", "at least 1 pixel", 0));
        }
        let scales = match augment.multi_scale_repeat {
            0 => Vec::new(),
            repeat => generate_scales(input_size, repeat),
        };
        if scales.contains(&0) {
            let expected = "at least 43 pixels for multi-scale (`augment.multi_scale_repeat` > 0), \
                            whose smallest size is a multiple of 32";
            return Err(DataError::config("data.input_size", expected, input_size));
        }
        Ok(Self { augment, phases: config.phases(), input_size, scales, seed })
    }

    /// Whether mosaic and mixup may happen.
    fn dense(&self, epoch: u32) -> bool {
        (self.phases.augment_start..self.phases.flat).contains(&epoch)
    }

    /// Whether photometric distortion, zoom-out and IoU crop may happen.
    fn strong(&self, epoch: u32) -> bool {
        (self.phases.augment_start..self.phases.augment_end).contains(&epoch)
    }

    /// The sample at `index` as training sees it in `epoch`: a square of the input size.
    pub fn sample(
        &self,
        dataset: &dyn Dataset,
        epoch: u32,
        index: usize,
    ) -> Result<Sample, DataError> {
        let augment = &self.augment;
        let draws = |what| Draws::new(self.seed, what, &[u64::from(epoch), index as u64]);
        let strong = self.strong(epoch);

        let mut mosaic = draws("mosaic");
        let is_mosaic = mosaic.chance(augment.mosaic) && self.dense(epoch) && strong;
        let own = dataset.sample(index)?;
        let mut sample = if is_mosaic {
            let mut other = || dataset.sample(mosaic.below(dataset.len()));
            let others = [other()?, other()?, other()?];
            let merged = merge([&own, &others[0], &others[1], &others[2]], augment.mosaic_tile);
            let affine = Affine::draw(merged.image.width, merged.image.height, &mut mosaic);
            affine.apply(merged)
        } else {
            Sample::clone(&own)
        };
        let present = sample.boxes.len();
        if strong {
            sample =
                Photometric::draw(augment.photometric, &mut draws("photometric")).apply(sample);
        }
        if strong && !is_mosaic {
            let [width, height] = [sample.image.width, sample.image.height];
            if let Some(zoom) =
                ZoomOut::draw(width, height, augment.zoom_out, &mut draws("zoom-out"))
            {
                sample = zoom.apply(sample);
            }
            if let Some(crop) = IouCrop::draw(&sample, augment.iou_crop, &mut draws("iou-crop")) {
                sample = crop.apply(sample);
            }
        }
        sample = sanitize(sample);
        if draws("flip").chance(augment.flip) {
            sample = flip(sample);
        }
        let mut sample = sanitize(resize(sample, self.input_size, self.input_size));
        // Only the crop and the sanitizer drop boxes, and nothing adds any.
        sample.dropped_boxes = present.saturating_sub(sample.boxes.len());
        Ok(sample)
    }

    /// Mixup and multi-scale on a collated batch.
    pub fn batch(&self, mut batch: Batch, epoch: u32, step: u64) -> Batch {
        let draws = |what| Draws::new(self.seed, what, &[u64::from(epoch), step]);
        let mut mix = draws("mixup");
        if mix.chance(self.augment.mixup) && self.dense(epoch) {
            batch = mixup(batch, draw_beta(&mut mix));
        }
        if !self.scales.is_empty() && epoch < self.phases.stop {
            let size = self.scales[draws("multi-scale").below(self.scales.len())];
            batch = resize_batch(batch, size);
        }
        batch
    }
}

#[cfg(test)]
#[path = "policy_tests.rs"]
mod tests;
