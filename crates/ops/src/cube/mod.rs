//! The same operations on GPUs: kernels in CubeCL, which CUDA and Vulkan share.
//!
//! Kernels are compiled at run time, so that this builds without a GPU or its tools. All of them
//! compute in 32 bits, whatever the tensors hold.

#![expect(
    unsafe_code,
    reason = "without `launch_unchecked` every access is checked; the kernels end at their sizes"
)]

mod affine;
mod batch_norm;
mod call;
mod deformable;
mod depthwise;
#[cfg(feature = "fusion")]
mod fusion;
mod layer_norm;
mod layout;
mod optimizer;
mod pointwise;
mod ranking;
mod reduce;
#[cfg(test)]
mod tests;

#[cfg(feature = "cuda")]
use burn::backend::Cuda;
#[cfg(feature = "vulkan")]
use burn::backend::WebGpu;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, DispatchDevice, backend_extension};
use burn::tensor::{DType, Device, Tensor};

use crate::Activation;
pub(crate) use batch_norm::Normalized;
pub(crate) use call::Launch;
pub(crate) use optimizer::{blend_all, global_norm, update_all};
pub(crate) use ranking::best_of_rows;

/// The operations that have kernels for GPUs; what they compute says [`crate::flex::Fused`].
#[backend_extension(Cuda: cfg(feature = "cuda"), WebGpu: cfg(feature = "vulkan"), Autodiff)]
pub(crate) trait Kernels: Backend {
    fn deformable_attention(
        value: FloatTensor<Self>,
        locations: FloatTensor<Self>,
        weights: FloatTensor<Self>,
        levels: Vec<[usize; 2]>,
        points: Vec<usize>,
    ) -> FloatTensor<Self>;

    /// Computes the statistics as well: the gradient flows through them, but they have none.
    #[allow(clippy::type_complexity)]
    fn normalize_batch(
        input: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        epsilon: f32,
        activation: Activation,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>);

    /// With given statistics; gradients reach the input alone.
    fn normalize_frozen(
        input: FloatTensor<Self>,
        mean: FloatTensor<Self>,
        variance: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        epsilon: f32,
        activation: Activation,
    ) -> FloatTensor<Self>;

    fn convolve_depthwise(
        input: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        stride: usize,
    ) -> FloatTensor<Self>;

    fn normalize_rows(
        input: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        epsilon: f32,
    ) -> FloatTensor<Self>;
}

/// Whether kernels serve a tensor: by its device and by what it holds.
pub(crate) fn serves<const D: usize>(tensor: &Tensor<D>) -> bool {
    matches!(tensor.dtype(), DType::F32 | DType::F16 | DType::BF16) && is_gpu(&tensor.device())
}

fn is_gpu(device: &Device) -> bool {
    match device.clone().inner().as_dispatch() {
        #[cfg(feature = "cuda")]
        DispatchDevice::Cuda(_) => true,
        #[cfg(feature = "vulkan")]
        DispatchDevice::WebGpu(_) => true,
        _ => false,
    }
}

impl<B: Launch> Kernels for B {
    fn deformable_attention(
        value: FloatTensor<B>,
        locations: FloatTensor<B>,
        weights: FloatTensor<B>,
        levels: Vec<[usize; 2]>,
        points: Vec<usize>,
    ) -> FloatTensor<B> {
        deformable::attend::<B>([value, locations, weights], levels, points)
    }

    fn normalize_batch(
        input: FloatTensor<B>,
        weight: FloatTensor<B>,
        bias: FloatTensor<B>,
        epsilon: f32,
        activation: Activation,
    ) -> (FloatTensor<B>, FloatTensor<B>, FloatTensor<B>) {
        let Normalized { output, mean, variance } =
            batch_norm::normalize::<B>([input, weight, bias], epsilon, activation);
        (output, mean, variance)
    }

    fn normalize_frozen(
        input: FloatTensor<B>,
        mean: FloatTensor<B>,
        variance: FloatTensor<B>,
        weight: FloatTensor<B>,
        bias: FloatTensor<B>,
        epsilon: f32,
        activation: Activation,
    ) -> FloatTensor<B> {
        affine::apply::<B>([input, mean, variance, weight, bias], epsilon, activation)
    }

    fn convolve_depthwise(
        input: FloatTensor<B>,
        weight: FloatTensor<B>,
        stride: usize,
    ) -> FloatTensor<B> {
        depthwise::convolve::<B>(input, weight, stride)
    }

    fn normalize_rows(
        input: FloatTensor<B>,
        weight: FloatTensor<B>,
        bias: FloatTensor<B>,
        epsilon: f32,
    ) -> FloatTensor<B> {
        layer_norm::normalize::<B>([input, weight, bias], epsilon)
    }
}

impl<B: Launch, C: CheckpointStrategy> Kernels for Autodiff<B, C> {
    fn deformable_attention(
        value: FloatTensor<Self>,
        locations: FloatTensor<Self>,
        weights: FloatTensor<Self>,
        levels: Vec<[usize; 2]>,
        points: Vec<usize>,
    ) -> FloatTensor<Self> {
        deformable::tracked::<B, C>([value, locations, weights], levels, points)
    }

    fn normalize_batch(
        input: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        epsilon: f32,
        activation: Activation,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        batch_norm::tracked::<B, C>([input, weight, bias], epsilon, activation)
    }

    fn normalize_frozen(
        input: FloatTensor<Self>,
        mean: FloatTensor<Self>,
        variance: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        epsilon: f32,
        activation: Activation,
    ) -> FloatTensor<Self> {
        affine::tracked::<B, C>([input, mean, variance, weight, bias], epsilon, activation)
    }

    fn convolve_depthwise(
        input: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        stride: usize,
    ) -> FloatTensor<Self> {
        depthwise::tracked::<B, C>(input, weight, stride)
    }

    fn normalize_rows(
        input: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        epsilon: f32,
    ) -> FloatTensor<Self> {
        layer_norm::tracked::<B, C>([input, weight, bias], epsilon)
    }
}
