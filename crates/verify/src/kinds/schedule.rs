//! Learning rates of whole recipes, the operations of each of their epochs, and the sizes of
//! multi-scale training.

use burn::tensor::Device;
use deim_data::Policy;
use deim_data::policy::Stage;
use deim_data::transforms::multi_scale::generate_scales;
use deim_spec::config::Config;
use deim_train::schedule::FlatCosine;
use serde::Deserialize;

use crate::case::{Case, CaseError};
use crate::compare::Check;

#[derive(Deserialize)]
struct Phases {
    groups: Vec<Group>,
    phases: Vec<Phase>,
    policy: Boundaries,
}

/// Where the official container changes its operations.
#[derive(Deserialize)]
struct Boundaries {
    epoch: Epochs,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(untagged)]
enum Epochs {
    /// Begin, end of mosaic, end.
    Three([u32; 3]),
    /// End alone.
    End(u32),
}

/// What the container does in some epochs, both included.
#[derive(Deserialize)]
struct Phase {
    from_epoch: u32,
    to_epoch: u32,
    mosaic_drawn: Vec<String>,
    mosaic_not_drawn: Vec<String>,
    mixup_possible: bool,
    multi_scale: bool,
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

    operations(case, &phases, check)?;
    let scales = case.numbers("scales")?;
    if let Some((base, repeat)) = base_of(&scales) {
        let ours: Vec<f64> =
            generate_scales(base, repeat).into_iter().map(|size| size as f64).collect();
        check.same("scales", &ours, &scales);
    }
    Ok(())
}

/// Compares what each epoch may do to its images.
fn operations(case: &Case, official: &Phases, check: &mut Check) -> Result<(), CaseError> {
    let epoch = |key: &str| {
        u32::try_from(case.count(key)?).map_err(|_| CaseError::new(format!("{key} is too large")))
    };
    let mut config = Config { epochs: epoch("epochs")?, ..Config::default() };
    let [start, flat, end] = match official.policy.epoch {
        Epochs::Three(three) => three,
        Epochs::End(end) => [0, 0, end],
    };
    config.schedule.augment_start = start;
    config.schedule.flat_epoch = Some(flat);
    config.schedule.augment_end = Some(end);
    config.schedule.stop_epoch = Some(epoch("stop_epoch")?);
    // Officially a mosaic that never happens has a probability below zero.
    config.augment.mosaic = case.number("mosaic_prob")?.max(0.0);
    config.augment.mixup = case.number("mixup_prob")?;
    (config.data.input_size, config.augment.multi_scale_repeat) =
        base_of(&case.numbers("scales")?).unwrap_or((640, 0));
    let policy = Policy::new(&config, 0).map_err(|error| CaseError::new(error.to_string()))?;
    for phase in &official.phases {
        for epoch in phase.from_epoch..=phase.to_epoch {
            let stage = policy.stage(epoch);
            let name = |what: &str| format!("phases.json: epoch {epoch}, {what}");
            let drawn = names(stage, stage.mosaic);
            check.same(&name("mosaic drawn"), &drawn, &owned(&phase.mosaic_drawn));
            let not_drawn = names(stage, false);
            let expected = owned(&phase.mosaic_not_drawn);
            check.same(&name("mosaic not drawn"), &not_drawn, &expected);
            check.same(&name("mixup"), &stage.mixup, &phase.mixup_possible);
            check.same(&name("multi-scale"), &stage.multi_scale, &phase.multi_scale);
        }
    }
    Ok(())
}

fn owned(names: &[String]) -> Vec<&str> {
    names.iter().map(String::as_str).collect()
}

/// The official names of what an image goes through, in the order of [`deim_data`]'s course.
fn names(stage: Stage, is_mosaic: bool) -> Vec<&'static str> {
    let strong = stage.strong && !is_mosaic;
    let listed = [
        (is_mosaic, "Mosaic"),
        (stage.strong, "RandomPhotometricDistort"),
        (strong, "RandomZoomOut"),
        (strong, "RandomIoUCrop"),
        (true, "SanitizeBoundingBoxes"),
        (true, "RandomHorizontalFlip"),
        (true, "Resize"),
        (true, "SanitizeBoundingBoxes"),
        (true, "ConvertPILImage"),
        (true, "ConvertBoxes"),
    ];
    listed.into_iter().filter(|(applies, _)| *applies).map(|(_, name)| name).collect()
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
