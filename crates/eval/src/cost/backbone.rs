//! PResNet-vd (deim-facts 3.16) and HGNetv2 (deim-facts 3.15).

use deim_spec::config::{Backbone, Block, HgNet, HgStage};

use super::tally::{Conv, Tally};

/// Adds the backbone and gives the channels of the outputs of its four stages.
pub fn walk(backbone: &Backbone, side: u64, tally: &mut Tally) -> [u64; 4] {
    match &backbone.hgnetv2 {
        Some(sizes) => hgnet(sizes, side, tally),
        None => presnet(backbone, side, tally),
    }
}

fn activated(conv: Conv, side: u64, tally: &mut Tally) {
    tally.conv_norm(conv, side);
    tally.pointwise(conv.outside * side * side);
}

fn presnet(backbone: &Backbone, side: u64, tally: &mut Tally) -> [u64; 4] {
    let mut channels = 3;
    for width in backbone.stem.map(|width| width as u64) {
        activated(Conv::new(channels, width, 3), side / 2, tally);
        channels = width;
    }
    // The max pooling reads what the stem writes.
    tally.pointwise(channels * (side / 2) * (side / 2));
    let mut outputs = [0; 4];
    let mut side = side / 4;
    for (stage, (blocks, width)) in backbone.blocks.iter().zip(backbone.widths).enumerate() {
        for index in 0..*blocks {
            let halves = stage > 0 && index == 0;
            let inside = side;
            side = if halves { side / 2 } else { side };
            if halves {
                // The shortcut of variant d: a mean pooling before a 1x1 convolution.
                tally.pointwise(channels * inside * inside);
            }
            channels =
                residual(backbone.block, channels, width as u64, index == 0, [inside, side], tally);
        }
        outputs[stage] = channels;
    }
    outputs
}

/// One residual block and its shortcut; gives its output channels.
fn residual(
    block: Block,
    channels: u64,
    width: u64,
    projects: bool,
    [inside, side]: [u64; 2],
    tally: &mut Tally,
) -> u64 {
    let out = match block {
        Block::Basic => {
            activated(Conv::new(channels, width, 3), side, tally);
            tally.conv_norm(Conv::new(width, width, 3), side);
            width
        }
        Block::Bottleneck => {
            // The stride is that of the 3x3 convolution.
            activated(Conv::new(channels, width, 1), inside, tally);
            activated(Conv::new(width, width, 3), side, tally);
            tally.conv_norm(Conv::new(width, 4 * width, 1), side);
            4 * width
        }
    };
    if projects {
        tally.conv_norm(Conv::new(channels, out, 1), side);
    }
    tally.pointwise(out * side * side);
    out
}

fn hgnet(sizes: &HgNet, side: u64, tally: &mut Tally) -> [u64; 4] {
    let [middle, out] = sizes.stem.map(|width| width as u64);
    let half = side / 2;
    lab_conv(sizes, Conv::new(3, middle, 3), half, tally);
    lab_conv(sizes, Conv::new(middle, middle / 2, 2), half, tally);
    lab_conv(sizes, Conv::new(middle / 2, middle, 2), half, tally);
    // The max pooling beside the two reads an image padded by one.
    tally.pointwise(middle * (half + 1) * (half + 1));
    lab_conv(sizes, Conv::new(2 * middle, middle, 3), side / 4, tally);
    lab_conv(sizes, Conv::new(middle, out, 1), side / 4, tally);
    let mut outputs = [0; 4];
    let (mut channels, mut side) = (out, side / 4);
    for (index, stage) in sizes.stages.iter().enumerate() {
        if index > 0 {
            side /= 2;
            tally.conv_norm(Conv::depthwise(channels, 3), side);
        }
        for _ in 0..stage.blocks {
            hg_block(sizes, stage, channels, side, tally);
            channels = stage.out as u64;
        }
        outputs[index] = channels;
    }
    outputs
}

fn hg_block(sizes: &HgNet, stage: &HgStage, channels: u64, side: u64, tally: &mut Tally) {
    let (middle, out) = (stage.middle as u64, stage.out as u64);
    let (kernel, layers) = (stage.kernel as u64, stage.layers as u64);
    for layer in 0..layers {
        let inside = if layer == 0 { channels } else { middle };
        if stage.light {
            tally.conv_norm(Conv::new(inside, middle, 1), side);
            lab_conv(sizes, Conv::depthwise(middle, kernel), side, tally);
        } else {
            lab_conv(sizes, Conv::new(inside, middle, kernel), side, tally);
        }
    }
    lab_conv(sizes, Conv::new(channels + layers * middle, out / 2, 1), side, tally);
    lab_conv(sizes, Conv::new(out / 2, out, 1), side, tally);
}

/// A convolution with an activation, and the two numbers of LAB where the backbone has them.
fn lab_conv(sizes: &HgNet, conv: Conv, side: u64, tally: &mut Tally) {
    activated(conv, side, tally);
    if sizes.lab {
        tally.embedding(2, 1);
    }
}
