//! The hybrid encoder in both versions (deim-facts 3.14).

use deim_spec::config::{Encoder, EncoderVersion};

use super::tally::{Conv, Presence, Tally};

/// Adds the encoder, from the backbone's channels and the sides of the levels, finest first.
pub fn walk(encoder: &Encoder, channels: &[u64], sides: &[u64], tally: &mut Tally) {
    let hidden = encoder.hidden as u64;
    for (channels, side) in channels.iter().zip(sides) {
        tally.conv_norm(Conv::new(*channels, hidden, 1), *side);
    }
    if let Some(coarsest) = sides.last() {
        transformer(encoder, coarsest * coarsest, tally);
    }
    for pair in sides.windows(2).rev() {
        let [fine, coarse] = [pair[0], pair[1]];
        folded(encoder, Conv::new(hidden, hidden, 1), coarse, tally);
        // The upsampling, by what it reads.
        tally.pointwise(hidden * coarse * coarse);
        fusion(encoder, fine, tally);
    }
    for pair in sides.windows(2) {
        let [fine, coarse] = [pair[0], pair[1]];
        match encoder.version {
            EncoderVersion::RtDetrv2 => {
                folded(encoder, Conv::new(hidden, hidden, 3), coarse, tally);
            }
            EncoderVersion::Dfine => {
                tally.conv_folded(Conv::new(hidden, hidden, 1), fine);
                tally.conv_folded(Conv::depthwise(hidden, 3), coarse);
            }
        }
        fusion(encoder, coarse, tally);
    }
}

/// The transformer layer on the coarsest level.
fn transformer(encoder: &Encoder, tokens: u64, tally: &mut Tally) {
    let (hidden, inner) = (encoder.hidden as u64, encoder.feedforward as u64);
    tally.self_attention(tokens, hidden, encoder.heads as u64, Presence::Runs);
    tally.layer_norm(tokens, hidden, Presence::Runs);
    tally.mlp(tokens, &[hidden, inner, hidden], Presence::Runs);
    tally.layer_norm(tokens, hidden, Presence::Runs);
}

/// A lateral or downsampling convolution: D-FINE's have no activation.
fn folded(encoder: &Encoder, conv: Conv, side: u64, tally: &mut Tally) {
    tally.conv_folded(conv, side);
    if encoder.version == EncoderVersion::RtDetrv2 {
        tally.pointwise(conv.outside * side * side);
    }
}

/// The block that joins two levels.
fn fusion(encoder: &Encoder, side: u64, tally: &mut Tally) {
    let hidden = encoder.hidden as u64;
    // Python rounds halves to even.
    let depth = (3.0 * encoder.depth_mult).round_ties_even() as u64;
    let inner = hidden as f64 * encoder.expansion;
    match encoder.version {
        EncoderVersion::RtDetrv2 => csp(2 * hidden, inner as u64, hidden, depth, side, tally),
        EncoderVersion::Dfine => {
            let inner = (inner / 2.0).floor() as u64;
            activated(Conv::new(2 * hidden, 2 * hidden, 1), side, tally);
            csp(hidden, inner, inner, depth, side, tally);
            activated(Conv::new(inner, inner, 3), side, tally);
            csp(inner, inner, inner, depth, side, tally);
            activated(Conv::new(inner, inner, 3), side, tally);
            activated(Conv::new(2 * hidden + 2 * inner, hidden, 1), side, tally);
        }
    }
}

/// A chain of re-parameterisable blocks and a shortcut around it.
fn csp(inside: u64, inner: u64, outside: u64, depth: u64, side: u64, tally: &mut Tally) {
    activated(Conv::new(inside, inner, 1), side, tally);
    activated(Conv::new(inside, inner, 1), side, tally);
    for _ in 0..depth {
        tally.vgg(inner, side);
        tally.pointwise(inner * side * side);
    }
    if inner != outside {
        activated(Conv::new(inner, outside, 1), side, tally);
    }
}

fn activated(conv: Conv, side: u64, tally: &mut Tally) {
    tally.conv_folded(conv, side);
    tally.pointwise(conv.outside * side * side);
}
