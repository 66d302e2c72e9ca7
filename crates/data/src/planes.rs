//! The numbers of a batch, in memory that is used again.
//!
//! A batch of 640 pixels is tens of megabytes. An allocator gives memory of that size back to the
//! system and asks for it anew, and the system clears it page by page: with fresh
//! memory for every batch, decoding and resizing took half as long again.

use std::ops::{Deref, DerefMut};
use std::sync::{Mutex, PoisonError};

/// `[batch, 3, size, size]` numbers.
#[derive(Debug, Default, PartialEq)]
pub struct Planes(Vec<f32>);

/// What dropped batches leave, for the next ones.
static SHELF: Mutex<Vec<Vec<f32>>> = Mutex::new(Vec::new());
/// At most so many stay there: one in the trainer's hands, one waiting, and their resized copies.
const KEPT: usize = 4;
/// Smaller ones cost nothing.
const WORTH_KEEPING: usize = 1 << 18;

impl Planes {
    /// `count` numbers, of which `fill` has to write every one: it finds those of an earlier batch.
    pub fn filled(count: usize, fill: impl FnOnce(&mut [f32])) -> Self {
        let mut values = take(count);
        values.resize(count, 0.0);
        fill(&mut values);
        Self(values)
    }
}

/// The smallest memory on the shelf that is large enough, or new memory.
fn take(count: usize) -> Vec<f32> {
    let mut shelf = SHELF.lock().unwrap_or_else(PoisonError::into_inner);
    let fits = shelf.iter().enumerate().filter(|(_, values)| values.capacity() >= count);
    let best = fits.min_by_key(|(_, values)| values.capacity()).map(|(place, _)| place);
    best.map(|place| shelf.swap_remove(place)).unwrap_or_default()
}

impl Drop for Planes {
    fn drop(&mut self) {
        let values = std::mem::take(&mut self.0);
        if values.capacity() < WORTH_KEEPING {
            return;
        }
        let mut shelf = SHELF.lock().unwrap_or_else(PoisonError::into_inner);
        shelf.push(values);
        if shelf.len() > KEPT {
            let smallest = shelf.iter().enumerate().min_by_key(|(_, values)| values.capacity());
            if let Some(place) = smallest.map(|(place, _)| place) {
                shelf.swap_remove(place);
            }
        }
    }
}

impl Clone for Planes {
    fn clone(&self) -> Self {
        Self::filled(self.len(), |copy| copy.copy_from_slice(self))
    }
}

impl From<Vec<f32>> for Planes {
    fn from(values: Vec<f32>) -> Self {
        Self(values)
    }
}

impl FromIterator<f32> for Planes {
    fn from_iter<I: IntoIterator<Item = f32>>(values: I) -> Self {
        Self(values.into_iter().collect())
    }
}

impl Deref for Planes {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        &self.0
    }
}

impl DerefMut for Planes {
    fn deref_mut(&mut self) -> &mut [f32] {
        &mut self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_comes_back_in_the_size_that_was_asked_for_and_the_shelf_stays_small() {
        let large = WORTH_KEEPING * 2;
        for count in [large, WORTH_KEEPING, large + 1, 3, large] {
            let planes = Planes::filled(count, |values| values.fill(count as f32));
            assert_eq!(planes.len(), count);
            assert!(planes.iter().all(|&value| value == count as f32));
        }
        let many: Vec<Planes> = (0..3 * KEPT).map(|_| Planes::from(vec![1.0; large])).collect();
        drop(many);
        let shelf = SHELF.lock().unwrap();
        assert!(shelf.len() <= KEPT, "{} buffers are kept", shelf.len());
    }

    #[test]
    fn a_copy_does_not_share_memory() {
        let one = Planes::from(vec![1.0; WORTH_KEEPING]);
        let mut two = one.clone();
        two[0] = 2.0;
        assert_eq!((one[0], two[0]), (1.0, 2.0));
    }
}
