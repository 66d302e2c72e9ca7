//! Products as the matrix units of NVIDIA GPUs compute them in TF32, on any device, and products that
//! are float32's even there: to see what TF32 does to numbers, and what is left without it. Neither is
//! fast, and nothing of this happens outside of [`in_tf32`] and [`in_full`].
//!
//! In TF32 what is multiplied is rounded to 11 bits of mantissa, sums stay in 32-bit arithmetic. The
//! gradient of a product is two more products, so there what comes in is rounded, too.
//!
//! A full product is three of such products. A factor is the sum of its 11 high bits, which TF32 keeps,
//! and a rest, which it rounds by 2^-23 of the factor or less: `high * high + (high * rest + rest *
//! high)`. The same holds of the gradient's products, so there what comes in is split, too.

use std::cell::Cell;

use burn::tensor::{DType, Tensor};

/// What is done to the factors of products.
#[derive(Clone, Copy, Default)]
struct Switches {
    rounded: bool,
    /// Splitting comes before rounding.
    split: bool,
}

thread_local! {
    static SWITCHES: Cell<Switches> =
        const { Cell::new(Switches { rounded: false, split: false }) };
}

/// Runs `compute` with the factors of all products rounded to TF32 that a GPU may compute on matrix
/// units: convolutions, linear maps, attention, and [`matmul`]. Depthwise convolutions and deformable
/// attention are not among them: on GPUs they have kernels of their own, which multiply number by number.
pub fn in_tf32<T>(compute: impl FnOnce() -> T) -> T {
    with(Switches { rounded: true, ..SWITCHES.get() }, compute)
}

/// Runs `compute` with the same products split so that they are float32's even where a device multiplies
/// in TF32, or where [`in_tf32`] does, inside or outside of this. It takes four products for one:
/// three, and one for its gradient alone.
pub fn in_full<T>(compute: impl FnOnce() -> T) -> T {
    with(Switches { split: true, ..SWITCHES.get() }, compute)
}

/// Runs `compute` with these switches, and leaves them as they were, also after a panic.
fn with<T>(switches: Switches, compute: impl FnOnce() -> T) -> T {
    struct Before(Switches);
    impl Drop for Before {
        fn drop(&mut self) {
            SWITCHES.set(self.0);
        }
    }
    let _before = Before(SWITCHES.replace(switches));
    compute()
}

/// Whether [`product`] is to multiply this tensor: 16 bits fit into TF32 anyway, and 64 are there to
/// check the others.
pub(crate) fn is_on<const D: usize>(tensor: &Tensor<D>) -> bool {
    let Switches { rounded, split } = SWITCHES.get();
    (rounded || split) && tensor.dtype() == DType::F32
}

/// A product whose factors are split or rounded. `multiply` asks [`is_on`] again: what is split is yet
/// to be rounded.
pub(crate) fn product<const A: usize, const B: usize, const C: usize>(
    left: Tensor<A>,
    right: Tensor<B>,
    multiply: impl Fn(Tensor<A>, Tensor<B>) -> Tensor<C>,
) -> Tensor<C> {
    let switches = SWITCHES.get();
    if switches.split {
        return with(Switches { split: false, ..switches }, || full(left, right, multiply));
    }
    let multiplied = || multiply(high(left), high(right));
    let product = with(Switches::default(), multiplied);
    if product.device().is_autodiff() { high_of_gradient(product) } else { product }
}

/// The product of split factors. A factor's gradient comes through its high part alone, which is in all
/// products that the other factor's parts are in; the rests are constants.
fn full<const A: usize, const B: usize, const C: usize>(
    left: Tensor<A>,
    right: Tensor<B>,
    multiply: impl Fn(Tensor<A>, Tensor<B>) -> Tensor<C>,
) -> Tensor<C> {
    let (left_rest, right_rest) = (rest(left.clone()), rest(right.clone()));
    let (left, right) = (high(left), high(right));
    let mixed = multiply(left.clone(), right_rest) + multiply(left_rest, right.clone());
    let product = multiply(left.clone(), right.clone()) + mixed;
    if !product.device().is_autodiff() {
        return product;
    }
    // Once more for the gradient's rest, and without a value. Of its products with the factors' rests
    // float32 would show nothing.
    let again = rest_of_gradient(multiply(left, right));
    high_of_gradient(product) + (again.clone() - again.detach())
}

/// Matrix product over the last two axes.
pub fn matmul<const D: usize>(left: Tensor<D>, right: Tensor<D>) -> Tensor<D> {
    if is_on(&left) { product(left, right, matmul) } else { left.matmul(right) }
}

/// `2^13 + 1`, where 13 is how many bits float32's mantissa has more than TF32's.
const SPLITTER: f64 = 8193.0;

/// The number of 11 bits next to each, by Veltkamp's split: the first difference loses the 13 last bits
/// to rounding, and the second is exact.
fn rounded<const D: usize>(tensor: Tensor<D>) -> Tensor<D> {
    let large = tensor.clone().mul_scalar(SPLITTER);
    large.clone() - (large - tensor)
}

/// What rounding takes away, exactly; without a gradient.
fn rest<const D: usize>(tensor: Tensor<D>) -> Tensor<D> {
    let exact = tensor.detach();
    exact.clone() - rounded(exact)
}

/// Rounds, and lets the gradient through as it is.
fn high<const D: usize>(tensor: Tensor<D>) -> Tensor<D> {
    tensor.clone() - rest(tensor)
}

/// Leaves the numbers as they are, and rounds their gradient.
///
/// The gradient `g` of this split goes back as `large = g * SPLITTER` and, added up at `lower`, as
/// `g - large`; both meet at the tensor, as `large - (large - g)`: the split of `g`.
fn high_of_gradient<const D: usize>(tensor: Tensor<D>) -> Tensor<D> {
    let lower = node(&tensor);
    let split = tensor.clone().mul_scalar(SPLITTER) - (lower.clone().mul_scalar(SPLITTER) - lower);
    tensor.detach() + (split.clone() - split.detach())
}

/// Leaves the numbers as they are, and takes the rounded gradient from theirs.
fn rest_of_gradient<const D: usize>(tensor: Tensor<D>) -> Tensor<D> {
    let high = high_of_gradient(node(&tensor));
    tensor - (high.clone() - high.detach())
}

/// A node of its own: the gradients that arrive here are added up before they go on.
fn node<const D: usize>(tensor: &Tensor<D>) -> Tensor<D> {
    tensor.clone().mul_scalar(1.0)
}
