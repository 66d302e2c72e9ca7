//! The gradient of a convolution's weight: a table of inner products of shifted runs.

use rayon::prelude::*;

use super::kernels;
use super::layout::Layout;
use crate::conv::Geometry;
use crate::flex;

/// Rows and columns of the table of inner products that are computed together.
pub(super) const TABLE: [usize; 2] = [4, 6];
/// Pixels of one part of an inner product, so that the channels' parts stay in the nearer cache.
const PART: usize = 1024;

/// `[to, from * taps]`: inner products of the gradients' runs with the input's shifted ones.
pub(super) fn weight_gradient(
    g: &Geometry,
    layout: &Layout,
    input: &[f32],
    gradient: &[f32],
) -> Vec<f32> {
    let taps = g.kernel * g.kernel;
    let length = g.batch * layout.phase;
    let offsets: Vec<usize> = (0..g.depth())
        .map(|term| term / taps * layout.channel() + layout.offset(term % taps))
        .collect();
    let gradient = &gradient[layout.front()..];
    let most = offsets.iter().max().map_or(0, |offset| offset + length);
    assert!(most <= input.len() && g.to * length <= gradient.len());
    let mut d_weight = vec![0.0; g.to * g.depth()];
    let elements = d_weight.len() * length / 8;
    let items = d_weight.par_chunks_mut(TABLE[0] * g.depth()).enumerate();
    flex::for_each(elements, items, |(item, d_weight)| {
        let rows = d_weight.len() / g.depth();
        for first in (0..length).step_by(PART) {
            let count = PART.min(length - first);
            for column in (0..g.depth()).step_by(TABLE[1]) {
                let columns = TABLE[1].min(g.depth() - column);
                // Beyond the table's end the last row or column is computed again.
                let left: [usize; TABLE[0]] = std::array::from_fn(|row| {
                    (item * TABLE[0] + row.min(rows - 1)) * length + first
                });
                let right: [usize; TABLE[1]] =
                    std::array::from_fn(|index| offsets[column + index.min(columns - 1)] + first);
                #[expect(unsafe_code, reason = "vectors of the processor, checked for all loads")]
                // SAFETY: `serves` saw AVX-512; the assert above bounds all that is read, because
                // `count` is a multiple of the lanes like `length` and `PART`.
                let products = unsafe {
                    kernels::inner_products(
                        left.map(|at| gradient.as_ptr().add(at)),
                        right.map(|at| input.as_ptr().add(at)),
                        count,
                    )
                };
                for (row, products) in products.iter().take(rows).enumerate() {
                    let sums = &mut d_weight[row * g.depth() + column..][..columns];
                    sums.iter_mut().zip(products).for_each(|(sum, product)| *sum += product);
                }
            }
        }
    });
    d_weight
}
