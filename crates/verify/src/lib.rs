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

pub use arithmetic::Arithmetic;
pub use case::CaseError;
pub use find::FindError;
pub use report::{CaseReport, Outcome, Part, Report, Worst};

/// Verifies every case below the given folders, in the order of their paths.
pub fn run(folders: &[PathBuf], device: &Device) -> Result<Report, FindError> {
    run_each(folders, device, |_| {})
}

/// As [`run`], and hands each report over as soon as it is there.
pub fn run_each(
    folders: &[PathBuf],
    device: &Device,
    mut done: impl FnMut(&CaseReport),
) -> Result<Report, FindError> {
    let mut cases = Vec::new();
    for folder in find::cases(folders)? {
        let report = verify(&folder, device);
        done(&report);
        cases.push(report);
    }
    Ok(Report { cases })
}

/// Runs the detectors of cases in some arithmetics, one after another, and measures how far they are
/// from the official ones. That judges nothing: the tolerances of cases are for float32, and stated of
/// other things.
pub fn measure(
    folders: &[PathBuf],
    arithmetics: &[Arithmetic],
    device: &Device,
    mut done: impl FnMut(&CaseReport),
) -> Result<Report, FindError> {
    let mut cases = Vec::new();
    for folder in find::cases(folders)? {
        for &arithmetic in arithmetics {
            let attempt = AssertUnwindSafe(|| kinds::measure(&folder, arithmetic, device));
            let report =
                catch_unwind(attempt).unwrap_or_else(|cause| Some(panicked(&folder, &*cause)));
            report.iter().for_each(&mut done);
            cases.extend(report);
        }
    }
    Ok(Report { cases })
}

/// Verifies one case. Whatever is wrong with its files becomes a failure, never a panic.
fn verify(folder: &Path, device: &Device) -> CaseReport {
    // Cases are checked before they are used; this is for what a check forgot.
    let attempt = AssertUnwindSafe(|| kinds::verify(folder, device));
    catch_unwind(attempt).unwrap_or_else(|cause| panicked(folder, &*cause))
}

fn panicked(folder: &Path, cause: &(dyn Any + Send)) -> CaseReport {
    let text = cause
        .downcast_ref::<String>()
        .cloned()
        .or_else(|| cause.downcast_ref::<&str>().map(|text| (*text).to_owned()));
    let reason = format!("the computation panicked: {}", text.unwrap_or_default());
    CaseReport::failed(folder, None, reason)
}
