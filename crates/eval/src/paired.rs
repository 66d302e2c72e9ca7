//! Is a row of an ablation better than its baseline, or is it the seeds?
//!
//! Both rows are trained with the same seeds, hence the same scenes in the same order and the same
//! initial weights, so that the difference at one seed is free of most of the noise of either.
//! From the differences `d_1 .. d_n`:
//!
//! * the **mean difference** with its 95 % interval (Student t, `n - 1` degrees of freedom);
//! * the **verdict**: *better* or *worse* when the paired t test, after Holm's correction over all
//!   rows compared, is below 0.05 and rests on three seeds or more; otherwise *cannot tell*. The interval is not corrected, so an
//!   interval that excludes 0 may stand beside *cannot tell*: that row is only one of many;
//! * the **sign-flip p**: the exact share of the `2^n` ways to flip the signs of the differences
//!   whose mean is at least as far from 0. It assumes only that without an effect the differences
//!   are symmetric about 0, but it cannot fall below `2 / 2^n`: 0.25 with 3 seeds, 0.0625 with 5.
//!   With fewer than 6 seeds it can never reach 0.05, so it does not decide; it is shown so that a
//!   verdict that rests on the normality of so few differences can be seen to do so;
//! * the **minimum detectable effect**: the true difference that this test, uncorrected, would find
//!   in 80 % of repetitions at this spread, `(t_0.975 + t_0.80) * s / sqrt(n)`. A *cannot tell*
//!   beside a large one says that nothing was shown, not that there is no difference.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::student;

/// The share of false alarms that a verdict accepts over all rows together.
pub const LEVEL: f64 = 0.05;
/// The fewest common seeds that a verdict may rest on. The spread of two differences says next to
/// nothing: a t test of two calls any pair that happens to agree a discovery.
pub const LEAST_SEEDS: usize = 3;
/// The share of repetitions in which the minimum detectable effect is found.
pub const POWER: f64 = 0.8;
/// The most seeds for which all `2^n` sign flips are tried.
pub const MOST_FLIPS: usize = 16;

/// What the seeds allow to say about a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    Better,
    Worse,
    CannotTell,
}

impl std::fmt::Display for Verdict {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Self::Better => "better",
            Self::Worse => "worse",
            Self::CannotTell => "cannot tell",
        })
    }
}

/// A row compared with its baseline, seed by seed.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Comparison {
    /// Seeds that both rows have.
    pub seeds: usize,
    /// Mean of row minus baseline; none without a common seed.
    pub difference: Option<f64>,
    /// 95 % interval of the mean difference; none below two seeds.
    pub interval: Option<[f64; 2]>,
    /// Standard deviation of the differences; none below two seeds.
    pub deviation: Option<f64>,
    /// Two-sided p of the paired t test; none below two seeds or without any spread.
    pub t_test: Option<f64>,
    /// The same after Holm's correction over the compared rows; decides the verdict.
    pub t_test_holm: Option<f64>,
    /// Two-sided p of the exact sign-flip test; none below one seed and above [`MOST_FLIPS`].
    pub sign_flip: Option<f64>,
    /// The true difference that would be found with 80 % power.
    pub detectable: Option<f64>,
    pub verdict: Verdict,
}

/// Compares rows with their baseline; each is the metric by seed. Seeds that only one side has are
/// left out of that row's comparison. Values that are not finite are treated as missing.
pub fn compare(baseline: &BTreeMap<u64, f64>, rows: &[BTreeMap<u64, f64>]) -> Vec<Comparison> {
    compare_pairs(rows.iter().map(|row| (baseline, row)))
}

/// The same for rows that have baselines of their own, given first; corrected over all of them.
pub fn compare_pairs<'a>(
    pairs: impl IntoIterator<Item = (&'a BTreeMap<u64, f64>, &'a BTreeMap<u64, f64>)>,
) -> Vec<Comparison> {
    let differences = |(baseline, row): (&BTreeMap<u64, f64>, &BTreeMap<u64, f64>)| {
        let differences = row.iter().filter_map(|(seed, value)| Some(value - baseline.get(seed)?));
        describe(&differences.filter(|difference| difference.is_finite()).collect::<Vec<f64>>())
    };
    let mut comparisons: Vec<Comparison> = pairs.into_iter().map(differences).collect();
    let tested: Vec<usize> =
        (0..comparisons.len()).filter(|&row| comparisons[row].t_test.is_some()).collect();
    let raw: Vec<f64> = tested.iter().filter_map(|&row| comparisons[row].t_test).collect();
    for (&row, corrected) in tested.iter().zip(holm(&raw)) {
        let comparison = &mut comparisons[row];
        comparison.t_test_holm = Some(corrected);
        comparison.verdict = match comparison.difference {
            _ if comparison.seeds < LEAST_SEEDS || corrected >= LEVEL => Verdict::CannotTell,
            Some(difference) if difference > 0.0 => Verdict::Better,
            Some(difference) if difference < 0.0 => Verdict::Worse,
            _ => Verdict::CannotTell,
        };
    }
    comparisons
}

/// Holm's step-down correction: p values that hold for all rows together, in the given order.
pub fn holm(p_values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..p_values.len()).collect();
    order.sort_by(|&a, &b| p_values[a].total_cmp(&p_values[b]));
    let mut corrected = vec![0.0; p_values.len()];
    let mut largest = 0.0_f64;
    for (rank, &row) in order.iter().enumerate() {
        let factor = (p_values.len() - rank) as f64;
        largest = largest.max((p_values[row] * factor).min(1.0));
        corrected[row] = largest;
    }
    corrected
}

/// Everything about the differences of one row that does not depend on the other rows.
fn describe(differences: &[f64]) -> Comparison {
    let mut comparison = Comparison {
        seeds: differences.len(),
        difference: None,
        interval: None,
        deviation: None,
        t_test: None,
        t_test_holm: None,
        sign_flip: sign_flip(differences),
        detectable: None,
        verdict: Verdict::CannotTell,
    };
    if differences.is_empty() {
        return comparison;
    }
    let count = differences.len() as f64;
    let mean = differences.iter().sum::<f64>() / count;
    comparison.difference = Some(mean);
    if differences.len() < 2 {
        return comparison;
    }
    let squares: f64 = differences.iter().map(|value| (value - mean).powi(2)).sum();
    let deviation = (squares / (count - 1.0)).sqrt();
    let error = deviation / count.sqrt();
    let freedom = count - 1.0;
    let reach = student::quantile(1.0 - LEVEL / 2.0, freedom);
    comparison.deviation = Some(deviation);
    comparison.interval = Some([mean - reach * error, mean + reach * error]);
    comparison.detectable = Some((reach + student::quantile(POWER, freedom)) * error);
    // Equal differences at every seed say that the seeds changed nothing, so that nothing was
    // learnt about their noise: no test, rather than an infinitely sure one.
    let largest = differences.iter().fold(0.0_f64, |most, value| most.max(value.abs()));
    if deviation > 1e-12 * largest {
        comparison.t_test = Some(student::two_sided(mean / error, freedom));
    }
    comparison
}

/// The exact two-sided sign-flip p of the mean, over all `2^n` signs.
fn sign_flip(differences: &[f64]) -> Option<f64> {
    if differences.is_empty() || differences.len() > MOST_FLIPS {
        return None;
    }
    let observed = differences.iter().sum::<f64>().abs();
    // Sums that differ by rounding alone are the same sum.
    let slack = 1e-12 * differences.iter().map(|value| value.abs()).sum::<f64>();
    let all = 1_u32 << differences.len();
    let as_far = (0..all)
        .filter(|signs| {
            let sum: f64 = differences
                .iter()
                .enumerate()
                .map(|(bit, value)| if signs >> bit & 1 == 1 { -value } else { *value })
                .sum();
            sum.abs() >= observed - slack
        })
        .count();
    Some(as_far as f64 / f64::from(all))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn by_seed(values: &[f64]) -> BTreeMap<u64, f64> {
        (0..).zip(values.iter().copied()).collect()
    }

    fn one(differences: &[f64]) -> Comparison {
        let baseline = by_seed(&vec![0.0; differences.len()]);
        compare(&baseline, &[by_seed(differences)]).remove(0)
    }

    #[test]
    fn a_worked_example_gives_the_textbook_numbers() {
        // Mean 0.03, standard deviation 0.015811, t = 4.2426 with 4 degrees of freedom.
        let comparison = one(&[0.01, 0.02, 0.03, 0.04, 0.05]);
        let close = |found: Option<f64>, expected: f64| {
            assert!((found.unwrap() - expected).abs() < 1e-8, "{found:?} is not {expected}");
        };
        close(comparison.difference, 0.03);
        close(comparison.deviation, 0.015_811_388);
        close(comparison.t_test, 0.013_235_599);
        close(comparison.interval.map(|interval| interval[0]), 0.010_367_568);
        close(comparison.sign_flip, 0.0625);
        close(
            comparison.detectable,
            (2.776_445_105 + 0.940_964_577) * 0.015_811_388 / 5_f64.sqrt(),
        );
        assert_eq!(comparison.verdict, Verdict::Better);
    }

    #[test]
    fn two_seeds_that_happen_to_agree_are_no_discovery() {
        let two = one(&[0.100, 0.101]);
        assert!(two.t_test_holm.is_some_and(|p| p < LEVEL), "{two:?}");
        assert_eq!(two.verdict, Verdict::CannotTell);
        assert_eq!(one(&[0.100, 0.101, 0.102]).verdict, Verdict::Better);
    }

    #[test]
    fn few_seeds_bound_the_sign_flip_test_from_below() {
        assert_eq!(one(&[0.1, 0.11, 0.12]).sign_flip, Some(0.25));
        assert_eq!(one(&[0.1; 5]).sign_flip, Some(0.0625));
        assert_eq!(one(&[0.1; 17]).sign_flip, None);
    }

    #[test]
    fn too_little_to_compare_is_cannot_tell() {
        assert_eq!(one(&[]).verdict, Verdict::CannotTell);
        let single = one(&[5.0]);
        assert_eq!((single.difference, single.interval), (Some(5.0), None));
        assert_eq!(single.verdict, Verdict::CannotTell);
        // No spread at all: the seeds changed nothing.
        assert_eq!(one(&[0.1; 5]).verdict, Verdict::CannotTell);
        assert_eq!(one(&[f64::NAN, 0.1]).seeds, 1);
    }

    #[test]
    fn only_common_seeds_are_paired() {
        let baseline = BTreeMap::from([(0, 1.0), (1, 2.0), (2, 3.0)]);
        let row = BTreeMap::from([(1, 2.5), (2, 3.7), (9, 100.0)]);
        let comparison = &compare(&baseline, &[row])[0];
        assert_eq!(comparison.seeds, 2);
        assert!((comparison.difference.unwrap() - 0.6).abs() < 1e-12);
    }

    #[test]
    fn rows_with_baselines_of_their_own_are_corrected_together() {
        let (low, high) = (by_seed(&[0.1; 5]), by_seed(&[0.6, 0.5, 0.55, 0.4, 0.7]));
        let gain = [0.01, 0.02, 0.03, 0.04, 0.05];
        let raise = |base: &BTreeMap<u64, f64>| -> BTreeMap<u64, f64> {
            base.iter().zip(gain).map(|((seed, value), gain)| (*seed, value + gain)).collect()
        };
        let (better, best) = (raise(&low), raise(&high));
        let pairs = compare_pairs([(&low, &better), (&high, &best)]);
        let alone = one(&gain);
        for comparison in &pairs {
            let (difference, expected) =
                (comparison.difference.unwrap(), alone.difference.unwrap());
            assert!((difference - expected).abs() < 1e-12);
            let (corrected, raw) = (comparison.t_test_holm.unwrap(), alone.t_test.unwrap());
            assert!((corrected - 2.0 * raw).abs() < 1e-9, "{corrected} is not twice {raw}");
        }
    }

    #[test]
    fn many_rows_make_the_verdict_stricter() {
        let good = by_seed(&[0.01, 0.02, 0.03, 0.04, 0.05]);
        let noise = by_seed(&[0.01, -0.02, 0.03, -0.04, 0.025]);
        let baseline = by_seed(&[0.0; 5]);
        let rows = vec![good, noise.clone(), noise.clone(), noise];
        let comparison = &compare(&baseline, &rows)[0];
        assert!(comparison.t_test.unwrap() < LEVEL);
        assert!((comparison.t_test_holm.unwrap() - 4.0 * comparison.t_test.unwrap()).abs() < 1e-12);
        assert_eq!(comparison.verdict, Verdict::CannotTell);
    }

    #[test]
    fn holm_multiplies_by_the_rows_left_and_never_decreases() {
        let corrected = holm(&[0.01, 0.04, 0.03, 0.005]);
        for (found, expected) in corrected.iter().zip([0.03, 0.06, 0.06, 0.02]) {
            assert!((found - expected).abs() < 1e-12, "{corrected:?}");
        }
        assert!(holm(&[]).is_empty());
        assert_eq!(holm(&[0.9, 0.8]), [1.0, 1.0]);
    }

    proptest! {
        #[test]
        fn swapping_the_rows_swaps_the_verdict(
            a in prop::collection::vec(-1.0..1.0_f64, 2..8),
            shift in -2.0..2.0_f64,
        ) {
            let b: Vec<f64> =
                a.iter().enumerate().map(|(i, v)| v * 0.9 + shift + 0.01 * i as f64).collect();
            let forward = compare(&by_seed(&a), &[by_seed(&b)]).remove(0);
            let backward = compare(&by_seed(&b), &[by_seed(&a)]).remove(0);
            let mirrored = match forward.verdict {
                Verdict::Better => Verdict::Worse,
                Verdict::Worse => Verdict::Better,
                Verdict::CannotTell => Verdict::CannotTell,
            };
            prop_assert_eq!(backward.verdict, mirrored);
            prop_assert!((forward.difference.unwrap() + backward.difference.unwrap()).abs() < 1e-12);
            prop_assert_eq!(forward.sign_flip, backward.sign_flip);
        }

        #[test]
        fn the_order_of_the_seeds_does_not_matter(
            mut values in prop::collection::vec(-1.0..1.0_f64, 2..8),
            turn in 0..8_usize,
        ) {
            let before = one(&values);
            let length = values.len();
            values.rotate_left(turn % length);
            let after = one(&values);
            prop_assert_eq!(before.verdict, after.verdict);
            prop_assert_eq!(before.sign_flip, after.sign_flip);
            prop_assert!((before.t_test.unwrap_or(1.0) - after.t_test.unwrap_or(1.0)).abs() < 1e-9);
        }

        #[test]
        fn a_verdict_follows_the_sign_and_its_interval_excludes_zero(
            values in prop::collection::vec(-1.0..1.0_f64, 2..10),
        ) {
            let comparison = one(&values);
            let (difference, [low, high]) =
                (comparison.difference.unwrap(), comparison.interval.unwrap());
            match comparison.verdict {
                Verdict::Better => prop_assert!(difference > 0.0 && low > 0.0),
                Verdict::Worse => prop_assert!(difference < 0.0 && high < 0.0),
                Verdict::CannotTell => prop_assert!(
                    values.len() < LEAST_SEEDS || (low <= 1e-12 && high >= -1e-12)
                ),
            }
        }

        #[test]
        fn holm_is_never_below_the_raw_value_and_keeps_the_order(
            values in prop::collection::vec(0.0..1.0_f64, 1..8),
        ) {
            let corrected = holm(&values);
            for i in 0..values.len() {
                prop_assert!(corrected[i] >= values[i]);
                for j in 0..values.len() {
                    prop_assert!(values[i] >= values[j] || corrected[i] <= corrected[j]);
                }
            }
        }
    }
}
