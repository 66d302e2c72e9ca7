//! Random draws that depend on nothing but their key.
//!
//! A stream is named by `(seed, what, indices)`, never by what was drawn before it, so any sample of
//! any epoch can be made again alone, by any worker, on any machine.

/// A stream of random numbers, determined by its key alone.
#[derive(Clone, Debug)]
pub struct Draws {
    state: u64,
}

impl Draws {
    /// The stream of one use (`what`, such as `"mosaic"`) at one place (`indices`, such as epoch and sample).
    pub fn new(seed: u64, what: &str, indices: &[u64]) -> Self {
        // FNV-1a over the key, then one mixing round per part: equal keys only for equal parts.
        let mut state = 0xcbf2_9ce4_8422_2325_u64;
        for &byte in what.as_bytes() {
            state = (state ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
        state = mix(state ^ mix(seed.wrapping_add(0x9E37_79B9_7F4A_7C15)));
        for &index in indices {
            state = mix(state.wrapping_add(0x9E37_79B9_7F4A_7C15) ^ mix(index));
        }
        Self { state }
    }

    /// The next 64 random bits (splitmix64).
    pub fn bits(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        mix(self.state)
    }

    /// Uniform in `[0, 1)` with 53 random bits.
    pub fn unit(&mut self) -> f64 {
        (self.bits() >> 11) as f64 * (1.0 / (1_u64 << 53) as f64)
    }

    /// Uniform in `[low, high)`.
    pub fn range(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.unit()
    }

    /// Uniform among `0..count`; `count` must not be zero.
    pub fn below(&mut self, count: usize) -> usize {
        // The bias of the multiply-shift is below 2^-32 for any count that fits in memory.
        ((u128::from(self.bits()) * count as u128) >> 64) as usize
    }

    /// True with the given probability: `unit() < probability`.
    pub fn chance(&mut self, probability: f64) -> bool {
        self.unit() < probability
    }

    /// Standard normal, by Box and Muller.
    pub fn normal(&mut self) -> f64 {
        let radius = (-2.0 * (1.0 - self.unit()).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.unit()).cos()
    }

    /// `0..count` in random order.
    pub fn permutation(&mut self, count: usize) -> Vec<usize> {
        let mut order: Vec<usize> = (0..count).collect();
        for last in (1..count).rev() {
            order.swap(last, self.below(last + 1));
        }
        order
    }
}

/// The indices of a data set in the order in which an epoch goes through them.
pub fn epoch_order(seed: u64, epoch: u32, images: usize) -> Vec<usize> {
    Draws::new(seed, "order", &[u64::from(epoch)]).permutation(images)
}

/// The finaliser of splitmix64: a bijection of 64 bits that mixes all of them.
fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_depends_on_every_part_of_its_key() {
        let first = |seed, what, indices: &[u64]| Draws::new(seed, what, indices).bits();
        let base = first(1, "mosaic", &[2, 3]);
        assert_eq!(base, first(1, "mosaic", &[2, 3]));
        for other in [
            first(2, "mosaic", &[2, 3]),
            first(1, "mixup", &[2, 3]),
            first(1, "mosaic", &[3, 2]),
            first(1, "mosaic", &[2]),
            first(1, "mosaic", &[2, 3, 0]),
        ] {
            assert_ne!(base, other);
        }
    }

    #[test]
    fn a_permutation_holds_every_index_once() {
        let mut order = Draws::new(0, "order", &[]).permutation(100);
        assert_ne!(order, (0..100).collect::<Vec<_>>());
        order.sort_unstable();
        assert_eq!(order, (0..100).collect::<Vec<_>>());
    }
}
