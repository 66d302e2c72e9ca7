//! What batch normalisation does to one access of an image: normalise, activate, and back.

use cubecl::prelude::*;

use super::layout::Layout;
use crate::Activation;

/// The statistics and parameters of channels, in 32 bits.
#[derive(CubeType, Clone)]
pub(crate) struct Affine<N: Size> {
    pub(crate) mean: Vector<f32, N>,
    pub(crate) inverse_std: Vector<f32, N>,
    pub(crate) weight: Vector<f32, N>,
    pub(crate) bias: Vector<f32, N>,
}

/// The values of channels: one for all lanes, or one for each.
#[cube]
pub(crate) fn of_channels<N: Size>(
    values: &[f32],
    channel: usize,
    #[comptime] layout: Layout,
) -> Vector<f32, N> {
    let mut found = Vector::<f32, N>::new(values[channel]);
    if comptime!(layout == Layout::Pixels) {
        let lanes = N::value();
        #[unroll]
        for lane in 0..lanes {
            found.insert(lane, values[channel + lane]);
        }
    }
    found
}

#[cube]
pub(crate) fn affine<N: Size>(
    mean: &[f32],
    variance: &[f32],
    weight: &[f32],
    bias: &[f32],
    channel: usize,
    epsilon: f32,
    #[comptime] layout: Layout,
) -> Affine<N> {
    let variance = of_channels::<N>(variance, channel, layout) + Vector::new(epsilon);
    Affine::<N> {
        mean: of_channels::<N>(mean, channel, layout),
        inverse_std: Vector::new(1.0f32) / Vector::sqrt(variance),
        weight: of_channels::<N>(weight, channel, layout),
        bias: of_channels::<N>(bias, channel, layout),
    }
}

/// What goes into the activation.
#[cube]
pub(crate) fn before<N: Size>(affine: &Affine<N>, x: Vector<f32, N>) -> Vector<f32, N> {
    (x - affine.mean) * (affine.inverse_std * affine.weight) + affine.bias
}

#[cube]
fn sigmoid<N: Size>(z: Vector<f32, N>) -> Vector<f32, N> {
    let one = Vector::<f32, N>::new(1.0f32);
    one / (one + Vector::exp(Vector::new(0.0f32) - z))
}

#[cube]
pub(crate) fn activate<N: Size>(
    z: Vector<f32, N>,
    #[comptime] activation: Activation,
) -> Vector<f32, N> {
    match activation {
        Activation::Identity => z,
        Activation::Relu => {
            let zero = Vector::<f32, N>::new(0.0f32);
            select_many(z.greater_than(&zero), z, zero)
        }
        Activation::Silu => z * sigmoid::<N>(z),
    }
}

/// `gradient * activation'(z)`.
#[cube]
pub(crate) fn through<N: Size>(
    z: Vector<f32, N>,
    gradient: Vector<f32, N>,
    #[comptime] activation: Activation,
) -> Vector<f32, N> {
    match activation {
        Activation::Identity => gradient,
        Activation::Relu => {
            let zero = Vector::<f32, N>::new(0.0f32);
            select_many(z.greater_than(&zero), gradient, zero)
        }
        Activation::Silu => {
            let s = sigmoid::<N>(z);
            let one = Vector::<f32, N>::new(1.0f32);
            gradient * s * (one + z * (one - s))
        }
    }
}
