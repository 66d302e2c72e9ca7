//! What became of each case.

use std::path::Path;

use serde::Serialize;

use crate::arithmetic::Arithmetic;

/// The result of a run, case by case.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    pub cases: Vec<CaseReport>,
}

impl Report {
    /// How many cases passed, failed and were skipped.
    pub fn counts(&self) -> [usize; 3] {
        let count = |wanted: fn(&Outcome) -> bool| {
            self.cases.iter().filter(|case| wanted(&case.outcome)).count()
        };
        [
            count(|outcome| matches!(outcome, Outcome::Pass)),
            count(|outcome| matches!(outcome, Outcome::Fail { .. })),
            count(|outcome| matches!(outcome, Outcome::Skip { .. })),
        ]
    }

    /// The case that came closest to its tolerance, or went furthest beyond it, of those that were judged.
    pub fn worst(&self) -> Option<(&CaseReport, &Worst)> {
        let judged = self.cases.iter().filter(|case| case.precision.is_none());
        let worst = judged.filter_map(|case| Some((case, case.worst.as_ref()?)));
        worst.max_by(|(_, a), (_, b)| a.of_tolerance.total_cmp(&b.of_tolerance))
    }

    /// Whether every case passed; a skipped case has shown nothing. What was only measured decides
    /// nothing, unless it gave no number at all.
    pub fn all_passed(&self) -> bool {
        self.cases.iter().all(|case| matches!(case.outcome, Outcome::Pass | Outcome::Info))
    }

    /// Whether there was something to measure, and every case could be.
    pub fn all_measured(&self) -> bool {
        let measured = |case: &CaseReport| case.outcome == Outcome::Info;
        !self.cases.is_empty() && self.cases.iter().all(measured)
    }
}

/// What became of one case.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CaseReport {
    /// The last two parts of its path: section and case.
    pub name: String,
    /// What was computed; none where `case.toml` does not say.
    pub kind: Option<String>,
    /// The arithmetic that it was measured in; none where it was judged.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub precision: Option<Arithmetic>,
    #[serde(flatten)]
    pub outcome: Outcome,
    /// The comparison that came closest to its tolerance, or went furthest beyond it.
    pub worst: Option<Worst>,
    /// How many arrays and values were compared.
    pub compared: usize,
    /// Every comparison beyond its tolerance.
    pub beyond: Vec<Worst>,
    /// The parts of a case that was computed more than once.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub parts: Vec<Part>,
    /// What was done otherwise than on the CPU, and why.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

/// One of the computations that a case is verified by.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Part {
    /// Its comparisons' names in the whole case begin with this.
    pub name: String,
    /// Whether the case fails by it.
    pub decides: bool,
    pub worst: Option<Worst>,
    pub compared: usize,
    /// Every comparison beyond its tolerance.
    pub beyond: Vec<Worst>,
}

/// Passed, failed or not looked at; or measured and not judged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "outcome", rename_all = "lowercase")]
pub enum Outcome {
    Pass,
    Fail {
        reason: String,
    },
    Skip {
        reason: String,
    },
    /// The errors of a precision that the tolerances are not made for.
    Info,
}

/// A comparison's largest error.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Worst {
    /// The array or value in the case.
    pub tensor: String,
    /// The error as a share of what the tolerance allows; above 1 fails. Infinite (null in JSON) where
    /// exact equality was asked for and not met.
    pub of_tolerance: f64,
    pub absolute: f64,
}

impl CaseReport {
    /// A case that could not be compared at all.
    pub fn failed(folder: &Path, kind: Option<String>, reason: String) -> Self {
        Self {
            name: name(folder),
            kind,
            precision: None,
            outcome: Outcome::Fail { reason },
            worst: None,
            compared: 0,
            beyond: Vec::new(),
            parts: Vec::new(),
            notes: Vec::new(),
        }
    }

    /// The report as one line.
    pub fn line(&self) -> String {
        let worst = self.worst.as_ref().map_or_else(String::new, |worst| {
            format!(
                "  worst {:.3} of tolerance (absolute {:.2e}) in {}",
                worst.of_tolerance, worst.absolute, worst.tensor
            )
        });
        let parts = self.parts.iter().map(|part| {
            let worst = part.worst.as_ref().map_or(0.0, |worst| worst.of_tolerance);
            let Part { name, compared, beyond, .. } = part;
            let told = if part.decides { "" } else { " (decides nothing)" };
            format!("  {name}: {} of {compared} beyond, worst {worst:.3}{told}", beyond.len())
        });
        let notes = self.notes.iter().map(|note| format!("  ({note})"));
        let worst = format!("{worst}{}", parts.chain(notes).collect::<String>());
        match &self.outcome {
            Outcome::Pass => format!("PASS  {}{worst}", self.name),
            Outcome::Fail { reason } => {
                let measured = self.precision.map(|precision| format!("{precision}: "));
                format!("FAIL  {}{worst}  {}{reason}", self.name, measured.unwrap_or_default())
            }
            Outcome::Skip { reason } => format!("SKIP  {}  {reason}", self.name),
            Outcome::Info => {
                let parts = self.parts.iter().map(|part| {
                    let worst = part.worst.as_ref().map_or(0.0, |worst| worst.of_tolerance);
                    format!("{} {}", part.name, short(worst))
                });
                let parts: Vec<String> = parts.collect();
                let precision = self.precision.map_or("", Arithmetic::name);
                format!("INFO  {}  {precision}: {}", self.name, parts.join(", "))
            }
        }
    }
}

/// A measured error: four places, or where they would not show it, two digits.
fn short(error: f64) -> String {
    if error == 0.0 || error >= 1e-3 { format!("{error:.4}") } else { format!("{error:.1e}") }
}

/// Section and case: the last two parts of the path.
pub fn name(folder: &Path) -> String {
    let full = std::fs::canonicalize(folder).unwrap_or_else(|_| folder.to_owned());
    let parts: Vec<_> = full.iter().map(|part| part.to_string_lossy()).collect();
    parts[parts.len().saturating_sub(2)..].join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_errors_keep_two_digits() {
        assert_eq!([0.0, 0.0326, 0.0000042].map(short), ["0.0000", "0.0326", "4.2e-6"]);
    }
}
