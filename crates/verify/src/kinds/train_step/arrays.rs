//! What a step did to every parameter and state, compared by norms and samples.

use deim_spec::Config;
use deim_train::param_groups::{ParamGroups, Rates};

use super::names::{Kind, Names, Parameter, Values, kind, norm, values};
use super::precision::Precision;
use super::rules::{NormRule, Rules};
use crate::case::{Case, CaseError};
use crate::compare::{Check, Tolerance};
use crate::kinds::loss::failed;

/// Samples stored of every tensor.
const SAMPLES: usize = 8;

/// What a step computed.
#[derive(Debug, Default)]
pub struct Computed {
    /// Before clipping.
    pub gradients: Values,
    pub before: Values,
    pub after: Values,
    pub average: Values,
}

/// A step that was made.
pub struct Step<'a> {
    pub case: &'a Case,
    pub names: &'a Names,
    pub rules: Rules,
    pub precision: Precision,
    /// Counted from 0.
    pub step: usize,
    pub ours: &'a Computed,
}

/// Norms in 32 and 64 bits and samples of all tensors of a list.
struct Stored<'a> {
    name: String,
    single: &'a [f64],
    double: &'a [f64],
    precision: Precision,
    samples: &'a [f64],
}

/// One tensor of ours.
#[derive(Clone, Copy)]
struct Tensor<'a> {
    ours: &'a [f64],
    name: &'a str,
}

impl Step<'_> {
    pub fn compare(&self, config: &Config, check: &mut Check) -> Result<(), CaseError> {
        let groups = ParamGroups::new(&config.optimizer).map_err(failed)?;
        let comparable = self.comparable()?;
        self.compare_gradients(&comparable, check)?;
        self.compare_updates(&groups, &comparable, check)?;
        for (list, of) in [("state", after as Part), ("ema", average as Part)] {
            self.compare_states(list, of, &groups, &comparable, check)?;
        }
        Ok(())
    }

    fn stored(&self, list: &str, count: usize) -> Result<Stored<'_>, CaseError> {
        let name = format!("step{}.{list}", self.step);
        let array = |part: &str, shape: &[usize]| {
            Ok(self.case.shaped(&format!("{name}{part}"), shape)?.values.as_slice())
        };
        Ok(Stored {
            single: array("_norm", &[count])?,
            double: array("_norm_f64", &[count])?,
            samples: array("_samples", &[count, SAMPLES])?,
            precision: self.precision,
            name,
        })
    }

    /// Whether the gradient of each parameter is more than noise in the official code.
    fn comparable(&self) -> Result<Vec<bool>, CaseError> {
        let name = format!("step{}.comparable", self.step);
        let flags = self.case.shaped(&name, &[self.names.params.len()])?;
        Ok(flags.values.iter().map(|&flag| flag != 0.0).collect())
    }

    /// A parameter's gradient; none where it has none.
    fn gradient(&self, parameter: &Parameter) -> Result<Option<&[f64]>, CaseError> {
        let gradients = &self.ours.gradients;
        let has = gradients.contains_key(&parameter.name);
        has.then(|| values(gradients, &parameter.name, &parameter.shape)).transpose()
    }

    fn compare_gradients(&self, comparable: &[bool], check: &mut Check) -> Result<(), CaseError> {
        let stored = self.stored("grad", self.names.params.len())?;
        for (index, parameter) in self.names.params.iter().enumerate() {
            let name = format!("{}_norm of {}", stored.name, parameter.name);
            let gradient = self.gradient(parameter)?;
            let should = stored.single[index] >= 0.0;
            check.same(&format!("{name}: has a gradient"), &gradient.is_some(), &should);
            let Some(ours) = gradient.filter(|_| should && comparable[index]) else { continue };
            let tensor = Tensor { ours, name: &parameter.name };
            stored.norm(index, tensor, self.rules.gradient, check)?;
            // The case states no rule for single elements: that of the norm.
            let bound = stored.bound(index, self.rules.gradient).max(self.rules.sample);
            stored.samples(index, tensor, |_| Some(bound), check)?;
        }
        Ok(())
    }

    fn compare_updates(
        &self,
        groups: &ParamGroups,
        comparable: &[bool],
        check: &mut Check,
    ) -> Result<(), CaseError> {
        let stored = self.stored("param_delta", self.names.params.len())?;
        for (index, parameter) in self.names.params.iter().enumerate() {
            if kind(&parameter.name) == Kind::Constant || !comparable[index] {
                continue;
            }
            let after = values(&self.ours.after, &parameter.name, &parameter.shape)?;
            let before = values(&self.ours.before, &parameter.name, &parameter.shape)?;
            let ours: Vec<f64> =
                after.iter().zip(before).map(|(after, before)| after - before).collect();
            let tensor = Tensor { ours: &ours, name: &parameter.name };
            stored.norm(index, tensor, self.rules.delta, check)?;
            let elements = self.elements(index, groups.rates(&parameter.name))?;
            stored.samples(index, tensor, |element| elements.bound(element), check)?;
        }
        Ok(())
    }

    fn compare_states(
        &self,
        list: &str,
        of: Part,
        groups: &ParamGroups,
        comparable: &[bool],
        check: &mut Check,
    ) -> Result<(), CaseError> {
        let stored = self.stored(list, self.names.states.len())?;
        for (index, state) in self.names.states.iter().enumerate() {
            let parameter = self.names.params.iter().position(|it| it.name == state.name);
            let skipped = parameter.is_some_and(|parameter| !comparable[parameter]);
            if kind(&state.name) == Kind::Constant || skipped {
                continue;
            }
            let ours = values(of(self.ours), &state.name, &state.shape)?;
            let tensor = Tensor { ours, name: &state.name };
            stored.norm(index, tensor, self.rules.state, check)?;
            let Some(parameter) = parameter else {
                // The statistics of a batch norm.
                stored.samples(index, tensor, |_| Some(self.rules.sample), check)?;
                continue;
            };
            let elements = self.elements(parameter, groups.rates(&state.name))?;
            stored.samples(index, tensor, |element| elements.bound(element), check)?;
        }
        Ok(())
    }

    /// What is known of the elements of a parameter after its steps.
    fn elements(&self, index: usize, rates: Rates) -> Result<Elements, CaseError> {
        let parameter = &self.names.params[index];
        // A gradient is near zero where what its norm may be off could turn its sign.
        let shaky = self.stored("grad", self.names.params.len())?.bound(index, self.rules.gradient);
        let slopes = self.gradient(parameter)?.unwrap_or_default();
        Ok(Elements {
            sample: self.rules.sample,
            whole_step: self.rules.sample_rates * rates.learning_rate * (self.step + 1) as f64,
            near_zero: slopes.iter().map(|slope| slope.abs() <= shaky).collect(),
            is_bias: kind(&parameter.name) == Kind::AttentionBias,
        })
    }
}

/// How sure the elements of a parameter are after AdamW's steps.
struct Elements {
    sample: f64,
    /// How far an element may be off whose gradient's sign is noise.
    whole_step: f64,
    near_zero: Vec<bool>,
    is_bias: bool,
}

impl Elements {
    /// How far an element may be off; none where its gradient is noise in exact arithmetic.
    fn bound(&self, element: usize) -> Option<f64> {
        let count = self.near_zero.len();
        if self.is_bias && (count / 3..2 * count / 3).contains(&element) {
            return None;
        }
        let near_zero = self.near_zero.get(element).is_some_and(|&near_zero| near_zero);
        Some(if near_zero { self.whole_step.max(self.sample) } else { self.sample })
    }
}

type Part = fn(&Computed) -> &Values;

fn after(computed: &Computed) -> &Values {
    &computed.after
}

fn average(computed: &Computed) -> &Values {
    &computed.average
}

impl Stored<'_> {
    /// What a norm may be off.
    fn bound(&self, index: usize, rule: NormRule) -> f64 {
        rule.bound(self.single[index], self.double[index]).absolute
    }

    fn norm(
        &self,
        index: usize,
        tensor: Tensor<'_>,
        rule: NormRule,
        check: &mut Check,
    ) -> Result<(), CaseError> {
        let tolerance = Tolerance { absolute: self.bound(index, rule), relative: 0.0 };
        let name = format!("{}_norm of {}", self.name, tensor.name);
        let expected = self.precision.of_both([self.single[index], self.double[index]]);
        check.values(&name, &[norm(tensor.ours)], &[expected], tolerance)
    }

    /// Compares the strided elements, each within its own bound.
    fn samples(
        &self,
        index: usize,
        tensor: Tensor<'_>,
        bound: impl Fn(usize) -> Option<f64>,
        check: &mut Check,
    ) -> Result<(), CaseError> {
        // The record has none in 64 bits.
        if self.precision == Precision::Double {
            return Ok(());
        }
        let count = tensor.ours.len();
        let name = format!("{}_samples of {}", self.name, tensor.name);
        for sample in 0..count.min(SAMPLES) {
            let element = if count <= SAMPLES { sample } else { sample * count / SAMPLES };
            let Some(absolute) = bound(element) else { continue };
            let expected = self.samples[index * SAMPLES + sample];
            let tolerance = Tolerance { absolute, relative: 0.0 }.with_rounding();
            check.values(&name, &[tensor.ours[element]], &[expected], tolerance)?;
        }
        Ok(())
    }
}
