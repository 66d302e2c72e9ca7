//! How a kernel is called: as a value that a backend runs at once, or that fusion keeps until the
//! operations before it have run.

use std::fmt::Debug;

#[cfg(feature = "cuda")]
use burn::backend::Cuda;
#[cfg(feature = "vulkan")]
use burn::backend::WebGpu;
use burn::backend::cubecl::dtype_to_storage_type;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, BackendTensor, DispatchTensor, DispatchTensorKind, TensorMetadata};
use burn::tensor::{DType, Shape};
use burn_cubecl::kernel::{cast, into_contiguous};
use burn_cubecl::ops::numeric::empty_device_contiguous_dtype;
use burn_cubecl::tensor::CubeTensor;
use burn_cubecl::{CubeBackend, CubeRuntime};
use cubecl::calculate_cube_count_elemwise;
use cubecl::client::ComputeClient;
use cubecl::ir::ElemType;
use cubecl::prelude::*;

/// What a tensor is, without its values.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Meta {
    pub(crate) shape: Shape,
    pub(crate) dtype: DType,
}

impl Meta {
    pub(crate) fn new(shape: impl Into<Shape>, dtype: DType) -> Self {
        Self { shape: shape.into(), dtype }
    }

    pub(crate) fn of(tensor: &impl TensorMetadata) -> Self {
        Self { shape: tensor.shape(), dtype: tensor.dtype() }
    }
}

/// One kernel, or a few that belong together, with everything but the tensors.
pub(crate) trait Call: Clone + Debug + Send + Sync + 'static {
    const NAME: &'static str;

    /// What it will return.
    fn outputs(&self, inputs: &[Meta]) -> Vec<Meta>;

    fn run<R: CubeRuntime>(&self, inputs: Vec<CubeTensor<R>>) -> Vec<CubeTensor<R>>;
}

/// A backend that runs calls.
pub(crate) trait Launch: Backend {
    fn launch<K: Call>(call: K, inputs: Vec<FloatTensor<Self>>) -> Vec<FloatTensor<Self>>;
}

impl<R: CubeRuntime> Launch for CubeBackend<R> {
    fn launch<K: Call>(call: K, inputs: Vec<CubeTensor<R>>) -> Vec<CubeTensor<R>> {
        let metas: Vec<_> = inputs.iter().map(Meta::of).collect();
        let outputs = call.run(inputs);
        if cfg!(test) {
            let found: Vec<_> = outputs.iter().map(Meta::of).collect();
            assert_eq!(found, call.outputs(&metas), "{}: what fusion relies on", K::NAME);
        }
        outputs
    }
}

/// The outputs of a call that has this many.
pub(crate) fn exactly<T: Debug, const N: usize>(outputs: Vec<T>) -> [T; N] {
    outputs.try_into().expect("as many outputs as the call says")
}

/// Runs a call on tensors without gradients, all on one device that [`super::serves`].
pub(crate) fn on_device<K: Call>(call: K, inputs: Vec<DispatchTensor>) -> Vec<DispatchTensor> {
    macro_rules! run {
        ($backend:ident) => {{
            let inputs = inputs.into_iter().map(|input| match input.kind {
                DispatchTensorKind::$backend(tensor) => tensor.float(),
                #[allow(unreachable_patterns)]
                _ => panic!("{}: tensors on different devices", K::NAME),
            });
            let outputs = <$backend as Launch>::launch(call, inputs.collect());
            let wrap = |tensor: FloatTensor<$backend>| {
                // Both are the same type on these backends.
                let tensor = match tensor.dtype() {
                    DType::I32 => BackendTensor::Int(tensor),
                    _ => BackendTensor::Float(tensor),
                };
                DispatchTensor { kind: DispatchTensorKind::$backend(tensor), checkpointing: None }
            };
            outputs.into_iter().map(wrap).collect()
        }};
    }
    match &inputs[0].kind {
        #[cfg(feature = "cuda")]
        DispatchTensorKind::Cuda(_) => run!(Cuda),
        #[cfg(feature = "vulkan")]
        DispatchTensorKind::WebGpu(_) => run!(WebGpu),
        _ => panic!("{}: no kernel for this device, or a tensor with a gradient", K::NAME),
    }
}

/// Units that work together. Enough to hide the latency of memory, few enough for every device.
pub(crate) const UNITS: u32 = 256;

/// Cubes for one unit an item; there may be more units than items.
pub(crate) fn units<R: CubeRuntime>(
    client: &ComputeClient<R>,
    items: usize,
) -> (CubeCount, CubeDim) {
    let dim = CubeDim::new_1d(UNITS);
    (calculate_cube_count_elemwise(client, items, dim), dim)
}

/// How wide the indices into these tensors must be.
pub(crate) fn address<R: CubeRuntime>(tensors: &[&CubeTensor<R>]) -> AddressType {
    tensors.iter().map(|tensor| tensor.required_address_type()).max().unwrap_or_default()
}

/// A tensor of uninitialised values like another one's, in row-major order.
pub(crate) fn empty<R: CubeRuntime>(like: &CubeTensor<R>, meta: Meta) -> CubeTensor<R> {
    empty_device_contiguous_dtype(like.client.clone(), like.device.clone(), meta.shape, meta.dtype)
}

/// A tensor in row-major order.
pub(crate) fn dense<R: CubeRuntime>(tensor: CubeTensor<R>) -> CubeTensor<R> {
    into_contiguous(tensor)
}

/// A small tensor, such as a parameter, in row-major order and 32 bits.
pub(crate) fn dense32<R: CubeRuntime>(tensor: CubeTensor<R>) -> CubeTensor<R> {
    into_contiguous(cast(tensor, DType::F32))
}

/// The type of a tensor's elements in a kernel.
pub(crate) fn element<R: CubeRuntime>(tensor: &CubeTensor<R>) -> ElemType {
    dtype_to_storage_type(tensor.dtype)
}

/// How many neighbouring elements one access may take when runs of `run` elements stay together.
pub(crate) fn vector<R: CubeRuntime>(tensor: &CubeTensor<R>, run: usize) -> usize {
    let sizes = tensor.client.io_optimized_vector_sizes(tensor.dtype.size());
    sizes.filter(|&size| run.is_multiple_of(size)).max().unwrap_or(1)
}
