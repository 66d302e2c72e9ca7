//! SimOTA as the official YOLOX head computes it.

use burn::tensor::Device;
use deim_data::Target;
use deim_train::simota::{Anchor, AnchorPredictions, SimOta};

use crate::case::{Case, CaseError};
use crate::compare::Check;

pub fn verify(case: &Case, _device: &Device, check: &mut Check) -> Result<(), CaseError> {
    let classes = case.count("num_classes")?;
    let targets = case.count("num_targets")?;
    let labels = case.indices("gt_labels")?;
    let boxes = case.shaped("gt_boxes_cxcywh", &[targets, 4])?.f32s();
    if labels.len() != targets || labels.iter().any(|&label| label >= classes) {
        return Err(CaseError::new(format!("gt_labels: expected {targets} below {classes}")));
    }
    let target = Target {
        labels: labels.iter().map(|&label| label as u32).collect(),
        boxes: boxes.as_chunks::<4>().0.to_vec(),
    };
    let strides = case.f32s("anchor_stride")?;
    let count = strides.len();
    let x = case.shaped("anchor_x", &[count])?.f32s();
    let y = case.shaped("anchor_y", &[count])?.f32s();
    let anchors: Vec<Anchor> = (0..count)
        .map(|anchor| Anchor { x: x[anchor], y: y[anchor], stride: strides[anchor] })
        .collect();
    let predicted = case.shaped("pred_boxes_cxcywh", &[count, 4])?.f32s();
    let predictions = AnchorPredictions {
        boxes: predicted.as_chunks::<4>().0,
        class_logits: &case.shaped("cls_logits", &[count, classes])?.f32s(),
        objectness_logits: &case.shaped("obj_logits", &[count])?.f32s(),
        classes,
    };
    let simota = SimOta {
        centre_radius: case.number("center_radius")? as f32,
        iou_weight: case.number("iou_weight")? as f32,
    };
    let ours = simota.assign(predictions, &anchors, &target);

    let mask = |chosen: &mut dyn Iterator<Item = usize>| {
        let mut mask = vec![0_usize; count];
        chosen.for_each(|anchor| mask[anchor] = 1);
        mask
    };
    let candidates = mask(&mut ours.candidates.iter().copied());
    check.same("candidate_mask", &candidates, &case.indices("candidate_mask")?);
    // Costs outside a target carry a constant of 100000, whose rounding exceeds the bound.
    check.array(case, "cost", &ours.costs, case.tolerance("cost")?.with_rounding())?;
    let iou_tolerance = case.tolerance("iou")?;
    check.array(case, "iou", &ours.ious, iou_tolerance)?;

    let positives = &ours.positives;
    let foreground = mask(&mut positives.iter().map(|positive| positive.anchor));
    check.same("foreground_mask", &foreground, &case.indices("foreground_mask")?);
    let matched: Vec<usize> = positives.iter().map(|positive| positive.target).collect();
    check.same("matched_target", &matched, &case.indices("matched_target")?);
    let class: Vec<usize> = matched.iter().map(|&target| labels[target]).collect();
    check.same("matched_class", &class, &case.indices("matched_class")?);
    let ious: Vec<f32> = positives.iter().map(|positive| positive.iou).collect();
    check.array(case, "matched_iou", &ious, iou_tolerance)?;
    let mut counts = vec![0_usize; targets];
    matched.iter().for_each(|&target| counts[target] += 1);
    check.same("positives_per_target", &counts, &case.indices("positives_per_target")?);
    check.same("num_foreground", &positives.len(), &case.count("num_foreground")?);
    Ok(())
}
