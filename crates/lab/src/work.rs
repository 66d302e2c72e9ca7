//! What a worker process does: train one cell and write down what happens.

use std::io::{BufRead, Write};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use deim_spec::Recorded;
use deim_train::events::{Event, Summary};

use crate::device::Devices;
use crate::error::LabError;
use crate::history;
use crate::ledger::Ledger;
use crate::lock::{self, Asked};
use crate::protocol::{End, Order, STOP, Said};
use crate::record::{Finished, Provenance, Record};
use crate::shelf::{Owner, Shelf};

/// Trains the cell of an order in a folder until it is finished or asked to stop.
pub type Train<'a> =
    dyn Fn(&Order, &Path, &AtomicBool, &mut dyn FnMut(&Event)) -> Result<Trained, String> + 'a;

/// What a training run returned.
#[derive(Clone, Debug, PartialEq)]
pub enum Trained {
    Finished(Box<Summary>),
    /// Asked to stop, it saved a checkpoint.
    Stopped,
}

/// Exit code of a worker whose parent is gone: as if a signal had ended it.
const ORPHANED: i32 = 130;
/// Steps are reported at most this often.
const STEP_INTERVAL: Duration = Duration::from_millis(200);

/// Runs a worker: one order from standard input, its story to standard output.
pub fn serve(stop: &Arc<AtomicBool>, train: &Train<'_>) -> Result<ExitCode, LabError> {
    let order = receive()?;
    listen(Arc::clone(stop));
    let tell = |said: &Said| {
        let mut line = serde_json::to_string(said).expect("what is said has string keys");
        line.push('\n');
        let mut out = std::io::stdout().lock();
        // Nobody listens: the end of standard input, which means the same, ends this process.
        let _ = out.write_all(line.as_bytes()).and_then(|()| out.flush());
    };
    let end = match carry_out(&order, stop, train, &mut |event| {
        tell(&Said::Event { what: event.clone() });
    }) {
        Ok(end) => end,
        Err(error) => End::Failed { reason: error.to_string() },
    };
    let code = match end {
        End::Failed { .. } => ExitCode::FAILURE,
        _ => ExitCode::SUCCESS,
    };
    tell(&Said::End(end));
    Ok(code)
}

/// The first line of standard input.
fn receive() -> Result<Order, LabError> {
    let mut line = String::new();
    std::io::stdin()
        .lock()
        .read_line(&mut line)
        .map_err(|error| LabError::Worker(format!("cannot read the order: {error}")))?;
    serde_json::from_str(&line).map_err(|error| {
        LabError::Worker(format!(
            "expected an order of a parent process on standard input: {error}; `deim run` starts \
             workers itself"
        ))
    })
}

/// Watches the rest of standard input: a wish to stop, or the parent's death.
fn listen(stop: Arc<AtomicBool>) {
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines() {
            match line {
                Ok(line) if line.trim() == STOP => stop.store(true, Ordering::SeqCst),
                Ok(_) => {}
                Err(_) => break,
            }
        }
        // At once and without cleaning up: a killed parent must not leave work behind, and every
        // file this process writes survives being cut off.
        std::process::exit(ORPHANED);
    });
}

/// Trains one cell, unless it is finished or another process has it.
pub fn carry_out(
    order: &Order,
    stop: &AtomicBool,
    train: &Train<'_>,
    report: &mut dyn FnMut(&Event),
) -> Result<End, LabError> {
    let ledger = Ledger::new(&order.results, &order.experiment, &order.scale);
    ledger.prepare()?;
    let folder = order.runs.join(&order.cell);
    let _lock = match lock::ask(&folder)? {
        Asked::Ours(lock) => lock,
        Asked::Theirs(holder) => return Ok(End::Busy { holder }),
    };
    // Only now: the process that had the lock before may just have finished the cell.
    let owner =
        Owner { experiment: &order.experiment, scale: &order.scale, settings: &order.settings };
    if Shelf::load(&order.results, &ledger).adopt(&ledger, &order.cell, &owner)? {
        return Ok(End::Finished { reused: true });
    }

    let device: Devices = order.device.parse()?;
    let mut written = Ok(());
    let mut last_step: Option<Instant> = None;
    let trained = train(order, &folder, stop, &mut |event| {
        let record = match event {
            Event::Started { resumed_at, pretrained, .. } => {
                let pretrained = pretrained.clone();
                let started = Provenance {
                    resumed_at: *resumed_at,
                    pretrained,
                    ..provenance(order, &device)
                };
                Some(Record::Started(Box::new(started)))
            }
            Event::Epoch(epoch) => Some(Record::Epoch(Box::new(epoch.clone()))),
            Event::Warming { .. } | Event::Step { .. } | Event::Evaluating { .. } => None,
        };
        if let (Some(record), Ok(())) = (record, &written) {
            written = ledger.append(&order.cell, record);
            if written.is_err() {
                // Training on would be for nothing that anyone could read.
                stop.store(true, Ordering::SeqCst);
            }
        }
        if matches!(event, Event::Step { .. }) {
            if last_step.is_some_and(|last| last.elapsed() < STEP_INTERVAL) {
                return;
            }
            last_step = Some(Instant::now());
        }
        report(event);
    });
    written?;
    match trained {
        Ok(Trained::Finished(summary)) => {
            let seconds = history::of_cell(&ledger.read()?.lines, &order.cell).seconds;
            let finished = Finished { summary: *summary, seconds };
            ledger.append(&order.cell, Record::Finished(Box::new(finished)))?;
            Ok(End::Finished { reused: false })
        }
        Ok(Trained::Stopped) => Ok(End::Stopped),
        Err(reason) => {
            let record = Record::Failed { reason: reason.clone(), killed: false };
            ledger.append(&order.cell, record)?;
            Ok(End::Failed { reason })
        }
    }
}

fn provenance(order: &Order, device: &Devices) -> Provenance {
    Provenance {
        experiment: order.experiment.clone(),
        scale: order.scale.clone(),
        settings: order.settings.clone(),
        seed: order.seed,
        config: Recorded::from(&order.config),
        manifest: order.manifest.clone(),
        data: order.data.clone(),
        pretrained: None,
        numerics: order.numerics,
        device_class: device.class(),
        device: device.describe(),
        threads: order.threads,
        program: program(),
        resumed_at: None,
        reused_from: None,
    }
}

/// This program's version and, where the build was told, its commit.
pub fn program() -> String {
    match option_env!("DEIM_COMMIT") {
        Some(commit) => format!("deim {} ({commit})", env!("CARGO_PKG_VERSION")),
        None => format!("deim {}", env!("CARGO_PKG_VERSION")),
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use deim_train::events::EpochRecord;

    use super::*;
    use crate::samples;

    fn order(root: &Path) -> Order {
        let provenance = samples::provenance();
        Order {
            experiment: provenance.experiment,
            scale: provenance.scale,
            settings: provenance.settings,
            cell: "cell".into(),
            seed: 0,
            config: deim_spec::Config::default(),
            manifest: provenance.manifest,
            numerics: 1,
            device: "cpu".into(),
            threads: 1,
            results: root.join("results"),
            runs: root.join("runs"),
            data: None,
            pretrained: None,
            cache_mb: 0,
        }
    }

    fn two_epochs(observe: &mut dyn FnMut(&Event)) {
        observe(&Event::Started {
            epochs: 2,
            steps_per_epoch: 1,
            resumed_at: None,
            pretrained: None,
        });
        for epoch in 0..2 {
            observe(&Event::Step { epoch, step: 0, loss: 1.0, learning_rate: 0.1 });
            let seconds = deim_train::events::Seconds { train: 1.0, evaluate: 0.5, wait: 0.0 };
            observe(&Event::Epoch(EpochRecord { epoch, seconds, ..Default::default() }));
        }
    }

    fn run(order: &Order, train: &Train<'_>) -> (Result<End, LabError>, usize) {
        let mut events = 0;
        let end = carry_out(order, &AtomicBool::new(false), train, &mut |_| events += 1);
        (end, events)
    }

    #[test]
    fn a_finished_cell_is_recorded_and_never_trained_again() {
        let root = tempfile::tempdir().unwrap();
        let order = order(root.path());
        let calls = Cell::new(0);
        let train = |_: &Order, folder: &Path, _: &AtomicBool, observe: &mut dyn FnMut(&Event)| {
            assert!(folder.ends_with("runs/cell") && folder.is_dir());
            calls.set(calls.get() + 1);
            two_epochs(observe);
            Ok(Trained::Finished(Box::new(samples::finished(0.0).summary)))
        };
        let (end, events) = run(&order, &train);
        assert_eq!(end.unwrap(), End::Finished { reused: false });
        // Started, two epochs, and the first of two steps in quick succession.
        assert_eq!(events, 4);
        let ledger = Ledger::new(&order.results, "gamma", "mini");
        let history = history::of_cell(&ledger.read().unwrap().lines, "cell");
        assert_eq!(history.finished.unwrap().seconds, 3.0);
        assert_eq!(history.provenance.unwrap().device_class, "cpu");

        let before = std::fs::read(ledger.path()).unwrap();
        assert_eq!(run(&order, &train).0.unwrap(), End::Finished { reused: true });
        assert_eq!(calls.get(), 1);
        assert_eq!(std::fs::read(ledger.path()).unwrap(), before);
    }

    #[test]
    fn an_error_is_recorded_with_its_reason() {
        let root = tempfile::tempdir().unwrap();
        let order = order(root.path());
        let (end, _) = run(&order, &|_, _, _, _| Err("checkpoint of another cell".into()));
        assert_eq!(end.unwrap(), End::Failed { reason: "checkpoint of another cell".into() });
        let ledger = Ledger::new(&order.results, "gamma", "mini");
        let history = history::of_cell(&ledger.read().unwrap().lines, "cell");
        assert_eq!(history.failed.unwrap().reason, "checkpoint of another cell");
    }

    #[test]
    fn a_cell_of_another_process_is_left_to_it() {
        let root = tempfile::tempdir().unwrap();
        let order = order(root.path());
        let held = lock::ask(&order.runs.join("cell")).unwrap();
        assert!(matches!(held, Asked::Ours(_)));
        let (end, _) = run(&order, &|_, _, _, _| panic!("trained a cell that is not ours"));
        assert!(matches!(end.unwrap(), End::Busy { holder: Some(_) }));
    }

    #[test]
    fn a_ledger_that_cannot_be_written_stops_before_training() {
        let root = tempfile::tempdir().unwrap();
        let order = order(root.path());
        std::fs::write(&order.results, "a file").unwrap();
        let (end, _) = run(&order, &|_, _, _, _| panic!("trained without a ledger"));
        assert!(end.unwrap_err().to_string().contains("results"));
    }
}
