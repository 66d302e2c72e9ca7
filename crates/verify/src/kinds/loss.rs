//! Single losses on given matches: values and gradients.

use burn::tensor::{Device, Tensor, TensorData};
use deim_data::Target;
use deim_model::outputs::Prediction;
use deim_train::boxes;
use deim_train::criterion::{Criterion, CriterionConfig, Matches};
use deim_train::heads::{Gathered, Group, Head, Heads};
use deim_train::losses::boxes::Similarity;
use deim_train::losses::class::{ClassLoss, Kind};
use deim_train::matcher::{Matcher, Pair};

use crate::case::{Case, CaseError};
use crate::compare::{Check, Tolerance};

pub fn verify(case: &Case, device: &Device, check: &mut Check) -> Result<(), CaseError> {
    let batch = case.count("batch")?;
    let targets = case.targets(batch)?;
    let matches = pairs(case, "indices", batch)?;
    verify_similarity(case, &targets, &matches, check)?;

    let name = case.text("loss")?;
    // One weight at a time, so that each loss has its gradient to itself.
    let parts: Vec<(String, [f64; 3])> = match name {
        "boxes" => {
            vec![("loss_bbox".into(), [0.0, 1.0, 0.0]), ("loss_giou".into(), [0.0, 0.0, 1.0])]
        }
        _ => vec![(format!("loss_{name}"), [1.0, 0.0, 0.0])],
    };
    for (name, weights) in parts {
        let criterion = criterion(case, weights)?;
        verify_part(case, &name, &criterion, &targets, &matches, device, check)?;
    }
    Ok(())
}

fn verify_part(
    case: &Case,
    name: &str,
    criterion: &Criterion,
    targets: &[Target],
    matches: &[Vec<Pair>],
    device: &Device,
    check: &mut Check,
) -> Result<(), CaseError> {
    let device = device.clone().autodiff();
    let logits = tracked(case, "pred_logits", &device)?;
    let boxes = tracked(case, "pred_boxes", &device)?;
    let prediction = Prediction { logits: logits.clone(), boxes: boxes.clone(), corners: None };
    let head = Head { suffix: String::new(), prediction };
    let matching = Group { heads: vec![head], layers: 1, reference: None };
    let gathered = Gathered::new(&Heads { matching, denoising: None }).map_err(failed)?;
    let matches = Matches { heads: vec![matches.to_vec()], ..Matches::default() };
    let losses = criterion.losses(&gathered, targets, None, matches).map_err(failed)?;

    let ours = losses.total.clone().into_scalar::<f32>();
    let tolerance = case.tolerance("loss")?;
    check.array(case, name, &[ours], tolerance)?;
    check.array(case, &format!("{name}.f64"), &[ours], tolerance)?;
    let gradients = losses.total.backward();
    for (input, tensor) in [("logits", logits), ("boxes", boxes)] {
        let ours = gradient(&tensor, &gradients);
        verify_gradient(case, &format!("{name}.grad_{input}"), &ours, check)?;
    }
    Ok(())
}

/// A gradient that the case does not hold has to be zero: the loss does not depend on the input.
pub fn verify_gradient(
    case: &Case,
    name: &str,
    ours: &[f32],
    check: &mut Check,
) -> Result<(), CaseError> {
    let tolerance = case.tolerance("grad")?;
    if case.has(name) {
        return check.array(case, name, ours, tolerance);
    }
    let ours: Vec<f64> = ours.iter().map(|&slope| f64::from(slope)).collect();
    check.values(name, &ours, &vec![0.0; ours.len()], tolerance)
}

/// The gradient by a tensor; zeros where nothing reached it.
pub fn gradient<const D: usize>(
    tensor: &Tensor<D>,
    gradients: &burn::tensor::Gradients,
) -> Vec<f32> {
    let zeros = || vec![0.0; tensor.dims().iter().product()];
    let found = tensor.grad(gradients).map(|slope| slope.try_into_vec_as::<f32>());
    found.and_then(Result::ok).unwrap_or_else(zeros)
}

/// `matched_iou`, in the order of the concatenated matches.
fn verify_similarity(
    case: &Case,
    targets: &[Target],
    matches: &[Vec<Pair>],
    check: &mut Check,
) -> Result<(), CaseError> {
    let array = case.array("pred_boxes")?;
    let boxes = array.f32s();
    let queries = *array.shape.get(1).unwrap_or(&0);
    let mut ours = Vec::new();
    for (image, pairs) in matches.iter().enumerate() {
        for pair in pairs {
            let at = 4 * (image * queries + pair.query);
            let own = boxes.get(at..at + 4).and_then(|own| <[f32; 4]>::try_from(own).ok());
            let target = targets[image].boxes.get(pair.target).copied();
            let (Some(own), Some(target)) = (own, target) else {
                return Err(CaseError::new("indices: a match outside queries and targets"));
            };
            ours.push(boxes::iou(boxes::corners(own), boxes::corners(target)));
        }
    }
    check.array(case, "matched_iou", &ours, Tolerance { absolute: 1e-6, relative: 1e-5 })
}

fn criterion(case: &Case, weights: [f64; 3]) -> Result<Criterion, CaseError> {
    let kind = match case.text("loss")? {
        "vfl" => Kind::Vfl,
        "focal" => Kind::Focal,
        "mal" | "boxes" => Kind::Mal,
        other => return Err(CaseError::new(format!("case.toml: unknown loss '{other}'"))),
    };
    let config = CriterionConfig {
        class: ClassLoss {
            kind,
            gamma: case.number("gamma")?,
            alpha: case.number("alpha")?,
            mal_alpha: mal_alpha(case)?,
        },
        weight_class: weights[0],
        weight_bbox: weights[1],
        weight_giou: weights[2],
        boxes_weight: similarity(case)?,
        union_set: false,
        edges: None,
    };
    let matcher = Matcher::new(&deim_spec::config::Matcher::default());
    Ok(Criterion::with(config, matcher, case.count("num_classes")?))
}

/// Options are strings, as they were on the command line that made the case.
fn mal_alpha(case: &Case) -> Result<Option<f64>, CaseError> {
    let text = case.optional("options.mal_alpha", |case, key| {
        case.text(key).map(str::to_owned).or_else(|_| case.number(key).map(|n| n.to_string()))
    })?;
    match text.as_deref() {
        None | Some("None") => Ok(None),
        Some(text) => text
            .parse()
            .map(Some)
            .map_err(|_| CaseError::new("case.toml: 'options.mal_alpha' is not a number")),
    }
}

/// `options.boxes_weight_format`.
pub fn similarity(case: &Case) -> Result<Option<Similarity>, CaseError> {
    let text = case
        .optional("options.boxes_weight_format", |case, key| case.text(key).map(str::to_owned))?;
    match text.as_deref() {
        None | Some("None") => Ok(None),
        Some("iou") => Ok(Some(Similarity::Iou)),
        Some("giou") => Ok(Some(Similarity::Giou)),
        Some(other) => {
            Err(CaseError::new(format!("case.toml: unknown boxes_weight_format '{other}'")))
        }
    }
}

/// `<prefix>.<image>.src` and `.tgt` of every image, sorted by query.
pub fn pairs(case: &Case, prefix: &str, batch: usize) -> Result<Vec<Vec<Pair>>, CaseError> {
    (0..batch)
        .map(|image| {
            let queries = case.indices(&format!("{prefix}.{image}.src"))?;
            let targets = case.indices(&format!("{prefix}.{image}.tgt"))?;
            if queries.len() != targets.len() {
                return Err(CaseError::new(format!(
                    "{prefix}.{image}: src and tgt differ in length"
                )));
            }
            Ok(queries
                .into_iter()
                .zip(targets)
                .map(|(query, target)| Pair { query, target })
                .collect())
        })
        .collect()
}

/// An array of the case as a tensor with a gradient.
pub fn tracked(case: &Case, name: &str, device: &Device) -> Result<Tensor<3>, CaseError> {
    Ok(tensor(case, name, device)?.require_grad())
}

/// A three-dimensional array of the case as a tensor.
pub fn tensor(case: &Case, name: &str, device: &Device) -> Result<Tensor<3>, CaseError> {
    let array = case.array(name)?;
    let shape = <[usize; 3]>::try_from(array.shape.as_slice())
        .map_err(|_| CaseError::new(format!("{name} has not three axes")))?;
    Ok(Tensor::from_data(TensorData::new(array.f32s(), shape), device))
}

pub fn failed(error: impl std::fmt::Display) -> CaseError {
    CaseError::new(error.to_string())
}
