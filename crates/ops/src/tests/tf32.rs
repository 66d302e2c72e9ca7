//! Products in TF32 against the same in 32 bits on numbers that were rounded bit by bit, and products
//! of split factors against the same in 64 bits.

use burn::tensor::DType;

use super::*;
use crate::{in_full, in_tf32, matmul};

const SILU: Activation = Activation::Silu;

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

/// The largest error of each result, in shares of the largest number that it should have.
fn errors(ours: &[Vec<f32>], exact: &[Vec<f64>]) -> Vec<f64> {
    let of_part = |(ours, exact): (&Vec<f32>, &Vec<f64>)| {
        let size = exact.iter().fold(0.0_f64, |most, value| most.max(value.abs()));
        let errors = ours.iter().zip(exact).map(|(ours, exact)| (f64::from(*ours) - exact).abs());
        errors.fold(0.0, f64::max) / size
    };
    assert_eq!(ours.len(), exact.len());
    ours.iter().zip(exact).map(of_part).collect()
}

/// How the products of a run are to be computed.
type Way<'a> = &'a dyn Fn(&dyn Fn() -> Tensor<4>) -> Tensor<4>;

/// Asserts that an operation of split factors is float32's where products are in TF32, which alone is
/// far from it: its value and all its gradients, by what the same gives in 64 bits.
fn assert_full(what: &str, shapes: &[[usize; 4]], operation: impl Fn(&[Tensor<4>]) -> Tensor<4>) {
    let leaves = |dtype: DType| -> Vec<Tensor<4>> {
        let leaf = |(&shape, salt): (&[usize; 4], u64)| {
            let leaf = tensor(shape, salt).inner().cast(dtype);
            Tensor::from_inner(leaf).require_grad()
        };
        shapes.iter().zip(90..).map(leaf).collect()
    };
    let single = |way: Way<'_>| {
        run(|| {
            let leaves = leaves(DType::F32);
            (way(&|| operation(&leaves)), leaves.iter().map(gradient_of).collect())
        })
    };
    let exact: Vec<Vec<f64>> =
        {
            let leaves = leaves(DType::F64);
            let output = operation(&leaves);
            let weights = values(output.shape().num_elements(), 99);
            let weights = Tensor::<1>::from_floats(weights.as_slice(), &output.device());
            let weights = weights.cast(DType::F64).reshape(output.dims());
            let found = (output.clone() * weights).sum().backward();
            let numbers = |tensor: Tensor<4>| tensor.into_data().iter::<f64>().collect();
            let mut exact = vec![numbers(output.detach())];
            exact.extend(leaves.iter().map(|leaf| {
                leaf.grad(&found).unwrap().into_data().iter::<f64>().collect::<Vec<_>>()
            }));
            exact
        };
    let of = |way: Way<'_>| errors(&single(way), &exact);
    let ways: [(&str, Way<'_>); 3] = [
        ("split in TF32", &|run| in_tf32(|| in_full(run))),
        ("TF32 in split", &|run| in_full(|| in_tf32(run))),
        ("split", &|run| in_full(run)),
    ];
    let plain = of(&|run| run());
    let rounded = of(&|run| in_tf32(run));
    for (name, way) in ways {
        for (part, error) in of(way).into_iter().enumerate() {
            let (plain, rounded) = (plain[part], rounded[part]);
            let told = format!(
                "{what}, part {part}: {name} {error:.1e}, plain {plain:.1e}, in TF32 {rounded:.1e}"
            );
            assert!(error < 1e-6 && error < 5.0 * plain.max(1e-7), "{told}");
            assert!(rounded > 1e-4, "{told}");
            println!("{told}");
        }
    }
}

#[test]
fn split_products_and_their_gradients_are_float32s_where_products_are_in_tf32() {
    for (kernel, stride) in [(3, 1), (3, 2), (1, 1), (1, 2)] {
        let shapes = [[2, 50, 8, 6], [7, 50, kernel, kernel]];
        assert_full(&format!("{kernel}x{kernel}, every {stride}"), &shapes, |leaves| {
            conv::conv2d(leaves[0].clone(), leaves[1].clone(), stride)
        });
    }
    assert_full("linear", &[[2, 1, 9, 300], [1, 1, 6, 300], [1, 1, 1, 6]], |leaves| {
        let [weight, bias] = [&leaves[1], &leaves[2]].map(Tensor::clone);
        linear::linear(leaves[0].clone(), weight.reshape([6, 300]), bias.reshape([6]), SILU)
    });
    assert_full("attention", &[[2, 3, 20, 16]; 3], |leaves| {
        let [queries, keys, values] = [0, 1, 2].map(|index: usize| leaves[index].clone());
        attention::attention(queries * 3.0, keys, values, None)
    });
    assert_full("matrix product", &[[1, 2, 9, 300], [1, 2, 300, 6]], |leaves| {
        matmul(leaves[0].clone(), leaves[1].clone())
    });
}

#[test]
fn only_32_bits_are_split_and_only_inside() {
    let bits = |tensor: Tensor<2>| tensor.into_data().bytes.to_vec();
    let [left, right] = [83, 84].map(|salt| tensor([40, 40], salt).detach());
    for dtype in [DType::F64, DType::BF16] {
        let multiply = || {
            let [left, right] = [&left, &right].map(|factor| factor.clone().cast(dtype));
            linear::linear(left, right, Tensor::zeros([40], &Device::flex().autodiff()), SILU)
        };
        assert_eq!(bits(in_full(multiply)), bits(multiply()), "{dtype:?}");
    }
    let multiply = || bits(matmul(left.clone(), right.clone()));
    let (before, inside, after) = (multiply(), in_full(multiply), multiply());
    assert_eq!(before, after);
    assert_ne!(before, inside);
    // Values that need no gradient are the same without what only gradients need.
    let [left, right] = [&left, &right].map(|factor| factor.clone().inner());
    assert_eq!(in_full(|| bits(matmul(left, right))), inside);
}
