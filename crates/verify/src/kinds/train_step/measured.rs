//! The first step of a case in some arithmetic; see [`crate::kinds::measured`].

use std::collections::BTreeMap;

use burn::tensor::{Device, Tensor};
use deim_train::criterion::Losses;
use deim_train::optimizer::{NamedGradients, global_norm};
use deim_train::step::Watch;

use super::{Precision, Trainer, config};
use crate::arithmetic::Arithmetic;
use crate::case::{Case, CaseError};
use crate::compare::Check;
use crate::kinds::measured::{levels, share};

/// Errors of the levels, of every loss and of the gradient's norm.
pub fn measure(
    case: &Case,
    arithmetic: Arithmetic,
    device: &Device,
    check: &mut Check,
) -> Result<(), CaseError> {
    let mut config = config(case, &mut Check::default())?;
    config.model.precision = arithmetic.configured();
    let mut seen = Seen::default();
    let mut trainer = Trainer::new(case, &config, Precision::Single, device)?;
    arithmetic.run(|| trainer.step(0, &mut seen))?;

    check.include("backbone", levels(case, "step0.backbone", &seen.features)?);
    check.include("encoder", levels(case, "step0.encoder", &seen.encoded)?);
    let names = case.texts("loss_names")?;
    let expected = &case.shaped("step0.loss", &[names.len()])?.values;
    let mut part = Check::default();
    for (name, &expected) in names.iter().zip(expected) {
        let ours = seen.losses.get(name);
        let ours =
            ours.ok_or_else(|| CaseError::new(format!("step0: no loss is called {name}")))?;
        share(name, *ours, expected, &mut part)?;
    }
    check.include("losses", part);
    let mut part = Check::default();
    let expected = case.shaped("step0.grad_norm_global", &[2])?.values[0];
    share("grad_norm_global", seen.norm, expected, &mut part)?;
    check.include("gradient norm", part);
    Ok(())
}

#[derive(Default)]
struct Seen {
    features: Vec<Tensor<4>>,
    encoded: Vec<Tensor<4>>,
    losses: BTreeMap<String, f64>,
    norm: f64,
}

impl Watch for Seen {
    fn features(&mut self, levels: &[Tensor<4>]) {
        self.features = levels.to_vec();
    }
    fn encoded(&mut self, levels: &[Tensor<4>]) {
        self.encoded = levels.to_vec();
    }
    fn losses(&mut self, losses: &Losses) {
        let values = losses.values.clone().into_data();
        self.losses = losses.terms.iter().cloned().zip(values.iter::<f64>()).collect();
    }
    fn gradients(&mut self, gradients: &NamedGradients) {
        self.norm = global_norm(gradients).map_or(0.0, |norm| norm.into_scalar::<f64>());
    }
}
