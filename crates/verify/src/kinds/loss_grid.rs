//! Class losses of a single logit over probabilities and qualities.

use burn::tensor::{Device, Tensor, TensorData};
use deim_train::losses::class::{ClassLoss, Kind, Positives};

use super::loss::failed;
use crate::case::{Case, CaseError};
use crate::compare::{Check, Tolerance};

pub fn verify(case: &Case, device: &Device, check: &mut Check) -> Result<(), CaseError> {
    let probabilities = &case.array("p")?.values;
    let qualities = &case.array("q")?.values;
    let mut logits = Vec::new();
    let mut positives = Positives::default();
    for &p in probabilities {
        for &q in qualities {
            // A quality of -1 marks a negative.
            if q >= 0.0 {
                positives.places.push(logits.len());
                positives.qualities.push(q);
            }
            logits.push((p / (1.0 - p)).ln() as f32);
        }
    }
    // The case is exact; ours is 32-bit, whose rounding shows where probability and target cancel.
    let tolerance = Tolerance { absolute: 2.0 * f64::from(f32::EPSILON), ..case.tolerance("")? };
    let count = logits.len();
    let names: Vec<&str> = case.names().filter(|name| name.contains("_gamma")).collect();
    for name in names {
        let Some((kind, gamma)) = parse(name) else {
            if name.ends_with(".grad") {
                continue;
            }
            return Err(CaseError::new(format!("{name} names no loss")));
        };
        let loss = ClassLoss { kind, gamma, alpha: case.number("alpha")?, mal_alpha: None };
        let tensor: Tensor<1> = Tensor::from_data(TensorData::new(logits.clone(), [count]), device);
        let result = loss.elementwise(tensor, &positives);
        let values = result.loss.try_into_vec_as::<f32>().map_err(failed)?;
        check.array(case, name, &values, tolerance)?;
        let slopes = result.gradient.try_into_vec_as::<f32>().map_err(failed)?;
        check.array(case, &format!("{name}.grad"), &slopes, tolerance)?;
    }
    Ok(())
}

/// `mal_gamma1.5` as loss and exponent.
fn parse(name: &str) -> Option<(Kind, f64)> {
    let (kind, gamma) = name.split_once("_gamma")?;
    let kind = match kind {
        "mal" => Kind::Mal,
        "vfl" => Kind::Vfl,
        "focal" => Kind::Focal,
        _ => return None,
    };
    Some((kind, gamma.parse().ok()?))
}
