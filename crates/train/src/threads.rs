//! The threads that a training process computes with.

/// Makes the calling thread one of `threads` that share the work of a step. Without this every small
/// operation would be handed to another thread and waited for.
///
/// Returns whether it took effect: a process chooses once, and later choices change nothing.
pub fn compute_with(threads: usize) -> bool {
    rayon::ThreadPoolBuilder::new().num_threads(threads).use_current_thread().build_global().is_ok()
}
