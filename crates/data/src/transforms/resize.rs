//! Resizing with Pillow's antialiased bilinear filter, bit for bit (deim-facts 3.2 and 3.3).

use std::ops::Range;

use crate::sample::{Image, Sample};
use crate::simd::fastest;
use crate::transforms::frame::Frame;

/// Pillow's fixed point: 32 bits less 8 for the value and 2 for sums of filters that overshoot.
const FRACTION: u32 = 22;
const HALF: i32 = 1 << (FRACTION - 1);

/// The image at exactly `width` x `height`, without keeping its aspect ratio.
pub fn resize_image(image: &Image, width: usize, height: usize) -> Image {
    resize_frame(image, Frame::around(image), width, height)
}

/// What a frame shows, at exactly `width` x `height`.
///
/// Equal to resizing the rendered frame; what is black in it costs nothing.
pub fn resize_frame(image: &Image, frame: Frame, width: usize, height: usize) -> Image {
    if frame == Frame::around(image) && (width, height) == (image.width, image.height) {
        return image.clone();
    }
    let columns = Taps::new(frame.width, width, frame.left, frame.columns(image));
    let rows = Taps::new(frame.height, height, frame.top, frame.rows(image));
    let mut out = Image::black(width, height);
    let needed = rows.reach();
    if columns.reach().is_empty() || needed.is_empty() {
        return out;
    }
    let line = image.width * 3;
    let source = &image.pixels[needed.start * line..needed.end * line];
    let rows_first = rows_first([frame.width, frame.height], [width, height]);
    let between = if rows_first { height * image.width } else { needed.len() * width };
    let mut between = vec![0; between * 3];
    fastest(
        #[inline(always)]
        || {
            if rows_first {
                squeeze_rows(source, line, needed.start, &rows, &mut between);
                squeeze_columns(&between, image.width, &columns, &mut out.pixels);
            } else {
                squeeze_columns(source, image.width, &columns, &mut between);
                squeeze_rows(&between, width * 3, needed.start, &rows, &mut out.pixels);
            }
        },
    );
    out
}

/// Whether Pillow (from its version 13 on) shrinks the height before it touches the width: where only
/// the height shrinks, or shrinks by a much larger factor.
///
/// How much larger is not known: the reference cases show that 1.26 is not and 2.2 is. Between
/// them the two orders differ by a level in some pixels.
fn rows_first(from: [usize; 2], to: [usize; 2]) -> bool {
    let shrinks = to[1] < from[1];
    shrinks && (to[0] >= from[0] || from[1] * to[0] > 2 * from[0] * to[1])
}

/// Which source pixels, with which weights, make each output pixel along one axis.
struct Taps {
    /// First source pixel of each output pixel.
    starts: Vec<usize>,
    /// As many weights for each output pixel as the one with most has; the rest are 0.
    weights: Vec<i32>,
    per_output: usize,
    /// Outputs whose weights are all there, the others see only black.
    source: Range<usize>,
}

impl Taps {
    /// The filter from a line of `from` pixels to one of `to`. The source is the part `seen` of an
    /// image that begins at `offset` in the line; everything else in the line is black, so its
    /// weights are left out.
    fn new(from: usize, to: usize, offset: i64, seen: Range<usize>) -> Self {
        let scale = from as f64 / to as f64;
        let support = scale.max(1.0);
        let mut starts = Vec::with_capacity(to);
        let mut lists = Vec::with_capacity(to);
        for output in 0..to {
            let centre = (output as f64 + 0.5) * scale;
            let first = (centre - support + 0.5) as usize;
            let last = ((centre + support + 0.5) as usize).min(from);
            let mut weights: Vec<f64> = (first..last)
                .map(|at| triangle((at as f64 - centre + 0.5) * (1.0 / support)))
                .collect();
            let sum: f64 = weights.iter().sum();
            if sum != 0.0 {
                weights.iter_mut().for_each(|weight| *weight /= sum);
            }
            // From places in the line to places in the image.
            let start = first as i64 - offset;
            let cut = (seen.start as i64 - start).clamp(0, weights.len() as i64) as usize;
            let end = (seen.end as i64 - start).clamp(cut as i64, weights.len() as i64) as usize;
            let fixed = |weight: &f64| (0.5 + weight * f64::from(1 << FRACTION)) as i32;
            let kept: Vec<i32> = weights[cut..end].iter().map(fixed).collect();
            starts.push(if kept.is_empty() { seen.start } else { (start + cut as i64) as usize });
            lists.push(kept);
        }
        let per_output = lists.iter().map(Vec::len).max().unwrap_or(0);
        // A window of `per_output` pixels has to fit into the source everywhere.
        let mut weights = vec![0; to * per_output];
        for ((start, list), window) in
            starts.iter_mut().zip(&lists).zip(weights.chunks_exact_mut(per_output.max(1)))
        {
            let shifted = (*start).min(seen.end - per_output);
            let at = *start - shifted;
            window[at..at + list.len()].copy_from_slice(list);
            *start = shifted;
        }
        Self { starts, weights, per_output, source: seen }
    }

    /// The source pixels that any output needs.
    fn reach(&self) -> Range<usize> {
        let first = self.starts.iter().min().copied().unwrap_or(0);
        let last = self.starts.iter().max().map_or(0, |start| start + self.per_output);
        if self.per_output == 0 { 0..0 } else { first..last.min(self.source.end) }
    }

    fn outputs(&self) -> impl Iterator<Item = (usize, &[i32])> {
        self.starts.iter().copied().zip(self.weights.chunks_exact(self.per_output.max(1)))
    }
}

fn triangle(distance: f64) -> f64 {
    (1.0 - distance.abs()).max(0.0)
}

/// Weighted sums along lines of `width` pixels.
#[inline(always)]
fn squeeze_columns(lines: &[u8], width: usize, taps: &Taps, out: &mut [u8]) {
    let bytes = width * 3;
    let lines = lines.chunks_exact(bytes);
    // Pixels are read four bytes at a time, so a line needs a byte to spare.
    let mut line = vec![0; bytes + 1];
    for (source, target) in lines.zip(out.chunks_exact_mut(taps.starts.len() * 3)) {
        line[..bytes].copy_from_slice(source);
        let (target, _) = target.as_chunks_mut::<3>();
        match taps.per_output {
            2 => squeeze_line::<2>(&line, taps, target),
            3 => squeeze_line::<3>(&line, taps, target),
            4 => squeeze_line::<4>(&line, taps, target),
            5 => squeeze_line::<5>(&line, taps, target),
            6 => squeeze_line::<6>(&line, taps, target),
            _ => squeeze_line_any(&line, taps, target),
        }
    }
}

#[inline(always)]
fn squeeze_line<const TAPS: usize>(line: &[u8], taps: &Taps, target: &mut [[u8; 3]]) {
    let (windows, _) = taps.weights.as_chunks::<TAPS>();
    for ((pixel, &start), weights) in target.iter_mut().zip(&taps.starts).zip(windows) {
        let window = &line[start * 3..start * 3 + TAPS * 3 + 1];
        let mut sums = [HALF; 4];
        for tap in 0..TAPS {
            for channel in 0..4 {
                sums[channel] += i32::from(window[tap * 3 + channel]) * weights[tap];
            }
        }
        *pixel = std::array::from_fn(|channel| value_of(sums[channel]));
    }
}

#[inline(always)]
fn squeeze_line_any(line: &[u8], taps: &Taps, target: &mut [[u8; 3]]) {
    for (pixel, (start, weights)) in target.iter_mut().zip(taps.outputs()) {
        let window = &line[start * 3..start * 3 + weights.len() * 3 + 1];
        let mut sums = [HALF; 4];
        for (tap, &weight) in weights.iter().enumerate() {
            let Some((values, _)) = window[tap * 3..].split_first_chunk::<4>() else { continue };
            for channel in 0..4 {
                sums[channel] += i32::from(values[channel]) * weight;
            }
        }
        *pixel = std::array::from_fn(|channel| value_of(sums[channel]));
    }
}

/// Weights that are rounded up may add up to a little more than one.
#[inline(always)]
fn value_of(sum: i32) -> u8 {
    (sum >> FRACTION).min(255) as u8
}

/// Bytes whose sums are kept in registers at a time.
const BLOCK: usize = 64;

/// Weighted sums of whole lines of so many bytes, of which the first is the source's line `first`.
#[inline(always)]
fn squeeze_rows(lines: &[u8], bytes: usize, first: usize, taps: &Taps, out: &mut [u8]) {
    for ((start, weights), target) in taps.outputs().zip(out.chunks_exact_mut(bytes)) {
        let source = &lines[(start - first) * bytes..][..weights.len() * bytes];
        let (blocks, rest) = target.as_chunks_mut::<BLOCK>();
        let whole = blocks.len() * BLOCK;
        for (place, block) in blocks.iter_mut().enumerate() {
            let mut sums = [HALF; BLOCK];
            for (row, &weight) in source.chunks_exact(bytes).zip(weights) {
                let Some((values, _)) = row[place * BLOCK..].split_first_chunk::<BLOCK>() else {
                    continue;
                };
                for (sum, &value) in sums.iter_mut().zip(values) {
                    *sum += i32::from(value) * weight;
                }
            }
            for (value, sum) in block.iter_mut().zip(sums) {
                *value = value_of(sum);
            }
        }
        for (place, value) in rest.iter_mut().enumerate() {
            let column = source.iter().skip(whole + place).step_by(bytes);
            let sum: i32 = column.zip(weights).map(|(&value, &w)| i32::from(value) * w).sum();
            *value = value_of(HALF + sum);
        }
    }
}

/// The image with its shorter side at `side`, its aspect ratio kept (the longer side is truncated).
pub fn resize_shorter(sample: &Sample, side: usize) -> Sample {
    let (width, height) = shorter_to(sample.image.width, sample.image.height, side);
    // Only the small image is copied, not the source.
    let mut small = Sample {
        image: resize_image(&sample.image, width, height),
        boxes: sample.boxes.clone(),
        labels: sample.labels.clone(),
        ..*sample
    };
    rescale(&mut small.boxes, [sample.image.width, sample.image.height], [width, height]);
    small
}

/// The size of an image whose shorter side becomes `side`.
pub fn shorter_to(width: usize, height: usize, side: usize) -> (usize, usize) {
    if width <= height {
        (side, (side * height / width.max(1)).max(1))
    } else {
        ((side * width / height.max(1)).max(1), side)
    }
}

/// Boxes of an image that is resized. Ratios are float32, as in torchvision.
pub fn rescale(boxes: &mut [[f32; 4]], from: [usize; 2], to: [usize; 2]) {
    if from == to {
        return;
    }
    let [x, y] = [0, 1].map(|axis| (to[axis] as f64 / from[axis] as f64) as f32);
    for rect in boxes {
        *rect = [rect[0] * x, rect[1] * y, rect[2] * x, rect[3] * y];
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::transforms::tests_support::sample_of;

    #[test]
    fn halving_averages_so_that_a_checkerboard_turns_grey() {
        let mut sample = sample_of(64, 64);
        for (index, pixel) in sample.image.pixels.chunks_exact_mut(3).enumerate() {
            pixel.fill(if (index % 64 + index / 64) % 2 == 0 { 0 } else { 200 });
        }
        let small = resize_image(&sample.image, 32, 32);
        assert!(small.pixels.iter().all(|&v| (96..=104).contains(&v)), "no antialiasing");
    }

    #[test]
    fn a_tile_keeps_its_aspect_and_its_boxes_follow() {
        let mut sample = sample_of(30, 60);
        sample.boxes = vec![[3.0, 6.0, 30.0, 60.0]];
        let tile = resize_shorter(&sample, 10);
        assert_eq!((tile.image.width, tile.image.height), (10, 20));
        assert_eq!(tile.boxes, [[1.0, 2.0, 10.0, 20.0]]);
    }

    #[test]
    fn the_longer_side_is_truncated() {
        assert_eq!(shorter_to(641, 480, 320), (427, 320));
        assert_eq!(shorter_to(333, 500, 320), (320, 480));
        assert_eq!(shorter_to(320, 320, 64), (64, 64));
    }

    #[test]
    fn a_frame_that_shows_only_black_is_black() {
        let image = sample_of(20, 20).image;
        let frame = Frame { left: 50, top: -60, width: 40, height: 30 };
        assert_eq!(resize_frame(&image, frame, 8, 9), Image::black(8, 9));
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

        /// The shortcut past black pixels is one: the rendered frame gives the same pixels.
        #[test]
        fn a_frame_is_resized_as_if_it_were_rendered(
            image in (1_usize..40, 1_usize..40),
            left in -30_i64..60,
            top in -30_i64..60,
            frame in (1_usize..90, 1_usize..90),
            to in (1_usize..70, 1_usize..70),
        ) {
            let image = sample_of(image.0, image.1).image;
            let frame = Frame { left, top, width: frame.0, height: frame.1 };
            let rendered = frame.render(&image);
            prop_assert_eq!(
                resize_frame(&image, frame, to.0, to.1),
                resize_image(&rendered, to.0, to.1)
            );
        }

        /// Weights sum to one, so a flat image stays what it is at every size.
        #[test]
        fn a_flat_image_stays_flat(
            value: u8,
            from in (1_usize..80, 1_usize..80),
            to in (1_usize..80, 1_usize..80),
        ) {
            let image =
                Image { width: from.0, height: from.1, pixels: vec![value; from.0 * from.1 * 3] };
            let out = resize_image(&image, to.0, to.1);
            prop_assert!(out.pixels.iter().all(|&found| found == value));
        }
    }
}
