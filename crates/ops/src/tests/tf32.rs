//! Products in TF32 against the same in 32 bits on numbers that were rounded bit by bit.

use super::*;
use crate::{in_tf32, matmul};

/// The number of 11 bits next to a number; the even one of two that are equally near.
fn nearest(value: f32) -> f32 {
    let bits = value.to_bits();
    let half = (1 << 12) - 1 + ((bits >> 13) & 1);
    f32::from_bits((bits + half) & !((1 << 13) - 1))
}

/// A leaf with these numbers rounded.
fn rounded<const D: usize>(tensor: &Tensor<D>) -> Tensor<D> {
    let values: Vec<f32> = tensor.to_data().iter::<f32>().map(nearest).collect();
    Tensor::from_data(TensorData::new(values, tensor.dims()), &tensor.device()).require_grad()
}

/// Asserts that an operation in TF32 is, bit for bit, the one in 32 bits of rounded inputs, and that its
/// gradients are those of a rounded gradient of the output.
fn assert_rounds<const A: usize, const B: usize, const C: usize>(
    what: &str,
    [left, right]: [u64; 2],
    shapes: ([usize; A], [usize; B]),
    multiply: impl Fn(Tensor<A>, Tensor<B>) -> Tensor<C>,
) {
    let leaves = || (tensor(shapes.0, left), tensor(shapes.1, right));
    let readers = |left: &Tensor<A>, right: &Tensor<B>| vec![gradient_of(left), gradient_of(right)];
    let ours = run(|| {
        let (left, right) = leaves();
        let readers = readers(&left, &right);
        (in_tf32(|| multiply(left, right)), readers)
    });
    let of_rounded = || {
        let (left, right) = leaves();
        let (left, right) = (rounded(&left), rounded(&right));
        let readers = readers(&left, &right);
        (multiply(left, right), readers)
    };
    assert_eq!(ours, run_weighted(of_rounded, nearest), "{what}");
    let exact = run(|| {
        let (left, right) = leaves();
        let readers = readers(&left, &right);
        (multiply(left, right), readers)
    });
    for (part, (ours, exact)) in ours.iter().zip(&exact).enumerate() {
        assert_ne!(ours, exact, "{what}: part {part}");
    }
}

#[test]
fn factors_and_gradients_of_products_are_rounded_and_nothing_else_is() {
    for (kernel, stride) in [(3, 1), (3, 2), (1, 1)] {
        let shapes = ([2, 5, 6, 7], [4, 5, kernel, kernel]);
        assert_rounds(&format!("{kernel}x{kernel}"), [70, 71], shapes, |input, weight| {
            conv::conv2d(input, weight, stride)
        });
    }
    assert_rounds("linear", [72, 73], ([2, 9, 300], [6, 300]), |input, weight| {
        let bias = Tensor::zeros([6], &input.device());
        linear::linear(input, weight, bias, Activation::Identity)
    });
    assert_rounds("matrix product", [74, 75], ([2, 9, 30], [2, 30, 6]), matmul);
}

#[test]
fn rounding_is_to_the_nearest_number_of_11_bits() {
    let device = Device::flex();
    let mut exact = values(4096, 76);
    for (index, value) in exact.iter_mut().enumerate() {
        *value *= 2_f32.powi(index as i32 % 41 - 20);
    }
    exact.extend([0.0, -0.0, 1.0, 1e30, f32::MIN_POSITIVE, 1.0 + f32::EPSILON]);
    let one = Tensor::<2>::from_floats([[1.0]], &device);
    let count = exact.len();
    let column = Tensor::from_data(TensorData::new(exact.clone(), [count, 1]), &device);
    let ours: Vec<f32> = in_tf32(|| matmul(column, one)).into_data().iter().collect();
    for (ours, exact) in ours.into_iter().zip(exact) {
        let expected = nearest(exact);
        // Of two numbers that are equally near, the split may take either.
        let tie = exact.to_bits() & 0x1FFF == 0x1000;
        assert!(ours == expected || tie, "{exact}: {ours}, expected {expected}");
        assert_eq!((ours - exact).abs(), (expected - exact).abs(), "{exact}");
    }
}

#[test]
fn attention_and_biased_maps_are_near_32_bits_and_depthwise_convolutions_are_in_32() {
    let off = |ours: &Tensor<4>, exact: &Tensor<4>| {
        let share = (ours.clone() - exact.clone()).abs().max() / exact.clone().abs().max();
        share.into_scalar::<f32>()
    };
    let [queries, keys, values] = [77, 78, 79].map(|salt| tensor([2, 3, 9, 4], salt));
    let attend = || attention::attention(queries.clone(), keys.clone(), values.clone(), None);
    let share = off(&in_tf32(attend), &attend());
    assert!((1e-6..2_f32.powi(-10)).contains(&share), "attention: {share}");

    let (weight, bias) = (tensor([6, 4], 80), tensor([6], 81));
    let map = || linear::linear(queries.clone(), weight.clone(), bias.clone(), Activation::Silu);
    let share = off(&in_tf32(map), &map());
    assert!((1e-6..2_f32.powi(-10)).contains(&share), "linear: {share}");

    let kernel = tensor([3, 1, 3, 3], 82);
    let convolve = || depthwise::depthwise_conv2d(queries.clone(), kernel.clone(), 1);
    assert_eq!(off(&in_tf32(convolve), &convolve()), 0.0);
    // And outside, products are in 32 bits again.
    let exact = attend();
    let panicked = std::panic::catch_unwind(|| in_tf32(|| panic!("on purpose")));
    assert!(panicked.is_err());
    assert_eq!(off(&attend(), &exact), 0.0);
}
