//! Matcher, losses, denoising, optimizer, schedule, EMA, the loop and its checkpoints.

pub mod assignment;
pub mod bench;
pub mod boxes;
pub mod checkpoint;
pub mod criterion;
pub mod denoising;
pub mod edge_terms;
pub mod ema;
pub mod evaluate;
pub mod events;
pub mod heads;
pub mod losses;
pub mod matcher;
pub mod optimizer;
pub mod param_groups;
mod pass;
mod plan;
pub mod postprocess;
pub mod pretrained;
mod ranks;
pub mod records;
pub mod run;
pub mod schedule;
pub mod simota;
pub mod stages;
pub mod step;
pub mod threads;
pub mod trained;
pub mod union;
pub mod upload;
mod warm;

/// Version of the numerics, part of every cell's id: raised by hand with every change of code that
/// changes a number.
pub const NUMERICS: u32 = 2;
