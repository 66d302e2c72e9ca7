//! One case on disk: what `case.toml` says and what its other files hold.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use deim_data::Target;
use serde::de::DeserializeOwned;
use thiserror::Error;
use toml::{Table, Value};

use crate::compare::Tolerance;
use crate::find::CASE_FILE;
use crate::tensors::{self, Array};

/// What is wrong with a case's files.
#[derive(Debug, Error)]
#[error("{0}")]
pub struct CaseError(String);

impl CaseError {
    pub fn new(message: impl Into<String>) -> Self {
        Self(message.into())
    }
}

/// A loaded case.
#[derive(Debug)]
pub struct Case {
    pub folder: PathBuf,
    table: Table,
    arrays: BTreeMap<String, Array>,
}

/// `case.toml` alone.
pub fn table(folder: &Path) -> Result<Table, CaseError> {
    let wrong = |error: &dyn std::fmt::Display| CaseError::new(format!("{CASE_FILE}: {error}"));
    let text = std::fs::read_to_string(folder.join(CASE_FILE)).map_err(|error| wrong(&error))?;
    text.parse::<Table>().map_err(|error| wrong(&error))
}

impl Case {
    /// The case of an already read `case.toml`; `arrays` are read where the kind has any.
    pub fn load(folder: &Path, table: Table, arrays: bool) -> Result<Self, CaseError> {
        let arrays = if arrays {
            tensors::read(&folder.join("tensors.safetensors"))?
        } else {
            BTreeMap::new()
        };
        Ok(Self { folder: folder.to_owned(), table, arrays })
    }

    fn value(&self, key: &str) -> Result<&Value, CaseError> {
        let (first, rest) = key.split_once('.').unwrap_or((key, ""));
        let outer = self.table.get(first).ok_or_else(|| missing(key))?;
        let value = if rest.is_empty() { Some(outer) } else { outer.get(rest) };
        value.ok_or_else(|| missing(key))
    }

    /// A number; integers count as floats.
    pub fn number(&self, key: &str) -> Result<f64, CaseError> {
        let value = self.value(key)?;
        value
            .as_float()
            .or_else(|| value.as_integer().map(|integer| integer as f64))
            .ok_or_else(|| wrong_type(key, "a number"))
    }

    pub fn integer(&self, key: &str) -> Result<i64, CaseError> {
        self.value(key)?.as_integer().ok_or_else(|| wrong_type(key, "an integer"))
    }

    /// An integer that is not negative.
    pub fn count(&self, key: &str) -> Result<usize, CaseError> {
        usize::try_from(self.integer(key)?).map_err(|_| wrong_type(key, "a count"))
    }

    pub fn text(&self, key: &str) -> Result<&str, CaseError> {
        self.value(key)?.as_str().ok_or_else(|| wrong_type(key, "a string"))
    }

    pub fn flag(&self, key: &str) -> Result<bool, CaseError> {
        self.value(key)?.as_bool().ok_or_else(|| wrong_type(key, "true or false"))
    }

    /// The value of a key that may be absent.
    pub fn optional<T>(
        &self,
        key: &str,
        get: impl Fn(&Self, &str) -> Result<T, CaseError>,
    ) -> Result<Option<T>, CaseError> {
        if self.value(key).is_err() { Ok(None) } else { get(self, key).map(Some) }
    }

    pub fn numbers(&self, key: &str) -> Result<Vec<f64>, CaseError> {
        let list = self.value(key)?.as_array().ok_or_else(|| wrong_type(key, "a list"))?;
        let number = |value: &Value| {
            value.as_float().or_else(|| value.as_integer().map(|integer| integer as f64))
        };
        let numbers: Option<Vec<f64>> = list.iter().map(number).collect();
        numbers.ok_or_else(|| wrong_type(key, "a list of numbers"))
    }

    /// Whether `case.toml` has a key.
    pub fn says(&self, key: &str) -> bool {
        self.value(key).is_ok()
    }

    /// A list of integers that are not negative.
    pub fn counts(&self, key: &str) -> Result<Vec<usize>, CaseError> {
        let numbers = self.numbers(key)?;
        let count = |&number: &f64| {
            (number >= 0.0 && number.fract() == 0.0 && number < 1e15).then_some(number as usize)
        };
        let counts: Option<Vec<usize>> = numbers.iter().map(count).collect();
        counts.ok_or_else(|| wrong_type(key, "a list of counts"))
    }

    /// A list of lists of integers.
    pub fn lists(&self, key: &str) -> Result<Vec<Vec<i64>>, CaseError> {
        let outer = self.value(key)?.as_array().ok_or_else(|| wrong_type(key, "a list"))?;
        let inner = |value: &Value| -> Option<Vec<i64>> {
            value.as_array()?.iter().map(Value::as_integer).collect()
        };
        let lists: Option<Vec<_>> = outer.iter().map(inner).collect();
        lists.ok_or_else(|| wrong_type(key, "a list of lists of integers"))
    }

    /// A list of heights and widths.
    pub fn sizes(&self, key: &str) -> Result<Vec<[usize; 2]>, CaseError> {
        let list = self.value(key)?.as_array().ok_or_else(|| wrong_type(key, "a list"))?;
        let size = |value: &Value| -> Option<[usize; 2]> {
            let [height, width] = value.as_array()?.as_slice() else { return None };
            let side = |value: &Value| usize::try_from(value.as_integer()?).ok();
            Some([side(height)?, side(width)?])
        };
        let sizes: Option<Vec<_>> = list.iter().map(size).collect();
        sizes.ok_or_else(|| wrong_type(key, "a list of heights and widths"))
    }

    pub fn texts(&self, key: &str) -> Result<Vec<String>, CaseError> {
        let list = self.value(key)?.as_array().ok_or_else(|| wrong_type(key, "a list"))?;
        let texts: Option<Vec<String>> =
            list.iter().map(|value| value.as_str().map(str::to_owned)).collect();
        texts.ok_or_else(|| wrong_type(key, "a list of strings"))
    }

    /// The tolerance from `[tolerance]`: `<name>_abs` and `<name>_rel`, or `abs` and `rel`.
    pub fn tolerance(&self, name: &str) -> Result<Tolerance, CaseError> {
        let key = |part: &str| match name {
            "" => format!("tolerance.{part}"),
            name => format!("tolerance.{name}_{part}"),
        };
        let absolute = self.optional(&key("abs"), Self::number)?;
        let relative = self.optional(&key("rel"), Self::number)?;
        if absolute.is_none() && relative.is_none() {
            return Err(missing(&key("abs")));
        }
        Ok(Tolerance { absolute: absolute.unwrap_or(0.0), relative: relative.unwrap_or(0.0) })
    }

    pub fn has(&self, name: &str) -> bool {
        self.arrays.contains_key(name)
    }

    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.arrays.keys().map(String::as_str)
    }

    pub fn array(&self, name: &str) -> Result<&Array, CaseError> {
        self.arrays
            .get(name)
            .ok_or_else(|| CaseError::new(format!("tensors.safetensors lacks '{name}'")))
    }

    /// An array of a known shape.
    pub fn shaped(&self, name: &str, shape: &[usize]) -> Result<&Array, CaseError> {
        let array = self.array(name)?;
        if array.shape != shape {
            let found = &array.shape;
            return Err(CaseError::new(format!("{name}: expected {shape:?}, found {found:?}")));
        }
        Ok(array)
    }

    pub fn f32s(&self, name: &str) -> Result<Vec<f32>, CaseError> {
        Ok(self.array(name)?.f32s())
    }

    pub fn indices(&self, name: &str) -> Result<Vec<usize>, CaseError> {
        self.array(name)?.indices(name)
    }

    /// `target.<image>.labels` and `.boxes` of every image.
    pub fn targets(&self, batch: usize) -> Result<Vec<Target>, CaseError> {
        self.targets_at("", batch)
    }

    /// The same of arrays whose names begin with a prefix.
    pub fn targets_at(&self, prefix: &str, batch: usize) -> Result<Vec<Target>, CaseError> {
        (0..batch)
            .map(|image| {
                let labels = self.indices(&format!("{prefix}target.{image}.labels"))?;
                let name = format!("{prefix}target.{image}.boxes");
                let boxes = self.shaped(&name, &[labels.len(), 4])?.f32s();
                let boxes = boxes.as_chunks::<4>().0.to_vec();
                let labels = labels.into_iter().map(|label| label as u32).collect();
                Ok(Target { labels, boxes })
            })
            .collect()
    }

    /// A JSON file of the case.
    pub fn json<T: DeserializeOwned>(&self, file: &str) -> Result<T, CaseError> {
        let text = std::fs::read_to_string(self.folder.join(file))
            .map_err(|error| CaseError::new(format!("{file}: {error}")))?;
        serde_json::from_str(&text).map_err(|error| CaseError::new(format!("{file}: {error}")))
    }
}

fn missing(key: &str) -> CaseError {
    CaseError::new(format!("{CASE_FILE} lacks '{key}'"))
}

fn wrong_type(key: &str, expected: &str) -> CaseError {
    CaseError::new(format!("{CASE_FILE}: '{key}' is not {expected}"))
}
