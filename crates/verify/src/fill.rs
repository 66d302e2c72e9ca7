//! The pseudo random weights and images of the cases: splitmix64 seeded by the FNV-1a hash of a name.

use std::collections::BTreeMap;

use burn::module::Module;
use burn::tensor::TensorData;
use deim_model::weights;

/// What a constructor computes and no fill changes.
const CONSTANTS: [&str; 5] = ["up", "reg_scale", "anchors", "valid_mask", "num_points_scale"];

/// The padding row of this table is zero.
const CLASS_TABLE: &str = "decoder.denoising_class_embed.weight";

/// A module with every tensor filled by its official name.
pub fn filled<M: Module>(module: M) -> Result<M, weights::WeightsError> {
    let tensors: BTreeMap<String, TensorData> = weights::read(&module)
        .into_iter()
        .map(|(name, data)| {
            let shape = data.shape.to_vec();
            let data = tensor(&name, &shape).map_or(data, |values| TensorData::new(values, shape));
            (name, data)
        })
        .collect();
    weights::load(module, &tensors)
}

/// The values of the tensor of this name; none where it keeps what it was built with.
pub fn tensor(name: &str, shape: &[usize]) -> Option<Vec<f32>> {
    let last = name.rsplit('.').next().unwrap_or(name);
    if CONSTANTS.contains(&last) {
        return None;
    }
    let draws = uniform(name, shape.iter().product());
    let each = |value: &dyn Fn(f32) -> f32| Some(draws.iter().map(|&f| value(f)).collect());
    match last {
        "num_batches_tracked" => return each(&|_| 0.0),
        "running_var" => return each(&|f| 0.5 + f),
        "running_mean" => return each(&|f| 0.2 * (f - 0.5)),
        _ => {}
    }
    if shape.len() > 1 {
        let raised =
            ["backbone.stem.", "backbone.stages.", "encoder."].iter().any(|p| name.starts_with(p));
        let gain = if shape.len() == 4 && raised { 1.2 } else { 1.0 };
        let fan_in: usize = shape[1..].iter().product();
        let scale = (gain * (3.0 / fan_in as f64).sqrt()) as f32;
        let mut values: Vec<f32> = draws.iter().map(|f| (2.0 * f - 1.0) * scale).collect();
        if name == CLASS_TABLE {
            let padding = values.len() - shape[1];
            values[padding..].fill(0.0);
        }
        return Some(values);
    }
    if !name.ends_with("bias") {
        return each(&|f| 0.75 + 0.5 * f);
    }
    if name.ends_with("enc_output.proj.bias") {
        return each(&|f| 0.001 * (f - 0.5));
    }
    if name.contains("score_head.") {
        return each(&|f| 0.1 * (f - 0.5) - 4.0);
    }
    each(&|f| 0.1 * (f - 0.5))
}

/// A weight matrix as the cases fill it: uniform, scaled by the number of columns.
pub fn matrix(name: &str, rows: usize, columns: usize) -> Vec<f32> {
    let scale = (3.0 / columns as f64).sqrt() as f32;
    uniform(name, rows * columns).into_iter().map(|f| (2.0 * f - 1.0) * scale).collect()
}

/// The pixels `[batch, 3, height, width]` of a seed: blocks of eight by eight with noise on them.
/// Sides are multiples of eight.
pub fn image(seed: &str, batch: usize, [height, width]: [usize; 2]) -> Vec<f32> {
    let (rows, columns) = (height / 8, width / 8);
    let base = uniform(&format!("image:{seed}"), batch * 3 * rows * columns);
    let noise = uniform(&format!("noise:{seed}"), batch * 3 * height * width);
    noise
        .iter()
        .enumerate()
        .map(|(index, noise)| {
            let (plane, row, column) =
                (index / (height * width), index / width % height, index % width);
            0.8 * base[(plane * rows + row / 8) * columns + column / 8] + 0.2 * noise
        })
        .collect()
}

/// `count` values in `[0, 1)`, multiples of 2^-24.
pub fn uniform(text: &str, count: usize) -> Vec<f32> {
    let mut state = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    (0..count)
        .map(|_| {
            state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
            let mut z = state;
            z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
            z ^= z >> 31;
            (z >> 40) as f32 / (1_u32 << 24) as f32
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn assert_starts(ours: &[f32], expected: &[f32]) {
        for (ours, expected) in ours.iter().zip(expected) {
            assert!((ours - expected).abs() < 5e-7, "{ours} {expected}");
        }
    }

    #[test]
    fn the_generator_has_its_published_values() {
        let first = uniform("backbone.stem.stem1.conv.weight", 3);
        assert_starts(&first, &[0.519157112, 0.503617644, 0.138482213]);
        let weight = matrix("decoder.decoder.layers.0.self_attn.in_proj_weight", 384, 128);
        assert_starts(&weight, &[0.110718124, -0.11920204, -0.0258445442]);
    }

    /// The check values of the description of the cases.
    #[test]
    fn every_rule_of_the_fill_has_its_published_values() {
        for (name, shape, expected) in [
            (
                "backbone.stem.stem1.conv.weight",
                &[16, 3, 3, 3][..],
                &[0.0153256897, 0.0028941154, -0.289214224][..],
            ),
            ("backbone.stem.stem1.bn.weight", &[16], &[0.800204873, 0.895073235, 1.05043054]),
            ("backbone.stem.stem1.bn.running_var", &[16], &[0.620262802, 0.727632463, 0.591017425]),
            (
                "encoder.input_proj.0.norm.running_mean",
                &[128],
                &[0.0434169434, 0.0171144363, -0.0758411214],
            ),
            (
                "encoder.input_proj.0.conv.weight",
                &[128, 512, 1, 1],
                &[0.0371182822, -0.00145788176, 0.0840061456],
            ),
            ("decoder.dec_score_head.0.bias", &[80], &[-3.99138069, -4.02282953, -3.96574616]),
            ("backbone.stem.stem1.lab.scale", &[1], &[0.771885872]),
        ] {
            assert_starts(&tensor(name, shape).expect("values"), expected);
        }
        assert_eq!(tensor("decoder.up", &[1]), None);
        let table = tensor(CLASS_TABLE, &[3, 4]).expect("values");
        assert!(table[..8].iter().all(|&v| v != 0.0) && table[8..].iter().all(|&v| v == 0.0));
    }
}
