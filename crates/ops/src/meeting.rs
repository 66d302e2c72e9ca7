//! Means over the devices that share a batch, so that their batch norms see all of it.
//!
//! Every device has a thread that computes the same layers in the same order, forward and backward. At
//! a batch norm each gives its own means and waits for the others'. A meeting serves one step. Where a
//! device leaves early, because its part of the step failed, the others are not kept waiting: they go on
//! with what they have, and the meeting says that it failed.

use std::cell::RefCell;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

thread_local! {
    static SEAT: RefCell<Option<Arc<Seat>>> = const { RefCell::new(None) };
}

/// How long a thread sleeps between two looks for the others' values.
const NAP: Duration = Duration::from_micros(20);

/// A device's place in a meeting; dropping it leaves.
#[derive(Debug)]
pub struct Attendee(Arc<Seat>);

/// What a device's operations hold of its place.
#[derive(Debug)]
pub(crate) struct Seat {
    meeting: Arc<Meeting>,
    index: usize,
    /// Exchanges so far.
    exchanges: AtomicUsize,
}

#[derive(Debug)]
struct Meeting {
    seats: usize,
    exchanges: Mutex<Vec<Exchange>>,
    left: Vec<AtomicBool>,
    failed: AtomicBool,
}

/// What each device gave, in the order of the seats.
type Exchange = Vec<Option<Vec<f64>>>;

/// A meeting of so many devices.
pub fn meet(devices: usize) -> Vec<Attendee> {
    let meeting = Arc::new(Meeting {
        seats: devices,
        exchanges: Mutex::default(),
        left: (0..devices).map(|_| AtomicBool::new(false)).collect(),
        failed: AtomicBool::new(false),
    });
    let seat = |index| Seat { meeting: meeting.clone(), index, exchanges: AtomicUsize::new(0) };
    (0..devices).map(|index| Attendee(Arc::new(seat(index)))).collect()
}

impl Attendee {
    /// Computes something on this thread whose batch norms, and their gradients wherever they are
    /// computed, take the statistics of all devices.
    pub fn attend<T>(&self, compute: impl FnOnce() -> T) -> T {
        let before = SEAT.replace(Some(self.0.clone()));
        let _leave = Restore(before);
        compute()
    }

    /// Whether someone left before all had what they waited for, or was at another layer.
    pub fn failed(&self) -> bool {
        self.0.meeting.failed.load(Ordering::SeqCst)
    }
}

impl Drop for Attendee {
    fn drop(&mut self) {
        self.0.meeting.left[self.0.index].store(true, Ordering::SeqCst);
    }
}

struct Restore(Option<Arc<Seat>>);

impl Drop for Restore {
    fn drop(&mut self) {
        SEAT.set(self.0.take());
    }
}

/// This thread's place, if it takes part in a meeting of several.
pub(crate) fn seat() -> Option<Arc<Seat>> {
    SEAT.with_borrow(Clone::clone).filter(|seat| seat.devices() > 1)
}

impl Seat {
    pub(crate) fn devices(&self) -> usize {
        self.meeting.seats
    }

    /// The mean of what all devices give in their exchange of this number, in the order of the seats.
    pub(crate) fn mean(&self, values: Vec<f64>) -> Vec<f64> {
        let number = self.exchanges.fetch_add(1, Ordering::SeqCst);
        self.give(number, values.clone());
        while !self.meeting.failed.load(Ordering::SeqCst) {
            // Whoever left before this look gave all it will give.
            let left = self.meeting.left.iter().map(|left| left.load(Ordering::SeqCst)).collect();
            if let Some(mean) = self.joint(number, values.len(), left) {
                return mean;
            }
            // This thread may be the only one that computes for all: it goes on taking work.
            if rayon::yield_now() != Some(rayon::Yield::Executed) {
                std::thread::sleep(NAP);
            }
        }
        values
    }

    fn give(&self, number: usize, values: Vec<f64>) {
        let mut exchanges = self.exchanges();
        if exchanges.len() <= number {
            exchanges.resize_with(number + 1, || vec![None; self.meeting.seats]);
        }
        exchanges[number][self.index] = Some(values);
    }

    /// The mean, once all have given theirs. The meeting has failed where these are not alike, or where
    /// one who has not given left.
    fn joint(&self, number: usize, len: usize, left: Vec<bool>) -> Option<Vec<f64>> {
        let exchanges = self.exchanges();
        let mut seats = exchanges[number].iter().zip(left);
        let lost = |(values, left): (&Option<Vec<f64>>, bool)| match values {
            Some(values) => values.len() != len,
            None => left,
        };
        if seats.any(lost) {
            self.meeting.failed.store(true, Ordering::SeqCst);
            return None;
        }
        let given: Option<Vec<&Vec<f64>>> = exchanges[number].iter().map(Option::as_ref).collect();
        let given = given?;
        let share = 1.0 / given.len() as f64;
        let of = |at: usize| given.iter().map(|values| values[at]).sum::<f64>() * share;
        Some((0..len).map(of).collect())
    }

    fn exchanges(&self) -> std::sync::MutexGuard<'_, Vec<Exchange>> {
        self.meeting.exchanges.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_get_the_mean_of_what_each_gave_in_turn() {
        let attendees = meet(3);
        let found: Vec<Vec<f64>> = std::thread::scope(|scope| {
            let threads: Vec<_> = attendees
                .iter()
                .enumerate()
                .map(|(index, attendee)| {
                    scope.spawn(move || {
                        let index = index as f64;
                        attendee.attend(|| {
                            let seat = seat().unwrap();
                            [seat.mean(vec![index, 3.0]), seat.mean(vec![10.0 * index])].concat()
                        })
                    })
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert!(found.iter().all(|values| *values == [1.0, 3.0, 10.0]), "{found:?}");
        assert!(!attendees[0].failed());
    }

    #[test]
    fn nobody_waits_for_one_who_left() {
        let mut attendees = meet(2);
        drop(attendees.pop());
        let alone = &attendees[0];
        let own = alone.attend(|| seat().unwrap().mean(vec![4.0]));
        assert_eq!(own, [4.0]);
        assert!(alone.failed());
    }

    #[test]
    fn one_who_left_after_giving_is_not_missed() {
        let mut attendees = meet(2);
        let other = attendees.pop().unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                other.attend(|| seat().unwrap().mean(vec![2.0]));
                drop(other);
            });
            let mean = attendees[0].attend(|| seat().unwrap().mean(vec![4.0]));
            assert_eq!(mean, [3.0]);
        });
        assert!(!attendees[0].failed());
    }

    #[test]
    fn devices_at_different_layers_fail_instead_of_mixing_them() {
        let attendees = meet(2);
        std::thread::scope(|scope| {
            for (size, attendee) in [1, 2].into_iter().zip(&attendees) {
                scope.spawn(move || {
                    attendee.attend(|| seat().unwrap().mean(vec![size as f64; size]));
                });
            }
        });
        assert!(attendees[0].failed());
    }

    #[test]
    fn a_thread_outside_a_meeting_or_alone_in_one_exchanges_nothing() {
        assert!(seat().is_none());
        meet(1)[0].attend(|| assert!(seat().is_none()));
    }
}
