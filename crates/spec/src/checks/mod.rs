//! What types cannot say: ranges, and keys that have to fit each other.
//!
//! Pure functions of a configuration. `experiment.rs` adds where the values were written.

mod data;
mod model;
mod schedule;
mod training;

use std::fmt::Debug;

use crate::config::Config;

/// A broken rule: the keys it is about, the one to blame first, each with what to say there.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Violation {
    pub title: String,
    pub keys: Vec<(String, String)>,
    pub help: Option<String>,
}

/// All broken rules.
pub(crate) fn check(config: &Config) -> Vec<Violation> {
    let mut found = Checker(Vec::new());
    found.data(config);
    found.augment(config);
    found.model(config);
    found.pretrained(config);
    found.losses(config);
    found.optimizer(config);
    found.schedule(config);
    found.0
}

struct Checker(Vec<Violation>);

impl Checker {
    fn must<T: Debug>(&mut self, path: &str, value: T, holds: bool, expected: &str) {
        if !holds {
            let label = format!("expected {expected}, found {value:?}");
            let title = format!("`{path}` is out of range");
            self.0.push(Violation { title, keys: vec![(path.into(), label)], help: None });
        }
    }

    fn at_least(&mut self, path: &str, value: u64, least: u64) {
        self.must(path, value, value >= least, &format!("at least {least}"));
    }

    fn probability(&mut self, path: &str, value: f64) {
        self.must(path, value, (0.0..=1.0).contains(&value), "a number from 0 to 1");
    }

    fn not_negative(&mut self, path: &str, value: f64) {
        self.must(path, value, value.is_finite() && value >= 0.0, "a finite number, 0 or more");
    }

    fn positive(&mut self, path: &str, value: f64) {
        self.must(path, value, value.is_finite() && value > 0.0, "a finite number above 0");
    }

    fn relation(&mut self, title: String, keys: &[(&str, String)], help: Option<String>) {
        let keys = keys.iter().map(|(path, label)| ((*path).to_owned(), label.clone())).collect();
        self.0.push(Violation { title, keys, help });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{BackboneKind, ClassLoss, Pretrained, PretrainedPart, Source};

    fn broken(change: impl FnOnce(&mut Config)) -> Vec<String> {
        let mut config = Config::default();
        change(&mut config);
        check(&config).into_iter().map(|violation| violation.keys[0].0.clone()).collect()
    }

    #[test]
    fn the_defaults_keep_every_rule() {
        assert_eq!(check(&Config::default()), []);
    }

    #[test]
    fn probabilities_stay_between_zero_and_one() {
        assert_eq!(broken(|c| c.augment.mosaic = 1.5), ["augment.mosaic"]);
        assert_eq!(broken(|c| c.augment.mixup = -0.1), ["augment.mixup"]);
        assert_eq!(broken(|c| c.augment.flip = f64::NAN), ["augment.flip"]);
        assert_eq!(broken(|c| c.denoising.label_noise = 2.0), ["denoising.label_noise"]);
    }

    #[test]
    fn nan_and_infinity_are_never_in_range() {
        for value in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            assert_eq!(broken(|c| c.loss.gamma = value), ["loss.gamma"]);
            assert_eq!(broken(|c| c.optimizer.lr = value), ["optimizer.lr"]);
            assert_eq!(broken(|c| c.ema.decay = value), ["ema.decay"]);
            assert_eq!(broken(|c| c.schedule.lr_gamma = value), ["schedule.lr_gamma"]);
            assert_eq!(broken(|c| c.model.encoder.expansion = value), ["model.encoder.expansion"]);
        }
    }

    #[test]
    fn sizes_have_to_fit_the_architecture() {
        assert_eq!(broken(|c| c.data.input_size = 100), ["data.input_size"]);
        assert_eq!(broken(|c| c.data.input_size = 0), ["data.input_size"]);
        assert_eq!(broken(|c| c.data.input_size = 32), ["data.input_size"]);
        assert_eq!(broken(|c| c.model.decoder.layers = 1), ["model.decoder.layers"]);
        assert_eq!(broken(|c| c.model.decoder.heads = 7), ["model.decoder.heads"]);
        assert_eq!(broken(|c| c.model.decoder.heads = 0), ["model.decoder.heads"]);
        assert_eq!(
            broken(|c| c.model.encoder.hidden = 0).last().expect("broken"),
            "model.encoder.expansion"
        );
        assert_eq!(broken(|c| c.model.backbone.blocks[2] = 0), ["model.backbone.blocks"]);
        assert_eq!(broken(|c| c.model.strides = vec![8, 32]), ["model.strides"]);
        assert_eq!(broken(|c| c.model.strides = vec![]), ["model.strides"]);
        assert_eq!(broken(|c| c.model.strides = vec![16, 32]), ["model.decoder.points"]);
        assert_eq!(broken(|c| c.model.decoder.eval_layer = Some(6)), ["model.decoder.eval_layer"]);
        assert_eq!(broken(|c| c.model.decoder.reg_max = 7), ["model.decoder.reg_max"]);
        let hgnetv2 = broken(|c| c.model.backbone.kind = BackboneKind::Hgnetv2);
        assert_eq!(hgnetv2, ["model.backbone.kind"]);
        assert_eq!(broken(|c| c.model.backbone.freeze_at = 5), ["model.backbone.freeze_at"]);
        assert_eq!(broken(|c| c.data.batch_size = 0), ["data.batch_size"]);
        assert_eq!(broken(|c| c.augment.mosaic_cache = 0), ["augment.mosaic_cache"]);
        assert_eq!(broken(|c| c.data.batch_size = 513), ["data.batch_size"]);
        assert_eq!(broken(|c| c.data.synthetic.min_objects = 16), ["data.synthetic.min_objects"]);
    }

    #[test]
    fn a_folder_s_number_of_images_is_not_that_of_the_scenes() {
        let folder =
            |batch| broken(|c| (c.data.source, c.data.batch_size) = (Source::Folder, batch));
        assert!(folder(513).is_empty());
        assert_eq!(folder(0), ["data.batch_size"]);
    }

    #[test]
    fn a_hash_of_weights_is_whole_and_of_weights_that_are_used() {
        let with = |part, blake3: &str| {
            let blake3 = (!blake3.is_empty()).then(|| blake3.to_owned());
            broken(|c| c.pretrained = Some(Pretrained { part, blake3 }))
        };
        let hash = "0123456789abcdef".repeat(4);
        assert!(with(PretrainedPart::Backbone, &hash).is_empty());
        assert!(with(PretrainedPart::Detector, "").is_empty());
        assert!(with(PretrainedPart::None, "").is_empty());
        assert_eq!(with(PretrainedPart::Backbone, &hash[1..]), ["pretrained.blake3"]);
        assert_eq!(with(PretrainedPart::Backbone, &hash.to_uppercase()), ["pretrained.blake3"]);
        assert_eq!(with(PretrainedPart::None, &hash), ["pretrained.blake3"]);
    }

    #[test]
    fn alpha_is_a_balance_only_in_focal() {
        let above = |class| broken(|c| (c.loss.class, c.loss.alpha) = (class, 1.5));
        assert_eq!(above(ClassLoss::Focal), ["loss.alpha"]);
        assert!(above(ClassLoss::Vfl).is_empty());
    }

    #[test]
    fn groups_hold_regular_expressions() {
        let broken = broken(|c| {
            c.optimizer.groups[1].all = vec!["norm".into(), "b(n".into()];
            c.optimizer.groups[0] = crate::config::ParamGroup::default();
        });
        assert_eq!(broken, ["optimizer.groups.0", "optimizer.groups.1.all.1"]);
    }

    #[test]
    fn epochs_stand_in_order() {
        assert_eq!(broken(|c| c.epochs = 0), ["epochs"]);
        assert_eq!(broken(|c| c.epochs = 2), ["epochs"]);
        assert_eq!(broken(|c| c.epochs = 8), ["epochs"], "derived: 4 + 6 / 2 = 7 > 6");
        assert!(broken(|c| c.epochs = 10).is_empty(), "derived: 4 + 8 / 2 = 8 = 10 - 2");
        assert_eq!(broken(|c| c.schedule.stop_epoch = Some(61)), ["schedule.stop_epoch"]);
        assert_eq!(broken(|c| c.schedule.stop_epoch = Some(0)), ["schedule.stop_epoch"]);
        assert_eq!(broken(|c| c.schedule.flat_epoch = Some(59)), ["schedule.flat_epoch"]);
        assert_eq!(broken(|c| c.schedule.flat_epoch = Some(3)), ["schedule.flat_epoch"]);
        assert_eq!(broken(|c| c.schedule.augment_start = 59), ["schedule.augment_start"]);
        assert_eq!(broken(|c| c.schedule.augment_end = Some(61)), ["schedule.augment_end"]);
        assert_eq!(broken(|c| c.schedule.augment_end = Some(3)), ["schedule.augment_end"]);
        assert_eq!(broken(|c| c.schedule.no_aug_epochs = 60), ["epochs"]);
        let by_hand =
            broken(|c| (c.schedule.no_aug_epochs, c.schedule.stop_epoch) = (60, Some(58)));
        assert_eq!(by_hand, ["schedule.no_aug_epochs"]);
        assert!(broken(|c| c.schedule.augment_start = u32::MAX).len() == 1, "no overflow");
    }
}
