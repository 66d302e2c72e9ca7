//! Decoded images kept in memory, as many as fit a budget.
//!
//! What is kept is what would be decoded again, so that results do not depend on it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use crate::dataset::{Dataset, Seen, Splits, Truth};
use crate::error::DataError;
use crate::sample::Sample;

/// A data set that decodes an image once, as long as there is room.
struct Cached {
    inner: Arc<dyn Dataset>,
    kept: Vec<OnceLock<Arc<Sample>>>,
    /// Bytes that are left; the splits of a run share them.
    left: Arc<AtomicUsize>,
}

impl Splits {
    /// The same splits, keeping decoded images of up to so many bytes together.
    ///
    /// Nothing is ever thrown out: every image is used once an epoch, so that the first that fit are
    /// worth as much as any others.
    pub fn cached(&self, bytes: usize) -> Self {
        let left = Arc::new(AtomicUsize::new(bytes));
        let cached = |inner: &Arc<dyn Dataset>| -> Arc<dyn Dataset> {
            let kept = std::iter::repeat_with(OnceLock::new).take(inner.len()).collect();
            Arc::new(Cached { inner: Arc::clone(inner), kept, left: Arc::clone(&left) })
        };
        Self { train: cached(&self.train), val: cached(&self.val) }
    }
}

impl Cached {
    /// Takes room for a sample, or says that there is none.
    fn reserve(&self, bytes: usize) -> bool {
        let take = |left: usize| left.checked_sub(bytes);
        self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok()
    }
}

/// What a sample takes in memory.
fn size(sample: &Sample) -> usize {
    let boxes = size_of_val(sample.boxes.as_slice()) + size_of_val(sample.labels.as_slice());
    size_of::<Sample>() + sample.image.pixels.len() + boxes
}

impl Dataset for Cached {
    fn len(&self) -> usize {
        self.inner.len()
    }

    fn sample(&self, index: usize) -> Result<Arc<Sample>, DataError> {
        let slot = self.kept.get(index);
        if let Some(kept) = slot.and_then(OnceLock::get) {
            return Ok(Arc::clone(kept));
        }
        let sample = self.inner.sample(index)?;
        let bytes = size(&sample);
        if let Some(slot) = slot
            && self.reserve(bytes)
            && slot.set(Arc::clone(&sample)).is_err()
        {
            // Another worker was first with the same image.
            self.left.fetch_add(bytes, Ordering::Relaxed);
        }
        Ok(sample)
    }

    fn truth(&self, index: usize) -> Result<Truth, DataError> {
        self.inner.truth(index)
    }

    fn classes(&self) -> &[String] {
        self.inner.classes()
    }

    fn category_ids(&self) -> &[i64] {
        self.inner.category_ids()
    }

    fn file_name(&self, index: usize) -> String {
        self.inner.file_name(index)
    }

    fn manifest(&self) -> &str {
        self.inner.manifest()
    }

    fn notes(&self) -> BTreeMap<String, u64> {
        self.inner.notes()
    }

    fn seen(&self) -> Seen {
        self.inner.seen()
    }

    fn remember(&self, seen: &Seen) {
        self.inner.remember(seen);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::Image;

    /// Images of 30 bytes that count how often they are made.
    struct Counting(Vec<AtomicUsize>);

    impl Dataset for Counting {
        fn len(&self) -> usize {
            self.0.len()
        }
        fn sample(&self, index: usize) -> Result<Arc<Sample>, DataError> {
            self.0[index].fetch_add(1, Ordering::SeqCst);
            Ok(Arc::new(Sample {
                image: Image::black(5, 2),
                boxes: vec![[0.0; 4]; index],
                labels: vec![0; index],
                image_id: index as i64,
                original_size: [5, 2],
                dropped_boxes: 0,
            }))
        }
        fn truth(&self, _: usize) -> Result<Truth, DataError> {
            Ok(Truth { image_id: 0, size: [5, 2], objects: vec![] })
        }
        fn classes(&self) -> &[String] {
            &[]
        }
        fn category_ids(&self) -> &[i64] {
            &[]
        }
        fn manifest(&self) -> &str {
            "m"
        }
    }

    fn splits(images: usize) -> (Splits, [Arc<Counting>; 2]) {
        let counting = [(); 2].map(|()| {
            Arc::new(Counting(std::iter::repeat_with(AtomicUsize::default).take(images).collect()))
        });
        let [train, val] = counting.clone();
        (Splits { train, val }, counting)
    }

    fn made(counting: &Counting) -> usize {
        counting.0.iter().map(|count| count.load(Ordering::SeqCst)).sum()
    }

    #[test]
    fn an_image_that_fits_is_decoded_once_and_stays_the_same() {
        let (splits, [train, _]) = splits(3);
        let cached = splits.cached(1 << 20);
        for _ in 0..4 {
            for index in 0..3 {
                let (mine, theirs) = (cached.train.sample(index), splits.train.sample(index));
                assert_eq!(mine.unwrap(), theirs.unwrap());
            }
        }
        // Twelve by the comparison, and three to be kept.
        assert_eq!(made(&train), 12 + 3);
    }

    #[test]
    fn no_more_is_kept_than_the_budget_of_both_splits_together() {
        let (splits, [train, val]) = splits(4);
        let one = size(&splits.val.sample(3).unwrap());
        // Room for one of the largest and nothing after it.
        let cached = splits.cached(one);
        for _ in 0..3 {
            for index in (0..4).rev() {
                cached.train.sample(index).unwrap();
                cached.val.sample(index).unwrap();
            }
        }
        assert_eq!((made(&train), made(&val)), (1 + 3 * 3, 1 + 4 * 3));
        let none = splits.cached(0);
        none.train.sample(0).unwrap();
        none.train.sample(0).unwrap();
        assert_eq!(made(&train), 10 + 2);
    }

    #[test]
    fn workers_that_decode_the_same_image_at_once_take_its_room_once() {
        let (splits, _) = splits(1);
        let one = size(&splits.train.sample(0).unwrap());
        let cached = splits.cached(one);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| cached.train.sample(0).unwrap());
            }
        });
        let before = Arc::strong_count(&cached.train.sample(0).unwrap());
        // The cache holds one, the caller the other.
        assert_eq!(before, 2);
    }
}
