//! A function of many items on several threads, with the answers in the items' order.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// Maps every item; `progress` hears how many are done, from any thread.
pub fn map_in_order<T: Sync, R: Send>(
    items: &[T],
    threads: usize,
    progress: &(dyn Fn(u64) + Sync),
    work: impl Fn(&T) -> R + Sync,
) -> Vec<R> {
    let next = AtomicUsize::new(0);
    let done = AtomicU64::new(0);
    let take = || {
        let mut own = Vec::new();
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            let Some(item) = items.get(at) else { return own };
            own.push((at, work(item)));
            progress(done.fetch_add(1, Ordering::Relaxed) + 1);
        }
    };
    let mut all: Vec<(usize, R)> = std::thread::scope(|scope| {
        let helpers: Vec<_> = (1..threads.min(items.len())).map(|_| scope.spawn(take)).collect();
        let mut all = take();
        for helper in helpers {
            match helper.join() {
                Ok(own) => all.extend(own),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        all
    });
    all.sort_by_key(|(at, _)| *at);
    all.into_iter().map(|(_, answer)| answer).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_does_not_depend_on_the_threads() {
        let items: Vec<u64> = (0..100).collect();
        for threads in [0, 1, 3, 200] {
            let heard = AtomicU64::new(0);
            let count = |_| {
                heard.fetch_add(1, Ordering::Relaxed);
            };
            let squares = map_in_order(&items, threads, &count, |item| item * item);
            assert_eq!(squares, items.iter().map(|item| item * item).collect::<Vec<_>>());
            assert_eq!(heard.into_inner(), 100);
        }
        assert!(map_in_order(&[], 4, &|_| {}, |item: &u64| *item).is_empty());
    }
}
