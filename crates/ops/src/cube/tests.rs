//! Every kernel on a GPU-like device against the CPU's kernel and against the composed path on the
//! same device: values and all gradients.
//!
//! With the feature `vulkan` they run on a Vulkan device, for which a software one will do, and fail
//! without: to skip would look like a pass. With `cuda` alone, or `DEIM_TEST_DEVICE=cuda` beside it, they
//! run on CUDA.

mod batch_norm;
mod conv;
mod deformable;
mod depthwise;
mod half;
mod layer_norm;
mod optimizer;
mod ranking;

use burn::tensor::{Device, Gradients, Tensor, TensorData};

use crate::tests::values;

/// The device under test, with gradients.
fn gpu() -> Device {
    let usual = if cfg!(feature = "vulkan") { "vulkan" } else { "cuda" };
    let wanted = std::env::var("DEIM_TEST_DEVICE").unwrap_or_else(|_| usual.to_owned());
    let device = match wanted.as_str() {
        #[cfg(feature = "vulkan")]
        "vulkan" => vulkan(),
        #[cfg(feature = "cuda")]
        "cuda" => Device::cuda(0),
        other => panic!("DEIM_TEST_DEVICE={other}: expected vulkan or cuda, with its feature"),
    };
    device.autodiff()
}

#[cfg(feature = "vulkan")]
fn vulkan() -> Device {
    use burn::backend::{Backend, WebGpu};

    static FOUND: std::sync::LazyLock<usize> = std::sync::LazyLock::new(|| {
        // Of every type, software included; Burn panics if there is no default device.
        std::panic::catch_unwind(|| WebGpu::device_count(4)).unwrap_or(0)
    });
    assert!(
        *FOUND > 0,
        "no Vulkan device: install one, such as the software device of Debian's \
         mesa-vulkan-drivers, or leave the feature `vulkan` away"
    );
    Device::webgpu(burn::tensor::DeviceKind::DefaultDevice)
}

fn cpu() -> Device {
    Device::flex().autodiff()
}

/// The same values on every device.
fn tensor<const D: usize>(shape: [usize; D], salt: u64, device: &Device) -> Tensor<D> {
    let data = TensorData::new(values(shape.iter().product(), salt), shape);
    Tensor::from_data(data, device).require_grad()
}

/// Reads the gradient of one input.
type Reader = Box<dyn Fn(&Gradients) -> Vec<f32>>;

fn gradient_of<const D: usize>(tensor: &Tensor<D>) -> Reader {
    let tensor = tensor.clone();
    Box::new(move |found| {
        floats(tensor.grad(found).expect("a gradient for every input").into_data())
    })
}

fn floats(data: TensorData) -> Vec<f32> {
    data.iter::<f32>().collect()
}

/// The output of an operation and the gradients of `sum(output * fixed weights)`.
fn run<const D: usize>((output, gradients): (Tensor<D>, Vec<Reader>)) -> Vec<Vec<f32>> {
    let weights = values(output.shape().num_elements(), 99);
    let weights = Tensor::<1>::from_floats(weights.as_slice(), &output.device());
    let weights = weights.cast(output.dtype()).reshape(output.dims());
    let found = (output.clone() * weights).sum().backward();
    let mut results = vec![floats(output.into_data())];
    results.extend(gradients.iter().map(|gradient| gradient(&found)));
    results
}
