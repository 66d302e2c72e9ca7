//! The decoders of D-FINE (deim-facts 3.12) and RT-DETRv2 (deim-facts 3.13), at inference.

use deim_spec::config::{Decoder, DecoderKind, Model, QueryPos};

use super::tally::{Conv, Presence, Tally};

/// Numbers that D-FINE's quality head reads of each box: the best four bins of each edge and their
/// mean. Its inner width.
const QUALITY: [u64; 2] = [4 * 5, 64];

/// Adds the decoder and its heads, from the sides of the encoder's levels.
pub fn walk(model: &Model, classes: u64, sides: &[u64], tally: &mut Tally) {
    let decoder = &model.decoder;
    let hidden = decoder.hidden as u64;
    let tokens = sides.iter().map(|side| side * side).sum();
    // A detector on a small image has fewer tokens than queries.
    let queries = (model.queries as u64).min(tokens);
    // D-FINE leaves out a projection that would change no width.
    if decoder.kind == DecoderKind::Rtdetrv2 || model.encoder.hidden != decoder.hidden {
        for side in sides {
            tally.conv_norm(Conv::new(model.encoder.hidden as u64, hidden, 1), *side);
        }
    }
    selection(decoder, classes, [tokens, queries], tally);
    // One more class stands for no label; only training embeds labels.
    tally.embedding(classes + 1, hidden);
    let last = decoder.eval_layer.unwrap_or(decoder.layers.saturating_sub(1));
    for layer in 0..decoder.layers {
        let presence = match (layer <= last, decoder.kind) {
            (true, _) => Presence::Runs,
            // Deploying D-FINE cuts the layers off; RT-DETRv2 keeps them and stops before.
            (false, DecoderKind::Dfine) => Presence::Dropped,
            (false, DecoderKind::Rtdetrv2) => Presence::Idle,
        };
        self::layer(decoder, [tokens, queries], presence, tally);
        let predicts = layer == last;
        match decoder.kind {
            DecoderKind::Dfine => dfine_heads(decoder, classes, queries, presence, predicts, tally),
            DecoderKind::Rtdetrv2 => {
                tally.mlp(queries, &[hidden, hidden, hidden, 4], presence);
                let score = if predicts { Presence::Runs } else { Presence::Idle };
                tally.linear(queries, hidden, classes, score);
            }
        }
    }
    query_positions(decoder, queries, last as u64 + 1, tally);
    if decoder.kind == DecoderKind::Dfine {
        // The boxes that all layers refine, and, until deployed, their scores by the first head.
        tally.mlp(queries, &[hidden, hidden, hidden, 4], Presence::Runs);
        tally.linear_again(queries, hidden, classes);
    }
}

/// The heads on the encoder's tokens that choose the queries.
fn selection(decoder: &Decoder, classes: u64, [tokens, queries]: [u64; 2], tally: &mut Tally) {
    let hidden = decoder.hidden as u64;
    tally.linear(tokens, hidden, hidden, Presence::Runs);
    tally.layer_norm(tokens, hidden, Presence::Runs);
    tally.linear(tokens, hidden, classes, Presence::Runs);
    // RT-DETRv2 gives every token a box before it chooses.
    let boxes = match decoder.kind {
        DecoderKind::Dfine => queries,
        DecoderKind::Rtdetrv2 => tokens,
    };
    tally.mlp(boxes, &[hidden, hidden, hidden, 4], Presence::Runs);
}

/// The head that turns boxes into position embeddings: one for all layers, run before each.
fn query_positions(decoder: &Decoder, queries: u64, runs: u64, tally: &mut Tally) {
    let hidden = decoder.hidden as u64;
    let widths: &[u64] = match decoder.query_pos {
        QueryPos::AsReg => &[4, hidden, hidden, hidden],
        QueryPos::Default => &[4, 2 * hidden, hidden],
    };
    tally.shared_mlp(queries, widths, runs);
}

/// One decoder layer, without its heads.
fn layer(decoder: &Decoder, [tokens, queries]: [u64; 2], presence: Presence, tally: &mut Tally) {
    let (hidden, heads) = (decoder.hidden as u64, decoder.heads as u64);
    tally.self_attention(queries, hidden, heads, presence);
    tally.layer_norm(queries, hidden, presence);
    let points = heads * decoder.points.iter().sum::<usize>() as u64;
    tally.linear(queries, hidden, 2 * points, presence);
    tally.linear(queries, hidden, points, presence);
    if presence == Presence::Runs {
        tally.softmax(queries * points);
    }
    match decoder.kind {
        DecoderKind::Dfine => tally.linear(queries, 2 * hidden, 2 * hidden, presence),
        DecoderKind::Rtdetrv2 => {
            tally.linear(tokens, hidden, hidden, presence);
            tally.linear(queries, hidden, hidden, presence);
        }
    }
    tally.layer_norm(queries, hidden, presence);
    tally.mlp(queries, &[hidden, decoder.feedforward as u64, hidden], presence);
    tally.layer_norm(queries, hidden, presence);
}

/// D-FINE's heads of one layer: distributions of the edges, scores, quality.
fn dfine_heads(
    decoder: &Decoder,
    classes: u64,
    queries: u64,
    presence: Presence,
    predicts: bool,
    tally: &mut Tally,
) {
    let hidden = decoder.hidden as u64;
    let bins = decoder.reg_max as u64 + 1;
    tally.mlp(queries, &[hidden, hidden, hidden, 4 * bins], presence);
    if presence == Presence::Runs {
        tally.softmax(queries * 4 * bins);
        tally.mean_of_bins(queries * 4, bins);
    }
    let head = if predicts { Presence::Runs } else { Presence::Dropped };
    tally.linear(queries, hidden, classes, head);
    let [read, inner] = QUALITY;
    tally.mlp(queries, &[read, inner, 1], head);
    if predicts {
        tally.softmax(queries * 4 * bins);
    }
}
