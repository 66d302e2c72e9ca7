//! The committed backbone parts, B1, B3 and B6 among them, which no official detector uses.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;

use burn::tensor::{Device, Tensor};
use deim_model::Detector;
use deim_spec::Config;

#[test]
fn every_hgnetv2_part_builds_and_gives_the_levels_that_it_states() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../experiments/models/backbones");
    for number in 0..=6 {
        let path = folder.join(format!("hgnetv2-b{number}.toml"));
        let config: Config = toml::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
        let stages = &config.model.backbone.hgnetv2.as_ref().unwrap().stages;
        let device = Device::flex();
        let detector = Detector::new(&config, 80, 0, &device);
        let levels = detector.features(Tensor::zeros([1, 3, 64, 96], &device));
        assert_eq!(levels.len(), 3);
        for ((level, stage), stride) in levels.iter().zip(&stages[1..]).zip([8, 16, 32]) {
            assert_eq!(level.dims(), [1, stage.out, 64 / stride, 96 / stride], "B{number}");
        }
    }
}
