//! The Hungarian matcher: costs, matches and their total cost.

use burn::tensor::Device;
use deim_data::Target;
use deim_train::matcher::{ClassCost, Matcher, Pair, Predictions};

use super::loss::pairs;
use crate::case::{Case, CaseError};
use crate::compare::Check;

pub fn verify(case: &Case, _device: &Device, check: &mut Check) -> Result<(), CaseError> {
    let [batch, queries, classes] =
        ["batch", "num_queries", "num_classes"].map(|key| case.count(key));
    let (batch, queries, classes) = (batch?, queries?, classes?);
    let targets = case.targets(batch)?;
    let logits = case.shaped("pred_logits", &[batch, queries, classes])?.f32s();
    let boxes = case.shaped("pred_boxes", &[batch, queries, 4])?.f32s();
    if targets.iter().flat_map(|target| &target.labels).any(|&label| label as usize >= classes) {
        return Err(CaseError::new(format!("a label is not below {classes}")));
    }
    let matcher = matcher(case)?;

    let problems: Vec<(Predictions<'_>, &Target)> = targets
        .iter()
        .enumerate()
        .map(|(image, target)| {
            let predictions = Predictions {
                logits: &logits[image * queries * classes..(image + 1) * queries * classes],
                boxes: &boxes[image * queries * 4..(image + 1) * queries * 4],
                classes,
            };
            (predictions, target)
        })
        .collect();
    let (matches, _) = matcher.match_all(&problems);
    let mut totals = Vec::new();
    for (image, (&(predictions, target), matched)) in problems.iter().zip(&matches).enumerate() {
        let mut costs = Vec::new();
        matcher.costs(predictions, target, &mut costs);
        check.array(case, &format!("cost.{image}"), &costs, case.tolerance("cost")?)?;
        let columns = target.labels.len();
        let cost = |pair: &Pair| f64::from(costs[pair.query * columns + pair.target]);
        totals.push(matched.iter().map(cost).sum());
    }
    let expected = &case.array("total_cost")?.values;
    check.values("total_cost", &totals, expected, case.tolerance("total_cost")?)?;
    // Where many assignments cost the same, only the total is defined.
    if case.text("compare")? == "indices" {
        check.same("indices", &matches, &pairs(case, "indices", batch)?);
    }
    Ok(())
}

fn matcher(case: &Case) -> Result<Matcher, CaseError> {
    let number = |key: &str| case.number(key).map(|value| value as f32);
    Ok(Matcher {
        class: number("cost_class")?,
        bbox: number("cost_bbox")?,
        giou: number("cost_giou")?,
        alpha: number("alpha")?,
        gamma: number("gamma")?,
        class_cost: if case.flag("use_focal_loss")? {
            ClassCost::Focal
        } else {
            ClassCost::Softmax
        },
    })
}
