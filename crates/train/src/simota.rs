//! SimOTA, the one-to-many assignment of YOLOX that the paper compares its matches with.
//!
//! A target takes as many anchors as its best ten overlaps sum up to, the cheapest of those whose
//! centre lies in its box or near its centre; an anchor wanted by several goes to the cheapest.

use deim_data::Target;

use crate::boxes::Box4;

/// One image's predictions, one for each anchor, boxes in pixels.
#[derive(Clone, Copy, Debug)]
pub struct AnchorPredictions<'a> {
    /// `cx, cy, w, h`
    pub boxes: &'a [Box4],
    /// `[anchors, classes]`
    pub class_logits: &'a [f32],
    pub objectness_logits: &'a [f32],
    pub classes: usize,
}

/// A cell of a feature map: its column, row and stride in pixels.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Anchor {
    pub x: f32,
    pub y: f32,
    pub stride: f32,
}

impl Anchor {
    fn centre(self) -> [f32; 2] {
        [(self.x + 0.5) * self.stride, (self.y + 0.5) * self.stride]
    }
}

/// The constants of the assignment.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SimOta {
    /// Half the side of the square around a target's centre, in strides.
    pub centre_radius: f32,
    /// Weight of the overlap in the cost.
    pub iou_weight: f32,
}

impl Default for SimOta {
    fn default() -> Self {
        Self { centre_radius: 2.5, iou_weight: 3.0 }
    }
}

/// Overlaps that decide how many anchors a target takes.
const TOP_OVERLAPS: usize = 10;
/// Added where an anchor's centre is not both in the box and near its centre.
const OUTSIDE_COST: f32 = 100_000.0;

/// An anchor that answers for a target.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Positive {
    pub anchor: usize,
    pub target: usize,
    pub iou: f32,
}

/// The assignment and what led to it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Assignment {
    /// Anchors that lie in some box or near some centre.
    pub candidates: Vec<usize>,
    /// `[targets, candidates]`
    pub costs: Vec<f32>,
    /// `[targets, candidates]`
    pub ious: Vec<f32>,
    /// In anchor order.
    pub positives: Vec<Positive>,
}

impl SimOta {
    /// Assigns one image; the targets' boxes are in pixels, and every label is below the number of
    /// classes.
    pub fn assign(
        &self,
        predictions: AnchorPredictions<'_>,
        anchors: &[Anchor],
        target: &Target,
    ) -> Assignment {
        let count = target.labels.len();
        let near: Vec<Vec<Nearness>> = target
            .boxes
            .iter()
            .map(|&own| anchors.iter().map(|&anchor| self.nearness(anchor, own)).collect())
            .collect();
        let candidates: Vec<usize> = (0..anchors.len())
            .filter(|&anchor| near.iter().any(|row| row[anchor] != Nearness::Far))
            .collect();

        let mut costs = Vec::with_capacity(count * candidates.len());
        let mut ious = Vec::with_capacity(count * candidates.len());
        for (row, (&label, &own)) in target.labels.iter().zip(&target.boxes).enumerate() {
            for &anchor in &candidates {
                let iou = iou(own, predictions.boxes[anchor]);
                let class = class_cost(predictions, anchor, label as usize);
                let outside = if near[row][anchor] == Nearness::Both { 0.0 } else { OUTSIDE_COST };
                costs.push(class + self.iou_weight * -(iou + 1e-8).ln() + outside);
                ious.push(iou);
            }
        }
        let positives = positives(&costs, &ious, count, &candidates);
        Assignment { candidates, costs, ious, positives }
    }

    fn nearness(&self, anchor: Anchor, [cx, cy, w, h]: Box4) -> Nearness {
        let [x, y] = anchor.centre();
        let within = |half_w: f32, half_h: f32| {
            x - (cx - half_w) > 0.0
                && y - (cy - half_h) > 0.0
                && (cx + half_w) - x > 0.0
                && (cy + half_h) - y > 0.0
        };
        let radius = self.centre_radius * anchor.stride;
        match (within(0.5 * w, 0.5 * h), within(radius, radius)) {
            (true, true) => Nearness::Both,
            (false, false) => Nearness::Far,
            _ => Nearness::One,
        }
    }
}

/// Whether an anchor's centre lies in a target's box and near its centre.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Nearness {
    Both,
    One,
    Far,
}

/// Binary cross entropy of all class scores, each the root of class times objectness probability.
fn class_cost(predictions: AnchorPredictions<'_>, anchor: usize, label: usize) -> f32 {
    let sigmoid = |logit: f32| 1.0 / (1.0 + (-logit).exp());
    let objectness = sigmoid(predictions.objectness_logits[anchor]);
    let logits = &predictions.class_logits[anchor * predictions.classes..][..predictions.classes];
    // PyTorch bounds the logarithms at -100.
    let entropy = |score: f32| -score.ln().max(-100.0);
    let scores = logits.iter().map(|&logit| (sigmoid(logit) * objectness).sqrt());
    scores
        .enumerate()
        .map(|(class, score)| entropy(if class == label { score } else { 1.0 - score }))
        .sum()
}

/// Intersection over union as YOLOX computes it: zero unless both sides of the overlap are positive.
fn iou(a: Box4, b: Box4) -> f32 {
    let side = |axis: usize| {
        let low = (a[axis] - a[axis + 2] / 2.0).max(b[axis] - b[axis + 2] / 2.0);
        let high = (a[axis] + a[axis + 2] / 2.0).min(b[axis] + b[axis + 2] / 2.0);
        high - low
    };
    let (width, height) = (side(0), side(1));
    let intersection = if width > 0.0 && height > 0.0 { width * height } else { 0.0 };
    intersection / (a[2] * a[3] + b[2] * b[3] - intersection)
}

fn positives(costs: &[f32], ious: &[f32], targets: usize, candidates: &[usize]) -> Vec<Positive> {
    let width = candidates.len();
    let mut wanted: Vec<Vec<usize>> = vec![Vec::new(); width];
    for row in 0..targets {
        let costs = &costs[row * width..(row + 1) * width];
        let mut best = ious[row * width..(row + 1) * width].to_vec();
        best.sort_by(|a, b| b.total_cmp(a));
        let total: f32 = best.iter().take(TOP_OVERLAPS).sum();
        let mut order: Vec<usize> = (0..width).collect();
        order.sort_by(|&a, &b| costs[a].total_cmp(&costs[b]));
        for &column in order.iter().take((total as usize).max(1)) {
            wanted[column].push(row);
        }
    }
    let cheapest = |column: usize| {
        (0..targets)
            .min_by(|&a, &b| costs[a * width + column].total_cmp(&costs[b * width + column]))
    };
    wanted
        .iter()
        .enumerate()
        .filter_map(|(column, rows)| {
            // An anchor wanted by several goes to the cheapest of all targets, as in YOLOX.
            let target = if rows.len() > 1 { cheapest(column)? } else { *rows.first()? };
            let iou = ious[target * width + column];
            Some(Positive { anchor: candidates[column], target, iou })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_well_predicted_target_takes_as_many_anchors_as_its_overlaps_sum_up_to() {
        let anchors: Vec<Anchor> =
            (0..36).map(|i| Anchor { x: (i % 6) as f32, y: (i / 6) as f32, stride: 8.0 }).collect();
        let own = [24.0, 24.0, 32.0, 32.0];
        // Four perfect boxes, the rest elsewhere.
        let boxes: Vec<Box4> = (0..36)
            .map(|i| if i < 22 && i > 17 { own } else { [200.0, 200.0, 4.0, 4.0] })
            .collect();
        let predictions = AnchorPredictions {
            boxes: &boxes,
            class_logits: &[0.0; 36],
            objectness_logits: &[0.0; 36],
            classes: 1,
        };
        let target = Target { labels: vec![0], boxes: vec![own] };
        let result = SimOta::default().assign(predictions, &anchors, &target);
        let taken: Vec<usize> = result.positives.iter().map(|p| p.anchor).collect();
        // Anchor 18 is neither in the box nor near its centre: three good candidates remain.
        assert_eq!(taken.len(), 3, "{:?}", result.positives);
        assert!(taken.iter().all(|anchor| (19..22).contains(anchor)), "{taken:?}");
    }

    #[test]
    fn no_target_takes_no_anchor() {
        let predictions = AnchorPredictions {
            boxes: &[[4.0; 4]],
            class_logits: &[0.0],
            objectness_logits: &[0.0],
            classes: 1,
        };
        let anchors = [Anchor { x: 0.0, y: 0.0, stride: 8.0 }];
        let result = SimOta::default().assign(predictions, &anchors, &Target::default());
        assert_eq!(result, Assignment::default());
    }
}
