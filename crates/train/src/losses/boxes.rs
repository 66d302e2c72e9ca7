//! L1 and GIoU losses of matched boxes, on the host (deim-facts 3.11).
//!
//! A step has few matched boxes, and the matcher has read them all back already; composed of tensor
//! operations these two losses would be the longest part of the graph.

use crate::boxes::{self, Box4};

/// Which similarity weighs a box (`boxes_weight_format`) or replaces the quality of its class.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Similarity {
    Iou,
    Giou,
}

impl Similarity {
    /// The similarity of two boxes.
    pub fn of(self, a: Box4<f64>, b: Box4<f64>) -> f64 {
        let (a, b) = (boxes::corners(a), boxes::corners(b));
        match self {
            Self::Iou => boxes::iou(a, b),
            Self::Giou => boxes::giou(a, b),
        }
    }
}

/// How the box losses of one head enter the total.
#[derive(Clone, Copy, Debug)]
pub struct BoxLoss {
    /// Weight of L1 in the total, divided by the normaliser.
    pub l1: f64,
    /// Weight of GIoU in the total, divided by the normaliser.
    pub giou: f64,
    /// The GIoU loss of each box is multiplied by this similarity, without a gradient through it.
    pub weight: Option<Similarity>,
}

/// Sums of the two losses, with their scales applied.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct BoxSums {
    pub l1: f64,
    pub giou: f64,
}

impl BoxLoss {
    /// Adds a matched box to the sums and to the gradient of its prediction.
    pub fn add(
        &self,
        prediction: Box4<f64>,
        target: Box4<f64>,
        sums: &mut BoxSums,
        gradient: &mut [f64],
    ) {
        let (giou, giou_gradient) = boxes::giou_with_gradient(prediction, boxes::corners(target));
        let weight = self.weight.map_or(1.0, |weight| weight.of(prediction, target));
        sums.l1 += self.l1 * boxes::l1(prediction, target);
        sums.giou += self.giou * (1.0 - giou) * weight;
        let giou_scale = self.giou * weight;
        for axis in 0..4 {
            gradient[axis] +=
                self.l1 * sign(prediction[axis] - target[axis]) - giou_scale * giou_gradient[axis];
        }
    }
}

/// -1, 0 or 1; zero at zero, unlike `f64::signum`.
fn sign(value: f64) -> f64 {
    if value > 0.0 {
        1.0
    } else if value < 0.0 {
        -1.0
    } else {
        0.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_perfect_box_costs_nothing_and_pulls_nowhere() {
        let loss = BoxLoss { l1: 5.0, giou: 2.0, weight: None };
        let (mut sums, mut gradient) = (BoxSums::default(), [0.0; 4]);
        let own = [0.4, 0.5, 0.25, 0.5];
        loss.add(own, own, &mut sums, &mut gradient);
        assert_eq!(sums, BoxSums::default());
        assert!(gradient.iter().all(|slope| slope.abs() < 1e-5), "{gradient:?}");
    }

    #[test]
    fn a_step_against_the_gradient_lowers_both_losses() {
        let loss = BoxLoss { l1: 5.0, giou: 2.0, weight: Some(Similarity::Iou) };
        let (target, mut own) = ([0.5, 0.5, 0.3, 0.2], [0.42, 0.55, 0.2, 0.3]);
        let (mut before, mut gradient) = (BoxSums::default(), [0.0; 4]);
        loss.add(own, target, &mut before, &mut gradient);
        for axis in 0..4 {
            own[axis] -= 1e-3 * gradient[axis];
        }
        let mut after = BoxSums::default();
        loss.add(own, target, &mut after, &mut [0.0; 4]);
        assert!(after.l1 < before.l1, "{before:?} {after:?}");
    }
}
