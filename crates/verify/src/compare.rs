//! Comparing our numbers with a case's.

use crate::case::{Case, CaseError};
use crate::report::{Part, Worst};

/// How far a number may be off: either bound may hold.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tolerance {
    pub absolute: f64,
    pub relative: f64,
}

impl Tolerance {
    /// The same relative bound, and one unit in the last place of 32-bit arithmetic on top: for
    /// numbers whose size, not their error, is far above the absolute bound.
    pub fn with_rounding(self) -> Self {
        Self { relative: self.relative.max(f64::from(f32::EPSILON)), ..self }
    }

    fn allowed(self, expected: f64) -> f64 {
        self.absolute.max(self.relative * expected.abs())
    }
}

/// Collects the comparisons of a case and remembers the worst.
#[derive(Debug, Default)]
pub struct Check {
    pub worst: Option<Worst>,
    pub compared: usize,
    /// Every comparison beyond its tolerance.
    pub beyond: Vec<Worst>,
    /// The computations that are part of this one.
    pub parts: Vec<Part>,
    /// What was done otherwise than on the CPU, and why.
    pub notes: Vec<String>,
}

impl Check {
    /// Compares our values with an array of the case, element by element.
    pub fn array(
        &mut self,
        case: &Case,
        name: &str,
        ours: &[f32],
        tolerance: Tolerance,
    ) -> Result<(), CaseError> {
        let ours: Vec<f64> = ours.iter().map(|&value| f64::from(value)).collect();
        self.values(name, &ours, &case.array(name)?.values, tolerance)
    }

    /// Compares two lists of numbers of the same meaning.
    pub fn values(
        &mut self,
        name: &str,
        ours: &[f64],
        expected: &[f64],
        tolerance: Tolerance,
    ) -> Result<(), CaseError> {
        if ours.len() != expected.len() {
            let (ours, expected) = (ours.len(), expected.len());
            return Err(CaseError::new(format!("{name}: {ours} values, expected {expected}")));
        }
        for (&ours, &expected) in ours.iter().zip(expected) {
            let absolute = (ours - expected).abs();
            let share = if ours == expected {
                0.0
            } else if absolute.is_finite() {
                absolute / tolerance.allowed(expected)
            } else {
                f64::INFINITY
            };
            self.note(name, share, absolute);
        }
        // An empty array that is empty on both sides has been compared, too.
        self.compared += 1;
        Ok(())
    }

    /// Compares what must be equal.
    pub fn same<T: PartialEq + std::fmt::Debug>(&mut self, name: &str, ours: &T, expected: &T) {
        let share = if ours == expected { 0.0 } else { f64::INFINITY };
        self.note(name, share, share);
        self.compared += 1;
    }

    fn note(&mut self, tensor: &str, of_tolerance: f64, absolute: f64) {
        // Also what is not a number.
        if of_tolerance.is_nan() || of_tolerance > 1.0 {
            self.beyond.push(Worst { tensor: tensor.to_owned(), of_tolerance, absolute });
        }
        self.remember(Worst { tensor: tensor.to_owned(), of_tolerance, absolute });
    }

    fn remember(&mut self, found: Worst) {
        let worse = |worst: &Worst| {
            found.of_tolerance > worst.of_tolerance
                || (found.of_tolerance.is_nan() && !worst.of_tolerance.is_nan())
        };
        if self.worst.as_ref().is_none_or(worse) {
            self.worst = Some(found);
        }
    }

    /// Takes in all comparisons of a computation that decides about the case.
    pub fn include(&mut self, name: &str, part: Self) {
        let named =
            |worst: &Worst| Worst { tensor: format!("{name}: {}", worst.tensor), ..worst.clone() };
        if let Some(worst) = part.worst.as_ref().map(named) {
            self.remember(worst);
        }
        self.beyond.extend(part.beyond.iter().map(named));
        self.compared += part.compared;
        self.tell(name, true, part);
    }

    /// Tells of comparisons that decide nothing: the same is shown otherwise.
    pub fn mention(&mut self, name: &str, part: Self) {
        self.tell(name, false, part);
    }

    fn tell(&mut self, name: &str, decides: bool, part: Self) {
        let Self { worst, compared, beyond, .. } = part;
        self.parts.push(Part { name: name.to_owned(), decides, worst, compared, beyond });
    }

    /// Whether everything compared was within its tolerance, and something was compared.
    pub fn holds(&self) -> bool {
        self.compared > 0 && self.beyond.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOLERANCE: Tolerance = Tolerance { absolute: 0.1, relative: 0.01 };

    fn holds(ours: f64, expected: f64) -> bool {
        let mut check = Check::default();
        check.values("value", &[0.0, ours], &[0.0, expected], TOLERANCE).unwrap();
        check.holds()
    }

    #[test]
    fn either_bound_may_hold() {
        assert!(holds(0.09, 0.0) && holds(100.9, 100.0));
        assert!(!holds(0.11, 0.0) && !holds(101.1, 100.0));
    }

    #[test]
    fn what_is_not_a_number_never_holds() {
        assert!(!holds(f64::NAN, 1.0) && !holds(1.0, f64::NAN) && !holds(f64::INFINITY, 1.0));
    }

    #[test]
    fn a_part_counts_in_the_whole() {
        let mut part = Check::default();
        part.values("value", &[1.0, 9.0], &[1.0, 1.0], TOLERANCE).unwrap();
        let mut check = Check::default();
        check.values("value", &[1.05], &[1.0], TOLERANCE).unwrap();
        assert!(check.holds());
        check.include("64 bits", part);
        assert!(!check.holds());
        assert_eq!((check.compared, check.beyond.len(), check.parts[0].beyond.len()), (2, 1, 1));
        assert_eq!(check.worst.unwrap().tensor, "64 bits: value");
    }

    #[test]
    fn what_is_only_mentioned_decides_nothing() {
        let mut part = Check::default();
        part.values("value", &[9.0], &[1.0], TOLERANCE).unwrap();
        let mut check = Check::default();
        check.mention("told", part);
        assert!(!check.holds(), "a case of which only a mention is left has shown nothing");
        check.values("value", &[1.0], &[1.0], TOLERANCE).unwrap();
        assert!(check.holds());
        assert_eq!((check.parts[0].beyond.len(), check.parts[0].decides), (1, false));
    }

    #[test]
    fn nothing_compared_has_shown_nothing() {
        assert!(!Check::default().holds());
        let mut check = Check::default();
        assert!(check.values("short", &[1.0], &[1.0, 2.0], TOLERANCE).is_err());
        check.same("equal", &[1, 2], &[1, 3]);
        assert!(!check.holds());
    }
}
