//! Loops compiled for the instructions that this processor has.

/// Runs `work`, compiled for the best vector instructions of this processor.
///
/// For integer loops and for floating-point operations that round alike everywhere, so that the
/// result is the same on every machine.
#[inline(always)]
pub(crate) fn fastest<Result>(work: impl FnOnce() -> Result) -> Result {
    pulp::Arch::new().dispatch(work)
}
