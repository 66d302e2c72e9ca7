//! Products as the matrix units of NVIDIA GPUs compute them in TF32, on any device: to see what that
//! does to numbers, not to be fast.
//!
//! What is multiplied is rounded to the 11 bits of TF32's mantissa, sums stay in 32-bit arithmetic. The
//! gradient of a product is two more products, so there what comes in is rounded, too. Nothing of this
//! happens outside of [`in_tf32`].

use std::cell::Cell;

use burn::tensor::{DType, Tensor};

thread_local! {
    static ON: Cell<bool> = const { Cell::new(false) };
}

/// Runs `compute` with the factors of all products rounded to TF32 that a GPU may compute on matrix
/// units: convolutions, linear maps, attention, and [`matmul`]. Depthwise convolutions and deformable
/// attention are not among them: on GPUs they have kernels of their own, which multiply number by number.
pub fn in_tf32<T>(compute: impl FnOnce() -> T) -> T {
    with(true, compute)
}

/// Runs `compute` with the switch on or off, and leaves it as it was, also after a panic.
fn with<T>(on: bool, compute: impl FnOnce() -> T) -> T {
    struct Before(bool);
    impl Drop for Before {
        fn drop(&mut self) {
            ON.set(self.0);
        }
    }
    let _before = Before(ON.replace(on));
    compute()
}

/// Whether products with this tensor are to be in TF32: 16 bits fit into it anyway, and 64 are there to
/// check the others.
pub(crate) fn is_on<const D: usize>(tensor: &Tensor<D>) -> bool {
    ON.get() && tensor.dtype() == DType::F32
}

/// A product whose factors are rounded; `multiply` itself computes in 32 bits.
pub(crate) fn product<const A: usize, const B: usize, const C: usize>(
    left: Tensor<A>,
    right: Tensor<B>,
    multiply: impl FnOnce(Tensor<A>, Tensor<B>) -> Tensor<C>,
) -> Tensor<C> {
    let product = with(false, || multiply(factor(left), factor(right)));
    if product.device().is_autodiff() { rounding_gradient(product) } else { product }
}

/// Matrix product over the last two axes.
pub fn matmul<const D: usize>(left: Tensor<D>, right: Tensor<D>) -> Tensor<D> {
    if is_on(&left) { product(left, right, Tensor::matmul) } else { left.matmul(right) }
}

/// `2^13 + 1`, where 13 is how many bits float32's mantissa has more than TF32's.
const SPLITTER: f64 = 8193.0;

/// The number of 11 bits next to each, by Veltkamp's split: the first difference loses the 13 last bits
/// to rounding, and the second is exact.
fn rounded<const D: usize>(tensor: Tensor<D>) -> Tensor<D> {
    let large = tensor.clone().mul_scalar(SPLITTER);
    large.clone() - (large - tensor)
}

/// Rounds, and lets the gradient through as it is.
fn factor<const D: usize>(tensor: Tensor<D>) -> Tensor<D> {
    let exact = tensor.clone().detach();
    tensor - (exact.clone() - rounded(exact))
}

/// Leaves the numbers as they are, and rounds their gradient.
///
/// The gradient `g` of this split goes back as `large = g * SPLITTER` and, added up at `lower`, as
/// `g - large`; both meet at the tensor, as `large - (large - g)`: the split of `g`.
fn rounding_gradient<const D: usize>(tensor: Tensor<D>) -> Tensor<D> {
    // A node of its own: what arrives here is added up before it goes on.
    let lower = tensor.clone().mul_scalar(1.0);
    let split = tensor.clone().mul_scalar(SPLITTER) - (lower.clone().mul_scalar(SPLITTER) - lower);
    tensor.detach() + (split.clone() - split.detach())
}
