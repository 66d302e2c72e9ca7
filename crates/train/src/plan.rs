//! Which pairs and which normaliser each loss of a step uses (the table in deim-facts 3.11).

use deim_data::Target;

use crate::criterion::{CriterionError, Matches};
use crate::denoising::DenoisingPairs;
use crate::heads::{Gathered, Layout};
use crate::matcher::Pair;

/// The pairs of one group of heads, by head and image, and what their losses are divided by.
pub(crate) struct Plan<'a> {
    pub class_pairs: Vec<&'a [Vec<Pair>]>,
    pub class_count: f64,
    /// For boxes and edges.
    pub box_pairs: Vec<&'a [Vec<Pair>]>,
    pub box_count: f64,
}

/// How many boxes the losses of a device's part are divided by: each of the targets, and those of the
/// union of all heads' matches.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Counts {
    targets: f64,
    union: f64,
}

impl Counts {
    /// The boxes of one device.
    pub fn of(targets: &[Target], matches: &Matches) -> Self {
        let union = matches.union.iter().flatten();
        Self {
            targets: targets.iter().map(|target| target.labels.len()).sum::<usize>() as f64,
            union: union.map(Vec::len).sum::<usize>() as f64,
        }
    }

    /// The mean over devices: what officially all of them divide by, so that the mean of their
    /// gradients is that of the whole batch.
    pub fn mean(all: &[Self]) -> Self {
        let mean = |of: fn(&Self) -> f64| all.iter().map(of).sum::<f64>() / all.len() as f64;
        Self { targets: mean(|counts| counts.targets), union: mean(|counts| counts.union) }
    }
}

impl<'a> Plan<'a> {
    /// The plan of the matching group and, where there is one, of the denoising group.
    pub fn of_groups(
        gathered: &Gathered,
        targets: &[Target],
        denoising: Option<&'a DenoisingPairs>,
        matches: &'a Matches,
        counts: Counts,
    ) -> Result<Vec<Self>, CriterionError> {
        let count = counts.targets.max(1.0);
        let own: Vec<&[Vec<Pair>]> = matches.heads.iter().map(Vec::as_slice).collect();
        let mut matching = Self::same(own, count);
        if let Some(union) = &matches.union {
            matching.box_pairs.fill(union);
            matching.box_count = counts.union.max(1.0);
        }
        let mut plans = vec![matching];
        if let Some(layout) = gathered.groups.get(1) {
            let denoising = denoising.ok_or(CriterionError::Missing("denoising targets"))?;
            let pairs = vec![denoising.pairs.as_slice(); layout.heads()];
            plans.push(Self::same(pairs, count * denoising.groups as f64));
        }
        for (plan, layout) in plans.iter().zip(&gathered.groups) {
            plan.check(layout, targets)?;
        }
        Ok(plans)
    }

    /// The same pairs and normaliser for all losses.
    fn same(pairs: Vec<&'a [Vec<Pair>]>, count: f64) -> Self {
        Self { class_pairs: pairs.clone(), class_count: count, box_pairs: pairs, box_count: count }
    }

    /// Pairs may come from outside: every index is checked before it is used.
    fn check(&self, layout: &Layout, targets: &[Target]) -> Result<(), CriterionError> {
        if self.class_pairs.len() != layout.heads() {
            return Err(CriterionError::Missing("matches for every head"));
        }
        for images in self.class_pairs.iter().chain(&self.box_pairs) {
            if images.len() != targets.len() {
                return Err(CriterionError::Missing("matches for every image"));
            }
            for (image, (pairs, target)) in images.iter().zip(targets).enumerate() {
                let (queries, targets) = (layout.queries, target.labels.len());
                let fits = |pair: &Pair| pair.query < queries && pair.target < targets;
                if !pairs.iter().all(fits) {
                    let problem =
                        format!("a match outside {queries} queries and {targets} targets");
                    return Err(CriterionError::Target { image, problem });
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_divide_by_the_mean_number_of_boxes_of_all() {
        let target = |count| Target { labels: vec![0; count], boxes: vec![[0.5; 4]; count] };
        let pairs = |count| (0..count).map(|query| Pair { query, target: 0 }).collect();
        let counts = |boxes: usize, union: usize| {
            let matches = Matches { union: Some(vec![pairs(union)]), ..Matches::default() };
            Counts::of(&[target(boxes)], &matches)
        };
        let mean = Counts::mean(&[counts(3, 7), counts(0, 2)]);
        assert_eq!(mean, Counts { targets: 1.5, union: 4.5 });
        assert_eq!(Counts::mean(&[counts(5, 6)]), counts(5, 6));
    }
}
