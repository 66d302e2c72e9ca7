//! Each transform on one image or on a batch, with the draws that training would make.

use std::ops::Range;
use std::sync::Arc;

use deim_spec::config::Config;

use super::{Request, Shown, Transform};
use crate::dataset::Dataset;
use crate::draws::Draws;
use crate::error::DataError;
use crate::loader::{TrainLoader, collate};
use crate::policy::Policy;
use crate::sample::{Batch, Image, Sample, Target};
use crate::transforms::course::Course;
use crate::transforms::iou_crop::IouCrop;
use crate::transforms::mixup::{draw_beta, mixup};
use crate::transforms::mosaic::{Affine, merge};
use crate::transforms::multi_scale::{generate_scales, resize_batch};
use crate::transforms::photometric::Photometric;
use crate::transforms::resize::resize_shorter;
use crate::transforms::zoom_out::ZoomOut;

pub struct Stage<'a> {
    pub dataset: &'a Arc<dyn Dataset>,
    pub config: &'a Config,
    pub request: Request,
    pub policy: Policy,
}

impl Stage<'_> {
    /// The images of one training step, through the loader of training.
    pub fn batch(&self) -> Result<Vec<Shown>, DataError> {
        let Request { seed, epoch, first, count, .. } = self.request;
        let loader = TrainLoader::new(Arc::clone(self.dataset), self.config, seed, 0)?;
        let (step, steps) = (first as u64, loader.steps_per_epoch());
        let Some(batch) = loader.batches(epoch, step).next() else {
            return Err(DataError::Step { step, steps });
        };
        let batch = batch?;
        let order = loader.order(epoch);
        let indices = &order[first * batch.targets.len()..][..batch.targets.len()];
        indices
            .iter()
            .take(count)
            .enumerate()
            .map(|(place, &index)| {
                let own = self.policy.sample(&**self.dataset, epoch, index)?;
                let (image, target) = picture(&batch, place);
                let came = target.labels.len() - own.labels.len();
                Ok(Shown {
                    index,
                    image,
                    boxes: target.boxes,
                    labels: target.labels,
                    own: own.labels.len(),
                    dropped: own.dropped_boxes,
                    from: own.original_size,
                    drawn: match came {
                        0 => String::new(),
                        1 => "1 of them by mixup".to_owned(),
                        more => format!("{more} of them by mixup"),
                    },
                })
            })
            .collect()
    }

    /// Neighbours in the data set, mixed as if they were a batch.
    pub fn mixed(&self, range: Range<usize>) -> Result<Vec<Shown>, DataError> {
        let samples: Vec<Sample> = range
            .clone()
            .map(|index| Ok(self.through(Course::default(), &*self.dataset.sample(index)?)))
            .collect::<Result<_, DataError>>()?;
        let mut draws = self.draws("mixup", 0);
        draws.chance(1.0);
        let beta = draw_beta(&mut draws);
        let own: Vec<(usize, usize, [u32; 2])> =
            samples.iter().map(|s| (s.boxes.len(), s.dropped_boxes, s.original_size)).collect();
        let batch = mixup(collate(samples.into_iter().map(Ok), true, false)?, beta);
        let shown =
            range.clone().zip(own).enumerate().map(|(place, (index, (own, dropped, from)))| {
                let (image, Target { labels, boxes }) = picture(&batch, place);
                let other = if place == 0 { range.end - 1 } else { index - 1 };
                let drawn = format!("{beta:.3} of it, the rest of #{other}");
                Shown { index, image, boxes, labels, own, dropped, from, drawn }
            });
        Ok(shown.collect())
    }

    /// One image by itself.
    pub fn single(&self, index: usize) -> Result<Shown, DataError> {
        let source = self.dataset.sample(index)?;
        let (sample, drawn) = self.transformed(index, &source)?;
        Ok(Shown {
            index,
            own: sample.boxes.len(),
            dropped: sample.dropped_boxes,
            image: sample.image,
            boxes: sample.boxes,
            labels: sample.labels,
            from: source.original_size,
            drawn,
        })
    }

    fn transformed(&self, index: usize, source: &Sample) -> Result<(Sample, String), DataError> {
        let plain = Course::default();
        let size = [source.image.width, source.image.height];
        Ok(match self.request.transform {
            Transform::Resize => (self.through(plain, source), String::new()),
            Transform::Shorter => {
                (resize_shorter(source, self.config.augment.mosaic_tile), String::new())
            }
            Transform::Flip => {
                (self.through(Course { flip: true, ..plain }, source), String::new())
            }
            Transform::Photometric => {
                let drawn = Photometric::draw(1.0, &mut self.draws("photometric", index));
                let course = Course { photometric: Some(drawn), ..plain };
                (self.through(course, source), colours(&drawn))
            }
            Transform::ZoomOut => {
                let mut draws = self.draws("zoom-out", index);
                let zoom_out = ZoomOut::draw(size[0], size[1], 1.0, &mut draws);
                let drawn = zoom_out.map_or_else(String::new, |zoom| {
                    let ZoomOut { width, height, left, top } = zoom;
                    format!("canvas {width} x {height}, at {left}, {top}")
                });
                (self.through(Course { zoom_out, ..plain }, source), drawn)
            }
            Transform::IouCrop => {
                let mut draws = self.draws("iou-crop", index);
                let crop = IouCrop::draw(size, &source.boxes, 1.0, &mut draws);
                let drawn = match crop {
                    Some(IouCrop { left, top, width, height }) => {
                        format!("{width} x {height} from {left}, {top}")
                    }
                    None => "\"no crop\" was drawn".to_owned(),
                };
                (self.through(Course { crop, ..plain }, source), drawn)
            }
            Transform::Tiles => {
                let (merged, with, _) = self.tiles(index, source)?;
                (merged, with)
            }
            Transform::Mosaic => {
                let (merged, with, mut draws) = self.tiles(index, source)?;
                let map = Affine::draw(merged.image.width, merged.image.height, &mut draws);
                (mapped(map, merged), format!("{with}; {}", turned(&map)))
            }
            Transform::Affine => {
                // The turn and the scale of the mosaic of this image.
                let (_, mut draws) = self.others(index);
                let map = Affine::draw(size[0], size[1], &mut draws);
                (mapped(map, source.clone()), turned(&map))
            }
            Transform::MultiScale => {
                let side = self.config.data.input_size;
                let scales = generate_scales(side, self.config.augment.multi_scale_repeat.max(1));
                let size = scales[self.draws("multi-scale", index).below(scales.len())];
                let (least, most) =
                    scales.iter().fold((size, size), |(a, b), &s| (a.min(s), b.max(s)));
                if least == 0 {
                    let expected = "at least 43 pixels for multi-scale";
                    return Err(DataError::config("data.input_size", expected, side));
                }
                let sample = self.through(plain, source);
                let (dropped_boxes, labels) = (sample.dropped_boxes, sample.labels.clone());
                let batch = collate([Ok(sample)].into_iter(), true, false)?;
                let (image, Target { boxes, .. }) = picture(&resize_batch(batch, size), 0);
                let sample = Sample { image, boxes, labels, dropped_boxes, ..source.clone() };
                (sample, format!("one of {least} to {most}"))
            }
            Transform::Policy => {
                (self.policy.sample(&**self.dataset, self.request.epoch, index)?, String::new())
            }
            // The last two are not for single images.
            Transform::None | Transform::Mixup | Transform::Batch => {
                let objects = self.dataset.truth(index)?.objects.len();
                let unseen = match objects.saturating_sub(source.boxes.len()) {
                    0 => String::new(),
                    1 => "1 object is not trained on".to_owned(),
                    more => format!("{more} objects are not trained on"),
                };
                (source.clone(), unseen)
            }
        })
    }

    /// The draws of a transform for an image of the epoch.
    fn draws(&self, what: &str, index: usize) -> Draws {
        let epoch = u64::from(self.request.epoch);
        Draws::new(self.request.seed, what, &[epoch, index as u64])
    }

    fn through(&self, course: Course, source: &Sample) -> Sample {
        course.apply(source.clone(), self.config.data.input_size)
    }

    /// The other images of a mosaic, and the draws that follow.
    fn others(&self, index: usize) -> ([usize; 3], Draws) {
        self.policy.mosaic_others(self.dataset.len(), self.request.epoch, index)
    }

    fn tiles(&self, index: usize, own: &Sample) -> Result<(Sample, String, Draws), DataError> {
        let (others, draws) = self.others(index);
        let [a, b, c] = others;
        let samples = [self.dataset.sample(a)?, self.dataset.sample(b)?, self.dataset.sample(c)?];
        let tiles = [own, &samples[0], &samples[1], &samples[2]];
        let merged = merge(&tiles, self.config.augment.mosaic_tile);
        Ok((merged, format!("with #{a}, #{b}, #{c}"), draws))
    }
}

/// A mapped sample without the boxes that the map left thin or moved out: in training what follows
/// a mosaic drops them.
fn mapped(map: Affine, sample: Sample) -> Sample {
    let before = sample.boxes.len();
    let mut sample = map.apply(sample);
    let size = [sample.image.width, sample.image.height];
    crate::transforms::boxes::sanitize(&mut sample, size);
    sample.dropped_boxes += before - sample.boxes.len();
    sample
}

/// An image of a batch, and its objects in pixels.
pub fn picture(batch: &Batch, place: usize) -> (Image, Target) {
    let size = batch.size;
    let planes = &batch.images[place * 3 * size * size..][..3 * size * size];
    let pixels = (0..size * size)
        .flat_map(|at| [0, 1, 2].map(|channel| planes[channel * size * size + at]))
        .map(|value| (value * 255.0).round() as u8)
        .collect();
    let side = size as f32;
    let boxes = batch.targets[place].boxes.iter().map(|&[cx, cy, w, h]| {
        [cx - w / 2.0, cy - h / 2.0, cx + w / 2.0, cy + h / 2.0].map(|share| share * side)
    });
    let target = Target { labels: batch.targets[place].labels.clone(), boxes: boxes.collect() };
    (Image { width: size, height: size, pixels }, target)
}

fn turned(map: &Affine) -> String {
    let Affine { degrees, shift: [right, down], scale } = map;
    format!("{degrees:+.1} degrees, x {scale:.2}, {right:+}, {down:+}")
}

fn colours(drawn: &Photometric) -> String {
    let part = |name: &str, value: Option<f32>| value.map(|value| format!("{name} {value:.2}"));
    let channels = drawn.permutation.map(|order| {
        let names: String = order.iter().map(|&channel| ["R", "G", "B"][channel]).collect();
        format!("channels {names}")
    });
    let light = [part("brightness", drawn.brightness), part("contrast", drawn.contrast)];
    let hue = drawn.hue.map(|turns| format!("hue {turns:+.3}"));
    let colour = [part("saturation", drawn.saturation), hue, channels];
    let line = |parts: &[Option<String>]| -> String {
        parts.iter().flatten().cloned().collect::<Vec<_>>().join(", ")
    };
    [line(&light), line(&colour)].join("; ")
}
