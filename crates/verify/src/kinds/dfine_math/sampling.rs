//! Deformable attention, without the maps around it.

use burn::tensor::{Device, Tensor};
use deim_model::attention::discrete_attention;
use deim_ops::deformable_attention;

use super::{pull_back, slope, tensor, values};
use crate::case::{Case, CaseError};
use crate::compare::Check;

/// `deform_attn_*`
pub fn deformable(case: &Case, device: &Device, check: &mut Check) -> Result<(), CaseError> {
    let device = device.clone().autodiff();
    let levels = case.sizes("spatial_shapes_hw")?;
    let points: Vec<usize> =
        case.numbers("num_points")?.into_iter().map(|count| count as usize).collect();
    let total: usize = points.iter().sum();
    let heads = case.count("heads")?;
    let channels = case.count("head_dim")?;
    let locations = tensor::<5>(case, "sampling_locations", &device)?.require_grad();
    let [batch, queries, ..] = locations.dims();
    case.shaped("sampling_locations", &[batch, queries, heads, total, 2])?;
    case.shaped("attention_weights", &[batch, queries, heads, total])?;
    let weights = tensor::<4>(case, "attention_weights", &device)?.require_grad();
    let mut parts = Vec::with_capacity(levels.len());
    for (level, [height, width]) in levels.iter().enumerate() {
        let name = format!("value.{level}");
        case.shaped(&name, &[batch, heads, channels, height * width])?;
        parts.push(tensor::<4>(case, &name, &device)?.require_grad());
    }
    if parts.len() != points.len() || parts.is_empty() {
        return Err(CaseError::new("case.toml: 'num_points' has not one number a level"));
    }
    // [batch, heads, channels, tokens] to [batch, tokens, heads, channels]
    let value = Tensor::cat(parts.clone(), 3).permute([0, 3, 1, 2]);
    let folder = case.folder.to_string_lossy();
    // Nothing but words tells one from the other.
    let discrete = case.text("notes").is_ok_and(|notes| notes.contains("= discrete"))
        || folder.ends_with("_discrete");
    let attend = if discrete { discrete_attention } else { deformable_attention };
    let y = attend(value, locations.clone(), weights.clone(), &levels, &points);
    check.array(case, "y", &values(y.clone()), case.tolerance("")?)?;
    if !case.has("cotangent") {
        return Ok(());
    }
    let gradients = pull_back(case, y, "cotangent")?;
    slope(case, "grad_attention_weights", &weights, &gradients, check)?;
    if case.has("grad_sampling_locations") {
        slope(case, "grad_sampling_locations", &locations, &gradients, check)?;
    }
    for (level, part) in parts.iter().enumerate() {
        slope(case, &format!("grad_value.{level}"), part, &gradients, check)?;
    }
    Ok(())
}
