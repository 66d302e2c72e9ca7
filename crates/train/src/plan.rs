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

impl<'a> Plan<'a> {
    /// The plan of the matching group and, where there is one, of the denoising group.
    pub fn of_groups(
        gathered: &Gathered,
        targets: &[Target],
        denoising: Option<&'a DenoisingPairs>,
        matches: &'a Matches,
    ) -> Result<Vec<Self>, CriterionError> {
        let count = targets.iter().map(|target| target.labels.len()).sum::<usize>().max(1) as f64;
        let own: Vec<&[Vec<Pair>]> = matches.heads.iter().map(Vec::as_slice).collect();
        let mut matching = Self::same(own, count);
        if let Some(union) = &matches.union {
            matching.box_pairs.fill(union);
            matching.box_count = union.iter().map(Vec::len).sum::<usize>().max(1) as f64;
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
