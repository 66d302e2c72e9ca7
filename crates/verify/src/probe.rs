//! Tensors too large to be stored: their statistics, and 64 of their values.

use burn::tensor::Tensor;

use crate::case::{Case, CaseError};
use crate::compare::{Check, Tolerance};

/// Values stored of a larger tensor.
const SAMPLES: usize = 64;

/// Compares a tensor's shape, mean, standard deviation, extremes and samples with a probe, within
/// `to_std` standard deviations of the stored tensor.
pub fn compare<const D: usize>(
    case: &Case,
    probe: &str,
    ours: Tensor<D>,
    to_std: f64,
    check: &mut Check,
) -> Result<(), CaseError> {
    let shape = ours.dims();
    compare_values(case, probe, &shape, || ours.into_data().iter::<f64>().collect(), to_std, check)
}

/// The same of values row by row, which are read only where the shape is right.
pub fn compare_values(
    case: &Case,
    probe: &str,
    shape: &[usize],
    values: impl FnOnce() -> Vec<f64>,
    to_std: f64,
    check: &mut Check,
) -> Result<(), CaseError> {
    let expected = case.indices(&format!("{probe}.shape"))?;
    check.same(&format!("{probe}.shape"), &shape, &expected.as_slice());
    if shape != expected {
        return Ok(());
    }
    let values = values();
    let stored = &case.shaped(&format!("{probe}.stat"), &[4])?.values;
    // A constant tensor must be the same constant, up to rounding.
    let rounding = f64::from(f32::EPSILON) * stored[0].abs();
    let tolerance = Tolerance { absolute: (to_std * stored[1]).max(rounding), relative: 0.0 };
    check.values(&format!("{probe}.stat"), &statistics(&values), stored, tolerance)?;
    let name = format!("{probe}.samples");
    check.values(&name, &samples(&values, SAMPLES), &case.array(&name)?.values, tolerance)
}

/// Mean, population standard deviation, least and largest value.
pub fn statistics(values: &[f64]) -> [f64; 4] {
    let count = values.len().max(1) as f64;
    let mean = values.iter().sum::<f64>() / count;
    let variance = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / count;
    let least = values.iter().copied().fold(f64::INFINITY, f64::min);
    let largest = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    [mean, variance.sqrt(), least, largest]
}

/// The values at `floor(i * numel / n)`; all of them if there are not more.
pub fn samples<T: Copy>(values: &[T], count: usize) -> Vec<T> {
    if values.len() <= count {
        return values.to_vec();
    }
    (0..count).map(|index| values[index * values.len() / count]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_strided_and_statistics_are_those_of_all_values() {
        let values: Vec<f64> = (0..10).map(f64::from).collect();
        assert_eq!(samples(&values, 4), [0.0, 2.0, 5.0, 7.0]);
        assert_eq!(samples(&values, 12), values);
        assert_eq!(statistics(&[1.0, 3.0]), [2.0, 1.0, 1.0, 3.0]);
    }
}
