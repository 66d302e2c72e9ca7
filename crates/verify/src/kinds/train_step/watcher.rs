//! Compares a training step's stages as they pass.

use std::collections::BTreeSet;

use burn::tensor::Tensor;
use deim_model::outputs::{DecoderOutputs, Outputs, Prediction};
use deim_train::criterion::{Losses, Matches};
use deim_train::matcher::Pair;
use deim_train::optimizer::{NamedGradients, global_norm};
use deim_train::step::Watch;

use super::names::Values;
use super::precision::Precision;
use super::rules::Rules;
use crate::case::{Case, CaseError};
use crate::compare::{Check, Tolerance};
use crate::kinds::loss::pairs;
use crate::probe;
use crate::selection::{Bounds, Selection};

/// Training cases state no bounds for predictions. Those of the probes of evaluation hold, in standard
/// deviations of the stored tensor, and so does their gap below which two tokens may change places.
const TO_STD: f64 = 0.002;
const SWAP_GAP: f64 = 1e-4;

/// The comparison of one step.
pub struct Watcher<'a> {
    case: &'a Case,
    check: &'a mut Check,
    /// The official runs that losses and the gradients' norm are compared with, each by its rules.
    records: Vec<(Precision, Rules)>,
    /// `step0.` and so on.
    prefix: String,
    layers: usize,
    has_pre: bool,
    selection: Selection,
    /// The probes compared so far.
    seen: BTreeSet<String>,
    /// Gradients by parameter, for what is compared after the step.
    pub gradients: Values,
    problem: Option<CaseError>,
}

impl<'a> Watcher<'a> {
    pub fn new(
        case: &'a Case,
        prefix: &str,
        rules: Rules,
        precision: Precision,
        check: &'a mut Check,
    ) -> Result<Self, CaseError> {
        let mut records = vec![(Precision::Single, rules)];
        if precision == Precision::Double {
            records.push((Precision::Double, Rules::exact(case, prefix)?));
        }
        Ok(Self {
            case,
            check,
            records,
            prefix: prefix.to_owned(),
            layers: 0,
            has_pre: false,
            selection: Selection::default(),
            seen: BTreeSet::new(),
            gradients: Values::new(),
            problem: None,
        })
    }

    /// The gradients, or what could not be compared; every probe of the step must have been.
    pub fn finish(self) -> Result<Values, CaseError> {
        if let Some(problem) = self.problem {
            return Err(problem);
        }
        let stored = self.case.names().filter_map(|name| name.strip_suffix(".stat"));
        for probe in stored.filter(|name| name.starts_with(&self.prefix)) {
            if !self.seen.contains(probe) {
                return Err(CaseError::new(format!("{probe}: the detector gave no such output")));
            }
        }
        Ok(self.gradients)
    }

    /// Compares a number that is stored in 32 and in 64 bits.
    fn both(
        &mut self,
        name: &str,
        ours: f64,
        rule: impl Fn(&Rules) -> Tolerance,
    ) -> Result<(), CaseError> {
        let name = format!("{}{name}", self.prefix);
        let values = &self.case.shaped(&name, &[2])?.values;
        for (record, rules) in &self.records {
            let expected = record.of_both([values[0], values[1]]);
            self.check.values(&name, &[ours], &[expected], rule(rules))?;
        }
        Ok(())
    }

    /// Runs a comparison, unless one before it could not be made.
    fn compare(&mut self, work: impl FnOnce(&mut Self) -> Result<(), CaseError>) {
        if self.problem.is_none() {
            self.problem = work(self).err();
        }
    }

    /// Compares a tensor with its probe, where the case has one.
    pub fn probe<const D: usize>(&mut self, name: &str, ours: Tensor<D>) -> Result<(), CaseError> {
        let name = format!("{}{name}", self.prefix);
        if self.case.has(&format!("{name}.stat")) {
            probe::compare(self.case, &name, ours, TO_STD, self.check)?;
            self.seen.insert(name);
        }
        Ok(())
    }

    /// Compares the rows of matching queries, `[batch, queries, width]`, with a probe.
    fn rows(&mut self, name: &str, ours: &Tensor<3>) -> Result<(), CaseError> {
        let ours = self.selection.in_stored_order(ours.clone().detach());
        self.probe(name, ours)
    }

    fn matching(&mut self, layer: &str, ours: &Prediction) -> Result<(), CaseError> {
        self.rows(&format!("{layer}pred_logits"), &ours.logits)?;
        self.rows(&format!("{layer}pred_boxes"), &ours.boxes)?;
        ours.corners
            .iter()
            .try_for_each(|corners| self.rows(&format!("{layer}pred_corners"), corners))
    }

    fn denoising(&mut self, layer: &str, ours: &Prediction) -> Result<(), CaseError> {
        self.probe(&format!("{layer}pred_logits"), ours.logits.clone().detach())?;
        self.probe(&format!("{layer}pred_boxes"), ours.boxes.clone().detach())?;
        ours.corners.iter().try_for_each(|corners| {
            self.probe(&format!("{layer}pred_corners"), corners.clone().detach())
        })
    }

    fn all_outputs(&mut self, outputs: &Outputs) -> Result<(), CaseError> {
        let DecoderOutputs { layers, pre, reference } = &outputs.matching;
        let Some((last, earlier)) = layers.split_last() else {
            return Err(CaseError::new("the detector gave no layer"));
        };
        (self.layers, self.has_pre) = (layers.len(), pre.is_some());
        // A score is one of the encoder's logits.
        let stat = self.case.shaped(&format!("{}enc_0.pred_logits.stat", self.prefix), &[4])?;
        let score = Tolerance { absolute: TO_STD * stat.values[1], relative: 0.0 };
        let bounds = Bounds { score, gap: SWAP_GAP };
        self.selection = Selection::compare(self.case, &self.prefix, outputs, bounds, self.check)?;

        self.whole("pred_logits", &last.logits)?;
        self.whole("pred_boxes", &last.boxes)?;
        self.matching("", last)?;
        for (layer, prediction) in earlier.iter().enumerate() {
            self.matching(&format!("aux_{layer}."), prediction)?;
        }
        pre.iter().try_for_each(|prediction| self.matching("pre.", prediction))?;
        reference.iter().try_for_each(|boxes| self.rows("ref_points", boxes))?;
        self.matching("enc_0.", &outputs.encoder)?;

        let Some(DecoderOutputs { layers, pre, reference }) = &outputs.denoising else {
            return Ok(());
        };
        for (layer, prediction) in layers.iter().enumerate() {
            self.denoising(&format!("dn_{layer}."), prediction)?;
        }
        pre.iter().try_for_each(|prediction| self.denoising("dn_pre.", prediction))?;
        let boxes = reference.iter();
        boxes.cloned().try_for_each(|boxes| self.probe("dn_ref_points", boxes.detach()))
    }

    /// The final prediction is stored whole in the first step and as a probe later.
    fn whole(&mut self, name: &str, ours: &Tensor<3>) -> Result<(), CaseError> {
        let name = format!("{}{name}", self.prefix);
        if !self.case.has(&name) {
            return Ok(());
        }
        let [_, deviation, ..] = probe::statistics(&self.case.array(&name)?.values);
        let tolerance = Tolerance { absolute: TO_STD * deviation, relative: 0.0 };
        let ours: Vec<f32> = ours.clone().into_data().iter().collect();
        self.selection.rows(self.case, &name, &ours, tolerance, self.check)
    }

    fn all_matches(&mut self, matches: &mut Matches) -> Result<(), CaseError> {
        let mut tags: Vec<String> =
            (0..self.layers - 1).map(|layer| format!("aux_{layer}")).collect();
        tags.push("last".into());
        tags.extend(self.has_pre.then(|| "pre".into()));
        tags.push("enc_0".into());
        self.check.same("matched heads", &matches.heads.len(), &tags.len());
        for (tag, ours) in tags.iter().zip(&matches.heads) {
            let name = format!("{}indices.{tag}", self.prefix);
            let expected = self.pairs(&name, ours.len())?;
            self.check.same(&name, ours, &expected);
        }
        let Some(union) = &mut matches.union else { return Ok(()) };
        let name = format!("{}indices.go", self.prefix);
        let expected = self.pairs(&name, union.len())?;
        if self.case.count("go_ambiguous_queries")? > 0 {
            // The official order of tied counts is undefined: its answer is taken as input.
            *union = expected;
        } else {
            self.check.same(&name, union, &expected);
        }
        Ok(())
    }

    /// Stored pairs in terms of our queries, sorted by them.
    fn pairs(&self, name: &str, images: usize) -> Result<Vec<Vec<Pair>>, CaseError> {
        let mut stored = pairs(self.case, name, images)?;
        for (image, pairs) in stored.iter_mut().enumerate() {
            for pair in &mut *pairs {
                pair.query = self.selection.row(image, pair.query);
            }
            pairs.sort_unstable();
        }
        Ok(stored)
    }

    fn all_losses(&mut self, losses: &Losses) -> Result<(), CaseError> {
        let values: Vec<f64> = losses.values.clone().into_data().iter().collect();
        let names = self.case.texts("loss_names")?;
        let mut sorted = [names.clone(), losses.terms.clone()];
        sorted.iter_mut().for_each(|names| names.sort_unstable());
        self.check.same("loss_names", &sorted[1], &sorted[0]);
        for (record, rules) in &self.records {
            let stored = record.of_both(["loss", "loss_f64"]);
            let stored = self.case.shaped(&format!("{}{stored}", self.prefix), &[names.len()])?;
            for (name, &expected) in names.iter().zip(&stored.values) {
                let Some(term) = losses.terms.iter().position(|term| term == name) else {
                    continue;
                };
                let name = format!("{}{name}", self.prefix);
                self.check.values(&name, &[values[term]], &[expected], rules.loss)?;
            }
        }
        self.both("loss_total", losses.total.clone().into_scalar::<f64>(), |rules| rules.loss)
    }

    fn all_gradients(&mut self, gradients: &NamedGradients) -> Result<(), CaseError> {
        let norm = global_norm(gradients).map_or(0.0, |norm| norm.into_scalar::<f64>());
        self.both("grad_norm_global", norm, |rules| rules.global_norm)?;
        for (name, gradient) in gradients {
            let values = gradient.clone().into_data().iter::<f64>().collect();
            self.gradients.insert(name.clone(), values);
        }
        Ok(())
    }
}

impl Watch for Watcher<'_> {
    fn images(&mut self, images: &Tensor<4>) {
        self.compare(|watcher| watcher.probe("image", images.clone()));
    }
    fn features(&mut self, levels: &[Tensor<4>]) {
        self.compare(|watcher| {
            levels.iter().enumerate().try_for_each(|(level, features)| {
                watcher.probe(&format!("backbone.{level}"), features.clone().detach())
            })
        });
    }
    fn encoded(&mut self, levels: &[Tensor<4>]) {
        self.compare(|watcher| {
            levels.iter().enumerate().try_for_each(|(level, features)| {
                watcher.probe(&format!("encoder.{level}"), features.clone().detach())
            })
        });
    }
    fn outputs(&mut self, outputs: &Outputs) {
        self.compare(|watcher| watcher.all_outputs(outputs));
    }
    fn matches(&mut self, matches: &mut Matches) {
        self.compare(|watcher| watcher.all_matches(matches));
    }
    fn losses(&mut self, losses: &Losses) {
        self.compare(|watcher| watcher.all_losses(losses));
    }
    fn gradients(&mut self, gradients: &NamedGradients) {
        self.compare(|watcher| watcher.all_gradients(gradients));
    }
}
