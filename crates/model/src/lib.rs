//! Backbones, encoder, decoders, the detector. Nothing here knows of losses.

pub mod attention;
mod backbone;
pub mod decoder;
mod detector;
pub mod encoder;
mod init;
mod layers;
pub mod official;
pub mod outputs;
pub mod pretrained;
pub mod trace;
pub mod weights;

pub use detector::Detector;
