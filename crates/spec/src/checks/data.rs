//! Rules of `[data]` and `[augment]`.

use super::Checker;
use crate::config::{Config, Source};

impl Checker {
    pub(super) fn data(&mut self, config: &Config) {
        let data = &config.data;
        self.at_least("data.batch_size", data.batch_size as u64, 1);
        self.at_least("data.eval_batch_size", data.eval_batch_size as u64, 1);
        // The coarsest level has stride 32.
        let fits = data.input_size > 0 && data.input_size.is_multiple_of(32);
        self.must("data.input_size", data.input_size, fits, "a multiple of 32");
        if data.source == Source::Synthetic {
            self.scenes(config);
        }
    }

    /// The scenes, where there are any: how many images a folder holds is known when it is read.
    fn scenes(&mut self, config: &Config) {
        let data = &config.data;
        let scenes = &data.synthetic;
        self.at_least("data.synthetic.train_images", scenes.train_images as u64, 1);
        self.at_least("data.synthetic.val_images", scenes.val_images as u64, 1);
        self.at_least("data.synthetic.scene_size", scenes.scene_size as u64, 1);
        if scenes.min_objects > scenes.max_objects {
            self.relation(
                "fewest objects are more than most objects".into(),
                &[
                    ("data.synthetic.min_objects", format!("at least {}", scenes.min_objects)),
                    ("data.synthetic.max_objects", format!("at most {}", scenes.max_objects)),
                ],
                None,
            );
        }
        // An incomplete last batch is dropped, so a smaller split would leave no step at all.
        if data.batch_size > scenes.train_images && scenes.train_images > 0 {
            self.relation(
                "a batch needs more images than there are".into(),
                &[
                    ("data.batch_size", format!("{} images in a batch", data.batch_size)),
                    (
                        "data.synthetic.train_images",
                        format!("{} images to train on", scenes.train_images),
                    ),
                ],
                None,
            );
        }
    }

    pub(super) fn augment(&mut self, config: &Config) {
        let augment = &config.augment;
        self.probability("augment.mosaic", augment.mosaic);
        self.probability("augment.mixup", augment.mixup);
        self.probability("augment.photometric", augment.photometric);
        self.probability("augment.zoom_out", augment.zoom_out);
        self.probability("augment.iou_crop", augment.iou_crop);
        self.probability("augment.flip", augment.flip);
        self.at_least("augment.mosaic_tile", augment.mosaic_tile as u64, 1);
        self.at_least("augment.mosaic_cache", augment.mosaic_cache as u64, 1);
        // The smallest size is int(0.75 * input / 32) * 32 (deim-facts 3.4): 0 for an input of 32.
        if augment.multi_scale_repeat > 0 && config.data.input_size == 32 {
            self.relation(
                "no smaller size for multi-scale".into(),
                &[
                    ("data.input_size", "expected at least 64, found 32".into()),
                    ("augment.multi_scale_repeat", "multi-scale is on".into()),
                ],
                Some("turn multi-scale off with `augment.multi_scale_repeat = 0`".into()),
            );
        }
    }
}
