//! Every kernel on tensors of 16 bits with parameters of 32, as training in bf16 has them.

use burn::tensor::{Device, FloatDType, Tensor};

use super::{gpu, gradient_of, run, tensor};
use crate::tests::only_compiles;
use crate::{Activation, batch_norm_frozen, batch_norm_train, depthwise_conv2d, layer_norm};

type Operation = fn(Tensor<4>, [Tensor<1>; 2]) -> Tensor<4>;

const CHANNELS: usize = 16;

fn plain(value: f64, device: &Device) -> Tensor<1> {
    Tensor::full([CHANNELS], value, &device.clone().inner())
}

const OPERATIONS: [(&str, Operation); 4] = [
    ("layer norm", |input, [weight, bias]| {
        let rows = input.permute([0, 2, 3, 1]);
        layer_norm(rows, weight, bias, 1e-5)
    }),
    ("depthwise convolution", |input, [weight, _]| {
        let weight = weight.reshape([CHANNELS, 1, 1, 1]).repeat_dim(2, 3).repeat_dim(3, 3);
        depthwise_conv2d(input, weight, 1)
    }),
    ("batch norm", |input, [weight, bias]| {
        batch_norm_train(input, weight, bias, 1e-5, Activation::Silu).output
    }),
    ("frozen batch norm", |input, _| {
        let device = input.device();
        let [mean, variance, weight, bias] =
            [0.1, 2.0, 0.7, -0.2].map(|value| plain(value, &device));
        batch_norm_frozen(input, weight, bias, mean, variance, 1e-5, Activation::Relu)
    }),
];

/// The input holds values that `held` has, so that only what is computed can differ; it alone is in
/// `precision`. In both orders of memory.
fn results(
    operation: Operation,
    held: FloatDType,
    precision: FloatDType,
    pixels: bool,
) -> Vec<Vec<f32>> {
    let device = gpu();
    let stored = if pixels { [2, 9, 8, CHANNELS] } else { [2, CHANNELS, 9, 8] };
    let rounded = tensor::<4>(stored, 10, &device).cast(held).cast(precision);
    let input = rounded.detach().require_grad();
    let parameters = [tensor([CHANNELS], 11, &device), tensor([CHANNELS], 12, &device)];
    let images = if pixels { input.clone().permute([0, 3, 1, 2]) } else { input.clone() };
    let output = operation(images, parameters.clone());
    assert_eq!(output.dtype(), burn::tensor::DType::from(precision));
    run((output, vec![gradient_of(&input)]))
}

#[test]
fn sixteen_bits_are_computed_in_32_and_rounded_once() {
    for (precision, epsilon) in [(FloatDType::BF16, 7.8e-3), (FloatDType::F16, 9.8e-4)] {
        if !gpu().supports_dtype(precision) {
            println!("not tested: this device has no {precision:?}");
            continue;
        }
        for (name, operation) in OPERATIONS {
            for pixels in [false, true] {
                let half = results(operation, precision, precision, pixels);
                let full = results(operation, precision, FloatDType::F32, pixels);
                if only_compiles() {
                    continue;
                }
                for (part, (half, full)) in half.iter().zip(&full).enumerate() {
                    let size = full.iter().fold(0.0_f32, |most, value| most.max(value.abs()));
                    for (half, full) in half.iter().zip(full) {
                        // One rounding of the result, and for the gradient one of what comes in.
                        let error = (half - full).abs();
                        assert!(
                            error <= 2.0 * epsilon * size,
                            "{name}, {precision:?}, pixels {pixels}, part {part}: {half}, {full}"
                        );
                    }
                }
            }
        }
    }
}
