//! `deim bench`: what it prints, and what it says of a wrong command line.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod micro;

use std::process::{Command, Output};

fn bench(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_deim")).arg("bench").args(arguments).output().unwrap()
}

#[test]
fn a_training_step_is_timed_by_stages_in_one_line_of_json() {
    let small = ["--model", "n", "--size", "64", "--batch", "1", "--steps", "2", "--warmup", "0"];
    let output = bench(&[&["train"], &small[..], &["--json"]].concat());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(text.lines().count(), 1);
    let measured: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(measured["precision"], "f32");
    let total = measured["median_ms"].as_f64().unwrap();
    for stage in ["forward", "criterion", "backward", "optimizer", "ema"] {
        let time = measured["stages_ms"][stage].as_f64().unwrap();
        assert!(time > 0.0 && time < total, "{stage} took {time} of {total} ms");
    }
}

#[test]
fn an_unknown_detector_is_refused_with_the_names_of_the_known_ones() {
    let output = bench(&["infer", "--model", "r19"]);
    assert_eq!(output.status.code(), Some(2));
    let message = String::from_utf8(output.stderr).unwrap();
    assert!(message.contains("'r19'") && message.contains("r18"), "{message}");
}

#[test]
fn a_size_that_the_strides_do_not_divide_is_refused() {
    let output = bench(&["infer", "--size", "100"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8(output.stderr).unwrap().contains("multiple of 32, found 100"));
}

#[test]
fn training_in_bf16_is_compared_with_float32_step_by_step() {
    let small = ["precision", "gamma", "--scale", "mini", "--steps", "3", "--window", "2"];
    let changes = ["--set", "data.batch_size=2", "--json"];
    let output = bench(&[&small[..], &changes, &["--control"]].concat());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let compared: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let losses = |precision: &str| -> Vec<f64> {
        let list = compared[precision]["losses"].as_array().unwrap();
        list.iter().map(|loss| loss.as_f64().unwrap()).collect()
    };
    let [single, half, control] = ["f32", "bf16", "control"].map(losses);
    assert_eq!([single.len(), half.len(), control.len()], [3; 3]);
    // The same weights and the same first batch; the learning rate tells from the second step on.
    assert!(control[0] == single[0] && control != single, "{compared}");
    let difference = compared["largest_difference"].as_f64().unwrap();
    assert!(single != half && difference > 0.0 && difference < 0.02, "{compared}");

    let output = bench(&[&small[..], &changes, &["--within", "1e-9"]].concat());
    assert_eq!(output.status.code(), Some(1));
    let output = bench(&["precision", "gamma", "--row", "9"]);
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn runs_of_one_seed_have_the_same_bits_on_a_cpu() {
    let lab = micro::Lab::new();
    let told = lab.deim(&["bench", "noise", "micro", "--times", "2", "--same"]);
    assert_eq!(told.code, Some(0), "{told}");
    assert!(told.out.contains("the same bits in every step of every run"), "{told}");
    assert!(told.out.contains("standard deviation 0.00"), "{told}");
    assert!(told.out.contains("weights  the same bits at the end"), "{told}");
    assert!(!lab.path().join("results").exists(), "a measurement is no entry in a ledger");
}

#[test]
fn runs_of_some_steps_are_compared_by_their_losses_alone() {
    let lab = micro::Lab::new();
    let told = lab.deim(&["bench", "noise", "micro", "--steps", "2", "--json"]);
    assert_eq!(told.code, Some(0), "{told}");
    let noise: serde_json::Value = serde_json::from_str(&told.out).unwrap();
    assert_eq!((&noise["what"], &noise["steps"]), (&"noise".into(), &2.into()));
    assert!(noise["first_difference"].is_null() && noise.get("ap").is_none(), "{noise}");
    let told = lab.deim(&["bench", "noise", "micro", "--steps", "1000"]);
    assert_eq!(told.code, Some(2), "{told}");
    assert!(told.err.contains("--steps 1000: the cell has 15 steps"), "{told}");
}
