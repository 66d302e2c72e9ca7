//! The learning rate and the averaging decay as pure functions of the iteration (deim-facts 3.5, 3.7).

use deim_spec::Config;

/// The FlatCosine learning rate: quadratic warm-up, flat, cosine down to a share, constant tail.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FlatCosine {
    /// Last iteration of the warm-up.
    pub warmup: u64,
    /// Last iteration at the full rate.
    pub flat: u64,
    /// Iterations of the tail.
    pub tail: u64,
    /// All iterations.
    pub total: u64,
    /// Rate of the tail, as a share of the base rate.
    pub gamma: f64,
    /// The first iteration's rate is the base rate divided by this.
    pub first_divisor: u64,
}

impl FlatCosine {
    /// The schedule of a configuration with so many iterations an epoch.
    pub fn new(config: &Config, steps_per_epoch: u64) -> Self {
        let schedule = &config.schedule;
        let phases = config.phases();
        let total = steps_per_epoch * u64::from(phases.end);
        let warmup = if schedule.warmup_fraction > 0.0 {
            (schedule.warmup_fraction * total as f64).round() as u64
        } else {
            schedule.warmup_iterations
        };
        Self {
            warmup,
            flat: steps_per_epoch * u64::from(phases.flat),
            tail: steps_per_epoch * u64::from(schedule.no_aug_epochs),
            total,
            gamma: schedule.lr_gamma,
            first_divisor: schedule.first_iteration_divisor,
        }
    }

    /// The rate that the official scheduler sets when it is stepped with an iteration, for a parameter
    /// group's base rate.
    pub fn after(&self, base: f64, iteration: u64) -> f64 {
        let least = self.gamma * base;
        if iteration <= self.warmup {
            // Without a warm-up the official formula divides by zero here.
            let share = if self.warmup == 0 { 1.0 } else { iteration as f64 / self.warmup as f64 };
            base * share * share
        } else if iteration <= self.flat {
            base
        } else if iteration >= self.total.saturating_sub(self.tail) {
            least
        } else {
            let length = self.total - self.tail - self.flat;
            let share = (iteration - self.flat) as f64 / length as f64;
            least + (base - least) * 0.5 * (1.0 + (std::f64::consts::PI * share).cos())
        }
    }

    /// The rate of an iteration's optimizer step, counted from 0.
    ///
    /// The scheduler is stepped after the optimizer, so an iteration uses the rate set by the one
    /// before; the first uses what a linear warm-up's constructor leaves, the second uses 0.
    pub fn used(&self, base: f64, iteration: u64) -> f64 {
        match iteration.checked_sub(1) {
            Some(before) => self.after(base, before),
            None => base / self.first_divisor.max(1) as f64,
        }
    }
}

/// The decay of an exponential moving average at its update number `update`, counted from 1.
pub fn ema_decay(decay: f64, warmups: u64, update: u64) -> f64 {
    if warmups == 0 { decay } else { decay * (1.0 - (-(update as f64) / warmups as f64).exp()) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_official_schedule_has_its_golden_values() {
        // deim-facts 3.5: DEIM-L, 3696 iterations an epoch.
        let epoch = 3696;
        let schedule = FlatCosine {
            warmup: 2000,
            flat: 29 * epoch,
            tail: 8 * epoch,
            total: 58 * epoch,
            gamma: 0.5,
            first_divisor: 500,
        };
        for (iteration, expected) in [
            (epoch / 4, 1.067220e-4),
            (epoch / 2, 4.268880e-4),
            (10 * epoch, 5e-4),
            (35 * epoch, 4.529362e-4),
            (49 * epoch, 2.513961e-4),
            (55 * epoch, 2.5e-4),
        ] {
            let rate = schedule.after(5e-4, iteration);
            assert!((rate - expected).abs() < 1e-10, "{iteration}: {rate}");
        }
        assert_eq!(schedule.used(5e-4, 0), 1e-6);
        assert_eq!(schedule.used(5e-4, 1), 0.0);
        assert_eq!(schedule.used(5e-4, 901), schedule.after(5e-4, 900));
    }

    #[test]
    fn a_warmup_fraction_replaces_the_iterations() {
        let mut config = Config::default();
        assert_eq!(FlatCosine::new(&config, 10).warmup, 2000);
        config.schedule.warmup_fraction = 0.05;
        assert_eq!(FlatCosine::new(&config, 10).warmup, 30);
        assert_eq!(FlatCosine::new(&config, 10).flat, 330);
    }

    #[test]
    fn without_warmup_the_rate_starts_at_the_base() {
        let schedule =
            FlatCosine { warmup: 0, flat: 5, tail: 2, total: 10, gamma: 0.5, first_divisor: 1 };
        assert_eq!(schedule.after(1.0, 0), 1.0);
    }

    proptest! {
        /// No step of the rate is larger than the steepest part of warm-up or cosine allows.
        #[test]
        fn the_rate_is_continuous_and_never_rises_after_the_warmup(
            warmup in 1_u64..200, flat in 1_u64..400, cosine in 1_u64..400, tail in 0_u64..100,
            gamma in 0.0_f64..1.0,
        ) {
            let flat = warmup + flat;
            let total = flat + cosine + tail;
            let schedule = FlatCosine { warmup, flat, tail, total, gamma, first_divisor: 1 };
            for iteration in 0..total {
                let (here, next) = (schedule.after(1.0, iteration), schedule.after(1.0, iteration + 1));
                if iteration < warmup {
                    prop_assert!(next >= here && next - here <= 2.0 / warmup as f64);
                } else {
                    let steepest = (1.0 - gamma) * std::f64::consts::FRAC_PI_2 / cosine as f64;
                    prop_assert!(here >= next && here - next <= steepest + 1e-12);
                }
            }
            prop_assert_eq!(schedule.after(1.0, total), gamma);
        }
    }

    #[test]
    fn the_decay_rises_to_its_end() {
        // deim-facts 3.7.
        for (update, expected) in [(1, 9.994e-4), (100, 0.09515), (1000, 0.63206), (5000, 0.99316)]
        {
            assert!((ema_decay(0.9999, 1000, update) - expected).abs() < 1e-5);
        }
        assert_eq!(ema_decay(0.99, 0, 1), 0.99);
    }
}
