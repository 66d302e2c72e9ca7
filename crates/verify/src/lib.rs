//! Reference cases: numbers of the official code, compared with ours.
//!
//! A case is a folder with a `case.toml`, whose `kind` says what was computed, arrays in
//! `tensors.safetensors`, and other files. [`run`] finds the cases below some folders, computes the same
//! numbers with this workspace's code, and reports each case's worst error against its tolerance.

mod arithmetic;
mod case;
mod compare;
pub mod fill;
mod find;
mod kinds;
mod probe;
mod report;
mod selection;
mod tensors;

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use burn::tensor::Device;

pub use arithmetic::{Arithmetic, Setting};
pub use case::CaseError;
pub use find::FindError;
pub use report::{CaseReport, Outcome, Part, Report, Worst};

/// Verifies every case below the given folders, in the order of their paths.
pub fn run(folders: &[PathBuf], device: &Device) -> Result<Report, FindError> {
    run_each(folders, &Setting::of(device.clone()), |_| {})
}

/// As [`run`], and hands each report over as soon as it is there. Where products are split, the
/// detectors are measured without that, too.
pub fn run_each(
    folders: &[PathBuf],
    setting: &Setting,
    mut done: impl FnMut(&CaseReport),
) -> Result<Report, FindError> {
    let mut cases = Vec::new();
    for folder in find::cases(folders)? {
        let report = verify(&folder, setting);
        done(&report);
        // Where there was nothing to compare, there is nothing to measure.
        let compared = report.compared > 0;
        cases.push(report);
        if setting.split && compared {
            let report = measured(&folder, Arithmetic::AsItTrains, setting);
            report.iter().for_each(&mut done);
            cases.extend(report);
        }
    }
    Ok(Report { cases })
}

/// Runs the detectors of cases in some arithmetics, one after another, and measures how far they are
/// from the official ones. That judges nothing: the tolerances of cases are for float32, and stated of
/// other things.
pub fn measure(
    folders: &[PathBuf],
    arithmetics: &[Arithmetic],
    setting: &Setting,
    mut done: impl FnMut(&CaseReport),
) -> Result<Report, FindError> {
    let mut cases = Vec::new();
    for folder in find::cases(folders)? {
        for &arithmetic in arithmetics {
            let report = measured(&folder, arithmetic, setting);
            report.iter().for_each(&mut done);
            cases.extend(report);
        }
    }
    Ok(Report { cases })
}

/// Verifies one case. Whatever is wrong with its files becomes a failure, never a panic.
fn verify(folder: &Path, setting: &Setting) -> CaseReport {
    let verify = || setting.run(Arithmetic::F32, || kinds::verify(folder, setting));
    // Cases are checked before they are used; this is for what a check forgot.
    catch_unwind(AssertUnwindSafe(verify)).unwrap_or_else(|cause| panicked(folder, &*cause))
}

/// Measures one case, likewise; none where it runs no detector.
fn measured(folder: &Path, arithmetic: Arithmetic, setting: &Setting) -> Option<CaseReport> {
    let device = &setting.device;
    let measure = || setting.run(arithmetic, || kinds::measure(folder, arithmetic, device));
    let precision = Some(arithmetic);
    catch_unwind(AssertUnwindSafe(measure))
        .unwrap_or_else(|cause| Some(CaseReport { precision, ..panicked(folder, &*cause) }))
}

fn panicked(folder: &Path, cause: &(dyn Any + Send)) -> CaseReport {
    let text = cause
        .downcast_ref::<String>()
        .cloned()
        .or_else(|| cause.downcast_ref::<&str>().map(|text| (*text).to_owned()));
    let reason = format!("the computation panicked: {}", text.unwrap_or_default());
    CaseReport::failed(folder, None, reason)
}
