//! The kinds of case that can be verified, one file each.

mod checkpoint;
mod coco_eval;
mod criterion;
mod denoising;
mod detector;
mod dfine_math;
mod ema;
mod loss;
mod loss_grid;
mod matcher;
mod measured;
mod micro;
mod model_eval;
mod modules;
mod schedule;
mod simota;
mod stage_events;
mod train_step;
mod transform;
mod transform_batch;
mod transform_boxes;
mod transform_inputs;
mod transform_pipeline;
mod transform_pixels;

use std::path::Path;

use burn::tensor::Device;

use crate::arithmetic::{Arithmetic, Setting};
use crate::case::{self, Case, CaseError};
use crate::compare::Check;
use crate::report::{self, CaseReport, Outcome};

/// Computes a case's numbers and compares everything it holds.
type Verify = fn(&Case, &Device, &mut Check) -> Result<(), CaseError>;

/// How a kind is verified, and whether its arrays are in `tensors.safetensors`.
fn lookup(kind: &str) -> Option<(Verify, bool)> {
    let entry: (Verify, bool) = match kind {
        "checkpoint" => (checkpoint::verify, false),
        "coco_eval" => (coco_eval::verify, true),
        "criterion" => (criterion::verify, true),
        "denoising" => (denoising::verify, true),
        "dfine_math" => (dfine_math::verify, true),
        "ema_decay" => (ema::verify_decay, true),
        "ema_steps" => (ema::verify_steps, true),
        "loss" => (loss::verify, true),
        "loss_grid" => (loss_grid::verify, true),
        "matcher" => (matcher::verify, true),
        "model_eval" => (model_eval::verify, true),
        "schedule" => (schedule::verify, true),
        "simota" => (simota::verify, true),
        "stage_events" => (stage_events::verify, false),
        "train_step" => (train_step::verify, true),
        "transform" => (transform::verify, true),
        "transform_inputs" => (transform_inputs::verify, true),
        _ => return None,
    };
    Some(entry)
}

/// Kinds without a tensor: they compute on the host, whatever the device.
const ON_THE_HOST: [&str; 8] = [
    "coco_eval",
    "ema_decay",
    "matcher",
    "schedule",
    "simota",
    "stage_events",
    "transform",
    "transform_inputs",
];

/// Measures a case in an arithmetic.
type Measure = fn(&Case, Arithmetic, &Device, &mut Check) -> Result<(), CaseError>;

/// How a kind is measured; none where it runs no detector.
fn measure_of(kind: &str) -> Option<Measure> {
    match kind {
        "model_eval" => Some(measured::model_eval),
        "train_step" => Some(train_step::measure),
        _ => None,
    }
}

/// Measures the case in a folder; none where it runs no detector.
pub fn measure(folder: &Path, arithmetic: Arithmetic, device: &Device) -> Option<CaseReport> {
    let table = match case::table(folder) {
        Ok(table) => table,
        Err(error) => return Some(CaseReport::failed(folder, None, error.to_string())),
    };
    let kind = table.get("kind")?.as_str()?.to_owned();
    let measure = measure_of(&kind)?;
    let mut check = Check::default();
    let result = Case::load(folder, table, true)
        .and_then(|case| measure(&case, arithmetic, device, &mut check));
    let Check { worst, compared, parts, .. } = check;
    let outcome = match result {
        Err(error) => Outcome::Fail { reason: error.to_string() },
        Ok(()) if worst.as_ref().is_some_and(|worst| worst.of_tolerance.is_finite()) => {
            Outcome::Info
        }
        Ok(()) => Outcome::Fail { reason: "not a finite number".into() },
    };
    let failed = CaseReport::failed(folder, Some(kind), String::new());
    Some(CaseReport { precision: Some(arithmetic), outcome, worst, compared, parts, ..failed })
}

/// Verifies the case in a folder.
pub fn verify(folder: &Path, Setting { device, split }: &Setting) -> CaseReport {
    let table = match case::table(folder) {
        Ok(table) => table,
        Err(error) => return CaseReport::failed(folder, None, error.to_string()),
    };
    let Some(kind) = table.get("kind").and_then(|kind| kind.as_str()).map(str::to_owned) else {
        return CaseReport::failed(folder, None, "case.toml lacks a 'kind'".into());
    };
    let Some((verify, arrays)) = lookup(&kind) else {
        let reason = format!("cases of kind '{kind}' cannot be verified yet");
        let outcome = Outcome::Skip { reason };
        return CaseReport {
            kind: Some(kind),
            outcome,
            ..CaseReport::failed(folder, None, String::new())
        };
    };
    let mut check = Check::default();
    if *device != Device::flex() && ON_THE_HOST.contains(&kind.as_str()) {
        check.notes.push("needs no device".into());
    }
    if *split && measure_of(&kind).is_some() {
        check.notes.push("products split".into());
    }
    let result =
        Case::load(folder, table, arrays).and_then(|case| verify(&case, device, &mut check));
    let outcome = match result {
        Err(error) => Outcome::Fail { reason: error.to_string() },
        Ok(()) if check.holds() => Outcome::Pass,
        Ok(()) if check.compared == 0 => Outcome::Fail { reason: "nothing to compare".into() },
        Ok(()) => Outcome::Fail {
            reason: format!(
                "{} of {} comparisons are beyond their tolerance",
                check.beyond.len(),
                check.compared
            ),
        },
    };
    let Check { worst, compared, beyond, parts, notes } = check;
    CaseReport {
        name: report::name(folder),
        kind: Some(kind),
        precision: None,
        outcome,
        worst,
        compared,
        beyond,
        parts,
        notes,
    }
}
