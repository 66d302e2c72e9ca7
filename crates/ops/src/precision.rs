//! Numbers of 16 bits: operations compute in the precision of their input, and where a sum or an
//! exponential would suffer, in 32 bits and round the result.
//!
//! Parameters stay in 32 bits. An operation rounds its weight to the precision of its input, and the
//! gradient of that rounding brings the weight's gradient back to 32 bits.

use burn::tensor::{DType, Tensor};

use crate::flex;

/// Whether a tensor holds numbers of 16 bits.
pub(crate) fn is_half<const D: usize>(tensor: &Tensor<D>) -> bool {
    matches!(tensor.dtype(), DType::F16 | DType::BF16)
}

/// Whether an operation goes through its 32-bit kernel and rounds the result: on the CPU, which has no
/// arithmetic in 16 bits. That is what a GPU's matrix units do, which multiply numbers of 16 bits and
/// add in 32.
pub(crate) fn goes_through_32_bits<const D: usize>(tensor: &Tensor<D>) -> bool {
    is_half(tensor) && flex::is_device_of(tensor)
}

/// A tensor of 16 bits in 32; any other as it is.
pub fn widened<const D: usize>(tensor: Tensor<D>) -> Tensor<D> {
    if is_half(&tensor) { tensor.cast(DType::F32) } else { tensor }
}

/// The tensor in the precision of another.
pub fn like<const D: usize, const E: usize>(tensor: Tensor<D>, other: &Tensor<E>) -> Tensor<D> {
    tensor.cast(other.dtype())
}

/// What `compute` makes of a tensor, computed in no fewer than 32 bits and rounded to its precision.
pub fn through_32_bits<const D: usize, const E: usize>(
    tensor: Tensor<D>,
    compute: impl FnOnce(Tensor<D>) -> Tensor<E>,
) -> Tensor<E> {
    let precision = tensor.dtype();
    compute(widened(tensor)).cast(precision)
}
