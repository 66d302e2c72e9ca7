//! Tensor operations with hand-written gradients, where composing Burn's operations is too slow.
//!
//! Each operation is one file: the public function on tensors, the composed path that serves every
//! device and is the oracle in tests, and the fused CPU kernels with their gradient.

mod activation;
mod batch_norm;
mod deformable;
mod flex;
mod optimizer;

pub use activation::Activation;
pub use batch_norm::{BatchNormOutput, batch_norm_inference, batch_norm_train};
pub use optimizer::{AdamW, blend};
pub use deformable::{composed as deformable_attention_composed, deformable_attention};
