//! Pickles, read without running them.
//!
//! A pickle is a program for a stack machine that can call any function of Python. [`machine`] knows the
//! instructions that lay out data; [`calls`] says what the few calls of a weight file come to. Nothing
//! is ever called: a function that rebuilds a tensor is understood, a class of plain data becomes an
//! opaque value, and any other call refuses the file by the function's name.

mod calls;
mod item;
mod machine;
mod node;

pub use item::Item;
pub use machine::{MAX_PICKLE, run};
pub use node::{Node, Pickle};
