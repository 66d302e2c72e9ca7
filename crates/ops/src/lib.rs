//! Tensor operations with hand-written gradients, where composing Burn's operations is too slow.
//!
//! Each operation is one file: the public function on tensors, the composed path that serves every
//! device and is the oracle in tests, and the fused CPU kernels with their gradient.

mod activation;
mod attention;
mod batch_norm;
mod conv;
#[cfg(any(feature = "cuda", feature = "vulkan"))]
mod cube;
mod deformable;
mod depthwise;
#[cfg(target_arch = "x86_64")]
mod direct;
mod faults;
mod flex;
mod joint;
mod layer_norm;
mod linear;
mod matrix;
mod max_pool;
mod meeting;
mod optimizer;
mod precision;
mod ranking;
mod readback;
mod simd;
mod tf32;

pub use activation::Activation;
pub use attention::attention;
pub use batch_norm::{BatchNormOutput, batch_norm_frozen, batch_norm_inference, batch_norm_train};
pub use conv::{conv2d, conv2d_padded};
pub use deformable::deformable_attention;
pub use depthwise::depthwise_conv2d;
pub use faults::{faults, watch_faults};
pub use layer_norm::layer_norm;
pub use linear::linear;
pub use max_pool::{max_pool, max_pool_2x2};
pub use meeting::{Attendee, meet};
pub use optimizer::{AdamW, blend, blend_all, global_norm, update_all};
pub use precision::{like, through_32_bits, widened};
pub use ranking::best_of_rows;
pub use readback::{read, read_both, readings};
pub use tf32::{in_full, in_tf32, matmul};

#[cfg(test)]
mod tests;
