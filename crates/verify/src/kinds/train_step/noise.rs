//! Whether our rounding in 32 bits is like that of the official code.
//!
//! The noise of a number is how far the official run in 32 bits is from the one in 64. The notes of
//! the reference cases call an implementation that stays "within about 10 to 30 times this noise" as
//! good as the original. Ours is measured in the same way: from the official run in 64 bits.

use super::arrays::{List, Step};
use super::names::norm;
use crate::case::CaseError;
use crate::compare::{Check, Tolerance};

/// The larger of the two numbers: with the smaller, one step of `n_mal_3steps` is beyond
/// (docs/models.md). The noise of one step of one run is itself a draw.
const TIMES: f64 = 30.0;

/// Where the two distributions over all parameters are compared. Their largest values say nothing of
/// each other: one rounding error that puts a unit on the other side of a ReLU makes them.
const SHARES: [(f64, &str); 3] = [(0.5, "median"), (0.9, "0.9 quantile"), (0.99, "0.99 quantile")];

/// Compares the noise of gradients, updates, states and averages.
pub fn compare(step: &Step<'_>, check: &mut Check) -> Result<(), CaseError> {
    for list in List::ALL {
        let stored = step.stored(list)?;
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for (index, tensor) in step.compared(list)? {
            let (single, double) = (stored.single[index], stored.double[index]);
            // A norm of zero has no share, and -1 says that there is no gradient.
            if double > 0.0 {
                ours.push((norm(&tensor) - double).abs() / double);
                theirs.push((single - double).abs() / double);
            }
        }
        for (share, label) in SHARES {
            let (Some(ours), Some(theirs)) =
                (quantile(&mut ours, share), quantile(&mut theirs, share))
            else {
                continue;
            };
            let absolute = TIMES * theirs.max(f64::from(f32::EPSILON));
            let name = format!("step{}.{}_norm: noise, {label}", step.step, list.name());
            check.values(&name, &[ours], &[0.0], Tolerance { absolute, relative: 0.0 })?;
        }
    }
    Ok(())
}

/// The value below which this share of all lies; what is not a number lies above everything.
fn quantile(values: &mut [f64], share: f64) -> Option<f64> {
    values.sort_unstable_by(f64::total_cmp);
    let last = values.len().checked_sub(1)?;
    Some(values[(share * last as f64).round() as usize])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantile_is_one_of_the_values() {
        let mut values = [3.0, f64::NAN, 1.0, 2.0, 0.0];
        assert_eq!(quantile(&mut values, 0.0), Some(0.0));
        assert_eq!(quantile(&mut values, 0.5), Some(2.0));
        assert!(quantile(&mut values, 1.0).is_some_and(f64::is_nan));
        assert_eq!(quantile(&mut [], 0.5), None);
    }
}
