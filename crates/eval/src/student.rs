//! Student's t distribution: its distribution function and its quantiles.
//!
//! Through the regularised incomplete beta function, evaluated as a continued fraction (DLMF
//! 8.17.22) by Lentz's method. Small, and enough for the few degrees of freedom of an ablation.

/// Probability that a t variable with `freedom` degrees of freedom is below `t`.
pub fn cumulative(t: f64, freedom: f64) -> f64 {
    let tail = 0.5 * incomplete_beta(freedom / 2.0, 0.5, freedom / (freedom + t * t));
    if t > 0.0 { 1.0 - tail } else { tail }
}

/// Probability that a t variable is at least as far from 0 as `t`, on either side.
pub fn two_sided(t: f64, freedom: f64) -> f64 {
    incomplete_beta(freedom / 2.0, 0.5, freedom / (freedom + t * t))
}

/// The value below which a t variable stays with the given probability, in `(0, 1)`.
pub fn quantile(probability: f64, freedom: f64) -> f64 {
    if probability < 0.5 {
        return -quantile(1.0 - probability, freedom);
    }
    // Bisection on the upper tail, which keeps its precision where `1 - tail` would not.
    let tail = 1.0 - probability;
    let (mut low, mut high) = (0.0_f64, 1.0_f64);
    while 0.5 * two_sided(high, freedom) > tail && high < 1e12 {
        high *= 2.0;
    }
    for _ in 0..200 {
        let middle = 0.5 * (low + high);
        if 0.5 * two_sided(middle, freedom) > tail {
            low = middle;
        } else {
            high = middle;
        }
    }
    0.5 * (low + high)
}

/// The regularised incomplete beta function, `x` in `[0, 1]`.
fn incomplete_beta(a: f64, b: f64, x: f64) -> f64 {
    if x <= 0.0 {
        return 0.0;
    }
    if x >= 1.0 {
        return 1.0;
    }
    let front =
        (a * x.ln() + b * (1.0 - x).ln() + ln_gamma(a + b) - ln_gamma(a) - ln_gamma(b)).exp();
    // The fraction converges fast below the mean of the distribution; above it, use symmetry.
    if x < (a + 1.0) / (a + b + 2.0) {
        front * beta_fraction(a, b, x) / a
    } else {
        1.0 - front * beta_fraction(b, a, 1.0 - x) / b
    }
}

fn beta_fraction(a: f64, b: f64, x: f64) -> f64 {
    const TINY: f64 = 1e-300;
    let away_from_zero = |value: f64| if value.abs() < TINY { TINY } else { value };
    let mut c = 1.0;
    let mut d = 1.0 / away_from_zero(1.0 - (a + b) * x / (a + 1.0));
    let mut fraction = d;
    for step in 1..500 {
        let m = f64::from(step);
        for numerator in [
            m * (b - m) * x / ((a + 2.0 * m - 1.0) * (a + 2.0 * m)),
            -(a + m) * (a + b + m) * x / ((a + 2.0 * m) * (a + 2.0 * m + 1.0)),
        ] {
            d = 1.0 / away_from_zero(1.0 + numerator * d);
            c = away_from_zero(1.0 + numerator / c);
            fraction *= c * d;
        }
        if (c * d - 1.0).abs() < 1e-15 {
            break;
        }
    }
    fraction
}

/// Logarithm of the gamma function for positive arguments (Lanczos, g = 7, nine terms).
fn ln_gamma(x: f64) -> f64 {
    const COEFFICIENTS: [f64; 9] = [
        0.999_999_999_999_809_9,
        676.520_368_121_885_1,
        -1_259.139_216_722_402_8,
        771.323_428_777_653_1,
        -176.615_029_162_140_6,
        12.507_343_278_686_905,
        -0.138_571_095_265_720_12,
        9.984_369_578_019_572e-6,
        1.505_632_735_149_311_6e-7,
    ];
    if x < 0.5 {
        // Reflection keeps the series where it is accurate.
        return (std::f64::consts::PI / (std::f64::consts::PI * x).sin()).ln() - ln_gamma(1.0 - x);
    }
    let x = x - 1.0;
    let base = x + 7.5;
    let series = (1..9).fold(COEFFICIENTS[0], |sum, index| {
        sum + COEFFICIENTS[index] / (x + f64::from(index as u32))
    });
    0.5 * (2.0 * std::f64::consts::PI).ln() + (x + 0.5) * base.ln() - base + series.ln()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn quantiles_equal_the_known_values() {
        // (probability, degrees of freedom, value); those for 4 degrees check in its closed form.
        for (probability, freedom, expected) in [
            (0.975, 1.0, 12.706_204_736_432_095),
            (0.975, 2.0, 4.302_652_729_696_142),
            (0.975, 4.0, 2.776_445_105_198_3),
            (0.975, 9.0, 2.262_157_162_740_992),
            (0.95, 4.0, 2.131_846_786_326_65),
            (0.995, 4.0, 4.604_094_871_415_897),
            (0.8, 4.0, 0.940_964_577_085_4),
            (0.975, 30.0, 2.042_272_456_301_237_6),
            (0.75, 1.0, 1.0),
        ] {
            let found = quantile(probability, freedom);
            assert!(
                (found - expected).abs() < 1e-9 * expected,
                "t({probability}, {freedom}) = {found}, expected {expected}"
            );
        }
        assert!(quantile(0.5, 3.0).abs() < 1e-12);
    }

    #[test]
    fn one_degree_of_freedom_is_the_cauchy_distribution() {
        for t in [-30.0_f64, -1.0, -0.1, 0.0, 0.5, 3.0, 700.0] {
            let expected = 0.5 + t.atan() / std::f64::consts::PI;
            assert!((cumulative(t, 1.0) - expected).abs() < 1e-13);
        }
    }

    #[test]
    fn gamma_of_half_integers_is_known() {
        assert!((ln_gamma(0.5) - std::f64::consts::PI.sqrt().ln()).abs() < 1e-13);
        assert!((ln_gamma(5.0) - 24.0_f64.ln()).abs() < 1e-13);
    }

    proptest! {
        #[test]
        fn the_quantile_inverts_the_distribution(p in 0.001..0.999_f64, freedom in 1_u32..60) {
            let freedom = f64::from(freedom);
            prop_assert!((cumulative(quantile(p, freedom), freedom) - p).abs() < 1e-11);
        }

        #[test]
        fn the_distribution_is_symmetric(t in 0.0..50.0_f64, freedom in 1_u32..60) {
            let freedom = f64::from(freedom);
            prop_assert!((cumulative(t, freedom) + cumulative(-t, freedom) - 1.0).abs() < 1e-12);
        }
    }
}
