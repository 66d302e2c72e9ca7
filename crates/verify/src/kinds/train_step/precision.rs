//! The arithmetic of a step: the 32 bits that train, and the 64 that show what is only rounding.

use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::{DType, Device, Tensor};

/// How many bits a step computes in. In 64 bits the fused kernels give way to the operations they
/// are composed of; everything else is the same code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precision {
    Single,
    Double,
}

impl Precision {
    pub fn name(self) -> &'static str {
        match self {
            Self::Single => "32 bits",
            Self::Double => "64 bits",
        }
    }

    pub fn dtype(self) -> DType {
        match self {
            Self::Single => DType::F32,
            Self::Double => DType::F64,
        }
    }

    /// Whether a device computes in it; GPUs mostly have no 64 bits in Burn.
    pub fn is_on(self, device: &Device) -> bool {
        *device == Device::flex() || device.supports_dtype(self.dtype())
    }

    /// Of what there is in 32 and in 64 bits, that in this precision.
    pub fn of_both<T>(self, [single, double]: [T; 2]) -> T {
        match self {
            Self::Single => single,
            Self::Double => double,
        }
    }

    /// A module whose tensors hold the same values in this precision.
    pub fn of<M: Module>(self, module: M) -> M {
        module.map(&mut Converter(self.dtype()))
    }
}

struct Converter(DType);

impl ModuleMapper for Converter {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        param.map(|old| {
            let new = Tensor::from_data(old.to_data(), (&old.device(), self.0));
            new.set_require_grad(old.is_require_grad())
        })
    }
}
