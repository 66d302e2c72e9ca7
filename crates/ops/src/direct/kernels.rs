//! The two inner loops, in the vectors of the processor.
#![expect(unsafe_code, reason = "vectors of the processor")]

use std::arch::x86_64::{
    _mm512_add_ps, _mm512_fmadd_ps, _mm512_loadu_ps, _mm512_reduce_add_ps, _mm512_set1_ps,
    _mm512_setzero_ps, _mm512_storeu_ps,
};

use super::LANES;
use super::shifted::TILE;
use super::table::TABLE;

/// Adds to, or writes, `sums[row, pixel]` for [`TILE`] rows and `VECTORS` vectors of pixels: the sum
/// over channels and taps of `weights[term, row] * source[channel * stride + tap + pixel]`. `size` is
/// the channels, their stride, and that of the rows of the sums.
///
/// # Safety
///
/// The processor has these instructions, and all of these lie within their slices.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
pub(super) unsafe fn shifted_sums<const VECTORS: usize>(
    source: *const f32,
    [channels, stride, width]: [usize; 3],
    taps: &[isize],
    weights: *const f32,
    sums: *mut f32,
    add: bool,
) {
    let mut totals = [[_mm512_setzero_ps(); VECTORS]; TILE];
    let (mut source, mut weights) = (source, weights);
    for _ in 0..channels {
        for &tap in taps {
            // SAFETY: the caller's promise.
            unsafe {
                let mut values = [_mm512_setzero_ps(); VECTORS];
                for (vector, value) in values.iter_mut().enumerate() {
                    *value = _mm512_loadu_ps(source.offset(tap).add(vector * LANES));
                }
                for (row, totals) in totals.iter_mut().enumerate() {
                    let weight = _mm512_set1_ps(*weights.add(row));
                    for (total, value) in totals.iter_mut().zip(values) {
                        *total = _mm512_fmadd_ps(weight, value, *total);
                    }
                }
                weights = weights.add(TILE);
            }
        }
        source = source.wrapping_add(stride);
    }
    for (row, totals) in totals.iter().enumerate() {
        for (vector, &total) in totals.iter().enumerate() {
            // SAFETY: the caller's promise.
            unsafe {
                let to = sums.add(row * width + vector * LANES);
                let sum = if add { _mm512_add_ps(_mm512_loadu_ps(to), total) } else { total };
                _mm512_storeu_ps(to, sum);
            }
        }
    }
}

/// The inner products of all `left` with all `right` runs of `count` values, a multiple of
/// [`LANES`].
///
/// # Safety
///
/// The processor has these instructions, and the runs lie within their slices.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
pub(super) unsafe fn inner_products(
    left: [*const f32; TABLE[0]],
    right: [*const f32; TABLE[1]],
    count: usize,
) -> [[f32; TABLE[1]]; TABLE[0]] {
    // No closures in here: they would not be compiled for these instructions.
    let mut totals = [[_mm512_setzero_ps(); TABLE[1]]; TABLE[0]];
    let mut at = 0;
    while at < count {
        let mut lefts = [_mm512_setzero_ps(); TABLE[0]];
        for (value, from) in lefts.iter_mut().zip(left) {
            // SAFETY: the caller's promise.
            *value = unsafe { _mm512_loadu_ps(from.add(at)) };
        }
        for (column, from) in right.iter().enumerate() {
            // SAFETY: the caller's promise.
            let value = unsafe { _mm512_loadu_ps(from.add(at)) };
            for (totals, left) in totals.iter_mut().zip(lefts) {
                totals[column] = _mm512_fmadd_ps(left, value, totals[column]);
            }
        }
        at += LANES;
    }
    let mut products = [[0.0; TABLE[1]]; TABLE[0]];
    for (products, totals) in products.iter_mut().zip(totals) {
        for (product, total) in products.iter_mut().zip(totals) {
            *product = _mm512_reduce_add_ps(total);
        }
    }
    products
}
