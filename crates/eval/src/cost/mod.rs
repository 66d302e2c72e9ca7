//! What a detector costs: parameters and floating-point operations of one image, from its
//! configuration alone.
//!
//! The layers are walked in the order in which an image passes them, one file per part of the
//! detector. Three conventions are kept apart, because published numbers mix them:
//!
//! - *as trained*: the network that trains, run on an image without its training-only outputs;
//! - *deployed*: after folding every block of a 3x3 and a 1x1 convolution of the encoder into one
//!   convolution, its norms into its convolutions, and leaving out the heads of D-FINE that do not
//!   predict;
//! - *as published*: the deployed network by the rules of calflops, the tool that the official code
//!   uses. It leaves out the products of queries, keys and values of attention, and counts an
//!   operation or more for every number that passes a norm, an activation, a pooling or a softmax.
//!
//! The first two count two operations for each multiply-add of convolutions, linear layers and
//! attention, and nothing else, as PyTorch's own counter does. Neither counts the bilinear sampling
//! of deformable attention.

mod backbone;
mod decoder;
mod encoder;
mod tally;

use deim_spec::Config;
use serde::Serialize;

use tally::Tally;

/// Parameters and operations of one detector.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Cost {
    /// Numbers that train. Frozen norms count as well: the recipe, not the detector, freezes them.
    pub parameters: u64,
    /// The same once deployed.
    pub parameters_deployed: u64,
    /// Floating-point operations of one image, as trained.
    pub flops: u64,
    /// The same once deployed.
    pub flops_deployed: u64,
    /// The same once deployed, by the rules of calflops.
    pub flops_calflops: u64,
}

/// The cost of a detector of so many classes on a square image of so many pixels a side.
///
/// The side has to be a multiple of 32, the stride of the coarsest level.
pub fn cost(config: &Config, classes: usize, side: usize) -> Cost {
    let mut tally = Tally::default();
    let model = &config.model;
    let levels = model.strides.len();
    let channels = backbone::walk(&model.backbone, side as u64, &mut tally);
    let channels = &channels[channels.len().saturating_sub(levels)..];
    let sides: Vec<u64> = model.strides.iter().map(|stride| (side / stride) as u64).collect();
    encoder::walk(&model.encoder, channels, &sides, &mut tally);
    decoder::walk(model, classes as u64, &sides, &mut tally);
    tally.cost()
}
