//! The official random initialisation, by parameter name.
//!
//! Values are drawn on the host from the seed and the name alone, so a model starts from the same
//! numbers on every device, whatever else has been drawn.

use std::borrow::Cow;

use burn::module::Module;
use burn::tensor::TensorData;
use deim_data::Draws;
use deim_spec::config::Model;

use crate::weights;

/// The module with its initial weights.
pub(crate) fn draw<M: Module>(module: M, model: &Model, seed: u64) -> M {
    let mut fan_in_of_last_weight = 1;
    weights::fill(module, |name, shape| {
        // PyTorch draws a linear bias from the fan-in of its weight, which comes just before it.
        if name.ends_with("weight") && shape.len() > 1 {
            fan_in_of_last_weight = shape[1..].iter().product();
        }
        let mut draws = Draws::new(seed, &drawn_as(name), &[]);
        let values = initial(name, shape, fan_in_of_last_weight, model, &mut draws);
        Some(TensorData::new(values, shape.to_vec()))
    })
}

/// The name that a tensor's values are drawn by. The layers of an official decoder are copies of
/// one layer, so they start alike.
fn drawn_as(name: &str) -> Cow<'_, str> {
    const LAYERS: &str = "decoder.decoder.layers.";
    match name.strip_prefix(LAYERS).and_then(|rest| rest.split_once('.')) {
        Some((_, part)) => Cow::Owned(format!("{LAYERS}0.{part}")),
        None => Cow::Borrowed(name),
    }
}

fn initial(
    name: &str,
    shape: &[usize],
    fan_in: usize,
    model: &Model,
    draws: &mut Draws,
) -> Vec<f32> {
    let count = shape.iter().product();
    let mut uniform = |bound: f64| -> Vec<f32> {
        (0..count).map(|_| draws.range(-bound, bound) as f32).collect()
    };
    let fixed = |value: f32| vec![value; count];
    let xavier = || (6.0 / (shape[0] + shape[1]) as f64).sqrt();

    // Normalisation layers start as the identity.
    if name.contains("norm") || name.contains(".bn.") {
        let one = name.ends_with("weight") || name.ends_with("running_var");
        return fixed(if one { 1.0 } else { 0.0 });
    }
    // So do the affine maps of HGNetv2.
    if name.contains(".lab.") {
        return fixed(if name.ends_with("scale") { 1.0 } else { 0.0 });
    }
    // D-FINE's constants of the bins.
    if name.ends_with(".up") {
        return fixed(0.5);
    }
    if name.ends_with(".reg_scale") {
        return fixed(model.decoder.reg_scale as f32);
    }
    // Class heads start at a probability of 0.01.
    if name.contains("score_head") && name.ends_with("bias") {
        return fixed(-(99_f32).ln());
    }
    // Box heads start by changing nothing.
    if name.contains("bbox_head.") && name.contains("layers.2.") {
        return fixed(0.0);
    }
    // D-FINE's gates halve, and its estimates of quality add nothing.
    if name.contains("gateway.gate.") || name.contains("reg_conf.layers.1.") {
        return fixed(0.0);
    }
    if name.ends_with("denoising_class_embed.weight") {
        let padding = count - shape[1];
        return (0..count)
            .map(|index| if index < padding { draws.normal() as f32 } else { 0.0 })
            .collect();
    }
    if name.contains("cross_attn") {
        return match name.rsplit("cross_attn.").next() {
            Some("sampling_offsets.bias") => offset_directions(model),
            Some("value_proj.weight" | "output_proj.weight") => uniform(xavier()),
            _ => fixed(0.0),
        };
    }
    if name.ends_with("in_proj_weight") {
        return uniform(xavier());
    }
    if name.ends_with("in_proj_bias") || name.ends_with("out_proj.bias") {
        return fixed(0.0);
    }
    let feedforward = name.contains("decoder.layers.")
        && (name.ends_with("linear1.weight") || name.ends_with("linear2.weight"));
    let projection = name.starts_with("decoder.input_proj.");
    if feedforward || projection {
        return uniform(xavier());
    }
    // All layers of the query position head but the last of the three, and the token projection.
    let position_head =
        name.contains("query_pos_head.layers.0.") || name.contains("query_pos_head.layers.1.");
    if name.ends_with("weight") && (position_head || name.contains("enc_output.proj")) {
        return uniform(xavier());
    }
    // PyTorch's default for convolutions and linear layers, weights and biases alike.
    uniform((fan_in as f64).sqrt().recip())
}

/// The sampling points of head k start along the direction of angle k, the nth point n steps out.
fn offset_directions(model: &Model) -> Vec<f32> {
    let decoder = &model.decoder;
    let mut values = Vec::new();
    for head in 0..decoder.heads {
        let angle = head as f64 * std::f64::consts::TAU / decoder.heads as f64;
        let (sin, cos) = angle.sin_cos();
        let longest = sin.abs().max(cos.abs());
        for &count in &decoder.points {
            for point in 1..=count {
                values.extend([cos, sin].map(|side| (side / longest * point as f64) as f32));
            }
        }
    }
    values
}
