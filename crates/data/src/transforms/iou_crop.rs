//! A crop that keeps some box well in sight (deim-facts 3.2).

use crate::draws::Draws;
use crate::sample::Sample;
use crate::transforms::boxes::retain;

/// Least IoU that some kept box has with the crop, drawn per attempt; 1 means no crop.
pub const OPTIONS: [f32; 7] = [0.0, 0.1, 0.3, 0.5, 0.7, 0.9, 1.0];
/// Crops tried per option.
pub const TRIALS: usize = 40;
/// Least share of each side that a crop keeps.
pub const SMALLEST: f32 = 0.3;
/// Width over height of a crop.
pub const ASPECT: std::ops::RangeInclusive<f64> = 0.5..=2.0;

/// The part of an image that a crop keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IouCrop {
    pub left: usize,
    pub top: usize,
    pub width: usize,
    pub height: usize,
}

/// Where the draws of a crop come from: a stream, or a recording of the official pipeline's.
pub trait CropDraws {
    /// True with the given probability.
    fn applies(&mut self, probability: f64) -> bool;
    /// An index below `count`.
    fn option(&mut self, count: usize) -> usize;
    /// Uniform in `[0, 1)`.
    fn share(&mut self) -> f32;
}

impl CropDraws for Draws {
    fn applies(&mut self, probability: f64) -> bool {
        self.chance(probability)
    }

    fn option(&mut self, count: usize) -> usize {
        self.below(count)
    }

    fn share(&mut self) -> f32 {
        self.unit() as f32
    }
}

impl IouCrop {
    /// With `probability`, a crop of an image with these boxes; none also when "no crop" is drawn.
    ///
    /// Draws, after the one for the probability: an option, then per trial two for the size and,
    /// where the aspect ratio passes, two for the place; after the last trial another option.
    /// Without a box no trial can succeed, so it ends when "no crop" is drawn, as in the official
    /// pipeline.
    pub fn draw(
        [width, height]: [usize; 2],
        boxes: &[[f32; 4]],
        probability: f64,
        draws: &mut impl CropDraws,
    ) -> Option<IouCrop> {
        if !draws.applies(probability) {
            return None;
        }
        loop {
            let least = OPTIONS[draws.option(OPTIONS.len())];
            if least >= 1.0 {
                return None;
            }
            for _ in 0..TRIALS {
                let side = |full: usize, unit: f32| {
                    (full as f32 * (SMALLEST + (1.0 - SMALLEST) * unit)) as usize
                };
                let (w, h) = (side(width, draws.share()), side(height, draws.share()));
                // An image of so few pixels that a side vanishes cannot be cropped.
                if h == 0 || w == 0 || !ASPECT.contains(&(w as f64 / h as f64)) {
                    continue;
                }
                let left = ((width - w) as f32 * draws.share()) as usize;
                let top = ((height - h) as f32 * draws.share()) as usize;
                let crop = IouCrop { left, top, width: w, height: h };
                let best = boxes
                    .iter()
                    .filter(|rect| crop.holds_centre(rect))
                    .map(|rect| crop.iou(rect))
                    .reduce(f32::max);
                if best.is_some_and(|best| best >= least) {
                    return Some(crop);
                }
            }
        }
    }

    /// Drops the boxes whose centre is outside, with their labels, and clips the others.
    pub fn cut(&self, sample: &mut Sample) {
        let kept: Vec<bool> = sample.boxes.iter().map(|rect| self.holds_centre(rect)).collect();
        retain(&mut sample.boxes, &kept);
        retain(&mut sample.labels, &kept);
        let (left, top) = (self.left as f32, self.top as f32);
        let (width, height) = (self.width as f32, self.height as f32);
        for rect in &mut sample.boxes {
            *rect = [
                (rect[0] - left).clamp(0.0, width),
                (rect[1] - top).clamp(0.0, height),
                (rect[2] - left).clamp(0.0, width),
                (rect[3] - top).clamp(0.0, height),
            ];
        }
    }

    fn edges(&self) -> [f32; 4] {
        let (right, bottom) = (self.left + self.width, self.top + self.height);
        [self.left as f32, self.top as f32, right as f32, bottom as f32]
    }

    /// Whether the crop keeps a box: its centre is inside, not on an edge.
    pub fn holds_centre(&self, rect: &[f32; 4]) -> bool {
        let [left, top, right, bottom] = self.edges();
        let (cx, cy) = (0.5 * (rect[0] + rect[2]), 0.5 * (rect[1] + rect[3]));
        left < cx && cx < right && top < cy && cy < bottom
    }

    fn iou(&self, rect: &[f32; 4]) -> f32 {
        let [left, top, right, bottom] = self.edges();
        let w = (rect[2].min(right) - rect[0].max(left)).max(0.0);
        let h = (rect[3].min(bottom) - rect[1].max(top)).max(0.0);
        let own = (rect[2] - rect[0]) * (rect[3] - rect[1]);
        let crop = (right - left) * (bottom - top);
        w * h / (own + crop - w * h)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transforms::tests_support::sample_of;

    #[test]
    fn a_crop_keeps_the_boxes_whose_centre_it_holds_and_clips_them() {
        let mut sample = sample_of(20, 10);
        sample.boxes = vec![[0.0, 0.0, 4.0, 4.0], [8.0, 2.0, 18.0, 8.0]];
        sample.labels = vec![1, 2];
        IouCrop { left: 6, top: 3, width: 10, height: 6 }.cut(&mut sample);
        assert_eq!(sample.labels, [2]);
        assert_eq!(sample.boxes, [[2.0, 0.0, 10.0, 5.0]]);
    }

    #[test]
    fn a_sample_without_boxes_comes_back_uncropped() {
        let mut draws = Draws::new(0, "iou-crop", &[]);
        assert_eq!(IouCrop::draw([30, 30], &[], 1.0, &mut draws), None);
    }

    /// Always the same option; shares from a list.
    struct Recorded(usize, std::vec::IntoIter<f32>);

    impl CropDraws for Recorded {
        fn applies(&mut self, _: f64) -> bool {
            true
        }

        fn option(&mut self, _: usize) -> usize {
            self.0
        }

        fn share(&mut self) -> f32 {
            self.1.next().expect("the crop drew more than was recorded")
        }
    }

    #[test]
    fn trials_are_refused_by_aspect_then_by_centre_then_by_iou() {
        let boxes = [[10.0, 10.0, 60.0, 60.0]];
        let shares = vec![
            1.0, 0.0, // 100 x 30: too wide, no place is drawn
            0.5, 0.5, 0.99, 0.99, // 65 x 65 bottom right: misses the centre of the box
            0.99, 0.99, 0.0, 0.0, // 99 x 99: IoU 0.26
            0.5, 0.5, 0.0, 0.0, // 65 x 65 top left: IoU 0.59
        ];
        // Option 3 asks for an IoU of 0.5.
        let mut draws = Recorded(3, shares.into_iter());
        let crop = IouCrop::draw([100, 100], &boxes, 1.0, &mut draws);
        assert_eq!(crop, Some(IouCrop { left: 0, top: 0, width: 65, height: 65 }));
        assert_eq!(draws.1.next(), None);
        // The last option is no crop at all.
        let mut none = Recorded(6, vec![].into_iter());
        assert_eq!(IouCrop::draw([100, 100], &boxes, 1.0, &mut none), None);
    }
}
