//! Rules of `[loss]`, `[matcher]`, `[denoising]`, `[optimizer]` and `[ema]`.

use super::Checker;
use crate::config::{ClassLoss, Config};

impl Checker {
    pub(super) fn losses(&mut self, config: &Config) {
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

    pub(super) fn optimizer(&mut self, config: &Config) {
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
}

fn last_line(text: &str) -> String {
    let line = text.lines().last().unwrap_or_default();
    line.trim_start_matches("error: ").to_owned()
}
