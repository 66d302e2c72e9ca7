//! The losses of a step, each as its value and its gradient (deim-facts 3.11).
//!
//! In every loss here the targets, qualities and weights carry no gradient, and what is left has a
//! short closed derivative. So a loss is a plain function from predictions to `(values, gradient)`
//! off the autodiff graph; the criterion attaches all gradients to the predictions with one
//! multiplication. That keeps the graph, and with it the time of a step on CPU, small.

pub mod boxes;
pub mod class;
pub mod edges;

use burn::tensor::{Device, Int, Tensor, TensorData};

/// A one-dimensional tensor of these values.
pub(crate) fn upload(values: Vec<f32>, device: &Device) -> Tensor<1> {
    let count = values.len();
    Tensor::from_data(TensorData::new(values, [count]), device)
}

/// A one-dimensional tensor of these indices.
pub(crate) fn upload_indices(indices: &[usize], device: &Device) -> Tensor<1, Int> {
    let indices: Vec<i64> = indices.iter().map(|&index| index as i64).collect();
    let count = indices.len();
    Tensor::from_data(TensorData::new(indices, [count]), device)
}
