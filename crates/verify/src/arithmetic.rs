//! The arithmetics that a detector is judged and measured in.

use std::fmt;

use burn::tensor::{DType, Device, Tensor};
use serde::{Serialize, Serializer};

/// A device, and whether its products are split where float32 is meant.
#[derive(Clone, Debug)]
pub struct Setting {
    pub device: Device,
    /// Judges float32 by products of split factors, and tells beside it what the device's own give.
    pub split: bool,
}

impl Setting {
    /// A GPU may multiply float32 numbers in TF32 and cannot be told not to; a CPU does not.
    pub fn of(device: Device) -> Self {
        // Equality of devices ignores gradients.
        let split = device != Device::flex();
        Self { device, split }
    }

    /// Float32, as it is judged, and the other arithmetics that can be measured here.
    pub fn arithmetics(&self) -> Vec<Arithmetic> {
        let all = [Arithmetic::F32, Arithmetic::AsItTrains, Arithmetic::Tf32, Arithmetic::Bf16];
        all.into_iter().filter(|&one| self.split || one != Arithmetic::AsItTrains).collect()
    }

    /// Runs what is to compute in an arithmetic; what is judged computes in float32.
    pub(crate) fn run<T>(&self, arithmetic: Arithmetic, compute: impl FnOnce() -> T) -> T {
        let split = self.split && arithmetic == Arithmetic::F32;
        if split { deim_ops::in_full(compute) } else { compute() }
    }
}

/// How a detector's large tensors are computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arithmetic {
    /// 24 bits of mantissa, also in products ([`Setting`]).
    F32,
    /// 24 bits of mantissa, and products as the device multiplies them: a GPU perhaps in TF32.
    AsItTrains,
    /// The same, but with the factors of products rounded to 11 bits, on any device. No configuration
    /// has this: on a GPU the choice of kernels decides it.
    Tf32,
    /// 8 bits of mantissa between layers, sums in float32.
    Bf16,
}

impl Arithmetic {
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::AsItTrains => "as it trains",
            Self::Tf32 => "tf32",
            Self::Bf16 => "bf16",
        }
    }

    /// Images as a detector in this arithmetic takes them.
    pub(crate) fn of(self, images: Tensor<4>) -> Tensor<4> {
        match self {
            Self::F32 | Self::AsItTrains | Self::Tf32 => images,
            Self::Bf16 => images.cast(DType::BF16),
        }
    }

    /// Runs what computes with such images.
    pub(crate) fn run<T>(self, compute: impl FnOnce() -> T) -> T {
        match self {
            Self::F32 | Self::AsItTrains | Self::Bf16 => compute(),
            Self::Tf32 => deim_ops::in_tf32(compute),
        }
    }

    /// The precision of a configuration that trains like this.
    pub(crate) fn configured(self) -> deim_spec::config::Precision {
        match self {
            Self::F32 | Self::AsItTrains | Self::Tf32 => deim_spec::config::Precision::F32,
            Self::Bf16 => deim_spec::config::Precision::Bf16,
        }
    }
}

impl fmt::Display for Arithmetic {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

impl Serialize for Arithmetic {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}
