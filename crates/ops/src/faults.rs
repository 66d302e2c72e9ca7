//! Panics of a GPU's own thread.
//!
//! CubeCL makes and launches kernels on a thread for each device. Where that panics, it tells standard
//! error and goes on; what the kernel should have computed is then whatever its memory held. Nothing else
//! shows it, so they are counted. (Candidates that autotune discards may panic, too, and do no harm.)

use std::panic;
use std::sync::Once;
use std::sync::atomic::{AtomicU64, Ordering};

static COUNT: AtomicU64 = AtomicU64::new(0);

/// How CubeCL begins the names of these threads.
const THREADS: &str = "DSD-";

/// Counts from now on; what else happens at a panic stays as it is.
pub fn watch_faults() {
    static WATCH: Once = Once::new();
    WATCH.call_once(|| {
        let usual = panic::take_hook();
        panic::set_hook(Box::new(move |panic| {
            if std::thread::current().name().is_some_and(|name| name.starts_with(THREADS)) {
                COUNT.fetch_add(1, Ordering::SeqCst);
            }
            usual(panic);
        }));
    });
}

/// Panics so far.
pub fn faults() -> u64 {
    COUNT.load(Ordering::SeqCst)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_of_a_devices_thread_is_counted_and_no_other() {
        watch_faults();
        let before = faults();
        for (name, counted) in [("DSD-4-0", 1), ("rank", 1)] {
            let thread = std::thread::Builder::new().name(name.into());
            let panicked = thread.spawn(|| panic!("on purpose")).expect("a thread").join();
            assert!(panicked.is_err());
            assert_eq!(faults() - before, counted, "{name}");
        }
    }
}
