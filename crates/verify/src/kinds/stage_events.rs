//! The two-stage logic: what the official loop saves and reloads for scripted APs.

use burn::tensor::Device;
use deim_train::stages::{Action, StageRules, Stages};
use serde::Deserialize;
use serde_json::Value;

use crate::case::{Case, CaseError};
use crate::compare::Check;

#[derive(Deserialize)]
struct Log {
    events: Vec<Vec<Value>>,
}

pub fn verify(case: &Case, _device: &Device, check: &mut Check) -> Result<(), CaseError> {
    let expected: Log = case.json("events.json")?;
    let ours = replay(case)?;
    check.same("events", &ours.len(), &expected.events.len());
    for (place, (ours, expected)) in ours.iter().zip(&expected.events).enumerate() {
        let name = format!("events[{place}] {expected:?}");
        let same = ours.len() == expected.len()
            && ours.iter().zip(expected).all(|(ours, expected)| equal(ours, expected));
        check.same(&name, &same, &true);
    }
    Ok(())
}

/// The events of our machine in the case's form.
fn replay(case: &Case) -> Result<Vec<Vec<Value>>, CaseError> {
    let count = |key: &str| -> Result<u32, CaseError> {
        u32::try_from(case.count(key)?).map_err(|_| CaseError::new(format!("{key} is too large")))
    };
    let rules = StageRules {
        stop_epoch: count("stop_epoch")?,
        checkpoint_every: count("checkpoint_freq")?,
        reload_best: true,
        // What the official average is built with in every config.
        ema_decay: case.optional("ema_decay", Case::number)?.unwrap_or(0.9999),
        ema_restart_decay: case.number("ema_restart_decay")?,
    };
    let aps = case.numbers("ap")?;
    let mut aps = aps.into_iter();
    let mut next_ap = || aps.next().ok_or_else(|| CaseError::new("'ap' is too short"));

    let mut events: Vec<Vec<Value>> = Vec::new();
    let resumed = case.integer("last_epoch_at_start")?;
    let mut stages = if Stages::evaluates_on_resume(resumed) {
        let ap = next_ap()?;
        events.push(vec!["eval".into(), ap.into()]);
        Stages::resumed(rules, resumed, Some(ap))
    } else {
        Stages::resumed(rules, resumed, None)
    };
    let first = u32::try_from(resumed + 1)
        .map_err(|_| CaseError::new("'last_epoch_at_start' is below -1"))?;
    for epoch in first..count("epochs")? {
        events.push(vec!["epoch".into(), epoch.into()]);
        let before: Vec<Action> = stages.before(epoch).into_iter().collect();
        log(&mut events, &stages, &before);
        events.push(vec!["train".into(), epoch.into(), stages.announced_decay().into()]);
        let actions = stages.trained(epoch);
        log(&mut events, &stages, &actions);
        let ap = next_ap()?;
        events.push(vec!["eval".into(), ap.into()]);
        let actions = stages.evaluated(epoch, ap);
        log(&mut events, &stages, &actions);
    }
    Ok(events)
}

fn log(events: &mut Vec<Vec<Value>>, stages: &Stages, actions: &[Action]) {
    for action in actions {
        let (what, file) = match action {
            Action::Save(file) => ("save", file.name()),
            Action::Reload => ("load", "best_stg1.pth".into()),
        };
        events.push(vec![what.into(), file.into(), stages.stored_epoch().into()]);
    }
}

/// Equal values; decays have lost a few bits by repeated subtraction.
fn equal(ours: &Value, expected: &Value) -> bool {
    match (ours.as_f64(), expected.as_f64()) {
        (Some(ours), Some(expected)) => (ours - expected).abs() < 1e-12,
        _ => ours == expected,
    }
}
