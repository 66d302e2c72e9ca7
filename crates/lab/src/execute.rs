//! Trains cells in worker processes of this machine, several side by side.
//!
//! A process a cell: one that dies takes nothing with it, and one core a process is faster than
//! many cores for one where there are more cells than cores.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use deim_train::events::Event;

use crate::error::LabError;
use crate::lock::{self, Holder};
use crate::plan::{Cell, Plan, Setting};
use crate::protocol::{End, Order};
use crate::record::Record;
use crate::worker::{Command, Heard, Worker};

/// How the work is shared.
#[derive(Clone, Debug)]
pub struct Crew {
    /// Starts a worker; see [`crate::work::serve`].
    pub command: Command,
    /// Processes side by side.
    pub jobs: usize,
    /// Threads of each process.
    pub threads: usize,
    /// Whether the first failure stops everything.
    pub fail_fast: bool,
    /// Decoded images that each process may keep, in MiB.
    pub cache_mb: usize,
}

/// Something for whoever watches. `slot` is one of the crew's `jobs`.
#[derive(Debug)]
pub enum Notice<'a> {
    /// A worker begins a cell.
    Began {
        slot: usize,
        cell: &'a Cell,
    },
    Event {
        slot: usize,
        cell: &'a Cell,
        event: &'a Event,
    },
    /// A worker wrote a line to its standard error.
    Line {
        slot: usize,
        cell: &'a Cell,
        line: &'a str,
    },
    /// A worker is done with a cell; `left` are the cells that remain.
    Ended {
        slot: usize,
        cell: &'a Cell,
        end: &'a End,
        left: usize,
    },
    /// Nothing is left but a cell that another process trains.
    Waiting {
        cell: &'a Cell,
        holder: Option<&'a Holder>,
    },
    /// The wish to stop was heard; workers are saving.
    Stopping,
}

/// What became of the cells.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    pub finished: usize,
    /// Finished by someone else in the meantime.
    pub reused: usize,
    /// Saved and resumable, as asked.
    pub stopped: usize,
    /// Never begun, because of a stop or a failure.
    pub left: usize,
    /// Titles of failed cells with their reasons.
    pub failed: Vec<(String, String)>,
    /// Cells whose process a signal ended.
    pub killed: Vec<(String, String)>,
}

/// How often another process's lock is looked at.
const PATIENCE: Duration = Duration::from_secs(1);

/// The default crew sizes: as many processes as cores and cells allow, and the cores shared evenly.
/// A GPU is not shared.
pub fn share(cores: usize, cells: usize, on_gpu: bool, jobs: Option<usize>) -> (usize, usize) {
    let most = if on_gpu { 1 } else { cores.min(cells) };
    let jobs = jobs.unwrap_or(most).max(1);
    (jobs, (cores / jobs).max(1))
}

/// Trains the cells in order. `stop` counts the wishes to stop: after the first, workers save a
/// checkpoint and end; after the second, they are killed.
pub fn execute(
    plan: &Plan,
    cells: &[Cell],
    setting: &Setting,
    crew: &Crew,
    stop: &AtomicUsize,
    watch: &mut dyn FnMut(&Notice<'_>),
) -> Result<Tally, LabError> {
    plan.ledger.prepare()?;
    // Every file must be there before the first cell trains, and not only before its own.
    for cell in cells {
        setting.inputs.weights_of(&cell.config)?;
    }
    let mut foreman = Foreman {
        plan,
        cells,
        setting,
        crew,
        watch,
        queue: (0..cells.len()).collect(),
        waiting: VecDeque::new(),
        slots: (0..crew.jobs).map(|_| None).collect(),
        tally: Tally::default(),
        stopping: false,
    };
    let ended = foreman.run(stop);
    if ended.is_err() {
        // Dropping a worker closes its input, which ends it.
        foreman.slots.clear();
    }
    ended?;
    let mut tally = foreman.tally;
    tally.left = foreman.queue.len() + foreman.waiting.len();
    Ok(tally)
}

struct Foreman<'a> {
    plan: &'a Plan,
    cells: &'a [Cell],
    setting: &'a Setting,
    crew: &'a Crew,
    watch: &'a mut dyn FnMut(&Notice<'_>),
    /// Cells to begin, by index.
    queue: VecDeque<usize>,
    /// Cells that another process trains.
    waiting: VecDeque<usize>,
    slots: Vec<Option<(Worker, usize)>>,
    tally: Tally,
    stopping: bool,
}

impl Foreman<'_> {
    fn run(&mut self, stop: &AtomicUsize) -> Result<(), LabError> {
        let (sender, receiver) = mpsc::channel();
        let mut looked = Instant::now();
        let mut announced = None;
        loop {
            let wishes = stop.load(Ordering::SeqCst);
            if wishes > 0 && !self.stopping {
                (self.watch)(&Notice::Stopping);
                self.stop_workers();
            }
            if wishes > 1 {
                self.slots.iter_mut().flatten().for_each(|(worker, _)| worker.kill());
            }
            while !self.stopping
                && let Some(slot) = self.slots.iter().position(Option::is_none)
                && let Some(index) = self.queue.pop_front()
            {
                self.begin(slot, index, &sender)?;
            }
            let idle = self.slots.iter().all(Option::is_none);
            if idle && (self.stopping || self.queue.is_empty() && self.waiting.is_empty()) {
                return Ok(());
            }
            match receiver.recv_timeout(Duration::from_millis(100)) {
                Ok((slot, heard)) => self.hear(slot, heard)?,
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {}
            }
            if idle && !self.waiting.is_empty() && announced != self.waiting.front().copied() {
                announced = self.waiting.front().copied();
                self.announce()?;
            }
            if looked.elapsed() >= PATIENCE {
                looked = Instant::now();
                self.look_again()?;
            }
        }
    }

    fn begin(
        &mut self,
        slot: usize,
        index: usize,
        sender: &mpsc::Sender<(usize, Heard)>,
    ) -> Result<(), LabError> {
        let cell = &self.cells[index];
        let order = Order::new(self.plan, cell, self.setting, self.crew)?;
        let worker = Worker::start(&self.crew.command, &order, slot, sender.clone())?;
        self.slots[slot] = Some((worker, index));
        (self.watch)(&Notice::Began { slot, cell });
        Ok(())
    }

    fn hear(&mut self, slot: usize, heard: Heard) -> Result<(), LabError> {
        let Some((worker, index)) = &mut self.slots[slot] else { return Ok(()) };
        let (index, cell) = (*index, &self.cells[*index]);
        match heard {
            Heard::Event(event) => (self.watch)(&Notice::Event { slot, cell, event: &event }),
            Heard::Line(line) => {
                (self.watch)(&Notice::Line { slot, cell, line: &line });
                worker.remember(line);
            }
            Heard::End(end) => worker.end = Some(end),
            Heard::Closed => {
                let end = worker.conclude()?;
                self.slots[slot] = None;
                self.count(slot, index, end)?;
            }
        }
        Ok(())
    }

    /// Books the end of a cell; what the worker could not write down itself is written here.
    fn count(&mut self, slot: usize, index: usize, end: Concluded) -> Result<(), LabError> {
        let cell = &self.cells[index];
        let title = format!("{}, seed {}", cell.title, cell.seed);
        if !end.recorded
            && let End::Failed { reason } | End::Killed { reason } = &end.end
        {
            let killed = matches!(end.end, End::Killed { .. });
            self.plan.ledger.append(&cell.id, Record::Failed { reason: reason.clone(), killed })?;
        }
        match &end.end {
            End::Finished { reused: false } => self.tally.finished += 1,
            End::Finished { reused: true } => self.tally.reused += 1,
            End::Stopped => self.tally.stopped += 1,
            End::Failed { reason } => self.tally.failed.push((title, reason.clone())),
            End::Killed { reason } => self.tally.killed.push((title, reason.clone())),
            End::Busy { .. } => self.waiting.push_back(index),
        }
        let busy = self.slots.iter().flatten().count();
        let left = self.queue.len() + self.waiting.len() + busy;
        (self.watch)(&Notice::Ended { slot, cell, end: &end.end, left });
        let bad = matches!(end.end, End::Failed { .. } | End::Killed { .. });
        if bad && self.crew.fail_fast && !self.stopping {
            self.stop_workers();
        }
        Ok(())
    }

    fn stop_workers(&mut self) {
        self.stopping = true;
        self.slots.iter_mut().flatten().for_each(|(worker, _)| worker.ask_to_stop());
    }

    fn announce(&mut self) -> Result<(), LabError> {
        let Some(&index) = self.waiting.front() else { return Ok(()) };
        let cell = &self.cells[index];
        let holder = lock::holder(&self.setting.run(&cell.id))?.flatten();
        (self.watch)(&Notice::Waiting { cell, holder: holder.as_ref() });
        Ok(())
    }

    /// Cells whose lock is free again are asked for again: finished, dead or failed, the worker
    /// finds out.
    fn look_again(&mut self) -> Result<(), LabError> {
        for _ in 0..self.waiting.len() {
            if let Some(index) = self.waiting.pop_front() {
                let held = lock::holder(&self.setting.run(&self.cells[index].id))?.is_some();
                if held { &mut self.waiting } else { &mut self.queue }.push_back(index);
            }
        }
        Ok(())
    }
}

/// How a worker ended, and whether the ledger knows.
pub struct Concluded {
    pub end: End,
    pub recorded: bool,
}
