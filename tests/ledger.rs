//! What happens to a ledger: torn, broken, unwritable, shared. Nothing in it may ever be lost.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod micro;

use std::time::Instant;

use micro::Lab;

#[test]
fn a_torn_last_line_is_reported_and_only_it_is_replaced() {
    let lab = Lab::new();
    let plan = lab.plan("micro");
    lab.pretend_finished("micro", &plan.cells[0], 0.25);
    let ledger = lab.ledger("micro");
    let whole = std::fs::read_to_string(ledger.path()).unwrap();
    let torn = format!("{whole}{{\"at\":\"2025-01-01T00:0");
    std::fs::write(ledger.path(), &torn).unwrap();

    let told = lab.deim(&["plan", "micro"]);
    assert_eq!(told.code, Some(0), "{told}");
    assert!(told.err.contains("1 torn last line (22 bytes"), "{told}");
    assert!(told.out.contains("1 done, 1 missing"), "{told}");
    // Looking changes nothing.
    assert_eq!(std::fs::read_to_string(ledger.path()).unwrap(), torn);

    lab.pretend_finished("micro", &plan.cells[1], 0.5);
    let mended = std::fs::read_to_string(ledger.path()).unwrap();
    assert!(mended.starts_with(&whole), "a finished record was lost");
    let told = lab.deim(&["plan", "micro"]);
    assert!(told.out.contains("2 done") && told.err.is_empty(), "{told}");
}

#[test]
fn a_broken_line_stops_every_command_and_is_left_as_it_is() {
    let lab = Lab::new();
    let plan = lab.plan("micro");
    lab.pretend_finished("micro", &plan.cells[0], 0.25);
    let ledger = lab.ledger("micro");
    let text = std::fs::read_to_string(ledger.path()).unwrap();
    let broken = text.replacen('\n', "\n<<<<<<< HEAD\n", 1);
    std::fs::write(ledger.path(), &broken).unwrap();
    for command in ["plan", "status", "ablation", "retry"] {
        let told = lab.deim(&[command, "micro"]);
        assert_eq!(told.code, Some(2), "{command}: {told}");
        assert!(told.err.contains("ledger.jsonl:2: expected a ledger line"), "{command}: {told}");
    }
    assert_eq!(std::fs::read_to_string(ledger.path()).unwrap(), broken);
}

#[test]
fn results_that_cannot_be_written_stop_it_before_training() {
    let lab = Lab::new();
    // A file where the folder should be: refused to everyone, whatever their rights.
    std::fs::write(lab.path().join("results"), "mine").unwrap();
    let began = Instant::now();
    let told = lab.deim(&["ablation", "micro"]);
    assert_eq!(told.code, Some(2), "{told}");
    assert!(told.err.contains("results"), "{told}");
    assert_eq!(told.err.matches("error:").count(), 1, "{told}");
    assert!(began.elapsed().as_secs() < 5);
    assert!(!lab.path().join("runs").exists(), "it trained something");
    assert_eq!(std::fs::read_to_string(lab.path().join("results")).unwrap(), "mine");
}

#[test]
fn a_cell_that_two_experiments_share_is_trained_once() {
    let lab = Lab::new();
    let (micro, other) = (lab.plan("micro"), lab.plan("other"));
    assert_eq!(micro.cells[0].id, other.cells[0].id, "the experiments no longer share a cell");
    for cell in &micro.cells {
        lab.pretend_finished("micro", cell, 0.25);
    }
    let told = lab.deim(&["plan", "other"]);
    assert!(told.out.contains("1 done, 1 missing"), "{told}");
    assert!(told.out.contains("from micro/default"), "{told}");
    assert!(!lab.ledger("other").path().exists(), "looking wrote a ledger");

    lab.pretend_finished("other", &other.cells[1], 0.5);
    let told = lab.deim(&["ablation", "other"]);
    assert_eq!(told.code, Some(0), "{told}");
    assert!(told.err.contains("1 finished cell taken over"), "{told}");
    assert!(!lab.path().join("runs").exists(), "it trained something");
    let copied = lab.history("other", &other.cells[0].id);
    let provenance = copied.provenance.unwrap();
    assert_eq!(provenance.reused_from.as_deref(), Some("micro/default"));
    assert_eq!(provenance.settings, other.cells[0].settings);

    // Once only.
    let before = std::fs::read(lab.ledger("other").path()).unwrap();
    let told = lab.deim(&["ablation", "other"]);
    assert_eq!(told.code, Some(0), "{told}");
    assert_eq!(std::fs::read(lab.ledger("other").path()).unwrap(), before);

    let told = lab.deim(&["why", &other.cells[0].id[..6]]);
    assert!(told.out.contains("micro/default; reused by other/default"), "{told}");
}

#[test]
fn a_changed_spec_makes_its_cells_stale_and_says_why() {
    let lab = Lab::new();
    for cell in &lab.plan("micro").cells {
        lab.pretend_finished("micro", cell, 0.25);
    }
    let told = lab.deim(&["plan", "micro", "--set", "optimizer.lr=0.5"]);
    assert!(told.out.contains("2 stale"), "{told}");
    assert!(told.out.contains("optimizer.lr 0.0002 -> 0.5"), "{told}");
}

#[test]
fn nothing_missing_trains_nothing_and_is_quick() {
    let lab = Lab::new();
    for cell in &lab.plan("micro").cells {
        lab.pretend_finished("micro", cell, 0.25);
    }
    let began = Instant::now();
    let told = lab.deim(&["ablation", "micro"]);
    assert_eq!(told.code, Some(0), "{told}");
    assert!(began.elapsed().as_secs_f64() < 3.0, "took {:?}", began.elapsed());
    assert!(!lab.path().join("runs").exists(), "it trained something");
}
