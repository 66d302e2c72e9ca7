//! Weight files: PyTorch checkpoints (`.pth`) and safetensors.
//!
//! A `.pth` file is a program for Python's pickle machine. Here it is only read: [`pickle`] knows the
//! few instructions that rebuild tensors, calls nothing, and refuses a file that asks for anything else.
//! A file's own numbers are never trusted: every size is compared with the file's length before memory is
//! asked for, so that a damaged or hostile file gives an error and nothing worse.
//!
//! [`open`] looks at names, shapes and types; [`WeightFile::read`] fetches the values of one tensor.

mod archive;
mod error;
mod file;
mod layout;
mod legacy;
mod pickle;
mod safetensors_file;
mod source;
mod tensor;
mod torch;
mod tree;

#[cfg(test)]
mod hostile_tests;
#[cfg(test)]
mod testing;

pub use error::{FileError, Problem};
pub use file::{Entries, Entry, Format, Moment, Optimizer, OptimizerGroup, Part, WeightFile, open};
pub use layout::Layout;
pub use safetensors_file::{encode, write};
pub use tensor::{Dtype, Tensor};
pub use tree::{Leaf, grouped, tree};
