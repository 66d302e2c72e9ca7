//! Whole cases on a device that multiplies in TF32, which is emulated here, as `deim verify` judges them
//! on a GPU: by split products, and beside them what the device's own would give.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};

use burn::tensor::Device;
use deim_verify::{Arithmetic, CaseReport, Outcome, Report, Setting};

fn cases(names: &[&str]) -> Vec<PathBuf> {
    let all = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/reference/cases");
    names.iter().map(|name| all.join(name)).collect()
}

/// A CPU in the place of a GPU.
fn with(split: bool) -> Setting {
    Setting { device: Device::flex(), split }
}

fn judged(folders: &[PathBuf], split: bool) -> Report {
    deim_verify::run_each(folders, &with(split), |_| {}).unwrap()
}

fn lines(report: &Report) -> String {
    report.cases.iter().map(|case| case.line() + "\n").collect()
}

/// The errors of a measured case by part.
fn parts(case: &CaseReport) -> Vec<(String, f64)> {
    let error = |worst: &deim_verify::Worst| worst.of_tolerance;
    let parts = case.parts.iter();
    parts.map(|part| (part.name.clone(), part.worst.as_ref().map_or(0.0, error))).collect()
}

/// Asserts that the cases fail in TF32, pass by split products, and that the report then has what TF32
/// does beside each of them.
fn assert_split_products_decide(names: &[&str]) {
    let folders = cases(names);
    let rounded = deim_ops::in_tf32(|| judged(&folders, false));
    assert_eq!(rounded.counts(), [0, names.len(), 0], "{}", lines(&rounded));

    let mut seen = Vec::new();
    let split = deim_ops::in_tf32(|| {
        deim_verify::run_each(&folders, &with(true), |case| seen.push(case.line())).unwrap()
    });
    assert_eq!(split.counts(), [names.len(), 0, 0], "{}", lines(&split));
    assert!(split.all_passed());
    println!("{}", lines(&split));
    assert_eq!(seen.len(), 2 * names.len());
    // The worst is one that was judged.
    assert!(split.worst().unwrap().0.precision.is_none());

    let tf32 = deim_verify::measure(&folders, &[Arithmetic::Tf32], &with(false), |_| {}).unwrap();
    for ((pair, tf32), name) in split.cases.chunks(2).zip(&tf32.cases).zip(names) {
        let [decides, trains] = pair else { panic!("one of two is missing") };
        assert_eq!((&*decides.name, &*trains.name), (*name, *name));
        assert!(decides.line().ends_with("(products split)"), "{}", decides.line());
        assert_eq!(
            (trains.precision, &trains.outcome),
            (Some(Arithmetic::AsItTrains), &Outcome::Info)
        );
        assert!(trains.line().starts_with(&format!("INFO  {name}  as it trains: backbone 0.0")));
        assert_eq!(parts(trains), parts(tf32));
    }
}

#[test]
fn detectors_pass_by_split_products_where_the_device_multiplies_in_tf32() {
    assert_split_products_decide(&["model_eval/n", "model_eval/r18"]);
}

#[test]
fn training_steps_pass_by_split_products_where_the_device_multiplies_in_tf32() {
    assert_split_products_decide(&["train_step/n_mal", "train_step/r18_vfl"]);
}

#[test]
fn split_products_are_as_far_from_the_official_numbers_as_float32_is() {
    let folders = cases(&["model_eval", "train_step"]);
    let measured = |split, arithmetics: &[Arithmetic]| {
        deim_verify::measure(&folders, arithmetics, &with(split), |_| {}).unwrap().cases
    };
    let plain = measured(false, &[Arithmetic::F32]);
    let all = with(true).arithmetics();
    assert_eq!(all.len(), 4);
    let split = deim_ops::in_tf32(|| measured(true, &all[..2]));
    for (plain, split) in plain.iter().zip(split.chunks(2)) {
        assert_eq!(split[0].precision, Some(Arithmetic::F32));
        println!("{}\n{}", plain.line(), split[0].line());
        for ((name, plain), ((_, full), (_, trains))) in
            parts(plain).iter().zip(parts(&split[0]).iter().zip(parts(&split[1])))
        {
            let told = format!("{}, {name}: {plain:e}, {full:e}, {trains:e}", split[0].name);
            // Rounding is a draw, and the worst loss of all heads the worst of some dozen; where no token
            // changes places there is no error at all.
            assert!(*full <= 10.0 * plain, "{told}");
            assert!(trains > 100.0 * full || trains == 0.0 && *full == 0.0, "{told}");
        }
    }
}

#[test]
fn a_cpu_is_judged_by_its_own_products_and_cases_without_a_detector_are_told_once() {
    for device in [Device::flex(), Device::flex().autodiff()] {
        let setting = Setting::of(device);
        assert!(!setting.split);
        assert_eq!(setting.arithmetics(), [Arithmetic::F32, Arithmetic::Tf32, Arithmetic::Bf16]);
    }
    let folders = cases(&["dfine_math", "schedule"]);
    let [plain, split] = [false, true].map(|split| judged(&folders, split));
    assert!(plain.all_passed() && split.all_passed(), "{}", lines(&split));
    assert_eq!(plain.cases.len(), split.cases.len());
}

#[test]
fn a_case_that_cannot_be_read_fails_once_and_one_that_gives_no_number_is_no_pass() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("case.toml"), "kind = \"model_eval\"").unwrap();
    let report = judged(&[folder.path().to_owned()], true);
    assert_eq!((report.counts(), report.cases.len()), ([0, 1, 0], 1), "{}", lines(&report));

    let mut report = judged(&cases(&["schedule/ema_decay"]), true);
    assert!(report.all_passed());
    report.cases.push(CaseReport {
        precision: Some(Arithmetic::AsItTrains),
        ..CaseReport::failed(Path::new("a/b"), None, "not a finite number".into())
    });
    assert!(!report.all_passed());
    assert_eq!(report.cases[1].line(), "FAIL  a/b  as it trains: not a finite number");
}
