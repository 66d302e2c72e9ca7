//! The two orders in which GPUs hold images, both of which the kernels read.

use burn::backend::TensorMetadata;
use burn::tensor::{DType, Shape};
use burn_cubecl::CubeRuntime;
use burn_cubecl::ops::permute;
use burn_cubecl::tensor::CubeTensor;

use super::call::{self, Meta};

/// How images lie in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Layout {
    /// Channel after channel: `[batch, channels, height * width]`.
    Planes,
    /// Pixel after pixel: `[batch * height * width, channels]`, as Burn's convolutions return them.
    Pixels,
}

const TO_PIXELS: [usize; 4] = [0, 2, 3, 1];
const TO_PLANES: [usize; 4] = [0, 3, 1, 2];

impl Layout {
    pub(crate) fn of<R: CubeRuntime>(images: &CubeTensor<R>) -> Self {
        let pixels = permute(images.clone(), &TO_PIXELS);
        if !images.is_contiguous() && pixels.is_contiguous() { Self::Pixels } else { Self::Planes }
    }

    /// The same images with this order in memory.
    pub(crate) fn arrange<R: CubeRuntime>(self, images: CubeTensor<R>) -> CubeTensor<R> {
        match self {
            Self::Planes => call::dense(images),
            Self::Pixels => permute(call::dense(permute(images, &TO_PIXELS)), &TO_PLANES),
        }
    }

    /// Uninitialised images with this order in memory.
    pub(crate) fn empty<R: CubeRuntime>(
        self,
        like: &CubeTensor<R>,
        shape: [usize; 4],
        dtype: DType,
    ) -> CubeTensor<R> {
        let [batch, channels, height, width] = shape;
        match self {
            Self::Planes => call::empty(like, Meta::new(shape, dtype)),
            Self::Pixels => {
                let shape = Shape::new([batch, height, width, channels]);
                permute(call::empty(like, Meta::new(shape, dtype)), &TO_PLANES)
            }
        }
    }

    /// Values of one channel, or channels of one pixel, that lie side by side.
    pub(crate) fn run<R: CubeRuntime>(self, images: &CubeTensor<R>) -> usize {
        let [_, channels, height, width] = images.shape().dims();
        match self {
            Self::Planes => height * width,
            Self::Pixels => channels,
        }
    }
}
