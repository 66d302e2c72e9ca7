use burn::tensor::{Device, Tensor};

use super::{cpu, floats, gpu, gradient_of, run, tensor};
use crate::batch_norm::{batch_norm_frozen, batch_norm_train, composed};
use crate::tests::assert_close;
use crate::{Activation, BatchNormOutput};

type Normalize = fn(Tensor<4>, Tensor<1>, Tensor<1>, f64, Activation) -> BatchNormOutput;

const ACTIVATIONS: [Activation; 3] = [Activation::Identity, Activation::Relu, Activation::Silu];

/// Output, gradients and statistics. `pixels`: the channels lie side by side in memory.
fn normalize(
    normalize: Normalize,
    shape: [usize; 4],
    activation: Activation,
    pixels: bool,
    device: &Device,
) -> Vec<Vec<f32>> {
    let [batch, channels, height, width] = shape;
    let stored = if pixels { [batch, height, width, channels] } else { shape };
    let leaf = tensor(stored, 10, device);
    // Values far from zero, whose variance a sum of squares would lose.
    let input = leaf.clone() * 2.0 + 30.0;
    let input = if pixels { input.permute([0, 3, 1, 2]) } else { input };
    let weight = tensor([channels], 11, device);
    let bias = tensor([channels], 12, device);
    let BatchNormOutput { output, mean, variance, .. } =
        normalize(input, weight.clone(), bias.clone(), 1e-5, activation);
    let mut results =
        run((output, vec![gradient_of(&leaf), gradient_of(&weight), gradient_of(&bias)]));
    results.extend([mean, variance].map(|statistic| floats(statistic.into_data())));
    results
}

/// Sizes that divide by no vector and by all, below a cube and above, and one with more pieces than
/// splits.
const SHAPES: [[usize; 4]; 5] =
    [[2, 3, 5, 7], [3, 8, 4, 4], [1, 1, 2, 2], [4, 36, 9, 8], [2, 5, 150, 130]];

#[test]
fn normalisation_and_its_gradients_equal_the_cpus_in_both_orders_of_memory() {
    for shape in SHAPES {
        for activation in ACTIVATIONS {
            for pixels in [false, true] {
                let expected = normalize(batch_norm_train, shape, activation, pixels, &cpu());
                let found = normalize(batch_norm_train, shape, activation, pixels, &gpu());
                let what = format!("batch norm of {shape:?}, {activation:?}, pixels {pixels}");
                assert_close(&what, &found, &expected);
            }
        }
    }
}

#[test]
fn normalisation_and_its_gradients_equal_the_composed_path() {
    // Not the largest: there Burn's own sums are off by more than what is allowed here.
    for shape in &SHAPES[..4] {
        let shape = *shape;
        let expected = normalize(composed, shape, Activation::Silu, false, &gpu());
        let found = normalize(batch_norm_train, shape, Activation::Silu, false, &gpu());
        assert_close(&format!("batch norm of {shape:?}"), &found, &expected);
    }
}

#[test]
fn frozen_normalisation_and_its_gradient_equal_the_cpus_in_both_orders_of_memory() {
    for shape in [[2, 3, 5, 7], [3, 8, 4, 4]] {
        for activation in ACTIVATIONS {
            for pixels in [false, true] {
                let both = [cpu(), gpu()].map(|device| {
                    let [batch, channels, height, width] = shape;
                    let stored = if pixels { [batch, height, width, channels] } else { shape };
                    let leaf = tensor(stored, 10, &device);
                    let input = leaf.clone();
                    let input = if pixels { input.permute([0, 3, 1, 2]) } else { input };
                    let of_channel = |salt| tensor([channels], salt, &device.clone().inner());
                    let output = batch_norm_frozen(
                        input,
                        of_channel(1),
                        of_channel(2),
                        of_channel(3),
                        of_channel(4).square() + 0.1,
                        1e-5,
                        activation,
                    );
                    run((output, vec![gradient_of(&leaf)]))
                });
                assert_close(&format!("{shape:?}, {activation:?}"), &both[1], &both[0]);
            }
        }
    }
}

#[test]
fn a_channel_of_one_value_has_no_variance_and_gives_its_bias() {
    let device = gpu();
    let input = Tensor::<4>::full([2, 4, 3, 3], -7.25, &device);
    let weight = Tensor::<1>::ones([4], &device);
    let bias = tensor::<1>([4], 12, &device);
    let BatchNormOutput { output, mean, variance, .. } =
        batch_norm_train(input, weight, bias.clone(), 1e-5, Activation::Identity);
    assert_eq!(floats(mean.into_data()), [-7.25; 4]);
    assert_eq!(floats(variance.into_data()), [0.0; 4]);
    let bias = floats(bias.into_data());
    for (index, value) in floats(output.into_data()).into_iter().enumerate() {
        assert_eq!(value, bias[index / 9 % 4]);
    }
}

#[test]
fn statistics_carry_no_gradient_and_live_on_the_plain_device() {
    let device = gpu();
    let normalized = batch_norm_train(
        tensor([2, 3, 2, 2], 1, &device),
        tensor([3], 2, &device),
        tensor([3], 3, &device),
        1e-5,
        Activation::Relu,
    );
    assert!(!normalized.mean.device().is_autodiff());
    assert!(!normalized.variance.device().is_autodiff());
    assert!(normalized.output.device().is_autodiff());
}
