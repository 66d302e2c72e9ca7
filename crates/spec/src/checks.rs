//! What types cannot say: ranges, and keys that have to fit each other.
//!
//! Pure functions of a configuration. `experiment.rs` adds where the values were written.

use std::fmt::Debug;

use crate::config::{BackboneKind, ClassLoss, Config};

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

    fn data(&mut self, config: &Config) {
        let data = &config.data;
        let scenes = &data.synthetic;
        self.at_least("data.batch_size", data.batch_size as u64, 1);
        self.at_least("data.eval_batch_size", data.eval_batch_size as u64, 1);
        // The coarsest level has stride 32.
        let fits = data.input_size > 0 && data.input_size.is_multiple_of(32);
        self.must("data.input_size", data.input_size, fits, "a multiple of 32");
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

    fn augment(&mut self, config: &Config) {
        let augment = &config.augment;
        self.probability("augment.mosaic", augment.mosaic);
        self.probability("augment.mixup", augment.mixup);
        self.probability("augment.photometric", augment.photometric);
        self.probability("augment.zoom_out", augment.zoom_out);
        self.probability("augment.iou_crop", augment.iou_crop);
        self.probability("augment.flip", augment.flip);
        self.at_least("augment.mosaic_tile", augment.mosaic_tile as u64, 1);
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

    fn model(&mut self, config: &Config) {
        let model = &config.model;
        self.at_least("model.queries", model.queries as u64, 1);
        let lists: [(&str, &[usize]); 4] = [
            ("model.backbone.blocks", &model.backbone.blocks),
            ("model.backbone.stem", &model.backbone.stem),
            ("model.backbone.widths", &model.backbone.widths),
            ("model.decoder.points", &model.decoder.points),
        ];
        for (path, list) in lists {
            self.must(path, list, !list.contains(&0), "numbers of at least 1");
        }
        self.levels(config);
        self.hgnetv2(config);
        let freeze_at = model.backbone.freeze_at;
        let known = (-1..=4).contains(&freeze_at);
        self.must("model.backbone.freeze_at", freeze_at, known, "a number from -1 to 4");
        let encoder = &model.encoder;
        self.heads("model.encoder", encoder.hidden, encoder.heads);
        // The position embedding has sines and cosines of two coordinates (deim-facts 3.14).
        let quarters = encoder.hidden > 0 && encoder.hidden.is_multiple_of(4);
        self.must("model.encoder.hidden", encoder.hidden, quarters, "a multiple of 4");
        self.at_least("model.encoder.feedforward", encoder.feedforward as u64, 1);
        let inner = encoder.hidden as f64 * encoder.expansion;
        let fits = encoder.expansion.is_finite() && inner >= 1.0;
        self.must(
            "model.encoder.expansion",
            encoder.expansion,
            fits,
            "a finite number that leaves at least 1 of `hidden` channels",
        );
        self.positive("model.encoder.depth_mult", encoder.depth_mult);
        let decoder = &model.decoder;
        self.heads("model.decoder", decoder.hidden, decoder.heads);
        self.at_least("model.decoder.hidden", decoder.hidden as u64, 1);
        self.at_least("model.decoder.feedforward", decoder.feedforward as u64, 1);
        // `aux_outputs` is mandatory (deim-facts 3.11).
        self.at_least("model.decoder.layers", decoder.layers as u64, 2);
        if let Some(layer) = decoder.eval_layer
            && layer >= decoder.layers
        {
            self.relation(
                "no such decoder layer".into(),
                &[
                    ("model.decoder.eval_layer", format!("layer {layer}, counted from 0")),
                    ("model.decoder.layers", format!("{} layers", decoder.layers)),
                ],
                None,
            );
        }
        // The bins lie on both sides of zero, and their spacing is a root of degree reg_max - 2.
        let fits = decoder.reg_max >= 4 && decoder.reg_max.is_multiple_of(2);
        self.must("model.decoder.reg_max", decoder.reg_max, fits, "an even number of at least 4");
        self.positive("model.decoder.reg_scale", decoder.reg_scale);
    }

    /// The levels are the coarsest of the backbone's, and every one is sampled.
    fn levels(&mut self, config: &Config) {
        let strides = &config.model.strides;
        let known = [4, 8, 16, 32];
        let fits = !strides.is_empty() && known.ends_with(strides);
        self.must("model.strides", strides, fits, "the last of 4, 8, 16, 32, for example [16, 32]");
        let points = &config.model.decoder.points;
        if fits && points.len() != strides.len() {
            self.relation(
                "a number of sampling points for every level".into(),
                &[
                    ("model.decoder.points", format!("{} numbers", points.len())),
                    ("model.strides", format!("{} levels", strides.len())),
                ],
                None,
            );
        }
    }

    fn hgnetv2(&mut self, config: &Config) {
        let backbone = &config.model.backbone;
        let kind = |kind: &str| ("model.backbone.kind", format!("the backbone is {kind}"));
        let sizes = "model.backbone.hgnetv2";
        match (&backbone.hgnetv2, backbone.kind) {
            (None, BackboneKind::Presnet) => {}
            (None, BackboneKind::Hgnetv2) => {
                let help = "extend a part such as `models/backbones/hgnetv2-b0.toml`";
                self.relation("HGNetv2 without sizes".into(), &[kind("HGNetv2")], Some(help.into()));
            }
            (Some(_), BackboneKind::Presnet) => {
                let unused = (sizes, "sizes that nothing uses".into());
                self.relation("sizes of another backbone".into(), &[unused, kind("PResNet")], None);
            }
            (Some(net), BackboneKind::Hgnetv2) => {
                // The stem halves its inner channels on the way.
                let stem = net.stem[0] >= 2 && net.stem[0].is_multiple_of(2) && net.stem[1] > 0;
                let expected = "an even number and a number of at least 1";
                self.must("model.backbone.hgnetv2.stem", net.stem, stem, expected);
                for (index, stage) in net.stages.iter().enumerate() {
                    let path = format!("{sizes}.stages.{index}");
                    let counts = [stage.middle, stage.blocks, stage.layers];
                    let expected = "`middle`, `blocks` and `layers` of at least 1";
                    self.must(&path, counts, !counts.contains(&0), expected);
                    let even = stage.out >= 2 && stage.out.is_multiple_of(2);
                    self.must(&format!("{path}.out"), stage.out, even, "an even number");
                    let odd = stage.kernel % 2 == 1;
                    self.must(&format!("{path}.kernel"), stage.kernel, odd, "an odd number");
                }
            }
        }
    }

    fn heads(&mut self, part: &str, hidden: usize, heads: usize) {
        let (hidden_path, heads_path) = (format!("{part}.hidden"), format!("{part}.heads"));
        self.at_least(&heads_path, heads as u64, 1);
        if heads > 0 && !hidden.is_multiple_of(heads) {
            self.relation(
                format!("`{heads_path}` does not divide `{hidden_path}`"),
                &[
                    (&heads_path, format!("{heads} heads")),
                    (&hidden_path, format!("{hidden} channels")),
                ],
                None,
            );
        }
    }

    fn losses(&mut self, config: &Config) {
        let loss = &config.loss;
        self.not_negative("loss.gamma", loss.gamma);
        match loss.class {
            ClassLoss::Focal => self.probability("loss.alpha", loss.alpha),
            ClassLoss::Mal | ClassLoss::Vfl => self.not_negative("loss.alpha", loss.alpha),
        }
        if let Some(alpha) = loss.mal_alpha {
            self.not_negative("loss.mal_alpha", alpha);
        }
        self.not_negative("loss.weight_class", loss.weight_class);
        self.not_negative("loss.weight_bbox", loss.weight_bbox);
        self.not_negative("loss.weight_giou", loss.weight_giou);
        self.not_negative("loss.weight_fgl", loss.weight_fgl);
        self.not_negative("loss.weight_ddf", loss.weight_ddf);
        let matcher = &config.matcher;
        self.not_negative("matcher.class", matcher.class);
        self.not_negative("matcher.bbox", matcher.bbox);
        self.not_negative("matcher.giou", matcher.giou);
        self.probability("matcher.alpha", matcher.alpha);
        self.not_negative("matcher.gamma", matcher.gamma);
        self.probability("denoising.label_noise", config.denoising.label_noise);
        self.not_negative("denoising.box_noise", config.denoising.box_noise);
    }

    fn optimizer(&mut self, config: &Config) {
        let optimizer = &config.optimizer;
        let below_one = |value: f64| (0.0..1.0).contains(&value);
        let expected = "a number from 0 to below 1";
        self.positive("optimizer.lr", optimizer.lr);
        self.not_negative("optimizer.weight_decay", optimizer.weight_decay);
        self.must("optimizer.beta1", optimizer.beta1, below_one(optimizer.beta1), expected);
        self.must("optimizer.beta2", optimizer.beta2, below_one(optimizer.beta2), expected);
        self.positive("optimizer.eps", optimizer.eps);
        self.positive("optimizer.clip_norm", optimizer.clip_norm);
        let ema = &config.ema;
        self.must("ema.decay", ema.decay, below_one(ema.decay), expected);
        self.must("ema.restart_decay", ema.restart_decay, below_one(ema.restart_decay), expected);
        for (index, group) in optimizer.groups.iter().enumerate() {
            let path = format!("optimizer.groups.{index}");
            for (list, patterns) in [("all", &group.all), ("none", &group.none)] {
                for (position, pattern) in patterns.iter().enumerate() {
                    if let Err(error) = regex::Regex::new(pattern) {
                        let reason = last_line(&error.to_string());
                        self.relation(
                            format!("`{pattern}` is not a regular expression"),
                            &[(&format!("{path}.{list}.{position}"), reason)],
                            None,
                        );
                    }
                }
            }
            if group.all.is_empty() && group.none.is_empty() {
                self.relation(
                    "a parameter group without a pattern".into(),
                    &[(
                        &path,
                        "expected patterns in `all` or `none`: this takes everything".into(),
                    )],
                    Some("use `optimizer.lr` and `optimizer.weight_decay` for the rest".into()),
                );
            }
            if let Some(lr) = group.lr {
                self.not_negative(&format!("{path}.lr"), lr);
            }
            if let Some(decay) = group.weight_decay {
                self.not_negative(&format!("{path}.weight_decay"), decay);
            }
        }
    }

    fn schedule(&mut self, config: &Config) {
        let schedule = &config.schedule;
        self.probability("schedule.warmup_fraction", schedule.warmup_fraction);
        self.at_least("schedule.first_iteration_divisor", schedule.first_iteration_divisor, 1);
        self.probability("schedule.lr_gamma", schedule.lr_gamma);
        self.at_least("eval.every", config.eval.every.into(), 1);
        self.at_least("eval.detections", config.eval.detections as u64, 1);
        self.at_least("epochs", config.epochs.into(), 1);
        if config.epochs > 0 {
            self.phases(config);
        }
    }

    /// `0 <= augment_start <= flat <= stop <= end`, and an epoch before `stop` to be the best of.
    fn phases(&mut self, config: &Config) {
        let schedule = &config.schedule;
        let phases = config.phases();
        let epochs = ("epochs", format!("a budget of {} epochs", phases.end));
        let start = (
            "schedule.augment_start",
            format!("strong augmentation begins at epoch {}", phases.augment_start),
        );
        let no_aug =
            ("schedule.no_aug_epochs", format!("the last {} epochs", schedule.no_aug_epochs));
        let stop = match schedule.stop_epoch {
            Some(stop) => ("schedule.stop_epoch", format!("stage 2 begins at epoch {stop}")),
            None => (no_aug.0, format!("so stage 2 begins at epoch {}", phases.stop)),
        };
        let shorter =
            "lower `schedule.no_aug_epochs` and `schedule.augment_start`, or raise `epochs`";
        if phases.stop > phases.end {
            self.relation(
                "`stop_epoch` is after the end".into(),
                &[stop.clone(), epochs.clone()],
                None,
            );
        }
        if phases.stop == 0 {
            let keys = match schedule.stop_epoch {
                Some(_) => vec![stop.clone()],
                None => vec![epochs.clone(), no_aug.clone()],
            };
            self.relation("no epoch before stage 2".into(), &keys, Some(shorter.into()));
            return;
        }
        // The learning rate has its own tail, also where `stop_epoch` is set by hand.
        if schedule.no_aug_epochs >= phases.end {
            let keys = [no_aug, epochs.clone()];
            self.relation("no epoch before the last ones".into(), &keys, Some(shorter.into()));
        }
        if phases.augment_start > phases.stop {
            self.relation(
                "strong augmentation begins after it ends".into(),
                &[start.clone(), stop.clone(), epochs.clone()],
                Some(shorter.into()),
            );
            return;
        }
        if let Some(end) = schedule.augment_end {
            let here =
                ("schedule.augment_end", format!("strong augmentation ends at epoch {end}"));
            if end > phases.end {
                self.relation("`augment_end` is after the end".into(), &[here, epochs.clone()], None);
            } else if end < phases.augment_start {
                let title = "strong augmentation begins after it ends".into();
                self.relation(title, &[here, start.clone()], None);
            }
        }
        match schedule.flat_epoch {
            Some(flat) => {
                let here = ("schedule.flat_epoch", format!("Dense O2O ends at epoch {flat}"));
                if flat > phases.stop {
                    let title = "`flat_epoch` is after `stop_epoch`".into();
                    self.relation(title, &[here.clone(), stop, epochs], None);
                }
                if flat < phases.augment_start {
                    let title = "`flat_epoch` is before `augment_start`".into();
                    self.relation(title, &[here, start], None);
                }
            }
            None if phases.flat > phases.stop => {
                let title = format!(
                    "too few epochs: Dense O2O would end at epoch {} (`augment_start + stop_epoch / 2`), after stage 2 begins",
                    phases.flat
                );
                self.relation(title, &[epochs, start, stop], Some(shorter.into()));
            }
            None => {}
        }
    }
}

fn last_line(text: &str) -> String {
    let line = text.lines().last().unwrap_or_default();
    line.trim_start_matches("error: ").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

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
        assert_eq!(broken(|c| c.data.batch_size = 513), ["data.batch_size"]);
        assert_eq!(broken(|c| c.data.synthetic.min_objects = 16), ["data.synthetic.min_objects"]);
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
