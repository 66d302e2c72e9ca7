//! Contrastive denoising: targets with noise as extra queries (deim-facts 3.9).

use burn::tensor::{Bool, Device, Int, Tensor, TensorData};
use deim_data::{Draws, Target};
use deim_model::outputs::DenoisingQueries;
use deim_spec::config;

use crate::boxes;
use crate::matcher::Pair;

/// The denoising queries of a step and the targets they stand for.
#[derive(Clone, Debug)]
pub struct Denoising {
    /// What the detector takes.
    pub queries: DenoisingQueries,
    /// What the criterion takes.
    pub positives: DenoisingPairs,
}

/// Which denoising queries answer for which targets.
#[derive(Clone, Debug, PartialEq)]
pub struct DenoisingPairs {
    /// The positive queries of each image and their targets.
    pub pairs: Vec<Vec<Pair>>,
    /// How often every target is repeated: the losses' normaliser counts it as often.
    pub groups: usize,
}

/// The random numbers of a step, one for each image and denoising query.
#[derive(Clone, Debug, PartialEq)]
pub struct Noise {
    /// `[batch, queries]` in `[0, 1)`: the label is replaced where this is below half the ratio.
    pub label_u: Vec<f32>,
    /// `[batch, queries]`: the label put in its place.
    pub label_new: Vec<u32>,
    /// `[batch, queries, 4]`, -1 or 1.
    pub box_sign: Vec<f32>,
    /// `[batch, queries, 4]` in `[0, 1)`.
    pub box_u: Vec<f32>,
}

impl Noise {
    /// Draws the noise of `batch` images with `queries` denoising queries each.
    pub fn draw(batch: usize, queries: usize, classes: usize, draws: &mut Draws) -> Self {
        let count = batch * queries;
        Self {
            label_u: (0..count).map(|_| draws.unit() as f32).collect(),
            label_new: (0..count).map(|_| draws.below(classes) as u32).collect(),
            box_sign: (0..4 * count).map(|_| if draws.chance(0.5) { 1.0 } else { -1.0 }).collect(),
            box_u: (0..4 * count).map(|_| draws.unit() as f32).collect(),
        }
    }
}

/// How the denoising queries of a batch are laid out.
///
/// Queries come in groups; a group holds a positive and then a negative query for every target of
/// the image with the most targets, other images fill up with padding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Targets of the image with the most.
    pub most: usize,
    pub groups: usize,
}

impl Layout {
    /// The layout for these targets, aiming at `queries` denoising queries; none without a target.
    pub fn new(targets: &[Target], queries: usize) -> Option<Self> {
        let most = targets.iter().map(|target| target.labels.len()).max().unwrap_or(0);
        if most == 0 || queries == 0 {
            return None;
        }
        Some(Self { most, groups: (queries / most).max(1) })
    }

    /// Denoising queries of an image.
    pub fn queries(&self) -> usize {
        2 * self.most * self.groups
    }

    /// The positive queries of an image with `count` targets, and their targets.
    pub fn pairs(&self, count: usize) -> Vec<Pair> {
        (0..self.groups)
            .flat_map(|group| {
                (0..count).map(move |target| Pair { query: group * 2 * self.most + target, target })
            })
            .collect()
    }

    /// `[all, all]`, true where a query (row) may not look at another (column): matching queries see
    /// no denoising query, and a denoising query sees no other group.
    pub fn blocked(&self, matching: usize) -> Vec<bool> {
        let denoising = self.queries();
        let all = denoising + matching;
        let group_of = |query: usize| (query < denoising).then(|| query / (2 * self.most));
        (0..all)
            .flat_map(|row| {
                (0..all)
                    .map(move |column| group_of(column).is_some_and(|g| group_of(row) != Some(g)))
            })
            .collect()
    }
}

/// Labels and boxes with their noise, on the host.
#[derive(Clone, Debug, PartialEq)]
pub struct Noised {
    /// `[batch, queries]`; the number of classes is padding.
    pub labels: Vec<u32>,
    /// `[batch, queries, 4]` before the sigmoid.
    pub unactivated: Vec<f32>,
}

/// Applies the noise to the targets.
pub fn noised(
    targets: &[Target],
    classes: usize,
    layout: Layout,
    config: &config::Denoising,
    noise: &Noise,
) -> Noised {
    let queries = layout.queries();
    let ratio = (config.label_noise * 0.5) as f32;
    let scale = config.box_noise as f32;
    let mut labels = Vec::with_capacity(targets.len() * queries);
    let mut unactivated = Vec::with_capacity(targets.len() * queries * 4);
    for (image, target) in targets.iter().enumerate() {
        for query in 0..queries {
            let at = image * queries + query;
            let in_group = query % (2 * layout.most);
            let negative = in_group >= layout.most;
            let Some(&label) = target.labels.get(in_group % layout.most) else {
                // Noise scales with the box, so padding stays the empty box at the origin.
                labels.push(classes as u32);
                unactivated.extend([logit(0.0); 4]);
                continue;
            };
            let replaced = noise.label_u[at] < ratio;
            labels.push(if replaced { noise.label_new[at] } else { label });

            let own = target.boxes[in_group % layout.most];
            let mut corners = boxes::corners(own);
            if scale > 0.0 {
                for (edge, value) in corners.iter_mut().enumerate() {
                    let half_side = own[2 + edge % 2] * 0.5 * scale;
                    let part = noise.box_u[4 * at + edge] + if negative { 1.0 } else { 0.0 };
                    *value += noise.box_sign[4 * at + edge] * part * half_side;
                    *value = value.clamp(0.0, 1.0);
                }
            }
            // Edges may have swapped; the official code takes the absolute value of the sides.
            unactivated.extend(boxes::centred(corners).map(|value| logit(value.abs())));
        }
    }
    Noised { labels, unactivated }
}

/// The inverse of the sigmoid, with the official epsilon.
fn logit(value: f32) -> f32 {
    let value = value.clamp(0.0, 1.0);
    (value.max(1e-5) / (1.0 - value).max(1e-5)).ln()
}

/// The denoising queries of a step; none without a target or with denoising off.
///
/// `draws` is the stream of this step, `matching` the number of matching queries.
pub fn prepare(
    targets: &[Target],
    classes: usize,
    matching: usize,
    config: &config::Denoising,
    draws: &mut Draws,
    device: &Device,
) -> Option<Denoising> {
    let layout = Layout::new(targets, config.queries)?;
    let noise = Noise::draw(targets.len(), layout.queries(), classes, draws);
    let noised = noised(targets, classes, layout, config, &noise);
    Some(assemble(targets, layout, noised, matching, device))
}

/// Moves noised targets to the device.
pub fn assemble(
    targets: &[Target],
    layout: Layout,
    noised: Noised,
    matching: usize,
    device: &Device,
) -> Denoising {
    let (batch, queries) = (targets.len(), layout.queries());
    let all = queries + matching;
    let labels: Vec<i64> = noised.labels.into_iter().map(i64::from).collect();
    let labels: Tensor<2, Int> =
        Tensor::from_data(TensorData::new(labels, [batch, queries]), device);
    let boxes_unactivated =
        Tensor::from_data(TensorData::new(noised.unactivated, [batch, queries, 4]), device);
    let blocked: Tensor<2, Bool> =
        Tensor::from_data(TensorData::new(layout.blocked(matching), [all, all]), device);
    Denoising {
        queries: DenoisingQueries { labels, boxes_unactivated, blocked },
        positives: DenoisingPairs {
            pairs: targets.iter().map(|target| layout.pairs(target.labels.len())).collect(),
            groups: layout.groups,
        },
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const CONFIG: config::Denoising =
        config::Denoising { queries: 100, label_noise: 0.5, box_noise: 1.0 };

    fn target(count: usize) -> Target {
        Target {
            labels: (0..count).map(|i| i as u32 % 5).collect(),
            boxes: (0..count).map(|i| [0.3 + 0.01 * i as f32, 0.5, 0.2, 0.3]).collect(),
        }
    }

    #[test]
    fn no_target_or_no_query_means_no_denoising() {
        assert_eq!(Layout::new(&[target(0), target(0)], 100), None);
        assert_eq!(Layout::new(&[target(3)], 0), None);
        let many = Layout::new(&[target(120)], 100);
        assert_eq!(many, Some(Layout { most: 120, groups: 1 }));
    }

    #[test]
    fn groups_do_not_see_each_other_and_matching_queries_see_none() {
        let layout = Layout { most: 2, groups: 2 };
        let blocked = layout.blocked(3);
        let at = |row: usize, column: usize| blocked[row * 11 + column];
        assert!(!at(0, 3), "positive and negative of one group see each other");
        assert!(at(0, 4) && at(4, 0), "groups are apart");
        assert!(at(8, 0) && at(10, 7), "matching queries see no denoising query");
        assert!(!at(0, 8) && !at(8, 9), "all see the matching queries");
    }

    #[test]
    fn positives_stay_within_their_box_and_negatives_leave_it() {
        let targets = [Target { labels: vec![1], boxes: vec![[0.5, 0.5, 0.2, 0.2]] }];
        let layout = Layout { most: 1, groups: 1 };
        let noise = Noise {
            label_u: vec![0.9; 2],
            label_new: vec![0; 2],
            box_sign: vec![-1.0, -1.0, 1.0, 1.0, -1.0, -1.0, 1.0, 1.0],
            box_u: vec![0.5; 8],
        };
        let noised = noised(&targets, 5, layout, &CONFIG, &noise);
        let width = |query: usize| 1.0 / (1.0 + (-noised.unactivated[4 * query + 2]).exp());
        // Half of the half side outward on both sides, and three halves of it.
        assert!((width(0) - 0.3).abs() < 1e-5 && (width(1) - 0.5).abs() < 1e-5);
        assert_eq!(noised.labels, vec![1, 1]);
    }

    proptest! {
        /// An image's queries do not depend on how much padding another image causes.
        #[test]
        fn padding_changes_no_other_query(own in 1_usize..6, other in 1_usize..6, seed: u64) {
            let alone = Layout { most: own, groups: 2 };
            let padded = Layout { most: own + other, groups: 2 };
            let place = |layout: Layout, group: usize, negative: usize, k: usize| {
                (group * 2 + negative) * layout.most + k
            };
            let few = Noise::draw(1, alone.queries(), 5, &mut Draws::new(seed, "test", &[]));
            let mut many = Noise::draw(1, padded.queries(), 5, &mut Draws::new(seed, "rest", &[]));
            let mut kept = Vec::new();
            for (group, negative, k) in (0..2)
                .flat_map(|g| (0..2).flat_map(move |n| (0..own).map(move |k| (g, n, k))))
            {
                let (from, to) = (place(alone, group, negative, k), place(padded, group, negative, k));
                many.label_u[to] = few.label_u[from];
                many.label_new[to] = few.label_new[from];
                for edge in 0..4 {
                    many.box_sign[4 * to + edge] = few.box_sign[4 * from + edge];
                    many.box_u[4 * to + edge] = few.box_u[4 * from + edge];
                }
                kept.push((from, to));
            }
            let targets = [target(own)];
            let small = noised(&targets, 5, alone, &CONFIG, &few);
            let large = noised(&targets, 5, padded, &CONFIG, &many);
            for &(from, to) in &kept {
                prop_assert_eq!(small.labels[from], large.labels[to]);
                prop_assert_eq!(
                    &small.unactivated[4 * from..4 * from + 4],
                    &large.unactivated[4 * to..4 * to + 4]
                );
            }
            let padding = large.labels.iter().filter(|&&label| label == 5).count();
            prop_assert_eq!(padding, padded.queries() - kept.len());
        }
    }
}
