//! The parent's side of training, with shell scripts in the place of workers.
#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use deim_lab::execute::{Crew, Notice, Tally, execute, share};
use deim_lab::history::{Failure, of_cell};
use deim_lab::worker::Command;
use deim_lab::{Cell, Devices, Inputs, Ledger, Plan, Setting, State};
use deim_spec::Config;

const FINISHED: &str = r#"echo '{"said":"end","end":"finished","reused":false}'"#;

fn plan(root: &Path, cells: usize) -> Plan {
    let cell = |row: usize| Cell {
        id: format!("cell{row}"),
        row,
        title: format!("row {row}"),
        settings: Default::default(),
        seed: 0,
        state: State::Missing { epochs_done: 0 },
        seconds_left: None,
        config: Config::default(),
        manifest: "m".into(),
    };
    Plan {
        experiment: "x".into(),
        scale: "mini".into(),
        device_class: "cpu".into(),
        numerics: 1,
        cells: (0..cells).map(cell).collect(),
        notes: vec![],
        ledger: Ledger::new(&root.join("results"), "x", "mini"),
    }
}

struct Shop {
    root: tempfile::TempDir,
    plan: Plan,
}

impl Shop {
    fn new(cells: usize) -> Self {
        let root = tempfile::tempdir().unwrap();
        let plan = plan(root.path(), cells);
        Self { root, plan }
    }

    /// Every worker runs this script; `$order` is its order and `$0` the laboratory's folder.
    fn run(
        &self,
        script: &str,
        fail_fast: bool,
        stop: &AtomicUsize,
        watch: &mut dyn FnMut(&Notice<'_>),
    ) -> Tally {
        let script = format!("read -r order\n{script}\n");
        let folder = self.root.path().as_os_str().to_owned();
        let arguments = vec!["-c".into(), script.into(), folder];
        let crew = Crew {
            command: Command { program: "sh".into(), arguments },
            jobs: 2,
            threads: 1,
            fail_fast,
            cache_mb: 0,
        };
        let setting = Setting {
            results: self.root.path().join("results"),
            runs: self.root.path().join("runs"),
            device: Devices::default(),
            numerics: 1,
            inputs: Inputs::default(),
        };
        execute(&self.plan, &self.plan.cells, &setting, &crew, stop, watch).unwrap()
    }

    fn simply(&self, script: &str, fail_fast: bool) -> Tally {
        self.run(script, fail_fast, &AtomicUsize::new(0), &mut |_| {})
    }

    fn failure(&self, cell: &str) -> Option<Failure> {
        of_cell(&self.plan.ledger.read().unwrap().lines, cell).failed
    }
}

#[test]
fn every_cell_gets_a_worker_and_is_counted() {
    let shop = Shop::new(5);
    let mut began = Vec::new();
    let tally = shop.run(FINISHED, false, &AtomicUsize::new(0), &mut |notice| {
        if let Notice::Began { cell, .. } = notice {
            began.push(cell.id.clone());
        }
    });
    assert_eq!(tally, Tally { finished: 5, ..Tally::default() });
    assert_eq!(began, ["cell0", "cell1", "cell2", "cell3", "cell4"]);
}

#[test]
fn a_worker_that_dies_fails_its_cell_with_the_reason_and_the_others_go_on() {
    let shop = Shop::new(3);
    let script = format!(
        r#"case "$order" in *'"cell1"'*) echo noise; echo "thread panicked at src/x.rs:" >&2;
        echo "no luck" >&2; exit 101;; esac; {FINISHED}"#
    );
    let tally = shop.simply(&script, false);
    assert_eq!((tally.finished, tally.left), (2, 0));
    let (title, reason) = &tally.failed[0];
    assert_eq!(title, "row 1, seed 0");
    // What it wrote elsewhere may come in between: two pipes have no common order.
    let said = reason.replace("noise | ", "").replace(" | noise", "");
    assert!(said.contains("exit code 101: thread panicked at src/x.rs: | no luck"), "{reason}");
    let failure = shop.failure("cell1").expect("the ledger knows");
    assert_eq!((failure.reason.as_str(), failure.killed), (reason.as_str(), false));
    assert_eq!(shop.failure("cell0"), None);
}

#[test]
fn a_signal_is_not_a_failure_of_the_cell() {
    let shop = Shop::new(1);
    let tally = shop.simply("kill -9 $$", false);
    assert!(tally.failed.is_empty());
    assert!(tally.killed[0].1.contains("signal 9"), "{tally:?}");
    assert!(shop.failure("cell0").expect("the ledger knows").killed);
}

#[test]
fn a_failure_that_a_worker_recorded_itself_is_not_recorded_twice() {
    let shop = Shop::new(1);
    let script = r#"echo '{"said":"end","end":"failed","reason":"NaN"}'; exit 1"#;
    assert_eq!(shop.simply(script, false).failed[0].1, "NaN");
    assert_eq!(shop.failure("cell0"), None);
}

#[test]
fn the_first_failure_stops_the_rest_when_asked_to() {
    let shop = Shop::new(6);
    // The first cell fails; its neighbour stops when asked.
    let script = r#"case "$order" in *'"cell0"'*) sleep 0.3; exit 3;; esac
        read -r wish; test "$wish" = stop && echo '{"said":"end","end":"stopped"}'"#;
    let tally = shop.simply(script, true);
    assert_eq!((tally.failed.len(), tally.stopped, tally.left), (1, 1, 4), "{tally:?}");
}

#[test]
fn a_wish_to_stop_reaches_the_workers_and_nothing_new_begins() {
    let shop = Shop::new(4);
    let stop = AtomicUsize::new(0);
    let script = r#"read -r wish; test "$wish" = stop && echo '{"said":"end","end":"stopped"}'"#;
    let tally = shop.run(script, false, &stop, &mut |notice| {
        if let Notice::Began { slot: 1, .. } = notice {
            stop.store(1, Ordering::SeqCst);
        }
    });
    assert_eq!(tally, Tally { stopped: 2, left: 2, ..Tally::default() });
}

#[test]
fn a_second_wish_does_not_wait_for_a_worker_that_does_not_listen() {
    let shop = Shop::new(1);
    let stop = AtomicUsize::new(0);
    let began = Instant::now();
    let tally = shop.run("exec sleep 60", false, &stop, &mut |notice| match notice {
        Notice::Began { .. } => stop.store(1, Ordering::SeqCst),
        Notice::Stopping => stop.store(2, Ordering::SeqCst),
        _ => {}
    });
    assert_eq!(tally, Tally { stopped: 1, ..Tally::default() });
    assert!(began.elapsed() < Duration::from_secs(20));
    assert_eq!(shop.failure("cell0"), None);
}

#[test]
fn a_cell_of_another_process_is_asked_for_again_until_it_is_free() {
    let shop = Shop::new(2);
    // Busy the first time, finished by the other process the second time.
    let script = format!(
        r#"case "$order" in *'"cell0"'*) if test -e "$0/seen"; then
        echo '{{"said":"end","end":"finished","reused":true}}'; exit 0; fi
        : > "$0/seen"; echo '{{"said":"end","end":"busy","holder":null}}'; exit 0;; esac; {FINISHED}"#
    );
    let tally = shop.simply(&script, false);
    assert_eq!(tally, Tally { finished: 1, reused: 1, ..Tally::default() });
}

#[test]
fn a_held_lock_is_waited_for_and_said_to_be() {
    let shop = Shop::new(1);
    let mut lock = Some(deim_lab::lock::ask(&shop.root.path().join("runs/cell0")).unwrap());
    let mut asked = 0;
    let script = format!(
        r#"if test -e "$0/free"; then {FINISHED}; else echo '{{"said":"end","end":"busy","holder":null}}'; fi"#
    );
    let free = shop.root.path().join("free");
    let tally = shop.run(&script, false, &AtomicUsize::new(0), &mut |notice| match notice {
        Notice::Began { .. } => asked += 1,
        Notice::Waiting { holder, .. } => {
            assert_eq!(holder.expect("the lock says who").pid, std::process::id());
            std::fs::write(&free, "").unwrap();
            lock = None;
        }
        _ => {}
    });
    assert_eq!(tally.finished, 1);
    assert_eq!(asked, 2, "it was asked for while the lock was held");
    assert!(lock.is_none());
}

#[test]
fn the_cores_are_shared_by_as_many_processes_as_there_are_cells() {
    assert_eq!(share(8, 12, false, None), (8, 1));
    assert_eq!(share(8, 3, false, None), (3, 2));
    assert_eq!(share(8, 12, true, None), (1, 8));
    assert_eq!(share(2, 12, false, Some(4)), (4, 1));
    assert_eq!(share(4, 0, false, None), (1, 4));
}
