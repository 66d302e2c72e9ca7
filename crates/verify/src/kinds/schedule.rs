//! Learning rates of whole recipes, and the sizes of multi-scale training.

use burn::tensor::Device;
use deim_data::transforms::multi_scale::generate_scales;
use deim_train::schedule::FlatCosine;
use serde::Deserialize;

use crate::case::{Case, CaseError};
use crate::compare::Check;

#[derive(Deserialize)]
struct Phases {
    groups: Vec<Group>,
}

#[derive(Deserialize)]
struct Group {
    initial_lr: f64,
}

pub fn verify(case: &Case, _device: &Device, check: &mut Check) -> Result<(), CaseError> {
    let schedule = schedule(case)?;
    check.same("flat_iter", &schedule.flat, &(case.count("flat_iter")? as u64));
    check.same("no_aug_iter", &schedule.tail, &(case.count("no_aug_iter")? as u64));
    check.same("total_iterations", &schedule.total, &(case.count("total_iterations")? as u64));

    let iterations = case.indices("iterations")?;
    let phases: Phases = case.json("phases.json")?;
    let rates = |rate: &dyn Fn(f64, u64) -> f64| -> Vec<f64> {
        let group = |group: &Group| {
            let base = group.initial_lr;
            iterations.iter().map(|&at| rate(base, at as u64)).collect::<Vec<_>>()
        };
        phases.groups.iter().flat_map(group).collect()
    };
    let tolerance = case.tolerance("lr")?;
    let shape = [phases.groups.len(), iterations.len()];
    let after = &case.shaped("lr_after_step", &shape)?.values;
    check.values("lr_after_step", &rates(&|b, at| schedule.after(b, at)), after, tolerance)?;
    let used = &case.shaped("lr_used", &shape)?.values;
    check.values("lr_used", &rates(&|b, at| schedule.used(b, at)), used, tolerance)?;

    let scales = case.numbers("scales")?;
    if let Some((base, repeat)) = base_of(&scales) {
        let ours: Vec<f64> =
            generate_scales(base, repeat).into_iter().map(|size| size as f64).collect();
        check.same("scales", &ours, &scales);
    }
    Ok(())
}

fn schedule(case: &Case) -> Result<FlatCosine, CaseError> {
    let epoch = case.count("iterations_per_epoch")? as u64;
    let epochs = |key: &str| Ok::<u64, CaseError>(case.count(key)? as u64 * epoch);
    Ok(FlatCosine {
        warmup: case.count("warmup_iter")? as u64,
        flat: epochs("flat_epoch")?,
        tail: epochs("no_aug_epoch")?,
        total: epochs("epochs")?,
        gamma: case.number("lr_gamma")?,
        first_divisor: case.count("linear_warmup_duration")? as u64,
    })
}

/// The base size of a list of sizes and how often it stands there; none for an empty list.
fn base_of(scales: &[f64]) -> Option<(usize, usize)> {
    let count = |size: f64| scales.iter().filter(|&&other| other == size).count();
    let base = scales.iter().copied().max_by_key(|&size| count(size))?;
    Some((base as usize, count(base)))
}
