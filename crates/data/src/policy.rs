//! Which transforms a training sample goes through in which epoch (deim-facts 3.2).

use std::sync::Arc;

use deim_spec::config::{Augment, Config, MosaicSource, Phases};

use crate::dataset::Dataset;
use crate::draws::{Draws, epoch_order};
use crate::error::DataError;
use crate::sample::{Batch, Sample};
use crate::transforms::course::Course;
use crate::transforms::iou_crop::IouCrop;
use crate::transforms::mixup::{draw_beta, mixup};
use crate::transforms::mosaic::{Affine, canvas, stitch};
use crate::transforms::mosaic_cache::{History, MosaicCache};
use crate::transforms::multi_scale::{generate_scales, resize_batch};
use crate::transforms::photometric::Photometric;
use crate::transforms::resize::resize_shorter;
use crate::transforms::zoom_out::ZoomOut;

/// Pixels of the largest canvas of a mosaic, 800 MB. Images of usual shapes need a hundredth of it.
const LARGEST_CANVAS: usize = 1 << 28;

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
    cache: Arc<MosaicCache>,
}

/// What may happen to the images of an epoch; the flip always may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stage {
    /// An image becomes a mosaic, and then is neither zoomed out nor cropped.
    pub mosaic: bool,
    /// Photometric distortion, zoom-out, crop.
    pub strong: bool,
    pub mixup: bool,
    pub multi_scale: bool,
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
        if augment.mosaic_cache == 0 {
            return Err(DataError::config("augment.mosaic_cache", "at least 1 image", 0));
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
        let cache = Arc::new(MosaicCache::default());
        Ok(Self { augment, phases: config.phases(), input_size, scales, seed, cache })
    }

    /// What may happen to the images of an epoch.
    pub fn stage(&self, epoch: u32) -> Stage {
        let Phases { augment_start, flat, augment_end, stop, .. } = self.phases;
        let dense = (augment_start..flat).contains(&epoch);
        let strong = (augment_start..augment_end).contains(&epoch);
        Stage {
            mosaic: dense && strong && self.augment.mosaic > 0.0,
            strong,
            mixup: dense && self.augment.mixup > 0.0,
            multi_scale: !self.scales.is_empty() && epoch < stop,
        }
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
        let stage = self.stage(epoch);

        let is_mosaic = stage.mosaic && self.mosaic_draws(epoch, index).1;
        let own = dataset.sample(index)?;
        let sample = match is_mosaic {
            true => self.mosaic(dataset, epoch, index, &own)?,
            false => Sample::clone(&own),
        };

        let mut course = Course { flip: draws("flip").chance(augment.flip), ..Course::default() };
        if stage.strong {
            let mut photometric = draws("photometric");
            course.photometric = Some(Photometric::draw(augment.photometric, &mut photometric));
        }
        if stage.strong && !is_mosaic {
            let [width, height] = [sample.image.width, sample.image.height];
            let mut zoom_out = draws("zoom-out");
            course.zoom_out = ZoomOut::draw(width, height, augment.zoom_out, &mut zoom_out);
            let mut boxes = sample.boxes.clone();
            if let Some(zoom) = &course.zoom_out {
                zoom.shift(&mut boxes);
            }
            let canvas = course.frame(&sample.image);
            let size = [canvas.width, canvas.height];
            course.crop = IouCrop::draw(size, &boxes, augment.iou_crop, &mut draws("iou-crop"));
        }
        Ok(course.apply(sample, self.input_size))
    }

    /// The draws of an image's mosaic, after the one that decides whether it is one.
    fn mosaic_draws(&self, epoch: u32, index: usize) -> (Draws, bool) {
        let mut draws = Draws::new(self.seed, "mosaic", &[u64::from(epoch), index as u64]);
        let applies = draws.chance(self.augment.mosaic);
        (draws, applies)
    }

    /// The other images of the mosaic of the image at `index`, and the draws that follow: those of
    /// its affine map.
    pub fn mosaic_others(&self, images: usize, epoch: u32, index: usize) -> ([usize; 3], Draws) {
        let (mut draws, _) = self.mosaic_draws(epoch, index);
        let others = match self.augment.mosaic_source {
            MosaicSource::Others => std::array::from_fn(|_| draws.below(images)),
            MosaicSource::Cache => self.history(images, epoch).others(index),
            MosaicSource::Itself => [index; 3],
        };
        (others, draws)
    }

    fn history(&self, images: usize, epoch: u32) -> Arc<History> {
        self.cache.history(epoch, || {
            let order = epoch_order(self.seed, epoch, images);
            let draws = |index| Draws::new(self.seed, "mosaic-cache", &[epoch.into(), index]);
            let mosaic = |index| self.mosaic_draws(epoch, index).1;
            History::replay(&self.augment, &order, mosaic, draws)
        })
    }

    /// The mosaic of the image at `index`, mapped.
    fn mosaic(
        &self,
        dataset: &dyn Dataset,
        epoch: u32,
        index: usize,
        own: &Sample,
    ) -> Result<Sample, DataError> {
        let side = self.augment.mosaic_tile;
        let (others, mut draws) = self.mosaic_others(dataset.len(), epoch, index);
        let own = Arc::new(resize_shorter(own, side));
        let tile = |other: usize| -> Result<Arc<Sample>, DataError> {
            Ok(Arc::new(resize_shorter(&*dataset.sample(other)?, side)))
        };
        let [a, b, c] = match self.augment.mosaic_source {
            MosaicSource::Others => [tile(others[0])?, tile(others[1])?, tile(others[2])?],
            MosaicSource::Itself => [Arc::clone(&own), Arc::clone(&own), Arc::clone(&own)],
            MosaicSource::Cache => {
                let history = self.history(dataset.len(), epoch);
                let kept = |other| match other == index {
                    true => Ok(Arc::clone(&own)),
                    false => self.cache.tile(&history, index, other, tile),
                };
                self.cache.keep(&history, index, index, &own);
                [kept(others[0])?, kept(others[1])?, kept(others[2])?]
            }
        };
        let tiles = [&*own, &*a, &*b, &*c];
        let [width, height] = canvas(&tiles);
        if width.saturating_mul(height) > LARGEST_CANVAS {
            let images = tiles.map(|tile| tile.image_id);
            return Err(DataError::Mosaic { images, width, height, most: LARGEST_CANVAS });
        }
        let merged = stitch(&tiles);
        let affine = Affine::draw(merged.image.width, merged.image.height, &mut draws);
        Ok(affine.apply(merged))
    }

    /// The sizes that batches may have, each once, in order.
    pub fn sizes(&self) -> Vec<usize> {
        let mut sizes = self.scales.clone();
        sizes.push(self.input_size);
        sizes.sort_unstable();
        sizes.dedup();
        sizes
    }

    /// Mixup and multi-scale on a collated batch.
    pub fn batch(&self, mut batch: Batch, epoch: u32, step: u64) -> Batch {
        let draws = |what| Draws::new(self.seed, what, &[u64::from(epoch), step]);
        let stage = self.stage(epoch);
        let mut mix = draws("mixup");
        if stage.mixup && mix.chance(self.augment.mixup) {
            batch = mixup(batch, draw_beta(&mut mix));
        }
        if stage.multi_scale {
            let size = self.scales[draws("multi-scale").below(self.scales.len())];
            batch = resize_batch(batch, size);
        }
        batch
    }
}

#[cfg(test)]
#[path = "policy_tests.rs"]
mod tests;
