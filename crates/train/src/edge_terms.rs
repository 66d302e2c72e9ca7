//! The edge losses of one group of heads: which rows, which targets, which weights (deim-facts 3.11).

use burn::tensor::{IndexingUpdateOp, Tensor};
use deim_data::Target;

use crate::boxes;
use crate::criterion::CriterionError;
use crate::heads::{Gathered, Layout};
use crate::losses::edges::{self, Bin, EdgeLoss};
use crate::losses::{like, upload, upload_indices};
use crate::plan::Plan;

/// How many rows of a layer are matched and how many are not: the balance of the distillation.
#[derive(Clone, Copy, Debug)]
pub struct PairCounts {
    pub positive: f64,
    pub negative: f64,
}

impl PairCounts {
    /// The matching group's balance; the denoising group reuses it (deim-facts 3.11).
    pub(crate) fn new(plan: &Plan<'_>, layout: &Layout, batch: usize) -> Self {
        Self::of(plan.box_pairs[0].iter().map(Vec::len).sum(), layout.rows, batch)
    }

    /// The balance of a layer with so many rows, of which some are matched.
    pub fn of(matched: usize, all: usize, batch: usize) -> Self {
        // Edges, and a scale that takes out the batch size.
        let size = |rows: usize| (4.0 * rows as f64 * 8.0 / batch as f64).sqrt();
        Self { positive: size(matched), negative: size(all - matched) }
    }
}

/// Both edge losses of a group's layers.
pub(crate) struct EdgeTerms {
    /// `[layers]`
    pub fgl: Tensor<1>,
    /// `[layers - 1]`; none with a single layer.
    pub ddf: Option<Tensor<1>>,
    /// The layers' edge distributions, on the graph.
    pub corners: Tensor<2>,
    /// The derivative of both losses by them.
    pub gradient: Tensor<2>,
}

/// Computes both edge losses of a group, with their weights applied.
pub(crate) fn losses(
    loss: &EdgeLoss,
    plan: &Plan<'_>,
    gathered: &Gathered,
    group: usize,
    targets: &[Target],
    counts: PairCounts,
) -> Result<EdgeTerms, CriterionError> {
    let layout = &gathered.groups[group];
    let corners =
        gathered.corners[group].clone().ok_or(CriterionError::Missing("edge distributions"))?;
    let plain = corners.clone().no_grad();
    if plain.dims()[1] != 4 * loss.bins() {
        return Err(CriterionError::Missing("edge distributions of reg_max + 1 bins"));
    }
    let device = plain.device();
    let matched = Matched::new(loss, plan, gathered, group, targets)?;

    let (ddf, mut gradient) = if layout.layers > 1 {
        let students = layout.layers - 1;
        let weights = distillation_weights(loss, &matched, gathered, group, counts);
        let (ddf, gradient) = edges::distillation(plain.clone(), weights, loss.bins(), students);
        (Some(ddf), gradient)
    } else {
        (None, plain.zeros_like())
    };
    let fgl = if matched.rows.is_empty() {
        Tensor::zeros([layout.layers], like(&plain))
    } else {
        let rows = upload_indices(&matched.rows, &device);
        let scales: Vec<f64> =
            matched.ious.iter().map(|&iou| loss.weight_fgl * iou / plan.box_count).collect();
        let (fgl, by_row) = edges::focal_localisation(
            plain.select(0, rows.clone()),
            &matched.bins,
            &scales,
            loss.bins(),
            layout.layers,
        );
        gradient = gradient.select_assign(0, rows, by_row, IndexingUpdateOp::Add);
        fgl
    };
    Ok(EdgeTerms { fgl, ddf, corners, gradient })
}

/// The matched rows of all layers, layer by layer; every layer has equally many.
struct Matched {
    /// Row in the stack of layers.
    rows: Vec<usize>,
    bins: Vec<[Bin; 4]>,
    /// IoU of the row's own box with its target.
    ious: Vec<f64>,
}

impl Matched {
    fn new(
        loss: &EdgeLoss,
        plan: &Plan<'_>,
        gathered: &Gathered,
        group: usize,
        targets: &[Target],
    ) -> Result<Self, CriterionError> {
        let layout = &gathered.groups[group];
        let offsets = loss.offsets();
        let mut matched = Self { rows: Vec::new(), bins: Vec::new(), ious: Vec::new() };
        for layer in 0..layout.layers {
            for (image, pairs) in plan.box_pairs[layer].iter().enumerate() {
                for pair in pairs {
                    let reference = gathered
                        .reference(group, image, pair.query)
                        .ok_or(CriterionError::Missing("reference boxes of the edges"))?;
                    let target = boxes::corners(boxes::exact(targets[image].boxes[pair.target]));
                    let own = boxes::corners(gathered.box_of(group, layer, image, pair.query));
                    matched.rows.push(layer * layout.rows + image * layout.queries + pair.query);
                    let bins = if gathered.is_double() {
                        loss.bins_of(reference, target, &offsets)
                    } else {
                        let reference = reference.map(|side| side as f32);
                        let target = boxes::corners(targets[image].boxes[pair.target]);
                        loss.bins_of(reference, target, &offsets)
                    };
                    matched.bins.push(bins);
                    matched.ious.push(boxes::iou(own, target));
                }
            }
        }
        Ok(matched)
    }
}

/// `[students * rows, 1]`: a matched row weighs by its IoU, another by the teacher's best score; both
/// kinds are averaged on their own and then mixed by the balance of `counts`.
fn distillation_weights(
    loss: &EdgeLoss,
    matched: &Matched,
    gathered: &Gathered,
    group: usize,
    counts: PairCounts,
) -> Tensor<2> {
    let layout = &gathered.groups[group];
    let (students, rows) = (layout.layers - 1, layout.rows);
    let matched_a_layer = matched.rows.len() / layout.layers;
    let mixed = loss.weight_ddf / (counts.positive + counts.negative);
    let of_positive = mixed * counts.positive / (4 * matched_a_layer).max(1) as f64;
    let of_negative = mixed * counts.negative / (4 * (rows - matched_a_layer)).max(1) as f64;

    let mut by_score = vec![of_negative; students * rows];
    let mut by_iou = vec![0.0; students * rows];
    for (&row, &iou) in matched.rows.iter().zip(&matched.ious) {
        if row < students * rows {
            by_score[row] = 0.0;
            by_iou[row] = of_positive * iou;
        }
    }
    let classes = gathered.classes;
    let teacher = gathered.logits(group).narrow(0, students * rows * classes, rows * classes);
    let scores = edges::best_scores(teacher, classes).repeat_dim(0, students);
    let options = like(&scores);
    let column = |values| -> Tensor<2> { upload(values, &options).reshape([students * rows, 1]) };
    scores * column(by_score) + column(by_iou)
}
