//! The best values of each row, in order: see [`crate::best_of_rows`].
//!
//! A value's rank is the number of values before it, which a unit counts by itself: a row of 8400 takes
//! 70 million comparisons and no second pass, and nothing waits for the host.

use burn::tensor::{DType, Int, Tensor};
use burn_cubecl::CubeRuntime;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use super::call::{self, Call, Meta, UNITS, on_device};

/// A float as an integer that is ordered as IEEE's total order: NaN above infinity.
#[cube]
fn ordered(value: f32) -> u32 {
    let bits = u32::reinterpret(value);
    let negative = bits >> 31u32 == 1u32;
    select(negative, !bits, bits | 0x8000_0000u32)
}

/// One unit for one value; a cube's values are of one row.
#[cube(launch_unchecked, address_type = "dynamic")]
fn rank_kernel<F: Float>(
    scores: &[F],
    best: &mut [i32],
    width: usize,
    count: usize,
    #[define(F)] _dtype: ElemType,
) {
    let row = CUBE_POS_Y as usize;
    let unit = UNIT_POS as usize;
    let units = UNITS as usize;
    let first = row * width;
    let mine = CUBE_POS_X as usize * units + unit;
    let key = ordered(f32::cast_from(scores[first + min(mine, width - 1)]));
    let mut tile = Shared::<[u32]>::new_slice(units);
    let mut rank = 0usize.runtime();
    for start in range_stepped(0, width, units) {
        tile[unit] = ordered(f32::cast_from(scores[first + min(start + unit, width - 1)]));
        sync_cube();
        for index in 0..min(units, width - start) {
            let other = tile[index];
            // Of equals the first is better.
            if other > key || (other == key && start + index < mine) {
                rank += 1;
            }
        }
        sync_cube();
    }
    if mine < width && rank < count {
        best[row * count + rank] = i32::cast_from(mine);
    }
}

/// Scores `[rows, width]` to the places of the best, `[rows, count]`.
#[derive(Clone, Debug)]
struct Rank(usize);

impl Call for Rank {
    const NAME: &'static str = "best_of_rows";

    fn outputs(&self, inputs: &[Meta]) -> Vec<Meta> {
        let [rows, _] = inputs[0].shape.dims();
        vec![Meta::new([rows, self.0], DType::I32)]
    }

    fn run<R: CubeRuntime>(&self, inputs: Vec<CubeTensor<R>>) -> Vec<CubeTensor<R>> {
        let [scores] = call::exactly(inputs).map(call::dense);
        let [rows, width] = scores.meta.shape().dims();
        let best = call::empty(&scores, Meta::new([rows, self.0], DType::I32));
        let cubes = CubeCount::Static(width.div_ceil(UNITS as usize) as u32, rows as u32, 1);
        // SAFETY: places past the row's end read its last value and write nothing; every rank below
        // `count` belongs to one value.
        unsafe {
            rank_kernel::launch_unchecked(
                &scores.client,
                cubes,
                CubeDim::new_1d(UNITS),
                call::address(&[&scores, &best]),
                scores.clone().into_buffer_arg(),
                best.clone().into_buffer_arg(),
                width,
                self.0,
                call::element(&scores),
            );
        }
        vec![best]
    }
}

/// `scores` have no gradient and at least `count` columns.
pub(crate) fn best_of_rows(scores: Tensor<2>, count: usize) -> Tensor<2, Int> {
    let [best] = call::exactly(on_device(Rank(count), vec![scores.into_dispatch()]));
    Tensor::from_dispatch(best)
}
