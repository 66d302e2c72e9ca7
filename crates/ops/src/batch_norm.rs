//! Batch normalisation in training mode, fused with the activation that follows it.
//!
//! Composed from Burn's operations this is a dozen passes over the largest tensors of the model; here
//! it is two forward and two backward.

mod fused;

use burn::backend::Dispatch;
use burn::tensor::{Tensor, TensorData};

use crate::Activation;
#[cfg(any(feature = "cuda", feature = "vulkan"))]
use crate::cube;
use crate::flex::{self, Fused};
use crate::precision::{is_half, through_32_bits, widened};
use crate::{joint, meeting};
pub(crate) use fused::{normalize, tracked};

/// What training mode gives.
pub struct BatchNormOutput {
    /// The normalised and activated input.
    pub output: Tensor<4>,
    /// Batch mean of each channel `[channels]`, detached.
    pub mean: Tensor<1>,
    /// Biased batch variance of each channel `[channels]`, detached.
    pub variance: Tensor<1>,
    /// Values of each channel that these are of.
    pub count: usize,
}

/// `activation((input - mean) / sqrt(variance + epsilon) * weight + bias)` with the batch's own
/// statistics, through which the gradient flows. `input`: `[batch, channels, height, width]`. Of an input
/// in 16 bits everything but the output is in 32. Within a [meeting](crate::meet) the batch is that of
/// all devices together.
pub fn batch_norm_train(
    input: Tensor<4>,
    weight: Tensor<1>,
    bias: Tensor<1>,
    epsilon: f64,
    activation: Activation,
) -> BatchNormOutput {
    if let Some(seat) = meeting::seat() {
        return joint::batch_norm(input, weight, bias, epsilon, activation, &seat);
    }
    #[cfg(any(feature = "cuda", feature = "vulkan"))]
    if cube::serves(&input) {
        return on_gpu(input, weight, bias, epsilon, activation);
    }
    if is_half(&input) {
        let precision = input.dtype();
        let wide = batch_norm_train(widened(input), weight, bias, epsilon, activation);
        return BatchNormOutput { output: wide.output.cast(precision), ..wide };
    }
    if !flex::serves(&input) {
        return composed(input, weight, bias, epsilon, activation);
    }
    let device = input.device();
    let (channels, count) = (input.dims()[1], count(&input));
    let data = input.clone().detach().into_data();
    let statistics = fused::statistics(data.as_slice().expect("float32 activations"), input.dims());
    let plain = device.inner();
    let statistics = Tensor::<2>::from_data(TensorData::new(statistics, [2, channels]), &plain);
    let [mean, variance] =
        [0, 1].map(|row| statistics.clone().narrow(0, row, 1).reshape([channels]));
    let statistics =
        if input.device().is_autodiff() { Tensor::from_inner(statistics) } else { statistics };
    let output = Tensor::from_dispatch(<Dispatch as Fused>::normalize_batch(
        input.into_dispatch(),
        weight.into_dispatch(),
        bias.into_dispatch(),
        statistics.into_dispatch(),
        epsilon as f32,
        activation,
    ));
    BatchNormOutput { output, mean, variance, count }
}

/// Values of each channel.
fn count(images: &Tensor<4>) -> usize {
    let [batch, _, height, width] = images.dims();
    batch * height * width
}

#[cfg(any(feature = "cuda", feature = "vulkan"))]
fn on_gpu(
    input: Tensor<4>,
    weight: Tensor<1>,
    bias: Tensor<1>,
    epsilon: f64,
    activation: Activation,
) -> BatchNormOutput {
    let (tracked, count) = (input.device().is_autodiff(), count(&input));
    let (output, mean, variance) = <Dispatch as cube::Kernels>::normalize_batch(
        input.into_dispatch(),
        weight.into_dispatch(),
        bias.into_dispatch(),
        epsilon as f32,
        activation,
    );
    let [mean, variance] = [mean, variance].map(|statistic| {
        let statistic = Tensor::from_dispatch(statistic);
        if tracked { statistic.inner() } else { statistic }
    });
    BatchNormOutput { output: Tensor::from_dispatch(output), mean, variance, count }
}

/// The same with given statistics, without their gradient: evaluation mode.
pub fn batch_norm_inference(
    input: Tensor<4>,
    weight: Tensor<1>,
    bias: Tensor<1>,
    mean: Tensor<1>,
    variance: Tensor<1>,
    epsilon: f64,
    activation: Activation,
) -> Tensor<4> {
    if is_half(&input) {
        return through_32_bits(input, |input| {
            batch_norm_inference(input, weight, bias, mean, variance, epsilon, activation)
        });
    }
    let channels = weight.dims()[0];
    if flex::serves(&input) {
        let statistics = Tensor::cat(vec![mean, variance], 0).reshape([2, channels]);
        return Tensor::from_dispatch(<Dispatch as Fused>::normalize_batch(
            input.into_dispatch(),
            weight.into_dispatch(),
            bias.into_dispatch(),
            statistics.into_dispatch(),
            epsilon as f32,
            activation,
        ));
    }
    #[cfg(any(feature = "cuda", feature = "vulkan"))]
    if cube::serves(&input) && !input.device().is_autodiff() {
        return frozen_on_gpu(input, [mean, variance, weight, bias], epsilon, activation);
    }
    let shape = [1, channels, 1, 1];
    let scale = weight / variance.add_scalar(epsilon).sqrt();
    let shift = bias - mean * scale.clone();
    activation.composed(input * scale.reshape(shape) + shift.reshape(shape))
}

/// The same in training, where neither parameters nor statistics change: gradients reach the input
/// alone. All but the input are on the plain device.
pub fn batch_norm_frozen(
    input: Tensor<4>,
    weight: Tensor<1>,
    bias: Tensor<1>,
    mean: Tensor<1>,
    variance: Tensor<1>,
    epsilon: f64,
    activation: Activation,
) -> Tensor<4> {
    #[cfg(any(feature = "cuda", feature = "vulkan"))]
    if cube::serves(&input) {
        let channels = [mean, variance, weight, bias].map(Tensor::from_inner);
        return frozen_on_gpu(input, channels, epsilon, activation);
    }
    let [_, channels, _, _] = input.dims();
    let deviation = variance.add_scalar(epsilon).sqrt();
    let scale = weight / deviation;
    let shift = bias - mean * scale.clone();
    let of_channel = |tensor: Tensor<1>| Tensor::from_inner(tensor.reshape([1, channels, 1, 1]));
    through_32_bits(input, |input| activation.apply(input * of_channel(scale) + of_channel(shift)))
}

/// `channels`: mean, variance, weight and bias.
#[cfg(any(feature = "cuda", feature = "vulkan"))]
fn frozen_on_gpu(
    input: Tensor<4>,
    channels: [Tensor<1>; 4],
    epsilon: f64,
    activation: Activation,
) -> Tensor<4> {
    let [mean, variance, weight, bias] = channels.map(Tensor::into_dispatch);
    Tensor::from_dispatch(<Dispatch as cube::Kernels>::normalize_frozen(
        input.into_dispatch(),
        mean,
        variance,
        weight,
        bias,
        epsilon as f32,
        activation,
    ))
}

/// The same from Burn's own operations: the path of devices without a kernel, and the tests' oracle.
pub(crate) fn composed(
    input: Tensor<4>,
    weight: Tensor<1>,
    bias: Tensor<1>,
    epsilon: f64,
    activation: Activation,
) -> BatchNormOutput {
    composed_jointly(input, weight, bias, epsilon, activation, |means| means)
}

/// The same; `join` makes the means of the whole batch from those of this device's part.
pub(crate) fn composed_jointly(
    input: Tensor<4>,
    weight: Tensor<1>,
    bias: Tensor<1>,
    epsilon: f64,
    activation: Activation,
    join: impl Fn(Tensor<4>) -> Tensor<4>,
) -> BatchNormOutput {
    let (channels, count) = (input.dims()[1], count(&input));
    let shape = [1, channels, 1, 1];
    let by_channel = |tensor: Tensor<4>| {
        join(tensor.swap_dims(0, 1).reshape([channels, count]).mean_dim(1).reshape(shape))
    };
    let mean = by_channel(input.clone());
    let centred = input - mean.clone();
    let variance = by_channel(centred.clone().square());
    let scale = weight.reshape(shape) / variance.clone().add_scalar(epsilon).sqrt();
    let output = activation.composed(centred * scale + bias.reshape(shape));
    let plain = |tensor: Tensor<4>| {
        let tensor = tensor.detach().reshape([channels]);
        if tensor.device().is_autodiff() { tensor.inner() } else { tensor }
    };
    BatchNormOutput { output, mean: plain(mean), variance: plain(variance), count }
}
