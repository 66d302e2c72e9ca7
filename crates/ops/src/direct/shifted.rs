//! Sums of shifted runs: a convolution, and the gradient of its input.

use rayon::prelude::*;

use super::{LANES, kernels};
use crate::flex;

/// Output channels that are computed together.
pub(super) const TILE: usize = 8;
/// Output channels that one thread takes at a time.
const GROUP: usize = 32;
/// Pixels, about, for which the input channels of such a part stay in the nearer cache.
const PIXELS: usize = 768;

/// Weights `[tiles, terms, TILE]` of an output by channel and tap, zeros in the last tile's rest.
pub(super) fn pack(
    outputs: usize,
    terms: usize,
    weight: impl Fn(usize, usize) -> f32 + Sync,
) -> Vec<f32> {
    let mut packed = vec![0.0; outputs.div_ceil(TILE) * terms * TILE];
    let elements = packed.len();
    let tiles = packed.par_chunks_mut(terms * TILE).enumerate();
    flex::for_each(elements, tiles, |(tile, packed)| {
        for row in 0..TILE.min(outputs - tile * TILE) {
            for (term, to) in packed.iter_mut().skip(row).step_by(TILE).enumerate() {
                *to = weight(tile * TILE + row, term);
            }
        }
    });
    packed
}

/// Sums of shifted runs: from the channels of a spread tensor to planes.
pub(super) struct Pass<'a> {
    pub(super) source: &'a [f32],
    /// Where the first image's run begins in the first channel.
    pub(super) start: usize,
    pub(super) image_stride: usize,
    pub(super) channel_stride: usize,
    pub(super) channels: usize,
    /// Terms of a sum, about, that are added up on their own in registers.
    pub(super) terms: usize,
    /// Where each tap reads from there on.
    pub(super) taps: Vec<isize>,
    /// See [`pack`]; a term is a channel and, within it, a tap.
    pub(super) weights: Vec<f32>,
    pub(super) outputs: usize,
    pub(super) rows: usize,
    pub(super) columns: usize,
    pub(super) place: Place,
}

/// Where the runs' rows go in a plane.
#[derive(Clone, Copy)]
pub(super) struct Place {
    pub(super) plane: usize,
    /// The pixel of the first row's first column that is kept.
    pub(super) first: usize,
    pub(super) row_step: usize,
    pub(super) column_step: usize,
    /// Columns of a run before the kept ones, and how many are kept.
    pub(super) skip: usize,
    pub(super) keep: usize,
}

impl Pass<'_> {
    /// Writes all planes: `[batch, outputs, plane]`.
    pub(super) fn run(&self, planes: &mut [f32]) {
        let elements = self.rows * self.columns * self.outputs * self.channels * self.taps.len();
        let items: Vec<_> = planes
            .chunks_mut(self.outputs * self.place.plane)
            .enumerate()
            .flat_map(|(image, planes)| {
                let groups = planes.chunks_mut(GROUP * self.place.plane).enumerate();
                groups.map(move |(group, planes)| (image, group, planes))
            })
            .collect();
        flex::for_each(elements, items.into_par_iter(), |(image, group, planes)| {
            self.group(image, group * GROUP / TILE, planes);
        });
    }

    /// Some outputs of one image.
    fn group(&self, image: usize, first_tile: usize, planes: &mut [f32]) {
        let outputs = planes.len() / self.place.plane;
        let terms = self.channels * self.taps.len();
        let channels_at_once = (self.terms / self.taps.len()).max(1);
        let rows_at_once = (PIXELS / self.columns).clamp(1, self.rows.max(1));
        let width = (rows_at_once * self.columns).next_multiple_of(LANES);
        let mut sums = vec![0.0; outputs.next_multiple_of(TILE) * width];
        let start = self.start + image * self.image_stride;
        for first_row in (0..self.rows).step_by(rows_at_once) {
            let rows = rows_at_once.min(self.rows - first_row);
            let pixels = rows * self.columns;
            for channel in (0..self.channels).step_by(channels_at_once) {
                let channels = channels_at_once.min(self.channels - channel);
                let from = start + channel * self.channel_stride + first_row * self.columns;
                for (tile, sums) in sums.chunks_exact_mut(TILE * width).enumerate() {
                    let weights = &self.weights[(first_tile + tile) * terms * TILE..];
                    let weights = &weights[channel * self.taps.len() * TILE..];
                    self.tile(from, channels, weights, sums, width, pixels, channel > 0);
                }
            }
            let Place { plane, first, row_step, column_step, skip, keep } = self.place;
            for (output, sums) in planes.chunks_exact_mut(plane).zip(sums.chunks_exact(width)) {
                for (row, sums) in sums.chunks_exact(self.columns).take(rows).enumerate() {
                    let to = &mut output[first + (first_row + row) * row_step..];
                    let sums = &sums[skip..skip + keep];
                    if column_step == 1 {
                        to[..keep].copy_from_slice(sums);
                    } else {
                        for (to, sum) in to.iter_mut().step_by(column_step).zip(sums) {
                            *to = *sum;
                        }
                    }
                }
            }
        }
    }

    /// [`TILE`] outputs of `pixels` pixels from some channels, written or added to `sums`.
    #[expect(clippy::too_many_arguments, reason = "the sizes and slices of a kernel")]
    fn tile(
        &self,
        from: usize,
        channels: usize,
        weights: &[f32],
        sums: &mut [f32],
        width: usize,
        pixels: usize,
        add: bool,
    ) {
        let lowest = self.taps.iter().min().copied().unwrap_or(0);
        let highest = self.taps.iter().max().copied().unwrap_or(0);
        let read = pixels.next_multiple_of(LANES);
        let end = from + (channels - 1) * self.channel_stride + read;
        assert!(
            from as isize + lowest >= 0 && end as isize + highest <= self.source.len() as isize
        );
        assert!(weights.len() >= channels * self.taps.len() * TILE);
        assert!(read <= width && sums.len() == TILE * width);
        let mut at = 0;
        while at < read {
            let vectors = ((read - at) / LANES).min(3);
            #[expect(unsafe_code, reason = "vectors of the processor, checked once for all loads")]
            // SAFETY: `serves` saw AVX-512; the asserts above bound all that is read and written.
            unsafe {
                let source = self.source.as_ptr().add(from + at);
                let sums = sums.as_mut_ptr().add(at);
                let kernel = match vectors {
                    1 => kernels::shifted_sums::<1>,
                    2 => kernels::shifted_sums::<2>,
                    _ => kernels::shifted_sums::<3>,
                };
                let size = [channels, self.channel_stride, width];
                kernel(source, size, &self.taps, weights.as_ptr(), sums, add);
            }
            at += vectors * LANES;
        }
    }
}
