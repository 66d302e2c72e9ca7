//! The location quality estimator.

use std::collections::BTreeMap;

use burn::tensor::{Device, TensorData};
use deim_model::decoder::distribution::{Bins, UP};
use deim_model::decoder::quality::LocationQuality;
use deim_model::weights;
use deim_ops::Activation;

use super::{pull_back, slope, tensor, values};
use crate::case::{Case, CaseError};
use crate::compare::Check;
use crate::fill;
use crate::kinds::loss::failed;

/// `lqe`
pub fn quality(case: &Case, device: &Device, check: &mut Check) -> Result<(), CaseError> {
    let sizes = [case.count("k")?, case.count("hidden")?, case.count("layers")?];
    if sizes != [4, 64, 2] {
        return Err(CaseError::new("case.toml: 'k', 'hidden' and 'layers' are not 4, 64 and 2"));
    }
    let activation = match case.text("activation")? {
        "relu" => Activation::Relu,
        "silu" => Activation::Silu,
        other => return Err(CaseError::new(format!("case.toml: unknown activation '{other}'"))),
    };
    let device = device.clone().autodiff();
    let module = LocationQuality::new(activation, &device);
    let prefix = case.text("weight_prefix")?;
    let filled: BTreeMap<String, TensorData> = weights::read(&module)
        .into_iter()
        .map(|(name, data)| {
            let shape = data.shape.to_vec();
            let full = format!("{prefix}{name}");
            let values = match shape[..] {
                [rows, columns] => fill::matrix(&full, rows, columns),
                _ => {
                    let draws = fill::uniform(&full, shape.iter().product());
                    draws.into_iter().map(|f| 0.1 * (f - 0.5)).collect()
                }
            };
            (name, TensorData::new(values, shape))
        })
        .collect();
    let module = weights::load(module, &filled).map_err(failed)?;

    let corners = tensor::<3>(case, "pred_corners", &device)?.require_grad();
    let scores = tensor::<3>(case, "scores", &device)?.require_grad();
    let [batch, queries, width] = corners.dims();
    if scores.dims()[..2] != [batch, queries] || width % 4 != 0 || width < 20 {
        return Err(CaseError::new("pred_corners and scores do not fit each other"));
    }
    // Only the number of bins matters here, not where they lie.
    let bins = Bins::new(width / 4 - 1, 4.0, UP, &device);
    let y = module.forward(scores.clone(), bins.probabilities(corners.clone()));
    check.array(case, "y", &values(y.clone()), case.tolerance("")?)?;
    let gradients = pull_back(case, y, "cotangent")?;
    slope(case, "grad_corners", &corners, &gradients, check)?;
    slope(case, "grad_scores", &scores, &gradients, check)
}
