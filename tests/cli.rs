//! What a user sees: help, the plan, errors and exit codes.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod micro;

use insta::assert_snapshot;
use micro::Lab;

/// Hides what changes with the numerics and the machine.
fn stable<T>(check: impl FnOnce() -> T) -> T {
    let mut settings = insta::Settings::clone_current();
    settings.add_filter(r"\b[0-9a-f]{8}([0-9a-f]{8})?\b", "[cell]");
    settings.bind(check)
}

#[test]
fn help_of_each_command() {
    let lab = Lab::new();
    for command in ["ablation", "plan", "status", "retry", "run", "why"] {
        let told = lab.deim(&[command, "--help"]);
        assert_eq!(told.code, Some(0), "{told}");
        assert!(told.out.contains("Example: deim"), "{command} has no example");
        assert!(!told.out.contains("worker: "), "{command} shows what is hidden");
        assert_snapshot!(format!("help_{command}"), told.out);
    }
}

#[test]
fn a_plan_shows_every_state() {
    let lab = Lab::new();
    let plan = lab.plan("micro");
    lab.pretend_finished("micro", &plan.cells[0], 0.2537);
    let reason = "the loss is not finite: loss_mal = NaN".to_owned();
    let failed = deim_lab::record::Record::Failed { reason, killed: false };
    lab.ledger("micro").append(&plan.cells[1].id, failed).unwrap();
    let told = lab.deim(&["plan", "micro", "--seeds", "2"]);
    stable(|| assert_snapshot!("plan", told));
    let told = lab.deim(&["status", "micro", "--seeds", "2"]);
    stable(|| assert_snapshot!("status", told));
    // `--dry-run` is the same plan.
    let dry = lab.deim(&["ablation", "micro", "--seeds", "2", "--dry-run"]);
    assert_eq!(dry.out, lab.deim(&["plan", "micro", "--seeds", "2"]).out);
    assert!(!lab.path().join("runs").exists());
}

#[test]
fn a_plan_in_json_has_what_the_text_has() {
    let lab = Lab::new();
    let plan = lab.plan("micro");
    lab.pretend_finished("micro", &plan.cells[0], 0.2537);
    let told = lab.deim(&["plan", "micro", "--json"]);
    let value: serde_json::Value = serde_json::from_str(&told.out).unwrap();
    assert_eq!(value["totals"]["done"], 1);
    assert_eq!(value["cells"][0]["state"], "done");
    assert_eq!(value["cells"][0]["id"], plan.cells[0].id.as_str());
    assert_eq!(value["cells"][1]["state"], "missing");
    assert_eq!(value["cells"][1]["settings"]["loss.gamma"], "2.0");
    // The rest of it costs what the finished cell did.
    assert_eq!(value["cells"][1]["seconds_left"], 60.0);
}

#[test]
fn why_tells_where_a_number_comes_from() {
    let lab = Lab::new();
    let plan = lab.plan("micro");
    lab.pretend_finished("micro", &plan.cells[0], 0.2537);
    let mut settings = insta::Settings::clone_current();
    settings.add_filter(r"\b[0-9a-f]{64}\b", "[hash]");
    settings.add_filter(r"\b[0-9a-f]{16}\b", "[cell]");
    settings.add_filter(r"numerics +\d+", "numerics    [version]");
    let told = lab.deim(&["why", &plan.cells[0].id[..8]]);
    settings.bind(|| assert_snapshot!("why", told));
}

#[test]
fn wrong_input_is_one_clear_message_and_exit_code_2() {
    let lab = Lab::new();
    let told = |arguments: &[&str]| {
        let told = lab.deim(arguments);
        assert_eq!(told.code, Some(2), "{arguments:?}: {told}");
        assert!(told.out.is_empty(), "{arguments:?}: {told}");
        assert_eq!(told.err.matches("error:").count(), 1, "{arguments:?}: {told}");
        told.err
    };
    let errors = [
        told(&["ablation", "nosuch"]),
        told(&["ablation", "micro", "--seeds", "0"]),
        told(&["ablation", "micro", "--device", "gpu"]),
        told(&["ablation", "micro", "--jobs", "0"]),
        told(&["ablation", "micro", "--set", "loss.gama=2"]),
        told(&["run", "micro"]),
        told(&["run", "micro", "--row", "7"]),
        told(&["run", "00000000"]),
        told(&["run", "--worker"]),
        told(&["why", "00000000"]),
    ];
    stable(|| assert_snapshot!("errors", errors.join("\n")));
    assert!(!lab.path().join("runs").exists());
}

#[cfg(not(feature = "cuda"))]
#[test]
fn a_device_the_program_was_not_built_for_is_refused_without_falling_back() {
    let lab = Lab::new();
    for command in ["ablation", "retry"] {
        let told = lab.deim(&[command, "micro", "--device", "cuda:1"]);
        assert_eq!(told.code, Some(2), "{told}");
        assert!(told.err.contains("built without CUDA"), "{told}");
    }
    assert!(!lab.path().join("runs").exists());
}
