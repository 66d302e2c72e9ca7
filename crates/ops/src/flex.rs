//! The CPU backend: how a fused operation is reached, and how its kernels see memory.

use burn::backend::flex::FlexTensor;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Flex, backend_extension};
use burn::tensor::{Device, TensorData};
use rayon::prelude::*;

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

    /// See [`crate::batch_norm_train`]. The gradient contains the part that flows through the
    /// statistics, which are an input here and have no gradient of their own.
    fn normalize_batch(
        input: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        statistics: FloatTensor<Self>,
        epsilon: f32,
        activation: crate::Activation,
    ) -> FloatTensor<Self>;
}

/// Whether the fused CPU kernels serve tensors of this device.
pub(crate) fn serves(device: &Device) -> bool {
    // Equality of devices ignores autodiff.
    *device == Device::flex()
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
