//! The small functions of D-FINE, each on its own: bins and edges, union of matches, anchors,
//! embeddings, deformable attention.
//!
//! All these cases have one kind. What a case holds says which function it is about.

mod edges;
mod geometry;
mod offsets;
mod quality;
mod sampling;
mod union;

use burn::tensor::{Device, Gradients, Tensor, TensorData};

use super::loss::gradient;
use crate::case::{Case, CaseError};
use crate::compare::Check;

pub fn verify(case: &Case, device: &Device, check: &mut Check) -> Result<(), CaseError> {
    let any = |part: &str| case.names().any(|name| name.contains(part));
    if case.has("sampling_locations") {
        sampling::deformable(case, device, check)
    } else if case.has("loss_fgl") || case.has("loss_ddf") {
        edges::losses(case, device, check)
    } else if any("pairs.") {
        union::union(case, check)
    } else if case.has("pred_corners") {
        quality::quality(case, device, check)
    } else if case.has("gt_xyxy") {
        edges::targets_of_boxes(case, check)
    } else if any(".value") {
        edges::targets_of_values(case, check)
    } else if any("boxes_cxcywh") {
        offsets::boxes(case, device, check)
    } else if any("reg_max") {
        offsets::bins(case, check)
    } else if case.has("a_cxcywh") {
        geometry::boxes(case, check)
    } else if any("anchors") {
        geometry::anchors(case, device, check)
    } else if any("_dim") {
        geometry::positions(case, device, check)
    } else if case.has("x") && case.has("cotangent") {
        offsets::integral(case, device, check)
    } else if case.has("x") && case.has("y") {
        geometry::logits(case, device, check)
    } else {
        Err(CaseError::new("tensors.safetensors: no function of D-FINE has these arrays"))
    }
}

/// An array of the case as a tensor of so many axes.
fn tensor<const D: usize>(
    case: &Case,
    name: &str,
    device: &Device,
) -> Result<Tensor<D>, CaseError> {
    let array = case.array(name)?;
    let shape = <[usize; D]>::try_from(array.shape.as_slice()).map_err(|_| {
        CaseError::new(format!("{name}: expected {D} axes, found {:?}", array.shape))
    })?;
    Ok(Tensor::from_data(TensorData::new(array.f32s(), shape), device))
}

/// The values of a tensor.
fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().iter().collect()
}

/// The gradients of `sum(y * cotangent)`.
fn pull_back<const D: usize>(
    case: &Case,
    y: Tensor<D>,
    cotangent: &str,
) -> Result<Gradients, CaseError> {
    let shape = y.dims();
    let cotangent = case.shaped(cotangent, &shape)?.f32s();
    let cotangent = Tensor::from_data(TensorData::new(cotangent, shape), &y.device());
    Ok((y * cotangent).sum().backward())
}

/// Compares the gradient by an input.
fn slope<const D: usize>(
    case: &Case,
    name: &str,
    input: &Tensor<D>,
    gradients: &Gradients,
    check: &mut Check,
) -> Result<(), CaseError> {
    check.array(case, name, &gradient(input, gradients), case.tolerance("")?)
}

/// The different beginnings of the arrays' names, up to the last dot.
fn prefixes(case: &Case) -> Vec<String> {
    let mut prefixes: Vec<String> = case
        .names()
        .filter_map(|name| name.rsplit_once('.').map(|(prefix, _)| prefix.to_owned()))
        .collect();
    prefixes.dedup();
    prefixes
}

/// The number after a word in a name, `4` in `rs4` after `rs`.
fn number_after(name: &str, word: &str) -> Result<f64, CaseError> {
    let wrong = || CaseError::new(format!("{name}: no number after '{word}'"));
    let (_, rest) = name.split_once(word).ok_or_else(wrong)?;
    let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
    rest[..end].trim_end_matches('.').parse().map_err(|_| wrong())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_from_names() {
        let name = "reg_max32_reg_scale8_up0.25.deploy";
        assert_eq!(number_after(name, "reg_max").unwrap(), 32.0);
        assert_eq!(number_after(name, "reg_scale").unwrap(), 8.0);
        assert_eq!(number_after(name, "up").unwrap(), 0.25);
        assert!(number_after(name, "rs").is_err());
    }
}
