//! The moving average: its decay, and six updates of a small model.

use burn::tensor::{Device, Tensor, TensorData};
use deim_ops::blend;
use deim_train::schedule::ema_decay;

use super::loss::failed;
use crate::case::{Case, CaseError};
use crate::compare::Check;

pub fn verify_decay(case: &Case, _device: &Device, check: &mut Check) -> Result<(), CaseError> {
    let updates = case.indices("updates")?;
    let tolerance = case.tolerance("")?;
    for name in case.names().filter(|name| *name != "updates") {
        let parts = name.strip_prefix("decay").and_then(|rest| rest.split_once("_warmups"));
        let parsed = parts.and_then(|(decay, warmups)| {
            Some((decay.parse::<f64>().ok()?, warmups.parse::<u64>().ok()?))
        });
        let Some((decay, warmups)) = parsed else {
            return Err(CaseError::new(format!("{name} names no decay and warm-up")));
        };
        let ours: Vec<f64> =
            updates.iter().map(|&update| ema_decay(decay, warmups, update as u64)).collect();
        check.values(name, &ours, &case.array(name)?.values, tolerance)?;
    }
    Ok(())
}

pub fn verify_steps(case: &Case, device: &Device, check: &mut Check) -> Result<(), CaseError> {
    let (decay, warmups) = (case.number("decay")?, case.count("warmups")? as u64);
    let start = case.count("start")?;
    let tolerance = case.tolerance("")?;
    let names: Vec<&str> = case.names().filter_map(|name| name.strip_prefix("model.0.")).collect();
    let mut updates = 0;
    for name in names {
        // Counters are whole numbers and stay what they were.
        let integer = name.ends_with("num_batches_tracked");
        let mut average = vector(case, &format!("model.0.{name}"), device)?;
        updates = 0_u64;
        for step in 1..=case.count("steps")? {
            if step > start {
                updates += 1;
                if !integer {
                    let current = vector(case, &format!("model.{step}.{name}"), device)?;
                    if current.dims() != average.dims() {
                        return Err(CaseError::new(format!(
                            "model.{step}.{name} changes its size"
                        )));
                    }
                    average = blend(average, current, ema_decay(decay, warmups, updates));
                }
            }
            let ours = average.clone().try_into_vec_as::<f32>().map_err(failed)?;
            check.array(case, &format!("ema.{step}.{name}"), &ours, tolerance)?;
        }
    }
    check.values(
        "updates_after",
        &[updates as f64],
        &case.array("updates_after")?.values,
        tolerance,
    )
}

fn vector(case: &Case, name: &str, device: &Device) -> Result<Tensor<1>, CaseError> {
    let values = case.f32s(name)?;
    let count = values.len();
    Ok(Tensor::from_data(TensorData::new(values, [count]), device))
}
