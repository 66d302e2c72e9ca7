//! The detector of a case: built from the catalogue, filled, and its image.

use burn::tensor::{Device, Tensor, TensorData};
use deim_model::Detector;
use deim_spec::Config;
use deim_spec::official::{self, Recipe};

use super::loss::failed;
use crate::case::{Case, CaseError};
use crate::fill;

/// The DEIM configuration of the detector that a case names.
pub fn config(case: &Case) -> Result<Config, CaseError> {
    let name = case.text("name")?;
    let official = official::model(name)
        .ok_or_else(|| CaseError::new(format!("case.toml: no detector is called '{name}'")))?;
    official.config(Recipe::Deim).map_err(failed)
}

/// The detector of a configuration with the case's weights.
pub fn filled(case: &Case, config: &Config, device: &Device) -> Result<Detector, CaseError> {
    let detector = Detector::new(config, case.count("num_classes")?, 0, device);
    fill::filled(detector).map_err(failed)
}

/// The images `[batch, 3, height, width]` of a seed.
pub fn images(case: &Case, seed: &str, device: &Device) -> Result<Tensor<4>, CaseError> {
    let size = case.numbers("input_size")?;
    let [height, width] = size[..] else {
        return Err(CaseError::new("case.toml: 'input_size' is not height and width"));
    };
    let (height, width) = (height as usize, width as usize);
    // The backbones halve the image five times.
    if height == 0 || width == 0 || height % 32 != 0 || width % 32 != 0 {
        return Err(CaseError::new("case.toml: 'input_size' is not a multiple of 32"));
    }
    let batch = case.count("batch")?;
    let pixels = fill::image(seed, batch, [height, width]);
    Ok(Tensor::from_data(TensorData::new(pixels, [batch, 3, height, width]), device))
}
