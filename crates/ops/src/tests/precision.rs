//! Operations on numbers of 16 bits: the path of the CPU and that of a GPU, which is Burn's own
//! operations in bf16, against the same in 32 bits on the same rounded inputs.

use burn::tensor::DType;

use super::*;
use crate::{like, widened};

/// How an operation is computed.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Way {
    /// The public function on bf16.
    Half,
    /// Burn's own operations on bf16.
    Composed,
    /// The public function on float32.
    Single,
}

impl Way {
    /// A float32 tensor, rounded to bf16.
    fn rounded<const D: usize>(self, tensor: &Tensor<D>) -> Tensor<D> {
        let half = tensor.clone().cast(DType::BF16);
        if self == Self::Single { widened(half) } else { half }
    }

    /// A weight as the public functions take it, in float32, but with bf16's values; Burn's own
    /// operations want it in the precision of the input.
    fn weight<const D: usize>(self, tensor: &Tensor<D>) -> Tensor<D> {
        if self == Self::Composed { self.rounded(tensor) } else { Self::Single.rounded(tensor) }
    }
}

/// Asserts that the CPU's way is that of 32 bits with rounded inputs and outputs, bit for bit, values and
/// gradients, and that Burn's operations agree with it to a few roundings.
fn assert_agree<const D: usize>(
    what: &str,
    operation: impl Fn(Way) -> (Tensor<D>, Vec<(DType, Reader)>),
) {
    let run_in = |way: Way| {
        run(|| {
            let (output, readers) = operation(way);
            let expected = if way == Way::Single { DType::F32 } else { DType::BF16 };
            assert_eq!(output.dtype(), expected, "{what}, {way:?}");
            assert!(readers.iter().all(|(precision, _)| *precision == DType::F32));
            // The gradient comes in rounded, too.
            let output = widened(output.cast(DType::BF16));
            (output, readers.into_iter().map(|(_, reader)| reader).collect())
        })
    };
    let exact = run_in(Way::Single);
    assert_eq!(run_in(Way::Half), exact, "{what}");
    for (part, (ours, exact)) in run_in(Way::Composed).iter().zip(&exact).enumerate() {
        let size = exact.iter().fold(0.0_f32, |most, value| most.max(value.abs()));
        assert!(size > 1e-3, "{what}: part {part} is all but zero, so it would prove nothing");
        for (index, (ours, exact)) in ours.iter().zip(exact).enumerate() {
            // bf16 rounds by at most 2^-9 of a number; a path of Burn's operations does so a few times.
            let error = (ours - exact).abs() / size;
            assert!(error <= 2_f32.powi(-6), "{what}: part {part}[{index}] is off by {error}");
        }
    }
}

/// Reads the gradient of an input, and says in which precision that input is.
fn leaf<const D: usize>(tensor: &Tensor<D>) -> (DType, Reader) {
    (tensor.dtype(), gradient_of(tensor))
}

#[test]
fn convolutions_in_16_bits_round_what_they_read_and_write_and_nothing_else() {
    for (kernel, stride) in [(3, 1), (3, 2), (1, 1)] {
        assert_agree(&format!("{kernel}x{kernel}, stride {stride}"), |way| {
            let (input, weight) = (tensor([2, 5, 6, 7], 40), tensor([4, 5, kernel, kernel], 41));
            let padding = [(kernel - 1) / 2; 2];
            let (x, w) = (way.rounded(&input), way.weight(&weight));
            let output = match way {
                Way::Composed => conv::composed(x, w, stride, padding),
                _ => conv::conv2d_padded(x, w, stride, padding),
            };
            (output, vec![leaf(&input), leaf(&weight)])
        });
        assert_agree(&format!("depthwise {kernel}x{kernel}, stride {stride}"), |way| {
            let (input, weight) = (tensor([2, 5, 6, 7], 42), tensor([5, 1, kernel, kernel], 43));
            let (x, w) = (way.rounded(&input), way.weight(&weight));
            let output = match way {
                Way::Composed => depthwise::composed(x, w, stride),
                _ => depthwise::depthwise_conv2d(x, w, stride),
            };
            (output, vec![leaf(&input), leaf(&weight)])
        });
    }
}

#[test]
fn linear_maps_and_attention_in_16_bits_add_in_32() {
    assert_agree("linear", |way| {
        // Long sums: bf16 could not add up the last of these terms.
        let (input, weight, bias) =
            (tensor([2, 9, 300], 44), tensor([6, 300], 45), tensor([6], 46));
        let (x, w, b) = (way.rounded(&input), way.weight(&weight), way.weight(&bias));
        let output = match way {
            Way::Composed => linear::composed(x, w, b, Activation::Silu),
            _ => linear::linear(x, w, b, Activation::Silu),
        };
        (output, vec![leaf(&input), leaf(&weight), leaf(&bias)])
    });
    let mask: Vec<bool> = (0..81).map(|index| index / 9 != index % 9 && index % 4 == 0).collect();
    let mask: Tensor<2, Bool> =
        Tensor::from_data(TensorData::new(mask, [9, 9]), &Device::flex().autodiff());
    assert_agree("attention", |way| {
        let [queries, keys, values] = [47, 48, 49].map(|salt| tensor([2, 3, 9, 4], salt));
        let [q, k, v] = [&queries, &keys, &values].map(|tensor| way.rounded(tensor));
        let output = match way {
            Way::Composed => attention::composed(q, k, v, Some(&mask)),
            _ => attention::attention(q, k, v, Some(&mask)),
        };
        (output, vec![leaf(&queries), leaf(&keys), leaf(&values)])
    });
}

#[test]
fn normalisations_of_16_bits_are_computed_in_32() {
    for activation in [Activation::Identity, Activation::Silu] {
        assert_agree("batch norm", |way| {
            let (input, weight, bias) =
                (tensor([3, 4, 5, 5], 50), tensor([4], 51), tensor([4], 52));
            // A mean far from zero: in 16 bits its difference to the values would be all rounding.
            let shifted = input.clone() + 20.0;
            let normalized = batch_norm::batch_norm_train(
                way.rounded(&shifted),
                weight.clone(),
                bias.clone(),
                1e-5,
                activation,
            );
            assert_eq!(normalized.mean.dtype(), DType::F32);
            assert_eq!(normalized.variance.dtype(), DType::F32);
            (normalized.output, vec![leaf(&input), leaf(&weight), leaf(&bias)])
        });
    }
    assert_agree("layer norm", |way| {
        let (input, weight, bias) = (tensor([2, 5, 19], 53), tensor([19], 54), tensor([19], 55));
        let shifted = way.rounded(&(input.clone() + 20.0));
        let output = layer_norm::layer_norm(shifted, weight.clone(), bias.clone(), 1e-5);
        (output, vec![leaf(&input), leaf(&weight), leaf(&bias)])
    });
}

#[test]
fn pooling_of_16_bits_chooses_as_in_32_and_activations_round_once() {
    for window in [max_pool::max_pool, max_pool::max_pool_2x2] {
        assert_agree("max pooling", |way| {
            let input = tensor([2, 3, 6, 7], 56);
            (window(way.rounded(&input)), vec![leaf(&input)])
        });
    }
    for activation in [Activation::Relu, Activation::Silu] {
        assert_agree("activation", |way| {
            let input = tensor([2, 3, 6, 7], 57);
            (activation.apply(way.rounded(&input) * 4.0), vec![leaf(&input)])
        });
    }
}

#[test]
fn deformable_attention_reads_16_bits_at_places_of_32() {
    let (levels, points) = ([[80, 80], [3, 2]], [3, 2]);
    assert_agree("deformable attention", |way| {
        let value = tensor([1, 6406, 2, 3], 58);
        let spread = tensor([1, 7, 2, 5, 2], 59);
        let locations = spread.clone() * 0.4 + 0.5;
        let weights = tensor([1, 7, 2, 5], 60);
        let x = way.rounded(&value);
        let output = match way {
            // A GPU's path, too: locations decide in 32 bits what is read.
            Way::Composed => {
                let wide = widened(x.clone());
                let output =
                    deformable::composed(wide, locations, weights.clone(), &levels, &points);
                like(output, &x)
            }
            _ => deformable::deformable_attention(x, locations, weights.clone(), &levels, &points),
        };
        (output, vec![leaf(&value), leaf(&spread), leaf(&weights)])
    });
}
