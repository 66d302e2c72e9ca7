//! The losses of a step, each as its value and its gradient (deim-facts 3.11).
//!
//! In every loss here the targets, qualities and weights carry no gradient, and what is left has a
//! short closed derivative. So a loss is a plain function from predictions to `(values, gradient)`
//! off the autodiff graph; the criterion attaches all gradients to the predictions with one
//! multiplication. That keeps the graph, and with it the time of a step on CPU, small.

pub mod boxes;
pub mod class;
pub mod edges;

use burn::tensor::{Device, Int, Tensor, TensorCreationOptions, TensorData};

/// On the device of another tensor, off the graph, and as precise.
pub(crate) fn like<const D: usize>(tensor: &Tensor<D>) -> TensorCreationOptions {
    let device = tensor.device();
    (&if device.is_autodiff() { device.inner() } else { device }, tensor.dtype()).into()
}

/// A one-dimensional tensor of these values, rounded to what the options hold.
pub(crate) fn upload(values: Vec<f64>, options: &TensorCreationOptions) -> Tensor<1> {
    let count = values.len();
    Tensor::from_data(TensorData::new(values, [count]), options.clone())
}

/// A one-dimensional tensor of these indices.
pub(crate) fn upload_indices(indices: &[usize], device: &Device) -> Tensor<1, Int> {
    let indices: Vec<i64> = indices.iter().map(|&index| index as i64).collect();
    let count = indices.len();
    Tensor::from_data(TensorData::new(indices, [count]), device)
}

/// Builds a scalar with a known value and known gradients.
pub(crate) struct Total {
    value: Tensor<1>,
    /// Its gradient is the total's; its value is of no meaning and is taken out again.
    carrier: Option<Tensor<1>>,
}

impl Total {
    pub fn new(value: Tensor<1>) -> Self {
        Self { value, carrier: None }
    }

    /// Makes `gradient` the derivative of the total by `input`.
    pub fn attach<const D: usize>(&mut self, input: Tensor<D>, gradient: Tensor<D>) {
        if input.device().is_autodiff() {
            let product = (input * Tensor::from_inner(gradient)).sum();
            self.carrier = Some(match self.carrier.take() {
                Some(carrier) => carrier + product,
                None => product,
            });
        }
    }

    pub fn finish(self) -> Tensor<1> {
        match self.carrier {
            Some(carrier) => {
                let rest = self.value - carrier.clone().inner();
                carrier + Tensor::from_inner(rest)
            }
            None => self.value,
        }
    }
}
