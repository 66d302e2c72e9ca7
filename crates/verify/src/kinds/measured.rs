//! A detector in some arithmetic beside the official one in float32. A case's tolerances are float32's,
//! so nothing is judged here: an error is given as a share of the size of what it is an error of.

use burn::tensor::{Device, Tensor};
use deim_model::outputs::Outputs;

use super::detector;
use crate::arithmetic::Arithmetic;
use crate::case::{Case, CaseError};
use crate::compare::{Check, Tolerance};
use crate::probe;

/// A share of the number itself.
const OWN: Tolerance = Tolerance { absolute: 0.0, relative: 1.0 };

/// A case of kind `model_eval`: the levels, the chosen tokens, and the predictions of the tokens that
/// both chose.
pub fn model_eval(
    case: &Case,
    arithmetic: Arithmetic,
    device: &Device,
    check: &mut Check,
) -> Result<(), CaseError> {
    let config = detector::config(case)?;
    let detector = detector::filled(case, &config, device)?;
    let images = detector::images(case, case.text("seed")?, device)?;
    let images = arithmetic.of(images);
    let features = arithmetic.run(|| detector.features(images));
    check.include("backbone", levels(case, "probe.backbone", &features)?);
    let encoded = arithmetic.run(|| detector.encode(features));
    check.include("encoder", levels(case, "probe.encoder", &encoded)?);
    let outputs = arithmetic.run(|| detector.decode(encoded, None));
    chosen(case, &outputs, check)
}

/// Errors of the levels' stored values, in standard deviations of the stored level.
pub fn levels(case: &Case, prefix: &str, levels: &[Tensor<4>]) -> Result<Check, CaseError> {
    let mut part = Check::default();
    for (index, level) in levels.iter().enumerate() {
        let probe = format!("{prefix}.{index}");
        let deviation = case.shaped(&format!("{probe}.stat"), &[4])?.values[1];
        let name = format!("{probe}.samples");
        let stored = &case.array(&name)?.values;
        let values: Vec<f64> = level.clone().detach().into_data().iter::<f64>().collect();
        part.values(&name, &probe::samples(&values, stored.len()), stored, within(deviation))?;
    }
    Ok(part)
}

/// Errors of losses and norms, as shares of themselves.
pub fn share(name: &str, ours: f64, expected: f64, part: &mut Check) -> Result<(), CaseError> {
    part.values(name, &[ours], &[expected], OWN)
}

fn chosen(case: &Case, outputs: &Outputs, check: &mut Check) -> Result<(), CaseError> {
    let [batch, queries, classes] = outputs.encoder.logits.dims();
    case.shaped("enc_topk_indices", &[batch, queries])?;
    let stored = case.indices("enc_topk_indices")?;
    let tokens = outputs.tokens.clone();
    let tokens = tokens.ok_or_else(|| CaseError::new("the detector hides its tokens"))?;
    let tokens: Vec<usize> = tokens.into_data().iter::<i64>().map(|token| token as usize).collect();
    let last = outputs.matching.layers.last();
    let last = last.ok_or_else(|| CaseError::new("the detector gave no layer"))?;

    // Our row of each stored one, image by image, where both chose its token.
    let mut common = Vec::new();
    for (row, token) in stored.iter().enumerate() {
        let first = row / queries * queries;
        let found = tokens[first..first + queries].iter().position(|ours| ours == token);
        common.extend(found.map(|ours| (row, first + ours)));
    }
    let mut part = Check::default();
    share("tokens", common.len() as f64, stored.len() as f64, &mut part)?;
    check.include("tokens chosen otherwise", part);

    for (what, name, ours, width) in
        [("logits", "pred_logits", &last.logits, classes), ("boxes", "pred_boxes", &last.boxes, 4)]
    {
        let stored = &case.shaped(name, &[batch, queries, width])?.values;
        let [_, deviation, ..] = probe::statistics(stored);
        let ours: Vec<f64> = ours.clone().into_data().iter::<f64>().collect();
        let mut part = Check::default();
        for &(theirs, row) in &common {
            let [ours, stored] = [(&ours, row), (stored, theirs)]
                .map(|(values, row)| &values[row * width..][..width]);
            part.values(name, ours, stored, within(deviation))?;
        }
        check.include(what, part);
    }
    Ok(())
}

/// Shares of a standard deviation.
fn within(deviation: f64) -> Tolerance {
    Tolerance { absolute: deviation, relative: 0.0 }
}
