//! Rules of `[schedule]` and `[eval]`: epochs that stand in order.

use super::Checker;
use crate::config::Config;

impl Checker {
    pub(super) fn schedule(&mut self, config: &Config) {
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
            let here = ("schedule.augment_end", format!("strong augmentation ends at epoch {end}"));
            if end > phases.end {
                self.relation(
                    "`augment_end` is after the end".into(),
                    &[here, epochs.clone()],
                    None,
                );
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
