//! The outputs of the modules inside a detector, each compared with the probe of the official module.

use std::collections::BTreeSet;

use burn::tensor::Tensor;
use deim_model::trace::Output;

use crate::case::{Case, CaseError};
use crate::compare::Check;
use crate::probe;
use crate::selection::Selection;

/// What the decoder says of all tokens, selected or not. (So does the box head of RT-DETRv2, but that
/// shows by the number of its rows.)
const OF_TOKENS: [&str; 2] = ["decoder.enc_output", "decoder.enc_score_head"];

/// The comparison of a detector's modules with a case's probes `probe.<module path>`.
pub struct Modules<'a> {
    case: &'a Case,
    to_std: f64,
    /// The probes compared so far.
    seen: BTreeSet<String>,
}

impl<'a> Modules<'a> {
    pub fn new(case: &'a Case) -> Result<Self, CaseError> {
        let to_std = case.number("tolerance.probe_rel_to_std")?;
        Ok(Self { case, to_std, seen: BTreeSet::new() })
    }

    /// Compares a tensor that the case must have a probe of.
    pub fn tensor<const D: usize>(
        &mut self,
        name: &str,
        ours: Tensor<D>,
        check: &mut Check,
    ) -> Result<(), CaseError> {
        let probe = format!("probe.{name}");
        probe::compare(self.case, &probe, ours, self.to_std, check)?;
        self.seen.insert(probe);
        Ok(())
    }

    /// Compares the outputs that the case has probes of; those of queries in the stored order, where
    /// queries were selected.
    pub fn outputs(
        &mut self,
        outputs: Vec<Output>,
        selection: Option<&Selection>,
        check: &mut Check,
    ) -> Result<(), CaseError> {
        for Output { name, shape, mut values } in outputs {
            let probe = format!("probe.{name}");
            if !self.case.has(&format!("{probe}.stat")) {
                continue;
            }
            if let (Some(selection), &[batch, rows, width]) = (selection, shape.as_slice())
                && !OF_TOKENS.contains(&name.as_str())
            {
                let mut tensor = selection.in_stored_order(values.reshape([batch, rows, width]));
                // How much queries look at queries: the columns are queries, too.
                if name.ends_with("self_attn.1") {
                    tensor = selection.in_stored_order(tensor.swap_dims(1, 2)).swap_dims(1, 2);
                }
                values = tensor.reshape([batch * rows * width]);
            }
            let values = || values.into_data().iter::<f64>().collect();
            probe::compare_values(self.case, &probe, &shape, values, self.to_std, check)?;
            self.seen.insert(probe);
        }
        Ok(())
    }

    /// Nothing that the case holds may have been left out.
    pub fn finish(self) -> Result<(), CaseError> {
        let stored = self.case.names().filter_map(|name| name.strip_suffix(".stat"));
        for probe in stored.filter(|name| name.starts_with("probe.")) {
            if !self.seen.contains(probe) {
                return Err(CaseError::new(format!("{probe}: the detector gave no such output")));
            }
        }
        Ok(())
    }
}
