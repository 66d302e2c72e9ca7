//! Tensor operations with hand-written gradients, where composing Burn's operations is too slow.
//!
//! Each operation is one file: the public function on tensors, the composed path that serves every
//! device and is the oracle in tests, and the fused CPU kernels with their gradient.

mod activation;
mod attention;
mod batch_norm;
mod conv;
mod deformable;
mod flex;
mod layer_norm;
mod linear;
mod matrix;
mod max_pool;
mod optimizer;

pub use activation::Activation;
pub use attention::attention;
pub use batch_norm::{BatchNormOutput, batch_norm_inference, batch_norm_train};
pub use conv::conv2d;
pub use deformable::deformable_attention;
pub use layer_norm::layer_norm;
pub use linear::linear;
pub use max_pool::max_pool;
pub use optimizer::{AdamW, blend};

#[cfg(test)]
mod tests;
