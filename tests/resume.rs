//! A run that is killed, stopped or damaged: nothing is lost, and the end is the same to the byte.
#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod micro;

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use deim_data::Draws;
use micro::{Lab, Told};

/// An uninterrupted run of every cell with one thread; its duration says when to kill others.
fn reference() -> (Lab, Duration) {
    let lab = Lab::new();
    let began = Instant::now();
    let told = lab.deim(&["ablation", "micro", "--jobs", "1", "--threads", "1"]);
    assert_eq!(told.code, Some(0), "{told}");
    (lab, began.elapsed())
}

fn signal(name: &str, pid: u32) {
    let status = Command::new("kill").args([name, &pid.to_string()]).status().unwrap();
    assert!(status.success(), "kill {name} {pid}");
}

/// Starts it and waits for a line on standard error that holds `mark`.
fn start_until(lab: &Lab, arguments: &[&str], mark: &str) -> Child {
    let mut child =
        lab.command(arguments).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let found = lines.by_ref().any(|line| line.unwrap().contains(mark));
    assert!(found, "{arguments:?} ended without saying {mark:?}");
    // Keep the pipe open and empty, so that the child can go on writing.
    std::thread::spawn(move || lines.count());
    child
}

fn same_as_reference(lab: &Lab, reference: &Lab) {
    for cell in &reference.plan("micro").cells {
        let (mine, theirs) = (lab.history("micro", &cell.id), reference.history("micro", &cell.id));
        assert_eq!(
            mine.finished.expect("finished").summary,
            theirs.finished.expect("finished").summary,
            "{} has another result",
            cell.title
        );
        let numbers = |epochs: &deim_lab::history::History| {
            let epochs = epochs.epochs.values().cloned();
            let timeless = epochs.map(|epoch| deim_train::events::EpochRecord {
                seconds: Default::default(),
                ..epoch
            });
            timeless.collect::<Vec<_>>()
        };
        assert_eq!(
            numbers(&lab.history("micro", &cell.id)),
            numbers(&reference.history("micro", &cell.id))
        );
        let (mine, theirs) = (lab.files(&cell.id), reference.files(&cell.id));
        assert!(!theirs.is_empty());
        assert_eq!(mine.len(), theirs.len());
        for ((name, mine), (_, theirs)) in mine.iter().zip(&theirs) {
            assert!(mine == theirs, "{}: {name} differs", cell.title);
        }
    }
}

#[test]
fn killed_at_random_moments_it_ends_with_the_same_bytes_on_one_and_two_threads() {
    let (reference, whole) = reference();
    let seed = u64::from(std::process::id());
    eprintln!("killed at the moments of seed {seed}");
    let mut draws = Draws::new(seed, "kill", &[]);
    for threads in ["1", "2"] {
        let lab = Lab::new();
        let arguments = ["ablation", "micro", "--jobs", "1", "--threads", threads];
        // Surely within the training of a cell, then anywhere.
        let mut child = start_until(&lab, &arguments, "epoch 1/3");
        child.kill().unwrap();
        child.wait().unwrap();
        for _ in 0..4 {
            let mut child = lab
                .command(&arguments)
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .unwrap();
            std::thread::sleep(whole.mul_f64(draws.unit()));
            child.kill().unwrap();
            child.wait().unwrap();
        }
        let told = lab.deim(&arguments);
        assert_eq!(told.code, Some(0), "{told}");
        let resumed =
            lab.plan("micro").cells.iter().any(|cell| lab.history("micro", &cell.id).processes > 1);
        assert!(resumed, "no cell was interrupted, so nothing was shown");
        same_as_reference(&lab, &reference);
    }
}

#[test]
fn cells_side_by_side_give_what_they_give_alone_and_are_not_trained_again() {
    let (reference, _) = reference();
    let lab = Lab::new();
    let told = lab.deim(&["ablation", "micro", "--jobs", "2", "--threads", "1"]);
    assert_eq!(told.code, Some(0), "{told}");
    same_as_reference(&lab, &reference);

    let before = std::fs::read(lab.ledger("micro").path()).unwrap();
    let began = Instant::now();
    let told = lab.deim(&["ablation", "micro"]);
    assert_eq!(told.code, Some(0), "{told}");
    assert!(began.elapsed() < Duration::from_secs(3), "took {:?}", began.elapsed());
    assert_eq!(std::fs::read(lab.ledger("micro").path()).unwrap(), before);
}

#[test]
fn ctrl_c_saves_and_the_same_command_goes_on() {
    let lab = Lab::new();
    let arguments = ["ablation", "micro", "--jobs", "1", "--threads", "1"];
    let child = start_until(&lab, &arguments, "epoch 1/3");
    signal("-INT", child.id());
    let told = Told::from(child.wait_with_output().unwrap());
    assert_eq!(told.code, Some(130), "{told}");
    let cell = &lab.plan("micro").cells[0];
    assert!(lab.history("micro", &cell.id).finished.is_none());
    let told = lab.deim(&arguments);
    assert_eq!(told.code, Some(0), "{told}");
    let history = lab.history("micro", &cell.id);
    assert!(history.provenance.unwrap().resumed_at.is_some(), "it began again");
}

#[test]
fn a_killed_worker_is_told_from_a_failed_cell() {
    let lab = Lab::new();
    let arguments = ["ablation", "micro", "--jobs", "1", "--threads", "1"];
    let mut child = start_until(&lab, &arguments, "epoch 1/3");
    let cell = lab.plan("micro").cells[0].clone();
    let holder = deim_lab::lock::holder(&lab.setting().run(&cell.id)).unwrap().flatten();
    signal("-KILL", holder.expect("the worker holds its cell").pid);
    // The other cell is trained all the same.
    assert_eq!(child.wait().unwrap().code(), Some(1));
    assert!(lab.history("micro", &lab.plan("micro").cells[1].id).finished.is_some());
    let told = lab.deim(&["plan", "micro"]);
    assert!(told.out.contains("1 done, 1 missing"), "{told}");
    let told = lab.deim(&arguments);
    assert_eq!(told.code, Some(0), "{told}");
    assert!(lab.history("micro", &cell.id).finished.is_some());
}

#[test]
fn a_damaged_or_foreign_checkpoint_is_refused_and_kept() {
    let lab = Lab::new();
    let arguments = ["ablation", "micro", "--jobs", "1", "--threads", "1"];
    let mut child = start_until(&lab, &arguments, "epoch 2/3");
    child.kill().unwrap();
    child.wait().unwrap();
    let cells = lab.plan("micro").cells;
    let checkpoint = |cell: &str| lab.setting().run(cell).join("last.safetensors");
    let whole = std::fs::read(checkpoint(&cells[0].id)).unwrap();
    // One cell's is cut in half, and the other gets the first one's.
    let half = &whole[..whole.len() / 2];
    std::fs::write(checkpoint(&cells[0].id), half).unwrap();
    std::fs::create_dir_all(lab.setting().run(&cells[1].id)).unwrap();
    std::fs::write(checkpoint(&cells[1].id), &whole).unwrap();

    let told = lab.deim(&arguments);
    assert_eq!(told.code, Some(1), "{told}");
    assert!(told.err.contains("is not a whole checkpoint"), "{told}");
    assert!(told.err.contains("belongs to another cell"), "{told}");
    assert_eq!(std::fs::read(checkpoint(&cells[0].id)).unwrap(), half);
    assert_eq!(std::fs::read(checkpoint(&cells[1].id)).unwrap(), whole);

    // They wait for `retry`, which trains them once the reason is gone.
    let told = lab.deim(&arguments);
    assert_eq!(told.code, Some(1), "{told}");
    assert!(told.err.contains("2 cells failed earlier"), "{told}");
    for cell in &cells {
        std::fs::remove_file(checkpoint(&cell.id)).unwrap();
    }
    let told = lab.deim(&["retry", "micro", "--jobs", "1", "--threads", "1"]);
    assert_eq!(told.code, Some(0), "{told}");
}

#[test]
fn one_cell_in_the_foreground_is_found_by_its_row_and_by_its_id() {
    let lab = Lab::new();
    let told = lab.deim(&["run", "micro", "--row", "2", "--threads", "1"]);
    assert_eq!(told.code, Some(0), "{told}");
    assert!(told.out.contains("loss.gamma = 2.0, seed 0: AP"), "{told}");
    let cell = &lab.plan("micro").cells[1];
    let told = lab.deim(&["run", &cell.id[..10]]);
    assert_eq!(told.code, Some(0), "{told}");
    assert!(told.out.contains("it was finished"), "{told}");
}
