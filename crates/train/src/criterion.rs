//! The criterion: from a step's predictions and targets to its weighted losses (deim-facts 3.11).
//!
//! A step goes through three calls: [`Gathered::new`] reads the predictions back once,
//! [`Criterion::assign`] matches every head on the host, and [`Criterion::losses`] computes all losses
//! with their gradients. [`Criterion::forward`] is the three in a row.
//!
//! The official code replaces a loss that is not a number by zero. Here it stays what it is, so that
//! the loop sees it and says so.

mod config;

use std::collections::BTreeMap;

use burn::tensor::Tensor;
use deim_data::Target;
use deim_model::outputs::Outputs;
use deim_spec::Config;
use thiserror::Error;

pub use self::config::CriterionConfig;
use crate::boxes;
use crate::denoising::{Denoising, DenoisingPairs};
use crate::edge_terms::{self, PairCounts};
use crate::heads::{Gathered, Heads};

use crate::losses::boxes::{BoxLoss, BoxSums, Similarity};
use crate::losses::class::Positives;
use crate::losses::{Total, like, upload};
use crate::matcher::{Matcher, Pair};
use crate::plan::{Counts, Plan};
use crate::union::union;

/// Why a step has no losses.
#[derive(Debug, Error)]
pub enum CriterionError {
    #[error("the detector returned no predictions")]
    NoHeads,
    #[error("head '{head}': logits {logits:?} and boxes {boxes:?}, expected logits {expected:?}")]
    Shape { head: String, logits: [usize; 3], boxes: [usize; 3], expected: [usize; 3] },
    #[error("image {image}: {problem}")]
    Target { image: usize, problem: String },
    #[error("the detector's outputs lack {0}")]
    Missing(&'static str),
    #[error("reading predictions back from the device: {0}")]
    Device(String),
}

/// The matches of a step: `heads[head][image]`, heads in the order of the gathered matching group.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Matches {
    pub heads: Vec<Vec<Vec<Pair>>>,
    /// The union of all heads' matches by image, where the configuration uses it.
    pub union: Option<Vec<Vec<Pair>>>,
    /// Costs that were not a number.
    pub replaced_costs: u64,
}

/// A step's losses.
#[derive(Debug)]
pub struct Losses {
    /// Official names of the weighted losses, in the order of `values`.
    pub terms: Vec<String>,
    /// `[terms]`, off the graph: one transfer reads them all.
    pub values: Tensor<1>,
    /// Their sum, with the gradient of all predictions behind it.
    pub total: Tensor<1>,
    /// Queries of the last layer that were matched to a target.
    pub positives: usize,
    /// What did not go as usual, with its count.
    pub notes: BTreeMap<String, u64>,
    pub matches: Matches,
}

/// Matches predictions to targets and computes the weighted losses.
#[derive(Clone, Debug)]
pub struct Criterion {
    pub config: CriterionConfig,
    pub matcher: Matcher,
    classes: usize,
}

impl Criterion {
    /// The criterion of a resolved configuration.
    pub fn new(config: &Config, classes: usize) -> Self {
        Self::with(CriterionConfig::new(config), Matcher::new(&config.matcher), classes)
    }

    /// A criterion with every option at hand.
    pub fn with(config: CriterionConfig, matcher: Matcher, classes: usize) -> Self {
        Self { config, matcher, classes }
    }

    /// Matches and losses of a step. `denoising` is what made the outputs' denoising queries.
    pub fn forward(
        &self,
        outputs: &Outputs,
        targets: &[Target],
        denoising: Option<&Denoising>,
    ) -> Result<Losses, CriterionError> {
        let gathered = Gathered::new(&Heads::from(outputs))?;
        let matches = self.assign(&gathered, targets)?;
        self.losses(&gathered, targets, denoising.map(|made| &made.positives), matches)
    }

    /// Matches every matching head on its own.
    pub fn assign(
        &self,
        gathered: &Gathered,
        targets: &[Target],
    ) -> Result<Matches, CriterionError> {
        self.check_targets(gathered, targets)?;
        let (pairs, replaced_costs) = self.matcher.match_all(&gathered.problems(targets));
        let mut pairs = pairs.into_iter();
        let heads: Vec<Vec<Vec<Pair>>> = (0..gathered.groups[0].heads())
            .map(|_| pairs.by_ref().take(targets.len()).collect())
            .collect();
        let union = self.config.union_set.then(|| {
            let image_pairs = |image: usize| -> Vec<&[Pair]> {
                heads.iter().map(|images: &Vec<Vec<Pair>>| images[image].as_slice()).collect()
            };
            (0..targets.len()).map(|image| union(&image_pairs(image))).collect()
        });
        Ok(Matches { heads, union, replaced_costs })
    }

    /// How many classes there are.
    pub fn classes(&self) -> usize {
        self.classes
    }

    /// The losses of given matches.
    pub fn losses(
        &self,
        gathered: &Gathered,
        targets: &[Target],
        denoising: Option<&DenoisingPairs>,
        matches: Matches,
    ) -> Result<Losses, CriterionError> {
        let counts = Counts::of(targets, &matches);
        self.losses_of(gathered, targets, denoising, matches, counts)
    }

    /// The same on one of several devices, whose losses are divided by the same numbers of boxes.
    pub(crate) fn losses_of(
        &self,
        gathered: &Gathered,
        targets: &[Target],
        denoising: Option<&DenoisingPairs>,
        matches: Matches,
        counts: Counts,
    ) -> Result<Losses, CriterionError> {
        self.check_targets(gathered, targets)?;
        let plans = Plan::of_groups(gathered, targets, denoising, &matches, counts)?;
        let options = like(&gathered.plain);

        let mut terms = Vec::new();
        let mut values: Vec<Tensor<1>> = Vec::new();
        let mut class_gradients = Vec::new();
        let mut edge_totals = Vec::new();
        let mut box_gradient = vec![0.0; gathered.logits_at];
        let mut box_terms = Vec::new();
        let mut box_values = Vec::new();
        for (group, plan) in plans.iter().enumerate() {
            let layout = &gathered.groups[group];
            let (loss, gradient) = self.class_losses(gathered, group, plan, targets);
            terms.extend(names(self.config.class.name(), &layout.suffixes));
            values.push(loss);
            class_gradients.push(gradient);

            for (sums, suffix) in self
                .box_losses(gathered, group, plan, targets, &mut box_gradient)
                .into_iter()
                .zip(&layout.suffixes)
            {
                box_terms.push(format!("loss_bbox{suffix}"));
                box_values.push(sums.l1);
                box_terms.push(format!("loss_giou{suffix}"));
                box_values.push(sums.giou);
            }

            if let Some(edges) = &self.config.edges {
                let counts = PairCounts::new(&plans[0], &gathered.groups[0], gathered.batch);
                let result = edge_terms::losses(edges, plan, gathered, group, targets, counts)?;
                terms.extend(names("loss_fgl", &layout.suffixes[..layout.layers]));
                values.push(result.fgl);
                if let Some(ddf) = result.ddf {
                    terms.extend(names("loss_ddf", &layout.suffixes[..layout.layers - 1]));
                    values.push(ddf);
                }
                edge_totals.push((result.corners, result.gradient));
            }
        }
        terms.extend(box_terms);
        values.push(upload(box_values, &options));
        let values = Tensor::cat(values, 0);

        let mut gradients = vec![upload(box_gradient, &options)];
        gradients.append(&mut class_gradients);
        let mut total = Total::new(values.clone().sum());
        total.attach(gathered.flat.clone(), Tensor::cat(gradients, 0));
        for (corners, gradient) in edge_totals {
            total.attach(corners, gradient);
        }

        let last = gathered.groups[0].layers.saturating_sub(1);
        let positives = matches.heads[last].iter().map(Vec::len).sum();
        let notes = notes(gathered, targets, &matches);
        Ok(Losses { terms, values, total: total.finish(), positives, notes, matches })
    }

    /// The classification loss of each head of a group, and the gradient by its flat logits.
    fn class_losses(
        &self,
        gathered: &Gathered,
        group: usize,
        plan: &Plan<'_>,
        targets: &[Target],
    ) -> (Tensor<1>, Tensor<1>) {
        let layout = &gathered.groups[group];
        let quality = self.config.boxes_weight.unwrap_or(Similarity::Iou);
        let mut positives = Positives::default();
        for (head, images) in plan.class_pairs.iter().enumerate() {
            for (image, pairs) in images.iter().enumerate() {
                for pair in pairs {
                    let row = head * layout.rows + image * layout.queries + pair.query;
                    let label = targets[image].labels[pair.target] as usize;
                    let target = targets[image].boxes[pair.target];
                    let own = gathered.box_of(group, head, image, pair.query);
                    positives.places.push(row * gathered.classes + label);
                    positives.qualities.push(quality.of(own, boxes::exact(target)));
                }
            }
        }
        let result = self.config.class.elementwise(gathered.logits(group), &positives);
        let scale = self.config.weight_class / plan.class_count;
        let heads = layout.heads();
        let by_head = result.loss.reshape([heads, layout.rows * gathered.classes]).sum_dim(1);
        (by_head.reshape([heads]) * scale, result.gradient * scale)
    }

    /// The box losses of each head of a group; adds their gradient to the flat one.
    fn box_losses(
        &self,
        gathered: &Gathered,
        group: usize,
        plan: &Plan<'_>,
        targets: &[Target],
        gradient: &mut [f64],
    ) -> Vec<BoxSums> {
        let loss = BoxLoss {
            l1: self.config.weight_bbox / plan.box_count,
            giou: self.config.weight_giou / plan.box_count,
            weight: self.config.boxes_weight,
        };
        let mut all = Vec::with_capacity(plan.box_pairs.len());
        for (head, images) in plan.box_pairs.iter().enumerate() {
            let mut sums = BoxSums::default();
            for (image, pairs) in images.iter().enumerate() {
                for pair in pairs {
                    let at = gathered.box_index(group, head, image, pair.query);
                    let own = gathered.box_of(group, head, image, pair.query);
                    let target = boxes::exact(targets[image].boxes[pair.target]);
                    loss.add(own, target, &mut sums, &mut gradient[at..at + 4]);
                }
            }
            all.push(sums);
        }
        all
    }

    fn check_targets(&self, gathered: &Gathered, targets: &[Target]) -> Result<(), CriterionError> {
        let problem = |image, problem| Err(CriterionError::Target { image, problem });
        if targets.len() != gathered.batch {
            let count = targets.len();
            return problem(count, format!("{count} targets for {} images", gathered.batch));
        }
        if gathered.classes < self.classes {
            return Err(CriterionError::Missing("logits for every class"));
        }
        for (image, target) in targets.iter().enumerate() {
            let (labels, boxes) = (target.labels.len(), target.boxes.len());
            if labels != boxes {
                return problem(image, format!("{labels} labels for {boxes} boxes"));
            }
            if let Some(label) = target.labels.iter().find(|&&label| label as usize >= self.classes)
            {
                return problem(image, format!("label {label} of {} classes", self.classes));
            }
        }
        Ok(())
    }
}

fn names<'a>(name: &'a str, suffixes: &'a [String]) -> impl Iterator<Item = String> + 'a {
    suffixes.iter().map(move |suffix| format!("{name}{suffix}"))
}

fn notes(gathered: &Gathered, targets: &[Target], matches: &Matches) -> BTreeMap<String, u64> {
    let queries = gathered.groups[0].queries;
    let left_out: usize =
        targets.iter().map(|target| target.labels.len().saturating_sub(queries)).sum();
    let counted = [
        ("targets_without_query", left_out as u64),
        ("costs_not_a_number", matches.replaced_costs),
    ];
    counted
        .into_iter()
        .filter(|&(_, count)| count > 0)
        .map(|(note, count)| (note.to_owned(), count))
        .collect()
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, TensorData};
    use deim_model::outputs::{DecoderOutputs, Prediction};

    use super::*;

    const QUERIES: usize = 3;

    fn outputs(device: &Device, shift: f32) -> (Outputs, Tensor<3>) {
        let tensor = |width: usize, low: f32, step: f32| -> Tensor<3> {
            let count = QUERIES * width;
            let values: Vec<f32> = (0..count).map(|i| low + step * (i % 5) as f32).collect();
            Tensor::from_data(TensorData::new(values, [1, QUERIES, width]), device)
        };
        let boxes = (tensor(4, 0.3, 0.05) + shift).require_grad();
        let prediction = |boxes: Tensor<3>| Prediction {
            logits: tensor(2, -2.0, 0.3).require_grad(),
            boxes,
            corners: None,
        };
        let layers = vec![prediction(tensor(4, 0.2, 0.1)), prediction(boxes.clone())];
        let matching = DecoderOutputs { layers, pre: None, reference: None };
        let encoder = prediction(tensor(4, 0.25, 0.08));
        (Outputs { matching, encoder, tokens: None, denoising: None }, boxes)
    }

    fn target(count: usize) -> Target {
        let boxes = (0..count).map(|i| [0.41, 0.33 + 0.057 * i as f32, 0.28, 0.23]).collect();
        Target { labels: (0..count).map(|i| i as u32 % 2).collect(), boxes }
    }

    fn criterion() -> Criterion {
        Criterion::new(&Config::default(), 2)
    }

    #[test]
    fn the_total_is_the_sum_of_the_terms_with_and_without_a_graph() {
        let targets = [target(2)];
        let mut totals = Vec::new();
        for device in [Device::flex(), Device::flex().autodiff()] {
            let (outputs, _) = outputs(&device, 0.0);
            let losses = criterion().forward(&outputs, &targets, None).unwrap();
            assert_eq!(losses.terms.len(), 9);
            assert_eq!(losses.positives, 2);
            let sum = losses.values.sum().into_scalar::<f32>();
            let total = losses.total.into_scalar::<f32>();
            assert!((sum - total).abs() < 1e-5 * sum, "{sum} {total}");
            totals.push(sum);
        }
        assert_eq!(totals[0], totals[1]);
    }

    #[test]
    fn the_gradient_by_the_boxes_is_the_slope_of_the_box_losses() {
        // The class loss moves with the boxes, too, but no gradient goes through its quality.
        let mut criterion = criterion();
        criterion.config.weight_class = 0.0;
        let device = Device::flex().autodiff();
        let targets = [target(2)];
        let total = |shift: f32| {
            let (outputs, boxes) = outputs(&device, shift);
            let losses = criterion.forward(&outputs, &targets, None).unwrap();
            let value = losses.total.clone().into_scalar::<f32>();
            (value, boxes.grad(&losses.total.backward()).unwrap().sum().into_scalar::<f32>())
        };
        let slope = (total(2e-3).0 - total(-2e-3).0) / 4e-3;
        let gradient = total(0.0).1;
        assert!((slope - gradient).abs() < 0.02 * gradient.abs(), "{slope} {gradient}");
    }

    #[test]
    fn more_targets_than_queries_are_noted() {
        let (outputs, _) = outputs(&Device::flex(), 0.0);
        let losses = criterion().forward(&outputs, &[target(5)], None).unwrap();
        assert_eq!(losses.positives, QUERIES);
        assert_eq!(losses.notes.get("targets_without_query"), Some(&2));
    }

    #[test]
    fn what_does_not_fit_is_an_error() {
        let (outputs, _) = outputs(&Device::flex(), 0.0);
        let message = |targets: &[Target]| {
            criterion().forward(&outputs, targets, None).unwrap_err().to_string()
        };
        assert!(message(&[]).contains("0 targets for 1 images"));
        let mut wrong = target(1);
        wrong.labels[0] = 7;
        assert_eq!(message(&[wrong]), "image 0: label 7 of 2 classes");
    }
}
