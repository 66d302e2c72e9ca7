//! Batches in order, made inline or ahead of time by worker threads.

use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::error::DataError;
use crate::sample::Batch;

/// Makes the batch of a step; the same batch whoever asks and whenever.
pub(crate) type Make = Arc<dyn Fn(u64) -> Result<Batch, DataError> + Send + Sync>;

/// Finished batches that wait in a worker's channel; one more waits in the worker's hands.
const AHEAD: usize = 1;

/// The batches of a range of steps, in order. After an error there are none.
///
/// With workers, worker `w` of `n` makes steps `w`, `w + n`, ... and waits when it is two batches
/// ahead. Dropping this ends the workers after the batch they are making.
pub struct Batches {
    make: Make,
    steps: Range<u64>,
    first: u64,
    receivers: Vec<Receiver<Result<Batch, DataError>>>,
    threads: Vec<JoinHandle<()>>,
    failure: Option<DataError>,
    waited: Duration,
}

impl Batches {
    /// Starts `workers` threads; none makes every batch inline.
    pub(crate) fn start(make: Make, steps: Range<u64>, workers: usize) -> Self {
        let first = steps.start;
        let mut batches = Self {
            make,
            steps: steps.clone(),
            first,
            receivers: Vec::new(),
            threads: Vec::new(),
            failure: None,
            waited: Duration::ZERO,
        };
        let workers =
            workers.min(usize::try_from(steps.end.saturating_sub(first)).unwrap_or(workers));
        for worker in 0..workers {
            if let Err(error) = batches.spawn(worker, workers, steps.clone()) {
                batches.failure = Some(error.into());
                break;
            }
        }
        batches
    }

    fn spawn(&mut self, worker: usize, workers: usize, steps: Range<u64>) -> std::io::Result<()> {
        let (sender, receiver) = sync_channel(AHEAD);
        let make = Arc::clone(&self.make);
        let thread =
            std::thread::Builder::new().name(format!("loader-{worker}")).spawn(move || {
                for step in steps.skip(worker).step_by(workers) {
                    let batch = make_safely(&make, step);
                    let failed = batch.is_err();
                    // Sending fails when the consumer is gone: nobody wants more.
                    if sender.send(batch).is_err() || failed {
                        return;
                    }
                }
            })?;
        self.threads.push(thread);
        self.receivers.push(receiver);
        Ok(())
    }

    /// How long the consumer has waited for batches so far; inline, how long making them took.
    pub fn waited(&self) -> Duration {
        self.waited
    }

    fn take(&mut self, step: u64) -> Result<Batch, DataError> {
        if let Some(failure) = self.failure.take() {
            return Err(failure);
        }
        if self.receivers.is_empty() {
            return make_safely(&self.make, step);
        }
        let worker = (step - self.first) % self.receivers.len() as u64;
        self.receivers[worker as usize].recv().unwrap_or(Err(DataError::WorkerLost { step }))
    }
}

/// A panic becomes an error, so that it reaches the consumer from any thread.
fn make_safely(make: &Make, step: u64) -> Result<Batch, DataError> {
    catch_unwind(AssertUnwindSafe(|| make(step))).unwrap_or_else(|panic| {
        let message = panic
            .downcast_ref::<&str>()
            .map(ToString::to_string)
            .or_else(|| panic.downcast_ref::<String>().cloned())
            .unwrap_or_else(|| "no message".into());
        Err(DataError::Panicked { step, message })
    })
}

impl Iterator for Batches {
    type Item = Result<Batch, DataError>;

    fn next(&mut self) -> Option<Self::Item> {
        let step = self.steps.next()?;
        let asked = Instant::now();
        let batch = self.take(step);
        self.waited += asked.elapsed();
        if batch.is_err() {
            self.steps = step..step;
        }
        Some(batch)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = usize::try_from(self.steps.end.saturating_sub(self.steps.start)).ok();
        (0, left)
    }
}

impl Drop for Batches {
    fn drop(&mut self) {
        // Without receivers every send fails, so no worker waits and each can be joined.
        self.receivers.clear();
        for thread in self.threads.drain(..) {
            // A worker catches its own panics; nothing is left to report here.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    fn batch(step: u64) -> Batch {
        Batch {
            images: Default::default(),
            bytes: None,
            size: 0,
            targets: vec![],
            image_ids: vec![step as i64],
            original_sizes: vec![],
            dropped_boxes: 0,
        }
    }

    fn ids(batches: Batches) -> Vec<i64> {
        batches.map(|batch| batch.unwrap().image_ids[0]).collect()
    }

    #[test]
    fn batches_come_in_order_from_any_number_of_workers() {
        for workers in [0, 1, 2, 3, 7, 50] {
            let make: Make = Arc::new(|step| {
                // Later batches are ready earlier.
                std::thread::sleep(Duration::from_micros(200 * (step % 4)));
                Ok(batch(step))
            });
            let batches = Batches::start(make, 3..20, workers);
            assert_eq!(ids(batches), (3..20).collect::<Vec<_>>(), "{workers} workers");
        }
    }

    #[test]
    fn workers_stay_only_a_few_batches_ahead_and_end_when_dropped() {
        let made = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&made);
        let make: Make = Arc::new(move |step| {
            counter.fetch_add(1, Ordering::SeqCst);
            Ok(batch(step))
        });
        let alive = Arc::downgrade(&make);
        let mut batches = Batches::start(make, 0..1_000_000, 2);
        assert!(batches.next().unwrap().is_ok());
        std::thread::sleep(Duration::from_millis(50));
        assert!(made.load(Ordering::SeqCst) <= 1 + 2 * (AHEAD as u64 + 1));
        drop(batches);
        assert!(alive.upgrade().is_none(), "a worker still holds its work after the drop");
    }

    #[test]
    fn an_error_or_a_panic_arrives_in_its_place_and_ends_the_batches() {
        for workers in [0, 1, 3] {
            let error: Make = Arc::new(|step| match step {
                4 => Err(DataError::Index { index: 4, len: 4 }),
                _ => Ok(batch(step)),
            });
            let panic: Make = Arc::new(|step| match step {
                4 => panic!("step four"),
                _ => Ok(batch(step)),
            });
            for make in [error, panic] {
                let all: Vec<_> = Batches::start(make, 0..9, workers).collect();
                assert_eq!(all.len(), 5);
                assert!(all[..4].iter().all(Result::is_ok));
                let message = all[4].as_ref().unwrap_err().to_string();
                assert!(message.contains('4') || message.contains("four"), "{message}");
            }
        }
    }

    #[test]
    fn dropping_never_waits_for_more_than_the_batches_at_hand() {
        // Before the first batch, in the middle with full channels, after the last, with nothing to do.
        for (taken, steps) in [(0, 100), (7, 100), (6, 6), (0, 0)] {
            let make: Make = Arc::new(|step| {
                std::thread::sleep(Duration::from_millis(2));
                Ok(batch(step))
            });
            let mut batches = Batches::start(make, 0..steps, 4);
            assert_eq!(Iterator::take(batches.by_ref(), taken).count(), taken);
            let (sender, receiver) = std::sync::mpsc::channel();
            std::thread::spawn(move || {
                drop(batches);
                sender.send(()).unwrap();
            });
            let ended = receiver.recv_timeout(Duration::from_secs(20));
            assert!(ended.is_ok(), "a drop after {taken} of {steps} batches hangs");
        }
    }

    #[test]
    fn an_error_that_nobody_reads_leaves_no_worker_behind() {
        let make: Make = Arc::new(|step| match step % 2 {
            0 => Err(DataError::Index { index: 0, len: 0 }),
            _ => panic!("odd steps panic"),
        });
        let alive = Arc::downgrade(&make);
        drop(Batches::start(make, 0..1000, 3));
        assert!(alive.upgrade().is_none(), "a worker still holds its work after the drop");
    }

    #[test]
    fn a_slow_consumer_finds_no_more_than_two_batches_a_worker() {
        // Finished and unread batches are what memory holds: one waits in the channel, one in hand.
        let alive = Arc::new(AtomicU64::new(0));
        let most = Arc::new(AtomicU64::new(0));
        let (made, highest) = (Arc::clone(&alive), Arc::clone(&most));
        let make: Make = Arc::new(move |step| {
            highest.fetch_max(made.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            Ok(batch(step))
        });
        for taken in Batches::start(make, 0..60, 3) {
            assert!(taken.is_ok());
            std::thread::sleep(Duration::from_millis(3));
            alive.fetch_sub(1, Ordering::SeqCst);
        }
        // And the one that the consumer holds.
        let bound = 3 * (AHEAD as u64 + 1) + 1;
        let most = most.load(Ordering::SeqCst);
        assert!(most <= bound, "{most} batches at once, expected at most {bound}");
    }

    #[test]
    fn waiting_is_counted() {
        let make: Make = Arc::new(|step| {
            std::thread::sleep(Duration::from_millis(5));
            Ok(batch(step))
        });
        let mut batches = Batches::start(make, 0..2, 0);
        while batches.next().is_some() {}
        assert!(batches.waited() >= Duration::from_millis(10));
    }
}
