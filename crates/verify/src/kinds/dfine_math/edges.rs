//! What an edge's distribution learns: the bins of a target, FGL and DDF.

use burn::tensor::{Device, Tensor};
use deim_data::Target;
use deim_model::outputs::Prediction;
use deim_train::boxes;
use deim_train::criterion::{Criterion, CriterionConfig, Matches};
use deim_train::edge_terms::PairCounts;
use deim_train::heads::{Gathered, Group, Head, Heads};
use deim_train::losses::class::{ClassLoss, Kind};
use deim_train::losses::edges::{Bin, EdgeLoss};
use deim_train::matcher::{Matcher, Pair};

use super::{number_after, prefixes};
use crate::case::{Case, CaseError};
use crate::compare::{Check, Tolerance};
use crate::kinds::loss::{failed, gradient, pairs, tensor, tracked, verify_gradient};

/// `translate_gt`: the bins of plain offsets.
pub fn targets_of_values(case: &Case, check: &mut Check) -> Result<(), CaseError> {
    for prefix in prefixes(case) {
        let loss = edge_loss(case, number_after(&prefix, "rs")?)?;
        let offsets = loss.offsets();
        let offsets_of_edges = case.f32s(&format!("{prefix}.value"))?;
        let ours: Vec<Bin> =
            offsets_of_edges.into_iter().map(|value| loss.bin(value, &offsets)).collect();
        let names = ["target", "weight_left", "weight_right"].map(|n| format!("{prefix}.{n}"));
        compare(case, names, &ours, &loss, check)?;
    }
    Ok(())
}

/// `bbox2distance`: the bins of boxes around points.
pub fn targets_of_boxes(case: &Case, check: &mut Check) -> Result<(), CaseError> {
    let points = case.array("points")?;
    let targets = case.shaped("gt_xyxy", &points.shape)?.f32s();
    let points = points.f32s();
    for prefix in prefixes(case) {
        let loss = edge_loss(case, number_after(&prefix, "rs")?)?;
        let offsets = loss.offsets();
        let (points, targets) = (points.as_chunks::<4>().0, targets.as_chunks::<4>().0);
        let edges = points.iter().zip(targets);
        let ours: Vec<Bin> =
            edges.flat_map(|(&point, &target)| loss.bins_of(point, target, &offsets)).collect();
        let names = ["target", "weight_left", "weight_right"].map(|n| format!("{prefix}.{n}"));
        compare(case, names, &ours, &loss, check)?;
    }
    Ok(())
}

fn edge_loss(case: &Case, reg_scale: f64) -> Result<EdgeLoss, CaseError> {
    let (reg_max, up) = (case.count("reg_max")?, case.number("up")?);
    if reg_max < 4 {
        return Err(CaseError::new("case.toml: 'reg_max' is below 4"));
    }
    Ok(EdgeLoss { reg_max, reg_scale, up, weight_fgl: 0.0, weight_ddf: 0.0 })
}

/// Compares bins with the official ones, which are floats: the left bin, or a little less than
/// `reg_max` above the range. An offset within rounding of a bin may lie on either side of it; the
/// position, left bin plus right weight, is the same then.
fn compare(
    case: &Case,
    [target, left, right]: [String; 3],
    ours: &[Bin],
    loss: &EdgeLoss,
    check: &mut Check,
) -> Result<(), CaseError> {
    let weight = weight_tolerance(case)?;
    let bin = case.tolerance("target").unwrap_or(Tolerance { absolute: 1e-4, relative: 0.0 });
    let expected: [&[f64]; 3] = [
        &case.shaped(&target, &[ours.len()])?.values,
        &case.shaped(&left, &[ours.len()])?.values,
        &case.shaped(&right, &[ours.len()])?.values,
    ];
    let position = |left: f64, weights: [f64; 2]| left * weights[0] + (left + 1.0) * weights[1];
    let mut positions = [Vec::new(), Vec::new()];
    // Bins, left weights and right weights, ours and expected, where the bin is the same.
    let mut same: [[Vec<f64>; 2]; 3] = Default::default();
    for (index, own) in ours.iter().enumerate() {
        let [bin, left, right] = [0, 1, 2].map(|array| expected[array][index]);
        let weights = [own.weight_left, own.weight_right];
        positions[0].push(position(own.left as f64, weights));
        positions[1].push(position(bin.floor(), [left, right]));
        if bin.floor() == own.left as f64 {
            let above = own.left + 1 == loss.reg_max && weights == [0.0, 1.0];
            let official = if above { loss.reg_max as f64 - 0.1 } else { own.left as f64 };
            for (pair, values) in
                same.iter_mut().zip([[official, bin], [weights[0], left], [weights[1], right]])
            {
                pair[0].push(values[0]);
                pair[1].push(values[1]);
            }
        }
    }
    check.values(&format!("{target} and weights"), &positions[0], &positions[1], weight)?;
    for ((name, tolerance), [ours, expected]) in
        [(target, bin), (left, weight), (right, weight)].into_iter().zip(&same)
    {
        check.values(&name, ours, expected, tolerance)?;
    }
    Ok(())
}

/// The cases of losses state no tolerance for the bins they also hold.
fn weight_tolerance(case: &Case) -> Result<Tolerance, CaseError> {
    if case.has("loss_fgl") {
        return Ok(Tolerance { absolute: 2e-4, relative: 0.0 });
    }
    case.tolerance("weight")
}

/// `fgl_ddf`: both losses of one layer, the student, against a second, the teacher.
pub fn losses(case: &Case, device: &Device, check: &mut Check) -> Result<(), CaseError> {
    let batch = case.count("batch")?;
    let targets = case.targets(batch)?;
    let matches = pairs(case, "indices", batch)?;
    let student = Student { case, device: device.clone().autodiff(), targets, matches };
    student.bins(check)?;
    student.balance(check)?;
    student.loss("loss_fgl", "grad_fgl", [1.0, 0.0], check)?;
    student.loss("loss_ddf", "grad_ddf", [0.0, 1.0], check)
}

struct Student<'a> {
    case: &'a Case,
    device: Device,
    targets: Vec<Target>,
    matches: Vec<Vec<Pair>>,
}

impl Student<'_> {
    fn edges(&self, [weight_fgl, weight_ddf]: [f64; 2]) -> Result<EdgeLoss, CaseError> {
        let edges = edge_loss(self.case, self.case.number("reg_scale")?)?;
        Ok(EdgeLoss { weight_fgl, weight_ddf, ..edges })
    }

    /// The bins of the matched targets.
    fn bins(&self, check: &mut Check) -> Result<(), CaseError> {
        let loss = self.edges([0.0; 2])?;
        let offsets = loss.offsets();
        let queries = self.case.count("num_queries")?;
        let references = self.case.shaped("ref_points", &[self.targets.len(), queries, 4])?.f32s();
        let references = references.as_chunks::<4>().0;
        let mut ours = Vec::new();
        for (image, (pairs, target)) in self.matches.iter().zip(&self.targets).enumerate() {
            for pair in pairs {
                let target = target.boxes.get(pair.target).filter(|_| pair.query < queries);
                let Some(&target) = target else {
                    return Err(CaseError::new("indices: a match outside queries and targets"));
                };
                let reference = references[image * queries + pair.query];
                ours.extend(loss.bins_of(reference, boxes::corners(target), &offsets));
            }
        }
        let names = ["fgl_target", "fgl_weight_left", "fgl_weight_right"].map(str::to_owned);
        compare(self.case, names, &ours, &loss, check)
    }

    /// The balance of matched and other queries.
    fn balance(&self, check: &mut Check) -> Result<(), CaseError> {
        let matched = self.matches.iter().map(Vec::len).sum();
        let rows = self.targets.len() * self.case.count("num_queries")?;
        let counts = PairCounts::of(matched, rows, self.targets.len());
        let tolerance = self.case.tolerance("loss")?;
        for (name, ours) in [("ddf_num_pos", counts.positive), ("ddf_num_neg", counts.negative)] {
            check.array(self.case, name, &[ours as f32], tolerance)?;
        }
        Ok(())
    }

    fn loss(
        &self,
        name: &str,
        slope: &str,
        weights: [f64; 2],
        check: &mut Check,
    ) -> Result<(), CaseError> {
        let (case, device) = (self.case, &self.device);
        let corners = tracked(case, "pred_corners", device)?;
        let boxes = tensor(case, "pred_boxes", device)?;
        let logits = tensor(case, "teacher_logits", device)?;
        let teacher = tensor(case, "teacher_corners", device)?;
        if teacher.dims() != corners.dims() {
            return Err(CaseError::new("teacher_corners has not the shape of pred_corners"));
        }
        // The student's own logits and the teacher's boxes are of no matter.
        let head = |suffix: &str, corners: Tensor<3>| Head {
            suffix: suffix.into(),
            prediction: Prediction {
                logits: logits.clone(),
                boxes: boxes.clone(),
                corners: Some(corners),
            },
        };
        let matching = Group {
            heads: vec![head("_student", corners.clone()), head("_teacher", teacher)],
            layers: 2,
            reference: Some(tensor(case, "ref_points", device)?),
        };
        let gathered = Gathered::new(&Heads { matching, denoising: None }).map_err(failed)?;
        let matches = Matches { heads: vec![self.matches.clone(); 2], ..Matches::default() };
        let criterion = self.criterion(weights)?;
        let losses = criterion.losses(&gathered, &self.targets, None, matches).map_err(failed)?;

        let place = losses.terms.iter().position(|term| *term == format!("{name}_student"));
        let place = place.ok_or_else(|| CaseError::new(format!("no {name} of the student")))?;
        let all = losses.values.clone().try_into_vec_as::<f32>().map_err(failed)?;
        check.array(case, name, &[all[place]], case.tolerance("loss")?)?;
        let gradients = losses.total.backward();
        verify_gradient(case, slope, &gradient(&corners, &gradients), check)
    }

    fn criterion(&self, [fgl, ddf]: [f64; 2]) -> Result<Criterion, CaseError> {
        // The case names its normaliser; the criterion counts targets.
        let count = self.targets.iter().map(|target| target.labels.len()).sum::<usize>().max(1);
        let fgl = fgl * count as f64 / self.case.number("num_boxes")?;
        let config = CriterionConfig {
            class: ClassLoss { kind: Kind::Mal, gamma: 1.5, alpha: 0.75, mal_alpha: None },
            weight_class: 0.0,
            weight_bbox: 0.0,
            weight_giou: 0.0,
            boxes_weight: None,
            union_set: false,
            edges: Some(self.edges([fgl, ddf])?),
        };
        let matcher = Matcher::new(&deim_spec::config::Matcher::default());
        Ok(Criterion::with(config, matcher, self.case.count("num_classes")?))
    }
}
