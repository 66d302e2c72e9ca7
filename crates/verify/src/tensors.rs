//! The arrays of a case, as 64-bit floats whatever they are stored as.

use std::collections::BTreeMap;
use std::path::Path;

use safetensors::{Dtype, SafeTensors};

use crate::case::CaseError;

/// One array. Every stored type up to 2^53 fits a 64-bit float without loss.
#[derive(Clone, Debug, PartialEq)]
pub struct Array {
    pub shape: Vec<usize>,
    pub values: Vec<f64>,
}

impl Array {
    pub fn f32s(&self) -> Vec<f32> {
        self.values.iter().map(|&value| value as f32).collect()
    }

    /// As indices; an error names the array.
    pub fn indices(&self, name: &str) -> Result<Vec<usize>, CaseError> {
        let index = |&value: &f64| {
            (value >= 0.0 && value.fract() == 0.0 && value < 1e15).then_some(value as usize)
        };
        let indices: Option<Vec<usize>> = self.values.iter().map(index).collect();
        indices.ok_or_else(|| CaseError::new(format!("{name}: a value is not an index")))
    }
}

/// Reads a safetensors file.
pub fn read(path: &Path) -> Result<BTreeMap<String, Array>, CaseError> {
    let wrong = |error: &dyn std::fmt::Display| CaseError::new(format!("{}: {error}", file(path)));
    let bytes = std::fs::read(path).map_err(|error| wrong(&error))?;
    let tensors = SafeTensors::deserialize(&bytes).map_err(|error| wrong(&error))?;
    let mut arrays = BTreeMap::new();
    for (name, view) in tensors.tensors() {
        let data = view.data();
        let values = match view.dtype() {
            Dtype::F32 => words(data, |word| f64::from(f32::from_le_bytes(word))),
            Dtype::F64 => words(data, f64::from_le_bytes),
            Dtype::I64 => words(data, |word| i64::from_le_bytes(word) as f64),
            Dtype::U8 | Dtype::BOOL => data.iter().map(|&byte| f64::from(byte)).collect(),
            other => return Err(wrong(&format!("{name} has type {other:?}"))),
        };
        arrays.insert(name, Array { shape: view.shape().to_vec(), values });
    }
    Ok(arrays)
}

fn words<const N: usize>(data: &[u8], value: impl Fn([u8; N]) -> f64) -> Vec<f64> {
    data.as_chunks::<N>().0.iter().map(|&word| value(word)).collect()
}

fn file(path: &Path) -> String {
    path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned())
}
