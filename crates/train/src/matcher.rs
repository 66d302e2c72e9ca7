//! The Hungarian matcher: which query answers for which target (deim-facts 3.10).
//!
//! Costs and assignments are plain Rust on the host: the criterion reads all heads' predictions back
//! once a step, and everything that depends on them without a gradient is computed there.

use deim_data::Target;
use deim_spec::config;
use rayon::prelude::*;

use crate::assignment::Assigner;
use crate::boxes::{self, Box4, Corners};

/// A query and the target it answers for, both counted within their image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Pair {
    pub query: usize,
    pub target: usize,
}

/// How classes enter the cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClassCost {
    /// The focal cost on sigmoid scores (every shipped config).
    Focal,
    /// Minus the softmax probability; the last logit is the background.
    Softmax,
}

/// The costs' weights and shape.
#[derive(Clone, Copy, Debug)]
pub struct Matcher {
    pub class: f32,
    pub bbox: f32,
    pub giou: f32,
    /// Balance of the focal cost.
    pub alpha: f32,
    /// Exponent of the focal cost.
    pub gamma: f32,
    pub class_cost: ClassCost,
}

/// One image's predictions on the host, row by row.
#[derive(Clone, Copy, Debug)]
pub struct Predictions<'a> {
    /// `[queries, classes]`
    pub logits: &'a [f32],
    /// `[queries, 4]`
    pub boxes: &'a [f32],
    pub classes: usize,
}

impl Predictions<'_> {
    pub fn queries(&self) -> usize {
        self.boxes.len() / 4
    }

    /// The box of a query.
    pub fn box_of(&self, query: usize) -> Box4 {
        box_at(self.boxes, query)
    }
}

/// The box in a row of flat boxes.
pub fn box_at(boxes: &[f32], row: usize) -> Box4 {
    let at = 4 * row;
    [boxes[at], boxes[at + 1], boxes[at + 2], boxes[at + 3]]
}

/// Below this many costs a step's matching is not worth waking other threads.
const PARALLEL_FROM: usize = 60_000;

impl Matcher {
    /// The matcher of a configuration.
    pub fn new(config: &config::Matcher) -> Self {
        Self {
            class: config.class as f32,
            bbox: config.bbox as f32,
            giou: config.giou as f32,
            alpha: config.alpha as f32,
            gamma: config.gamma as f32,
            class_cost: ClassCost::Focal,
        }
    }

    /// Fills `costs` with `[queries, targets]` and returns how many were not a number.
    ///
    /// Every label must be below the number of classes.
    pub fn costs(
        &self,
        predictions: Predictions<'_>,
        target: &Target,
        costs: &mut Vec<f32>,
    ) -> usize {
        let columns = target.labels.len();
        costs.clear();
        if columns == 0 {
            return 0;
        }
        costs.reserve(predictions.queries() * columns);
        let corners: Vec<Corners> = target.boxes.iter().map(|&b| boxes::corners(b)).collect();
        // Images repeat classes: the class cost is computed once a class, not once a target.
        let mut labels = target.labels.clone();
        labels.sort_unstable();
        labels.dedup();
        let place = |label: &u32| labels.partition_point(|other| other < label);
        let places: Vec<usize> = target.labels.iter().map(place).collect();
        let mut class_costs = vec![0.0; labels.len()];

        let mut replaced = 0;
        for query in 0..predictions.queries() {
            let logits = &predictions.logits[query * predictions.classes..][..predictions.classes];
            self.class_costs(logits, &labels, &mut class_costs);
            let own = predictions.box_of(query);
            let own_corners = boxes::corners(own);
            for column in 0..columns {
                let cost = self.bbox * boxes::l1(own, target.boxes[column])
                    + self.class * class_costs[places[column]]
                    - self.giou * boxes::giou(own_corners, corners[column]);
                replaced += usize::from(cost.is_nan());
                costs.push(finite(cost));
            }
        }
        replaced
    }

    /// The weightless class cost of each label for one query.
    fn class_costs(&self, logits: &[f32], labels: &[u32], costs: &mut [f32]) {
        match self.class_cost {
            ClassCost::Focal => {
                for (cost, &label) in costs.iter_mut().zip(labels) {
                    *cost = self.focal(logits[label as usize]);
                }
            }
            ClassCost::Softmax => {
                let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
                let total: f32 = logits.iter().map(|logit| (logit - largest).exp()).sum();
                for (cost, &label) in costs.iter_mut().zip(labels) {
                    *cost = -(logits[label as usize] - largest).exp() / total;
                }
            }
        }
    }

    fn focal(&self, logit: f32) -> f32 {
        let p = 1.0 / (1.0 + (-logit).exp());
        let positive = self.alpha * power(1.0 - p, self.gamma) * -(p + 1e-8).ln();
        let negative = (1.0 - self.alpha) * power(p, self.gamma) * -(1.0 - p + 1e-8).ln();
        positive - negative
    }

    /// Matches each image of each head: `problems` holds predictions and target of one image each.
    /// Returns the pairs in the same order, and how many costs were not a number.
    ///
    /// Problems do not share anything, so the result does not depend on the number of threads.
    pub fn match_all(&self, problems: &[(Predictions<'_>, &Target)]) -> (Vec<Vec<Pair>>, u64) {
        let solve = |(assigner, costs): &mut (Assigner, Vec<f32>),
                     &(predictions, target): &(Predictions<'_>, &Target)| {
            let replaced = self.costs(predictions, target, costs);
            let pairs = assigner.solve(costs, predictions.queries(), target.labels.len());
            let pairs = pairs.into_iter().map(|(query, target)| Pair { query, target });
            (pairs.collect::<Vec<_>>(), replaced as u64)
        };
        let size: usize = problems.iter().map(|(p, t)| p.queries() * t.labels.len()).sum();
        let scratch = || (Assigner::default(), Vec::new());
        let solved: Vec<(Vec<Pair>, u64)> = if size < PARALLEL_FROM {
            let mut scratch = scratch();
            problems.iter().map(|problem| solve(&mut scratch, problem)).collect()
        } else {
            problems.par_iter().map_init(scratch, solve).collect()
        };
        let replaced = solved.iter().map(|(_, replaced)| replaced).sum();
        (solved.into_iter().map(|(pairs, _)| pairs).collect(), replaced)
    }
}

/// `torch.nan_to_num(cost, nan=1.0)`.
fn finite(cost: f32) -> f32 {
    if cost.is_nan() { 1.0 } else { cost.clamp(f32::MIN, f32::MAX) }
}

fn power(base: f32, exponent: f32) -> f32 {
    if exponent == 2.0 { base * base } else { base.powf(exponent) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matcher() -> Matcher {
        Matcher::new(&config::Matcher::default())
    }

    #[test]
    fn a_query_goes_to_the_target_it_lies_on() {
        let target =
            Target { labels: vec![1, 0], boxes: vec![[0.2, 0.2, 0.1, 0.1], [0.8, 0.8, 0.2, 0.2]] };
        let boxes = [0.8, 0.8, 0.2, 0.2, 0.5, 0.5, 0.1, 0.1, 0.2, 0.2, 0.1, 0.1];
        let predictions = Predictions { logits: &[0.0; 6], boxes: &boxes, classes: 2 };
        let (pairs, replaced) = matcher().match_all(&[(predictions, &target)]);
        assert_eq!(pairs, vec![vec![Pair { query: 0, target: 1 }, Pair { query: 2, target: 0 }]]);
        assert_eq!(replaced, 0);
    }

    #[test]
    fn costs_that_are_not_a_number_become_one_and_are_counted() {
        let target = Target { labels: vec![0], boxes: vec![[0.5, 0.5, 0.2, 0.2]] };
        let boxes = [0.5, 0.5, 0.2, 0.2, 0.5, 0.5, 0.2, 0.2];
        let predictions =
            Predictions { logits: &[f32::NAN, f32::INFINITY], boxes: &boxes, classes: 1 };
        let mut costs = Vec::new();
        assert_eq!(matcher().costs(predictions, &target, &mut costs), 1);
        assert_eq!(costs[0], 1.0);
        assert!(costs[1].is_finite());
    }

    #[test]
    fn many_problems_in_parallel_give_what_each_gives_alone() {
        let mut draws = deim_data::Draws::new(1, "matcher", &[]);
        let mut values = |count: usize, low: f64, high: f64| -> Vec<f32> {
            (0..count).map(|_| draws.range(low, high) as f32).collect()
        };
        let (queries, classes, targets) = (100, 4, 30);
        let target = Target {
            labels: (0..targets).map(|i| i % 4).collect(),
            boxes: (0..targets).map(|_| box_at(&values(4, 0.1, 0.6), 0)).collect(),
        };
        let heads: Vec<(Vec<f32>, Vec<f32>)> = (0..30)
            .map(|_| (values(queries * classes, -6.0, 3.0), values(queries * 4, 0.1, 0.6)))
            .collect();
        let problems: Vec<_> = heads
            .iter()
            .map(|(logits, boxes)| (Predictions { logits, boxes, classes }, &target))
            .collect();
        assert!(queries * target.labels.len() * problems.len() >= PARALLEL_FROM);
        let together = matcher().match_all(&problems).0;
        for (problem, pairs) in problems.iter().zip(together) {
            assert_eq!(matcher().match_all(std::slice::from_ref(problem)).0[0], pairs);
        }
    }
}
