//! The whole criterion on given layer outputs: matches, union set, losses and gradients.

use burn::tensor::{Device, Tensor};
use deim_model::outputs::{DecoderOutputs, Outputs, Prediction};
use deim_train::criterion::{Criterion, CriterionConfig};
use deim_train::denoising::DenoisingPairs;
use deim_train::heads::{Gathered, Heads};
use deim_train::losses::class::{ClassLoss, Kind};
use deim_train::losses::edges::EdgeLoss;
use deim_train::matcher::{Matcher, Pair};

use super::loss::{failed, gradient, pairs, similarity, tensor, tracked, verify_gradient};
use crate::case::{Case, CaseError};
use crate::compare::Check;

pub fn verify(case: &Case, device: &Device, check: &mut Check) -> Result<(), CaseError> {
    let device = device.clone().autodiff();
    let batch = case.count("batch")?;
    let targets = case.targets(batch)?;
    let mut inputs = Inputs { case, device, tracked: Vec::new() };
    let outputs = inputs.outputs()?;
    let denoising = denoising(case, batch)?;
    let criterion = criterion(case)?;

    let gathered = Gathered::new(&Heads::from(&outputs)).map_err(failed)?;
    let mut matches = criterion.assign(&gathered, &targets).map_err(failed)?;
    let mut tags: Vec<String> =
        (0..outputs.matching.layers.len() - 1).map(|layer| format!("aux_{layer}")).collect();
    tags.push("last".into());
    tags.extend(outputs.matching.pre.as_ref().map(|_| "pre".into()));
    tags.push("enc_0".into());
    for (tag, ours) in tags.iter().zip(&matches.heads) {
        let name = format!("indices.{tag}");
        check.same(&name, ours, &pairs(case, &name, batch)?);
    }
    if let Some(union) = &mut matches.union {
        let mut expected = pairs(case, "indices.go", batch)?;
        expected.iter_mut().for_each(|image| image.sort_unstable());
        if case.count("go_ambiguous_queries")? > 0 {
            // The official order of tied counts is undefined: its answer is taken as input.
            *union = expected;
        } else {
            check.same("indices.go", union, &expected);
        }
    }

    let losses =
        criterion.losses(&gathered, &targets, denoising.as_ref(), matches).map_err(failed)?;
    let values = losses.values.clone().try_into_vec_as::<f32>().map_err(failed)?;
    let tolerance = case.tolerance("loss")?;
    let mut names = losses.terms.clone();
    let mut expected_names = case.texts("loss_names")?;
    names.sort_unstable();
    expected_names.sort_unstable();
    check.same("loss_names", &names, &expected_names);
    for (name, &value) in losses.terms.iter().zip(&values) {
        check.array(case, &format!("loss.{name}"), &[value], tolerance)?;
    }
    let total = losses.total.clone().into_scalar::<f32>();
    check.array(case, "loss.total", &[total], tolerance)?;

    let gradients = losses.total.backward();
    for (name, input) in &inputs.tracked {
        let ours = gradient(input, &gradients);
        verify_gradient(case, &format!("grad.{name}"), &ours, check)?;
    }
    Ok(())
}

/// Builds the detector's outputs and remembers what has a gradient.
struct Inputs<'a> {
    case: &'a Case,
    device: Device,
    tracked: Vec<(String, Tensor<3>)>,
}

impl Inputs<'_> {
    fn outputs(&mut self) -> Result<Outputs, CaseError> {
        let layers = self.case.count("layers")?;
        if layers == 0 {
            return Err(CaseError::new("case.toml: 'layers' is 0"));
        }
        let mut names: Vec<String> = (0..layers - 1).map(|layer| format!("aux_{layer}")).collect();
        names.push("last".into());
        let matching = self.decoder(&names, "pre", "in.ref_points")?;
        let encoder = self.prediction("enc_0")?;
        let names: Vec<String> = (0..layers).map(|layer| format!("dn_{layer}")).collect();
        let denoising = if self.case.has("in.dn_0.pred_logits") {
            Some(self.decoder(&names, "dn_pre", "in.dn_ref_points")?)
        } else {
            None
        };
        Ok(Outputs { matching, encoder, tokens: None, denoising })
    }

    fn decoder(
        &mut self,
        names: &[String],
        pre: &str,
        reference: &str,
    ) -> Result<DecoderOutputs, CaseError> {
        let layers: Result<Vec<_>, _> = names.iter().map(|name| self.prediction(name)).collect();
        let pre = if self.case.has(&format!("in.{pre}.pred_logits")) {
            Some(self.prediction(pre)?)
        } else {
            None
        };
        let reference = if self.case.has(reference) {
            Some(tensor(self.case, reference, &self.device)?)
        } else {
            None
        };
        Ok(DecoderOutputs { layers: layers?, pre, reference })
    }

    fn prediction(&mut self, layer: &str) -> Result<Prediction, CaseError> {
        let logits = self.input(&format!("{layer}.pred_logits"))?;
        let boxes = self.input(&format!("{layer}.pred_boxes"))?;
        let corners = format!("{layer}.pred_corners");
        let has_corners = self.case.has(&format!("in.{corners}"));
        let corners = if has_corners { Some(self.input(&corners)?) } else { None };
        Ok(Prediction { logits, boxes, corners })
    }

    fn input(&mut self, name: &str) -> Result<Tensor<3>, CaseError> {
        let tensor = tracked(self.case, &format!("in.{name}"), &self.device)?;
        self.tracked.push((name.to_owned(), tensor.clone()));
        Ok(tensor)
    }
}

fn criterion(case: &Case) -> Result<Criterion, CaseError> {
    let losses = case.texts("losses")?;
    let asks = |name: &str| losses.iter().any(|loss| loss == name);
    let (kind, class) = if asks("mal") {
        (Kind::Mal, "weight_dict.loss_mal")
    } else if asks("vfl") {
        (Kind::Vfl, "weight_dict.loss_vfl")
    } else {
        (Kind::Focal, "weight_dict.loss_focal")
    };
    let edges = if asks("local") {
        Some(EdgeLoss {
            reg_max: case.count("reg_max")?,
            reg_scale: case.number("reg_scale")?,
            up: case.number("up")?,
            weight_fgl: case.number("weight_dict.loss_fgl")?,
            weight_ddf: case.number("weight_dict.loss_ddf")?,
        })
    } else {
        None
    };
    let config = CriterionConfig {
        class: ClassLoss {
            kind,
            gamma: case.number("gamma")?,
            alpha: case.number("alpha")?,
            mal_alpha: None,
        },
        weight_class: case.number(class)?,
        weight_bbox: case.number("weight_dict.loss_bbox")?,
        weight_giou: case.number("weight_dict.loss_giou")?,
        boxes_weight: similarity(case)?,
        union_set: case.flag("use_uni_set")?,
        edges,
    };
    let matcher = Matcher::new(&deim_spec::config::Matcher::default());
    Ok(Criterion::with(config, matcher, case.count("num_classes")?))
}

/// The positives of the denoising queries: every group repeats the image's targets.
fn denoising(case: &Case, batch: usize) -> Result<Option<DenoisingPairs>, CaseError> {
    if !case.has("dn_positive_idx") {
        return Ok(None);
    }
    let groups = case.count("dn_num_group")?;
    let positions = case.indices("dn_positive_idx")?;
    let lengths = case.indices("dn_positive_idx_lengths")?;
    if lengths.len() != batch || lengths.iter().sum::<usize>() != positions.len() {
        return Err(CaseError::new("dn_positive_idx_lengths does not fit dn_positive_idx"));
    }
    let mut rest = positions.as_slice();
    let pairs = lengths
        .iter()
        .map(|&length| {
            let (own, others) = rest.split_at(length);
            rest = others;
            let targets = length / groups.max(1);
            own.iter()
                .enumerate()
                .map(|(place, &query)| Pair { query, target: place % targets.max(1) })
                .collect()
        })
        .collect();
    Ok(Some(DenoisingPairs { pairs, groups }))
}
