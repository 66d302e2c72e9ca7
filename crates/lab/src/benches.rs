//! Training steps that `deim bench train --json` timed, kept in `results/bench`.

use std::fmt;
use std::path::Path;

use deim_spec::config::Precision;
use serde::Deserialize;

use crate::error::LabError;

/// A line of such a file.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Bench {
    what: String,
    device_class: String,
    device: String,
    model: String,
    precision: Precision,
    size: usize,
    batch: usize,
    images_per_second: f64,
    operations_per_image: f64,
}

impl Bench {
    /// Counted operations a second.
    pub fn rate(&self) -> f64 {
        self.images_per_second * self.operations_per_image
    }
}

impl fmt::Display for Bench {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { device, model, size, batch, images_per_second, precision, .. } = self;
        let precision = match precision {
            Precision::F32 => "",
            Precision::Bf16 => " in bf16",
        };
        write!(
            formatter,
            "{images_per_second:.1} images a second of {model}{precision} at {size} px, batch {batch}, on {device}"
        )
    }
}

/// The training steps that were timed on a class of device, file by file.
pub fn read(results: &Path, class: &str) -> Result<Vec<Bench>, LabError> {
    let Ok(folder) = std::fs::read_dir(results.join("bench")) else { return Ok(Vec::new()) };
    let mut paths: Vec<_> = folder.flatten().map(|entry| entry.path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "json"));
    paths.sort();
    let mut found = Vec::new();
    for path in paths {
        let wrong = |problem: String| LabError::Input(format!("{}: {problem}", path.display()));
        let text = std::fs::read_to_string(&path).map_err(|error| wrong(error.to_string()))?;
        for (number, line) in (1..).zip(text.lines()) {
            let value: serde_json::Value = serde_json::from_str(line)
                .map_err(|error| wrong(format!("line {number}: expected JSON: {error}")))?;
            // A peer's line, for comparison, has another form.
            let ours = value["what"] == "train" && value["device_class"] == class;
            if ours && value.get("peer").is_none() {
                let bench: Bench = serde_json::from_value(value)
                    .map_err(|error| wrong(format!("line {number}: {error}")))?;
                found.push(bench);
            }
        }
    }
    Ok(found)
}

/// The one in this precision whose images need operations nearest to these.
pub fn nearest(benches: &[Bench], precision: Precision, operations: f64) -> Option<&Bench> {
    let apart = |bench: &Bench| (bench.operations_per_image / operations).ln().abs();
    let alike = benches.iter().filter(|bench| bench.precision == precision);
    alike.min_by(|a, b| apart(a).total_cmp(&apart(b)))
}
