//! D-FINE's union of matches: boxes and edges learn from every head's choice (deim-facts 3.11).

use std::collections::BTreeMap;

use crate::matcher::Pair;

/// The union of one image's matches over all heads: each query keeps the target that most heads gave
/// it. Sorted by query; a target may have several queries.
///
/// The official code breaks ties by an unstable sort, which has no defined answer; here the smaller
/// target wins.
pub fn union(heads: &[&[Pair]]) -> Vec<Pair> {
    let mut counts: BTreeMap<Pair, usize> = BTreeMap::new();
    for &pair in heads.iter().copied().flatten() {
        *counts.entry(pair).or_default() += 1;
    }
    let mut best: BTreeMap<usize, (usize, usize)> = BTreeMap::new();
    for (pair, count) in counts {
        let kept = best.entry(pair.query).or_insert((count, pair.target));
        if count > kept.0 {
            *kept = (count, pair.target);
        }
    }
    best.into_iter().map(|(query, (_, target))| Pair { query, target }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_keeps_the_target_that_most_heads_gave_it() {
        let pair = |query, target| Pair { query, target };
        let heads: [&[Pair]; 3] =
            [&[pair(0, 1), pair(4, 0)], &[pair(0, 1), pair(2, 0)], &[pair(0, 0), pair(3, 1)]];
        assert_eq!(union(&heads), vec![pair(0, 1), pair(2, 0), pair(3, 1), pair(4, 0)]);
    }
}
