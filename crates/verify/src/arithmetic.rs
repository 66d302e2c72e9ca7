//! The arithmetics that a detector is measured in.

use std::fmt;

use burn::tensor::{DType, Tensor};
use serde::{Serialize, Serializer};

/// How a detector's large tensors are computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arithmetic {
    /// 24 bits of mantissa; a GPU may yet multiply them in TF32.
    F32,
    /// The same, but with the factors of products rounded to 11 bits, on any device. No configuration
    /// has this: on a GPU the choice of kernels decides it.
    Tf32,
    /// 8 bits of mantissa between layers, sums in float32.
    Bf16,
}

impl Arithmetic {
    pub const ALL: [Self; 3] = [Self::F32, Self::Tf32, Self::Bf16];

    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Tf32 => "tf32",
            Self::Bf16 => "bf16",
        }
    }

    /// Images as a detector in this arithmetic takes them.
    pub(crate) fn of(self, images: Tensor<4>) -> Tensor<4> {
        match self {
            Self::F32 | Self::Tf32 => images,
            Self::Bf16 => images.cast(DType::BF16),
        }
    }

    /// Runs what computes with such images.
    pub(crate) fn run<T>(self, compute: impl FnOnce() -> T) -> T {
        match self {
            Self::F32 | Self::Bf16 => compute(),
            Self::Tf32 => deim_ops::in_tf32(compute),
        }
    }

    /// The precision of a configuration that trains like this.
    pub(crate) fn configured(self) -> deim_spec::config::Precision {
        match self {
            Self::F32 | Self::Tf32 => deim_spec::config::Precision::F32,
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
