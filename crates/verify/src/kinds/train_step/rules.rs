//! How far a training step's numbers may be off: the rules that its case states in words.

use crate::case::{Case, CaseError};
use crate::compare::Tolerance;

/// The rules of a case. A norm may be off by a share of itself or by a multiple of its noise, the
/// difference between the official code in 32 and in 64 bits, whichever is larger.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rules {
    pub loss: Tolerance,
    pub global_norm: Tolerance,
    pub gradient: NormRule,
    pub delta: NormRule,
    pub state: NormRule,
    pub sample: f64,
    /// Of the learning rate and the steps so far: how far an element may be off whose gradient is
    /// near zero, because AdamW turns the sign of its noise into a whole step.
    pub sample_rates: f64,
}

/// The bounds of a norm.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct NormRule {
    pub relative: f64,
    /// Times the noise.
    pub noise: f64,
    /// Never less than this.
    pub least: f64,
}

impl NormRule {
    /// What is allowed about a norm that the official code gave in 32 and in 64 bits.
    pub fn bound(self, single: f64, double: f64) -> Tolerance {
        let noise = self.noise * (single - double).abs();
        Tolerance {
            absolute: noise.max(self.relative * single.abs()).max(self.least),
            relative: 0.0,
        }
    }
}

impl Rules {
    /// Of a step in 64 bits against the official one. The record states no tolerance for it. What is left between two implementations are the tables that the official code keeps
    /// in 32 bits, such as positions; a gradient that is mostly cancellation multiplies it.
    pub fn exact(case: &Case, prefix: &str) -> Result<Self, CaseError> {
        let global_norm = case.shaped(&format!("{prefix}grad_norm_global"), &[2])?.values[1];
        let tolerance = Tolerance { absolute: 0.0, relative: 1e-6 };
        let norm = |relative, least| NormRule { relative, noise: 0.0, least };
        Ok(Self {
            loss: tolerance,
            global_norm: tolerance,
            gradient: norm(2e-5, 1e-7 * global_norm),
            delta: norm(2e-5, 0.0),
            state: norm(1e-6, 0.0),
            // There are no samples in 64 bits.
            sample: 0.0,
            sample_rates: 0.0,
        })
    }

    pub fn read(case: &Case) -> Result<Self, CaseError> {
        let rule = |key: &str| {
            let text = case.text(&format!("tolerance.{key}"))?;
            let relative = number_before(text, " relative");
            relative.map(|relative| (text, relative)).ok_or_else(|| unclear(key, text))
        };
        let norm = |key: &str| {
            let (text, relative) = rule(key)?;
            let noise = number_before(text, " times |").ok_or_else(|| unclear(key, text))?;
            Ok(NormRule { relative, noise, least: 0.0 })
        };
        let gradient = norm("grad_norm")?;
        let (text, relative) = rule("param_delta_norm")?;
        if !text.starts_with("like grad_norm") {
            return Err(unclear("param_delta_norm", text));
        }
        let text = case.text("tolerance.sample_abs")?;
        let sample = number_before(text, ", or");
        let rates = number_before(text, " * group_lr * (step + 1)");
        let (Some(sample), Some(sample_rates)) = (sample, rates) else {
            return Err(unclear("sample_abs", text));
        };
        Ok(Self {
            loss: case.tolerance("loss")?,
            global_norm: case.tolerance("grad_norm_global")?,
            gradient,
            delta: NormRule { relative, ..gradient },
            state: norm("state_norm")?,
            sample,
            sample_rates,
        })
    }
}

/// The number that ends where `mark` begins.
fn number_before(text: &str, mark: &str) -> Option<f64> {
    let (before, _) = text.split_once(mark)?;
    before.rsplit([' ', ',']).next()?.parse().ok()
}

fn unclear(key: &str, text: &str) -> CaseError {
    CaseError::new(format!("case.toml: tolerance.{key} states no known rule: '{text}'"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_of_a_rule_are_read_from_its_words() {
        let text = "per parameter: 1e-3 relative or 10 times |a - b|, whichever is larger";
        assert_eq!(number_before(text, " relative"), Some(1e-3));
        assert_eq!(number_before(text, " times |"), Some(10.0));
        let text = "1e-5, or 2 * group_lr * (step + 1) for elements whose gradient is near zero";
        assert_eq!(number_before(text, ", or"), Some(1e-5));
        assert_eq!(number_before(text, " * group_lr * (step + 1)"), Some(2.0));
        assert_eq!(number_before("no rule", " relative"), None);
    }

    #[test]
    fn a_norm_may_be_off_by_a_share_or_by_the_noise_of_the_original() {
        let rule = NormRule { relative: 1e-3, noise: 10.0, least: 0.0 };
        assert!((rule.bound(2.0, 2.0).absolute - 2e-3).abs() < 1e-12);
        assert!((rule.bound(2.0, 2.001).absolute - 1e-2).abs() < 1e-12);
    }
}
