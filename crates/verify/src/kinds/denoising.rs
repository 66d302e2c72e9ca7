//! Contrastive denoising: layout, noise, mask and embedded labels from given draws.

use burn::tensor::Device;
use deim_spec::config;
use deim_train::denoising::{Layout, Noise, assemble, noised};

use super::loss::failed;
use crate::case::{Case, CaseError};
use crate::compare::Check;
use crate::fill;

pub fn verify(case: &Case, device: &Device, check: &mut Check) -> Result<(), CaseError> {
    let batch = case.count("batch")?;
    let targets = case.targets(batch)?;
    let classes = case.count("num_classes")?;
    let matching = case.count("num_queries")?;
    let config = config::Denoising {
        queries: case.count("num_denoising")?,
        label_noise: case.number("label_noise_ratio")?,
        box_noise: case.number("box_noise_scale")?,
    };
    let layout = Layout::new(&targets, config.queries);
    check.same("is_none", &layout.is_none(), &case.flag("is_none")?);
    let Some(layout) = layout else { return Ok(()) };
    let queries = layout.queries();
    let split = case.numbers("dn_num_split")?;
    check.same("dn_num_group", &layout.groups, &case.count("dn_num_group")?);
    check.same("dn_num_split", &vec![queries as f64, matching as f64], &split);
    if split != [queries as f64, matching as f64] {
        return Ok(());
    }

    let noise = noise(case, "", batch, queries)?;
    let noised = noised(&targets, classes, layout, &config, &noise);
    let ours = assemble(&targets, layout, noised, matching, device);
    let labels = ours.queries.labels.try_into_vec_as::<i64>().map_err(failed)?;
    let labels: Vec<usize> = labels.into_iter().map(|label| label as usize).collect();
    check.same("noised_labels", &labels, &case.indices("noised_labels")?);

    let boxes = ours.queries.boxes_unactivated;
    let tolerance = case.tolerance("unact")?;
    let unactivated = boxes.clone().try_into_vec_as::<f32>().map_err(failed)?;
    check.array(case, "bbox_unact", &unactivated, tolerance)?;
    let activated = burn::tensor::activation::sigmoid(boxes);
    let activated = activated.try_into_vec_as::<f32>().map_err(failed)?;
    // The sigmoid is at most a quarter as steep.
    let tolerance = crate::compare::Tolerance { absolute: tolerance.absolute / 4.0, ..tolerance };
    check.array(case, "bbox_sigmoid", &activated, tolerance)?;

    let blocked = ours.queries.blocked.into_data();
    let blocked: Vec<usize> = blocked.iter::<bool>().map(usize::from).collect();
    check.same("attn_mask", &blocked, &case.indices("attn_mask")?);
    for (image, pairs) in ours.positives.pairs.iter().enumerate() {
        let positions: Vec<usize> = pairs.iter().map(|pair| pair.query).collect();
        let name = format!("dn_positive_idx.{image}");
        check.same(&name, &positions, &case.indices(&name)?);
    }

    let hidden = case.count("hidden_dim")?;
    let mut table = fill::matrix("decoder.denoising_class_embed.weight", classes + 1, hidden);
    table[classes * hidden..].fill(0.0);
    if labels.iter().any(|&label| label > classes) {
        return Err(CaseError::new(format!("a noised label is above {classes}")));
    }
    let content: Vec<f32> = labels
        .iter()
        .flat_map(|&label| table[label * hidden..(label + 1) * hidden].iter().copied())
        .collect();
    check.array(case, "content", &content, case.tolerance("content")?)
}

/// The case's draws. Where a ratio is zero the official code draws nothing, and nothing is used.
pub fn noise(case: &Case, prefix: &str, batch: usize, queries: usize) -> Result<Noise, CaseError> {
    let floats = |name: &str, shape: &[usize]| {
        let name = format!("{prefix}{name}");
        if case.has(&name) {
            return Ok(case.shaped(&name, shape)?.f32s());
        }
        Ok(vec![0.0; shape.iter().product()])
    };
    let (each, edges) = ([batch, queries], [batch, queries, 4]);
    let new = floats("draw.label_new", &each)?;
    let sign = floats("draw.box_sign", &edges)?;
    Ok(Noise {
        label_u: floats("draw.label_u", &each)?,
        label_new: new.into_iter().map(|label| label as u32).collect(),
        box_sign: sign.into_iter().map(|sign| sign * 2.0 - 1.0).collect(),
        box_u: floats("draw.box_u", &edges)?,
    })
}
