//! The union of the matches of all heads.

use std::collections::{BTreeMap, BTreeSet};

use deim_train::matcher::Pair;
use deim_train::union;

use crate::case::{Case, CaseError};
use crate::compare::Check;
use crate::kinds::loss::pairs;

/// `go_union_*`
pub fn union(case: &Case, check: &mut Check) -> Result<(), CaseError> {
    let images = case.numbers("targets_per_image")?.len();
    let layers: Result<Vec<_>, _> = (0..case.count("layers")?)
        .map(|layer| pairs(case, &format!("layer.{layer}"), images))
        .collect();
    let layers: Vec<Vec<Vec<Pair>>> = layers?;
    let official = pairs(case, "go", images)?;
    for (image, mut official) in official.into_iter().enumerate() {
        let heads: Vec<&[Pair]> = layers.iter().map(|images| images[image].as_slice()).collect();
        let counts = counts(&heads);
        let name = format!("pairs.{image}");
        let listed: Vec<usize> =
            counts.iter().flat_map(|(pair, &count)| [pair.query, pair.target, count]).collect();
        check.same(&name, &listed, &case.indices(&name)?);

        let ours = union::union(&heads);
        // Two targets with the same count have no defined order: any of them is right.
        let name = format!("ambiguous_queries.{image}");
        let ambiguous: BTreeSet<usize> = case.indices(&name)?.into_iter().collect();
        let unlisted: Vec<usize> = tied(&counts).difference(&ambiguous).copied().collect();
        check.same(&name, &unlisted, &Vec::new());
        for pair in ours.iter().filter(|pair| ambiguous.contains(&pair.query)) {
            let most = counts.iter().filter(|(other, _)| other.query == pair.query);
            let most = most.map(|(_, &count)| count).max();
            check.same(&format!("go.{image}"), &counts.get(pair).copied(), &most);
        }
        let mut ours = ours;
        ours.retain(|pair| !ambiguous.contains(&pair.query));
        official.retain(|pair| !ambiguous.contains(&pair.query));
        official.sort_unstable();
        check.same(&format!("go.{image}"), &ours, &official);
    }
    Ok(())
}

/// How many heads chose each pair.
fn counts(heads: &[&[Pair]]) -> BTreeMap<Pair, usize> {
    let mut counts = BTreeMap::new();
    for &pair in heads.iter().copied().flatten() {
        *counts.entry(pair).or_default() += 1;
    }
    counts
}

/// The queries with several targets of the highest count.
fn tied(counts: &BTreeMap<Pair, usize>) -> BTreeSet<usize> {
    let mut best: BTreeMap<usize, (usize, usize)> = BTreeMap::new();
    for (pair, &count) in counts {
        let entry = best.entry(pair.query).or_default();
        *entry = match count.cmp(&entry.0) {
            std::cmp::Ordering::Greater => (count, 1),
            std::cmp::Ordering::Equal => (count, entry.1 + 1),
            std::cmp::Ordering::Less => *entry,
        };
    }
    best.into_iter().filter(|(_, (_, targets))| *targets > 1).map(|(query, _)| query).collect()
}
