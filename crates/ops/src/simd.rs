//! The widest vector instructions that the processor has, for loops that the compiler vectorises.
//!
//! The build targets every x86-64 processor. What is called in here is compiled again for newer ones.
//! Rust never merges or reorders floating-point operations, so the width does not change a result.

/// What the processor has, as far as kernels are compiled for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(not(target_arch = "x86_64"), allow(dead_code, reason = "other processors have one"))]
pub(crate) enum Level {
    Avx512,
    Avx2,
    Any,
}

/// The level of this processor.
#[inline]
#[cfg_attr(not(target_arch = "x86_64"), allow(dead_code, reason = "other processors have one"))]
pub(crate) fn level() -> Level {
    #[cfg(target_arch = "x86_64")]
    {
        let has_avx2 = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
        if has_avx2
            && is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("avx512vl")
        {
            return Level::Avx512;
        }
        if has_avx2 {
            return Level::Avx2;
        }
    }
    Level::Any
}

/// Defines a function that is compiled once for each [`Level`]; a call runs that of the processor.
/// Everything that its body calls must be inlined to have a share in that.
macro_rules! vectorised {
    ($(#[$meta:meta])* $visibility:vis fn $name:ident($($argument:ident: $type:ty),* $(,)?)
        $(-> $result:ty)? $body:block) => {
        $(#[$meta])*
        #[allow(clippy::too_many_arguments, reason = "sizes and slices of a kernel")]
        $visibility fn $name($($argument: $type),*) $(-> $result)? {
            #[inline(always)]
            fn plain($($argument: $type),*) $(-> $result)? $body

            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
                fn avx512($($argument: $type),*) $(-> $result)? {
                    plain($($argument),*)
                }

                #[target_feature(enable = "avx2,fma")]
                fn avx2($($argument: $type),*) $(-> $result)? {
                    plain($($argument),*)
                }

                match $crate::simd::level() {
                    #[expect(unsafe_code, reason = "instructions that not every processor has")]
                    // SAFETY: this one has them.
                    $crate::simd::Level::Avx512 => return unsafe { avx512($($argument),*) },
                    #[expect(unsafe_code, reason = "instructions that not every processor has")]
                    // SAFETY: this one has them.
                    $crate::simd::Level::Avx2 => return unsafe { avx2($($argument),*) },
                    $crate::simd::Level::Any => {}
                }
            }
            plain($($argument),*)
        }
    };
}
pub(crate) use vectorised;

/// Values that are computed on together.
pub(crate) const LANES: usize = 16;

vectorised! {
    /// Inner product in four groups of lanes, so that its order of addition is fixed.
    pub(crate) fn dot(a: &[f32], b: &[f32]) -> f32 {
        let mut sums = [[0.0_f32; LANES]; 4];
        let (a_blocks, b_blocks) = (a.chunks_exact(4 * LANES), b.chunks_exact(4 * LANES));
        let rest = (a_blocks.remainder(), b_blocks.remainder());
        for (a, b) in a_blocks.zip(b_blocks) {
            for (group, sums) in sums.iter_mut().enumerate() {
                add_products(sums, &a[group * LANES..], &b[group * LANES..]);
            }
        }
        let (a_chunks, b_chunks) = (rest.0.chunks_exact(LANES), rest.1.chunks_exact(LANES));
        let ends = a_chunks.remainder().iter().zip(b_chunks.remainder());
        let end = ends.fold(0.0_f32, |sum, (a, b)| a.mul_add(*b, sum));
        for (a, b) in a_chunks.zip(b_chunks) {
            add_products(&mut sums[0], a, b);
        }
        let [mut first, second, third, fourth] = sums;
        for lane in 0..LANES {
            first[lane] = (first[lane] + second[lane]) + (third[lane] + fourth[lane]);
        }
        first.iter().sum::<f32>() + end
    }
}

#[inline(always)]
fn add_products(sums: &mut [f32; LANES], a: &[f32], b: &[f32]) {
    let (a, b) = (&a[..LANES], &b[..LANES]);
    for lane in 0..LANES {
        sums[lane] = a[lane].mul_add(b[lane], sums[lane]);
    }
}

vectorised! {
    /// `output[i] = sum over taps of weight * source[offset + i]`, in the order of the taps; `source` must
    /// reach as far as the largest offset asks for.
    pub(crate) fn correlate(source: &[f32], taps: &[(usize, f32)], output: &mut [f32]) {
        const BLOCK: usize = 4 * LANES;
        let blocks = output.len() / BLOCK;
        let (whole, rest) = output.split_at_mut(blocks * BLOCK);
        for (block, output) in whole.chunks_exact_mut(BLOCK).enumerate() {
            let mut sums = [[0.0_f32; LANES]; 4];
            for &(offset, weight) in taps {
                let source = &source[block * BLOCK + offset..][..BLOCK];
                for (group, sums) in sums.iter_mut().enumerate() {
                    add_scaled(sums, weight, &source[group * LANES..]);
                }
            }
            for (output, sums) in output.chunks_exact_mut(LANES).zip(&sums) {
                output.copy_from_slice(sums);
            }
        }
        let mut at = blocks * BLOCK;
        let mut chunks = rest.chunks_exact_mut(LANES);
        for output in &mut chunks {
            let mut sums = [0.0_f32; LANES];
            for &(offset, weight) in taps {
                add_scaled(&mut sums, weight, &source[at + offset..]);
            }
            output.copy_from_slice(&sums);
            at += LANES;
        }
        for (index, output) in chunks.into_remainder().iter_mut().enumerate() {
            let products = taps.iter().map(|&(offset, weight)| (weight, source[at + index + offset]));
            *output = products.fold(0.0, |sum, (weight, value)| value.mul_add(weight, sum));
        }
    }
}

#[inline(always)]
fn add_scaled(sums: &mut [f32; LANES], weight: f32, source: &[f32]) {
    let source = &source[..LANES];
    for lane in 0..LANES {
        sums[lane] = source[lane].mul_add(weight, sums[lane]);
    }
}
