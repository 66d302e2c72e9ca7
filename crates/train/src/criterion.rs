//! The criterion: from a step's predictions and targets to its weighted losses (deim-facts 3.11).
//!
//! A step goes through three calls: [`Gathered::new`] reads the predictions back once,
//! [`Criterion::assign`] matches every head on the host, and [`Criterion::losses`] computes all losses
//! with their gradients. [`Criterion::forward`] is the three in a row.
//!
//! The official code replaces a loss that is not a number by zero. Here it stays what it is, so that
//! the loop sees it and says so.

use std::collections::BTreeMap;

use burn::tensor::Tensor;
use deim_data::Target;
use deim_model::outputs::Outputs;
use deim_spec::Config;
use thiserror::Error;

use crate::denoising::{Denoising, DenoisingPairs};
use crate::edge_terms::{self, PairCounts};
use crate::heads::{Gathered, Heads, Layout};
use crate::losses::boxes::{BoxLoss, BoxSums, Similarity};
use crate::losses::class::{ClassLoss, Positives};
use crate::losses::edges::EdgeLoss;
use crate::losses::upload;
use crate::matcher::{Matcher, Pair};
use crate::union::union;

/// Why a step has no losses.
#[derive(Debug, Error)]
pub enum CriterionError {
    #[error("the detector returned no predictions")]
    NoHeads,
    #[error(
        "head '{head}': logits {logits:?} and boxes {boxes:?} do not fit a batch of {batch} with \
         {classes} classes"
    )]
    Shape { head: String, logits: [usize; 3], boxes: [usize; 3], batch: usize, classes: usize },
    #[error("image {image}: {problem}")]
    Target { image: usize, problem: String },
    #[error("the detector's outputs lack {0}")]
    Missing(&'static str),
    #[error("reading predictions back from the device: {0}")]
    Device(String),
}

/// What the criterion computes; more than an experiment's configuration can ask for.
#[derive(Clone, Debug)]
pub struct CriterionConfig {
    pub class: ClassLoss,
    pub weight_class: f64,
    pub weight_bbox: f64,
    pub weight_giou: f64,
    /// `boxes_weight_format`: weighs the GIoU loss, and replaces IoU as the quality of a class.
    pub boxes_weight: Option<Similarity>,
    /// Boxes and edges learn from the union of all heads' matches (D-FINE).
    pub union_set: bool,
    /// The edge losses of D-FINE.
    pub edges: Option<EdgeLoss>,
}

impl CriterionConfig {
    /// The criterion of RT-DETRv2 (`use_uni_set` false, no edge losses).
    pub fn new(config: &Config) -> Self {
        Self {
            class: ClassLoss::new(&config.loss),
            weight_class: config.loss.weight_class,
            weight_bbox: config.loss.weight_bbox,
            weight_giou: config.loss.weight_giou,
            boxes_weight: None,
            union_set: false,
            edges: None,
        }
    }
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

    /// The losses of given matches.
    pub fn losses(
        &self,
        gathered: &Gathered,
        targets: &[Target],
        denoising: Option<&DenoisingPairs>,
        matches: Matches,
    ) -> Result<Losses, CriterionError> {
        self.check_targets(gathered, targets)?;
        let plans = self.plans(gathered, targets, denoising, &matches)?;
        let device = gathered.plain.device();

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
                box_values.push(sums.l1 as f32);
                box_terms.push(format!("loss_giou{suffix}"));
                box_values.push(sums.giou as f32);
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
        values.push(upload(box_values, &device));
        let values = Tensor::cat(values, 0);

        let mut gradients = vec![upload(box_gradient, &device)];
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

    /// Which pairs and normalisers each group's losses use.
    fn plans<'a>(
        &self,
        gathered: &Gathered,
        targets: &[Target],
        denoising: Option<&'a DenoisingPairs>,
        matches: &'a Matches,
    ) -> Result<Vec<Plan<'a>>, CriterionError> {
        let count = targets.iter().map(|target| target.labels.len()).sum::<usize>().max(1) as f64;
        let own: Vec<&[Vec<Pair>]> = matches.heads.iter().map(Vec::as_slice).collect();
        let mut plans = vec![match &matches.union {
            Some(union) => Plan {
                box_count: union.iter().map(Vec::len).sum::<usize>().max(1) as f64,
                box_pairs: vec![union.as_slice(); own.len()],
                class_pairs: own,
                class_count: count,
            },
            None => Plan {
                class_pairs: own.clone(),
                class_count: count,
                box_pairs: own,
                box_count: count,
            },
        }];
        if gathered.groups.len() > 1 {
            let denoising = denoising.ok_or(CriterionError::Missing("denoising targets"))?;
            let pairs = vec![denoising.pairs.as_slice(); gathered.groups[1].heads()];
            let count = count * denoising.groups as f64;
            plans.push(Plan {
                class_pairs: pairs.clone(),
                class_count: count,
                box_pairs: pairs,
                box_count: count,
            });
        }
        for (plan, layout) in plans.iter().zip(&gathered.groups) {
            plan.check(layout, targets)?;
        }
        Ok(plans)
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
                    let own = gathered.box_of(group, head, image, pair.query);
                    positives.places.push(row * gathered.classes + label);
                    positives.qualities.push(quality.of(own, targets[image].boxes[pair.target]));
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
        gradient: &mut [f32],
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
                    let target = targets[image].boxes[pair.target];
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

/// The pairs and normalisers of one group, by head and image.
pub(crate) struct Plan<'a> {
    class_pairs: Vec<&'a [Vec<Pair>]>,
    class_count: f64,
    pub(crate) box_pairs: Vec<&'a [Vec<Pair>]>,
    pub(crate) box_count: f64,
}

impl Plan<'_> {
    /// Pairs may come from outside: every index is checked before it is used.
    fn check(&self, layout: &Layout, targets: &[Target]) -> Result<(), CriterionError> {
        for images in self.class_pairs.iter().chain(&self.box_pairs) {
            if images.len() != targets.len() {
                return Err(CriterionError::Missing("matches for every image"));
            }
            for (image, (pairs, target)) in images.iter().zip(targets).enumerate() {
                let fits =
                    |pair: &&Pair| pair.query < layout.queries && pair.target < target.labels.len();
                if pairs.iter().filter(fits).count() < pairs.len() {
                    let (queries, targets) = (layout.queries, target.labels.len());
                    let problem =
                        format!("a match outside {queries} queries and {targets} targets");
                    return Err(CriterionError::Target { image, problem });
                }
            }
        }
        if self.class_pairs.len() != layout.heads() || self.box_pairs.len() != layout.heads() {
            return Err(CriterionError::Missing("matches for every head"));
        }
        Ok(())
    }
}

/// Builds a scalar with a known value and known gradients.
struct Total {
    value: Tensor<1>,
    /// Its gradient is the total's; its value is of no meaning and is taken out again.
    carrier: Option<Tensor<1>>,
}

impl Total {
    fn new(value: Tensor<1>) -> Self {
        Self { value, carrier: None }
    }

    /// Makes `gradient` the derivative of the total by `input`.
    fn attach<const D: usize>(&mut self, input: Tensor<D>, gradient: Tensor<D>) {
        if input.device().is_autodiff() {
            let product = (input * Tensor::from_inner(gradient)).sum();
            self.carrier = Some(match self.carrier.take() {
                Some(carrier) => carrier + product,
                None => product,
            });
        }
    }

    fn finish(self) -> Tensor<1> {
        match self.carrier {
            Some(carrier) => {
                let rest = self.value - carrier.clone().inner();
                carrier + Tensor::from_inner(rest)
            }
            None => self.value,
        }
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
