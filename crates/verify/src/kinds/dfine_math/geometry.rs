//! Boxes, anchors, position embeddings.

use burn::tensor::Device;
use deim_model::decoder::{inverse_sigmoid, selection};
use deim_model::encoder::position_embedding;
use deim_train::boxes::{self, Box4};

use super::{number_after, prefixes, tensor, values};
use crate::case::{Case, CaseError};
use crate::compare::Check;

/// `inverse_sigmoid`
pub fn logits(case: &Case, device: &Device, check: &mut Check) -> Result<(), CaseError> {
    let ours = inverse_sigmoid(tensor::<1>(case, "x", device)?);
    check.array(case, "y", &values(ours), case.tolerance("")?)
}

/// `box_ops`: corners, and all similarities of two lists.
pub fn boxes(case: &Case, check: &mut Check) -> Result<(), CaseError> {
    let tolerance = case.tolerance("")?;
    let read = |name: &str| -> Result<Vec<Box4>, CaseError> {
        let array = case.array(name)?;
        let rows = array.shape.first().copied().unwrap_or(0);
        Ok(case.shaped(name, &[rows, 4])?.f32s().as_chunks::<4>().0.to_vec())
    };
    let [a, b] = [read("a_cxcywh")?, read("b_cxcywh")?];
    let corners = |boxes: &[Box4]| boxes.iter().map(|&one| boxes::corners(one)).collect::<Vec<_>>();
    let [a, b] = [corners(&a), corners(&b)];
    check.array(case, "a_xyxy", a.as_flattened(), tolerance)?;
    check.array(case, "b_xyxy", b.as_flattened(), tolerance)?;
    let back: Vec<Box4> = a.iter().map(|&one| boxes::centred(one)).collect();
    check.array(case, "a_roundtrip", back.as_flattened(), tolerance)?;
    for (name, measure) in [
        ("iou", boxes::iou as fn(Box4, Box4) -> f32),
        ("union", boxes::union_area),
        ("giou", boxes::giou),
    ] {
        let ours: Vec<f32> =
            a.iter().flat_map(|&one| b.iter().map(move |&other| measure(one, other))).collect();
        check.array(case, name, &ours, tolerance)?;
    }
    Ok(())
}

/// `anchors` of levels that the names describe.
pub fn anchors(case: &Case, device: &Device, check: &mut Check) -> Result<(), CaseError> {
    if case.number("eps")? != 0.01 || case.number("grid_size")? != 0.05 {
        return Err(CaseError::new("case.toml: 'eps' and 'grid_size' are not 0.01 and 0.05"));
    }
    for prefix in prefixes(case) {
        let counts = case.indices(&format!("{prefix}.num_valid"))?;
        let [_, total] = counts[..] else {
            return Err(CaseError::new(format!("{prefix}.num_valid: not two numbers")));
        };
        let (anchors, valid) = selection::anchors(&levels(&prefix, total)?, device);
        let (anchors, valid) = (values(anchors), values(valid));
        let usable = valid.iter().filter(|&&valid| valid > 0.0).count();
        check.same(&format!("{prefix}.num_valid"), &vec![usable, valid.len()], &counts);
        let index = format!("{prefix}.index");
        let kept: Vec<usize> =
            if case.has(&index) { case.indices(&index)? } else { (0..valid.len()).collect() };
        if kept.iter().any(|&token| token >= valid.len()) {
            return Err(CaseError::new(format!("{index}: a token outside the levels")));
        }
        let anchors: Vec<f32> =
            kept.iter().flat_map(|&token| anchors[4 * token..4 * token + 4].to_vec()).collect();
        let valid: Vec<f32> = kept.iter().map(|&token| valid[token]).collect();
        let tolerance = case.tolerance("")?;
        check.array(case, &format!("{prefix}.anchors"), &anchors, tolerance)?;
        check.array(case, &format!("{prefix}.valid"), &valid, tolerance)?;
    }
    Ok(())
}

/// `s8_16_32_at_640`: strides of a square image; `rect_24x32`: the finest level, then halves of it
/// until there are `total` tokens.
fn levels(name: &str, total: usize) -> Result<Vec<[usize; 2]>, CaseError> {
    let wrong = || CaseError::new(format!("{name}: does not describe levels"));
    let number = |text: &str| text.parse::<usize>().ok().filter(|&n| n > 0);
    if let Some((strides, side)) = name.strip_prefix('s').and_then(|rest| rest.split_once("_at_")) {
        let side = number(side).ok_or_else(wrong)?;
        let level = |stride: &str| number(stride).map(|stride| [side / stride; 2]);
        return strides.split('_').map(level).collect::<Option<_>>().ok_or_else(wrong);
    }
    let finest = name.rsplit('_').next().and_then(|sides| sides.split_once('x'));
    let finest = finest.and_then(|(height, width)| Some([number(height)?, number(width)?]));
    let [height, width] = finest.ok_or_else(wrong)?;
    let (mut levels, mut tokens) = (Vec::new(), 0);
    for halvings in 0..6 {
        let level = [height >> halvings, width >> halvings];
        levels.push(level);
        tokens += level[0] * level[1];
        if tokens >= total {
            break;
        }
    }
    if tokens == total { Ok(levels) } else { Err(wrong()) }
}

/// `pos_embed`: named after width, height and channels.
pub fn positions(case: &Case, device: &Device, check: &mut Check) -> Result<(), CaseError> {
    if case.number("temperature")? != 10_000.0 {
        return Err(CaseError::new("case.toml: 'temperature' is not 10000"));
    }
    for name in case.names() {
        let [width, height, channels] =
            [number_after(name, "w")?, number_after(name, "_h")?, number_after(name, "_dim")?]
                .map(|number| number as usize);
        let ours = position_embedding([height, width], channels, device);
        check.same(&format!("{name} shape"), &ours.dims(), &[1, height * width, channels]);
        check.array(case, name, &values(ours), case.tolerance("")?)?;
    }
    Ok(())
}
