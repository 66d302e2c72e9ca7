//! `names.json`: the order of the parameters and states in a training case's arrays.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::case::{Case, CaseError};

/// The lists of `names.json`.
#[derive(Debug, Deserialize)]
pub struct Names {
    pub params: Vec<Parameter>,
    pub states: Vec<State>,
}

/// A parameter of the official detector.
#[derive(Debug, Deserialize)]
pub struct Parameter {
    pub name: String,
    pub shape: Vec<usize>,
    /// Number of its optimizer group; -1 where it does not train.
    pub group: i64,
    pub requires_grad: bool,
}

/// A floating entry of the official state, parameters included.
#[derive(Debug, Deserialize)]
pub struct State {
    pub name: String,
    pub shape: Vec<usize>,
}

/// What a tensor is to a comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Compared in full.
    Plain,
    /// An attention's `in_proj_bias`, whose middle third, the key biases, has no gradient in exact
    /// arithmetic: AdamW turns its noise into whole steps.
    AttentionBias,
    /// Computed by the constructor and never changed: not a tensor of ours.
    Constant,
}

/// The kind of the tensor of this name.
pub fn kind(name: &str) -> Kind {
    match name.rsplit('.').next().unwrap_or(name) {
        "in_proj_bias" => Kind::AttentionBias,
        "anchors" | "valid_mask" | "num_points_scale" | "up" | "reg_scale" => Kind::Constant,
        _ => Kind::Plain,
    }
}

impl Names {
    pub fn read(case: &Case) -> Result<Self, CaseError> {
        case.json("names.json")
    }
}

/// Flat values by official name.
pub type Values = BTreeMap<String, Vec<f64>>;

/// The values of a tensor of a known shape.
pub fn values<'a>(all: &'a Values, name: &str, shape: &[usize]) -> Result<&'a [f64], CaseError> {
    let found = all.get(name).ok_or_else(|| CaseError::new(format!("our model lacks '{name}'")))?;
    let expected = shape.iter().product::<usize>();
    if found.len() != expected {
        let found = found.len();
        return Err(CaseError::new(format!("{name}: {found} values, expected {expected}")));
    }
    Ok(found)
}

/// The L2 norm in 64 bits.
pub fn norm(values: &[f64]) -> f64 {
    values.iter().map(|value| value.powi(2)).sum::<f64>().sqrt()
}
