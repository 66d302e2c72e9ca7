//! Backbones, encoder, decoders, the detector. Nothing here knows of losses.

mod attention;
mod backbone;
mod decoder;
mod detector;
mod encoder;
mod init;
mod layers;
pub mod outputs;
pub mod weights;

pub use detector::Detector;
