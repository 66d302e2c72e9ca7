//! The pseudo random weights of the cases: splitmix64 seeded by the FNV-1a hash of a name.

/// A weight matrix as the cases fill it: uniform, scaled by the number of columns.
pub fn matrix(name: &str, rows: usize, columns: usize) -> Vec<f32> {
    let scale = (3.0 / columns as f64).sqrt() as f32;
    uniform(name, rows * columns).into_iter().map(|f| (2.0 * f - 1.0) * scale).collect()
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

    #[test]
    fn the_generator_has_its_published_values() {
        let first = uniform("backbone.stem.stem1.conv.weight", 3);
        for (ours, expected) in first.iter().zip([0.519157112_f32, 0.503617644, 0.138482213]) {
            assert!((ours - expected).abs() < 1e-7, "{ours} {expected}");
        }
        let weight = matrix("decoder.decoder.layers.0.self_attn.in_proj_weight", 384, 128);
        for (ours, expected) in weight.iter().zip([0.110718124_f32, -0.11920204, -0.0258445442]) {
            assert!((ours - expected).abs() < 1e-7, "{ours} {expected}");
        }
    }
}
