//! The CPU backend: how a fused operation is reached, and how its kernels see memory.

use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::flex::FlexTensor;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Flex, backend_extension};
use burn::tensor::{DType, Device, Shape, Tensor, TensorData};
use rayon::prelude::*;

use crate::activation::{self, Activation};
use crate::max_pool::Window;
use crate::{attention, batch_norm, conv, deformable, depthwise, layer_norm, linear, max_pool};

/// The fused operations. Only the CPU backend has them; other devices take the composed paths.
#[backend_extension(Flex, Autodiff)]
pub(crate) trait Fused: Backend {
    /// See [`crate::deformable_attention`].
    fn deformable_attention(
        value: FloatTensor<Self>,
        locations: FloatTensor<Self>,
        weights: FloatTensor<Self>,
        levels: Vec<[usize; 2]>,
        points: Vec<usize>,
    ) -> FloatTensor<Self>;

    /// See [`crate::conv2d_padded`].
    fn convolve(
        input: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        stride: usize,
        padding: [usize; 2],
    ) -> FloatTensor<Self>;

    /// See [`crate::depthwise_conv2d`].
    fn convolve_depthwise(
        input: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        stride: usize,
    ) -> FloatTensor<Self>;

    /// See [`crate::batch_norm_train`]. The gradient contains the part that flows through the
    /// statistics, which are an input here and have no gradient of their own.
    fn normalize_batch(
        input: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        statistics: FloatTensor<Self>,
        epsilon: f32,
        activation: Activation,
    ) -> FloatTensor<Self>;

    /// See [`crate::attention`].
    fn attention(
        queries: FloatTensor<Self>,
        keys: FloatTensor<Self>,
        values: FloatTensor<Self>,
        blocked: Vec<bool>,
    ) -> FloatTensor<Self>;

    /// See [`crate::linear`].
    fn linear(
        input: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        activation: Activation,
    ) -> FloatTensor<Self>;

    /// See [`crate::layer_norm`].
    fn normalize_rows(
        input: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        epsilon: f32,
    ) -> FloatTensor<Self>;

    /// See [`crate::max_pool`] and [`crate::max_pool_2x2`].
    fn max_pool(input: FloatTensor<Self>, window: Window) -> FloatTensor<Self>;

    /// See [`Activation::apply`].
    fn activate(input: FloatTensor<Self>, activation: Activation) -> FloatTensor<Self>;
}

/// Whether the fused CPU kernels serve a tensor: they compute in 32 bits. What is in 64 bits, to check
/// them, takes the composed paths; what is in 16 is widened first ([`crate::precision`]).
pub(crate) fn serves<const D: usize>(tensor: &Tensor<D>) -> bool {
    is_device_of(tensor) && tensor.dtype() == DType::F32
}

/// Whether a tensor is on the CPU.
pub(crate) fn is_device_of<const D: usize>(tensor: &Tensor<D>) -> bool {
    // Equality of devices ignores autodiff.
    tensor.device() == Device::flex()
}

/// The tensor's values in row-major order; copies only if it is a strided view.
pub(crate) fn dense(tensor: FlexTensor) -> FlexTensor {
    if tensor.as_slice::<f32>().is_some() { tensor } else { tensor.to_contiguous() }
}

/// The values of a tensor that went through [`dense`].
pub(crate) fn values(tensor: &FlexTensor) -> &[f32] {
    tensor.as_slice::<f32>().expect("a dense float32 tensor")
}

/// A tensor of these values.
pub(crate) fn tensor<const D: usize>(values: Vec<f32>, shape: [usize; D]) -> FlexTensor {
    FlexTensor::from_data(TensorData::new(values, shape))
}

/// The same for a shape whose rank is only known at run time.
pub(crate) fn tensor_of(values: Vec<f32>, shape: Shape) -> FlexTensor {
    FlexTensor::from_data(TensorData::new(values, shape))
}

/// Below this many elements a kernel runs on the calling thread.
const PARALLEL_FROM: usize = 1 << 14;

/// Runs `work` for every index, on all threads where that pays. What an index computes must not
/// depend on the others: then the result does not depend on the number of threads either.
pub(crate) fn for_each<T: Send>(
    elements: usize,
    items: impl IndexedParallelIterator<Item = T>,
    work: impl Fn(T) + Sync + Send,
) {
    if elements < PARALLEL_FROM {
        // One sequential piece: the iterator is not split.
        items.with_min_len(usize::MAX).for_each(work);
    } else {
        items.for_each(work);
    }
}

impl Fused for Flex {
    fn deformable_attention(
        value: FlexTensor,
        locations: FlexTensor,
        weights: FlexTensor,
        levels: Vec<[usize; 2]>,
        points: Vec<usize>,
    ) -> FlexTensor {
        deformable::attend(value, locations, weights, &levels, &points)
    }

    fn convolve(
        input: FlexTensor,
        weight: FlexTensor,
        stride: usize,
        padding: [usize; 2],
    ) -> FlexTensor {
        conv::convolve(input, weight, stride, padding)
    }

    fn convolve_depthwise(input: FlexTensor, weight: FlexTensor, stride: usize) -> FlexTensor {
        depthwise::convolve(input, weight, stride)
    }

    fn normalize_batch(
        input: FlexTensor,
        weight: FlexTensor,
        bias: FlexTensor,
        statistics: FlexTensor,
        epsilon: f32,
        activation: Activation,
    ) -> FlexTensor {
        batch_norm::normalize(input, weight, bias, statistics, epsilon, activation)
    }

    fn attention(
        queries: FlexTensor,
        keys: FlexTensor,
        values: FlexTensor,
        blocked: Vec<bool>,
    ) -> FlexTensor {
        attention::attend(queries, keys, values, blocked)
    }

    fn linear(
        input: FlexTensor,
        weight: FlexTensor,
        bias: FlexTensor,
        activation: Activation,
    ) -> FlexTensor {
        linear::apply(input, weight, bias, activation)
    }

    fn normalize_rows(
        input: FlexTensor,
        weight: FlexTensor,
        bias: FlexTensor,
        epsilon: f32,
    ) -> FlexTensor {
        layer_norm::normalize(input, weight, bias, epsilon)
    }

    fn max_pool(input: FlexTensor, window: Window) -> FlexTensor {
        max_pool::pool(input, window)
    }

    fn activate(input: FlexTensor, activation: Activation) -> FlexTensor {
        activation::activate(input, activation)
    }
}

impl<C: CheckpointStrategy> Fused for Autodiff<Flex, C> {
    fn deformable_attention(
        value: FloatTensor<Self>,
        locations: FloatTensor<Self>,
        weights: FloatTensor<Self>,
        levels: Vec<[usize; 2]>,
        points: Vec<usize>,
    ) -> FloatTensor<Self> {
        deformable::tracked::<C>(value, locations, weights, &levels, &points)
    }

    fn convolve(
        input: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        stride: usize,
        padding: [usize; 2],
    ) -> FloatTensor<Self> {
        conv::tracked::<C>(input, weight, stride, padding)
    }

    fn convolve_depthwise(
        input: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        stride: usize,
    ) -> FloatTensor<Self> {
        depthwise::tracked::<C>(input, weight, stride)
    }

    fn normalize_batch(
        input: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        statistics: FloatTensor<Self>,
        epsilon: f32,
        activation: Activation,
    ) -> FloatTensor<Self> {
        batch_norm::tracked::<C>(input, weight, bias, statistics, epsilon, activation)
    }

    fn attention(
        queries: FloatTensor<Self>,
        keys: FloatTensor<Self>,
        values: FloatTensor<Self>,
        blocked: Vec<bool>,
    ) -> FloatTensor<Self> {
        attention::tracked::<C>(queries, keys, values, blocked)
    }

    fn linear(
        input: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        activation: Activation,
    ) -> FloatTensor<Self> {
        linear::tracked::<C>(input, weight, bias, activation)
    }

    fn normalize_rows(
        input: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        epsilon: f32,
    ) -> FloatTensor<Self> {
        layer_norm::tracked::<C>(input, weight, bias, epsilon)
    }

    fn max_pool(input: FloatTensor<Self>, window: Window) -> FloatTensor<Self> {
        max_pool::tracked::<C>(input, window)
    }

    fn activate(input: FloatTensor<Self>, activation: Activation) -> FloatTensor<Self> {
        activation::tracked::<C>(input, activation)
    }
}
