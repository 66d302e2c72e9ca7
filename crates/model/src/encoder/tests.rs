use std::collections::BTreeMap;

use burn::tensor::Device;

use super::*;
use crate::weights;

/// D-FINE-N's encoder (deim-facts, section 2).
fn smallest() -> Model {
    let mut model = Model { strides: vec![16, 32], ..Model::default() };
    model.encoder.version = EncoderVersion::Dfine;
    model.encoder.hidden = 128;
    model.encoder.feedforward = 512;
    model.encoder.expansion = 0.34;
    model.encoder.depth_mult = 0.5;
    model
}

#[test]
fn widths_and_depths_are_rounded_as_python_rounds_them() {
    let encoder = HybridEncoder::new(&smallest(), &[512, 1024], &Device::flex());
    let shapes: BTreeMap<String, Vec<usize>> = weights::read(&encoder)
        .into_iter()
        .map(|(name, data)| (name, data.shape.to_vec()))
        .collect();
    // 0.34 * 128 // 2, and the half between one block and two goes to the even number.
    assert_eq!(shapes["fpn_blocks.0.cv3.1.conv.weight"], [21, 21, 3, 3]);
    assert!(shapes.contains_key("fpn_blocks.0.cv2.0.bottlenecks.1.conv1.conv.weight"));
    assert!(!shapes.contains_key("fpn_blocks.0.cv2.0.bottlenecks.2.conv1.conv.weight"));
    assert_eq!(shapes["downsample_convs.0.0.cv2.conv.weight"], [128, 1, 3, 3]);
}

#[test]
fn levels_keep_their_resolution_whatever_their_number() {
    let device = Device::flex();
    for version in [EncoderVersion::Dfine, EncoderVersion::RtDetrv2] {
        for channels in [vec![16], vec![8, 16], vec![4, 8, 16], vec![2, 4, 8, 16]] {
            let mut model = smallest();
            model.encoder.version = version;
            let sides = |level: usize| [4, 6].map(|side| side << (channels.len() - level));
            let levels = channels.iter().enumerate().map(|(level, &channels)| {
                let [height, width] = sides(level);
                Tensor::zeros([2, channels, height, width], &device)
            });
            let encoder = HybridEncoder::new(&model, &channels, &device);
            for (level, output) in encoder.forward(levels.collect()).iter().enumerate() {
                let [height, width] = sides(level);
                assert_eq!(output.dims(), [2, 128, height, width]);
            }
        }
    }
}
