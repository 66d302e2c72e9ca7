//! What a step did to every parameter and state, compared by norms and samples.

use std::borrow::Cow;

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

/// How far an element of a gradient may be off, as a share of the gradient's norm.
const ELEMENT_OF_NORM: f64 = 0.01;

/// What a step computed.
#[derive(Debug, Default)]
pub struct Computed {
    /// Before clipping.
    pub gradients: Values,
    pub before: Values,
    pub after: Values,
    pub average: Values,
}

/// What a case stores of every parameter or state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum List {
    Gradient,
    Update,
    State,
    Average,
}

impl List {
    pub const ALL: [Self; 4] = [Self::Gradient, Self::Update, Self::State, Self::Average];

    pub fn name(self) -> &'static str {
        match self {
            Self::Gradient => "grad",
            Self::Update => "param_delta",
            Self::State => "state",
            Self::Average => "ema",
        }
    }
}

/// A step that was made.
pub struct Step<'a> {
    pub case: &'a Case,
    pub names: &'a Names,
    pub rules: Rules,
    /// Which of the official runs it is compared with.
    pub record: Precision,
    /// AdamW's.
    pub eps: f64,
    /// Counted from 0.
    pub step: usize,
    pub ours: &'a Computed,
}

/// Norms in 32 and 64 bits and samples of all tensors of a list.
pub struct Stored<'a> {
    name: String,
    pub single: &'a [f64],
    pub double: &'a [f64],
    record: Precision,
    samples: &'a [f64],
}

/// Tensors of ours with their places in a list.
type Compared<'a> = Vec<(usize, Cow<'a, [f64]>)>;

/// One tensor of ours.
#[derive(Clone, Copy)]
struct Tensor<'a> {
    ours: &'a [f64],
    name: &'a str,
}

impl Step<'_> {
    /// Every parameter and its moving average, within what the case allows of each.
    pub fn compare_parameters(&self, config: &Config, check: &mut Check) -> Result<(), CaseError> {
        let groups = ParamGroups::new(&config.optimizer).map_err(failed)?;
        self.compare_gradients(check)?;
        for list in [List::Update, List::State, List::Average] {
            let stored = self.stored(list)?;
            let rule = if list == List::Update { self.rules.delta } else { self.rules.state };
            for (index, ours) in self.compared(list)? {
                let name = self.name(list, index);
                let Some(parameter) = self.parameter(name) else { continue };
                let tensor = Tensor { ours: &ours, name };
                stored.norm(index, tensor, rule, check)?;
                let elements = self.elements(parameter, groups.rates(name))?;
                stored.samples(index, tensor, |element| elements.bound(element), check)?;
            }
        }
        Ok(())
    }

    /// The statistics of the batch norms, which no gradient moves.
    pub fn compare_statistics(&self, check: &mut Check) -> Result<(), CaseError> {
        for list in [List::State, List::Average] {
            let stored = self.stored(list)?;
            for (index, ours) in self.compared(list)? {
                let name = self.name(list, index);
                if self.parameter(name).is_none() {
                    let tensor = Tensor { ours: &ours, name };
                    stored.norm(index, tensor, self.rules.state, check)?;
                    stored.samples(index, tensor, |_| Some(self.rules.sample), check)?;
                }
            }
        }
        Ok(())
    }

    /// What the case stores of a list.
    pub fn stored(&self, list: List) -> Result<Stored<'_>, CaseError> {
        let name = format!("step{}.{}", self.step, list.name());
        let count = match list {
            List::Gradient | List::Update => self.names.params.len(),
            List::State | List::Average => self.names.states.len(),
        };
        let array = |part: &str, shape: &[usize]| {
            Ok(self.case.shaped(&format!("{name}{part}"), shape)?.values.as_slice())
        };
        Ok(Stored {
            single: array("_norm", &[count])?,
            double: array("_norm_f64", &[count])?,
            samples: array("_samples", &[count, SAMPLES])?,
            record: self.record,
            name,
        })
    }

    /// The tensors of a list that can be compared: those whose gradient is more than noise in the
    /// official code, and those that have none.
    pub fn compared(&self, list: List) -> Result<Compared<'_>, CaseError> {
        let comparable = self.comparable()?;
        let mut tensors = Vec::new();
        let count = self.stored(list)?.single.len();
        for index in 0..count {
            let name = self.name(list, index);
            let parameter = self.parameter(name);
            if kind(name) == Kind::Constant || parameter.is_some_and(|index| !comparable[index]) {
                continue;
            }
            let shape = match list {
                List::Gradient | List::Update => &self.names.params[index].shape,
                List::State | List::Average => &self.names.states[index].shape,
            };
            let ours = match list {
                List::Gradient => match self.gradient(&self.names.params[index])? {
                    Some(gradient) => Cow::Borrowed(gradient),
                    None => continue,
                },
                List::Update => {
                    let after = values(&self.ours.after, name, shape)?;
                    let before = values(&self.ours.before, name, shape)?;
                    after.iter().zip(before).map(|(after, before)| after - before).collect()
                }
                List::State => Cow::Borrowed(values(&self.ours.after, name, shape)?),
                List::Average => Cow::Borrowed(values(&self.ours.average, name, shape)?),
            };
            tensors.push((index, ours));
        }
        Ok(tensors)
    }

    fn name(&self, list: List, index: usize) -> &str {
        match list {
            List::Gradient | List::Update => &self.names.params[index].name,
            List::State | List::Average => &self.names.states[index].name,
        }
    }

    /// The place of a parameter in its list; none for a statistic.
    fn parameter(&self, name: &str) -> Option<usize> {
        self.names.params.iter().position(|parameter| parameter.name == name)
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

    fn compare_gradients(&self, check: &mut Check) -> Result<(), CaseError> {
        let stored = self.stored(List::Gradient)?;
        for (index, parameter) in self.names.params.iter().enumerate() {
            let name = format!("{}_norm of {}", stored.name, parameter.name);
            let has = self.gradient(parameter)?.is_some();
            check.same(&format!("{name}: has a gradient"), &has, &(stored.single[index] >= 0.0));
        }
        for (index, ours) in self.compared(List::Gradient)? {
            if stored.single[index] < 0.0 {
                continue;
            }
            let tensor = Tensor { ours: &ours, name: &self.names.params[index].name };
            stored.norm(index, tensor, self.rules.gradient, check)?;
            // The case states no rule for single elements. That of the norm is not enough: by it the
            // official run in 64 bits would be beyond the one in 32.
            let share = ELEMENT_OF_NORM * stored.single[index];
            let bound = stored.bound(index, self.rules.gradient).max(share);
            stored.samples(index, tensor, |_| Some(bound), check)?;
        }
        Ok(())
    }

    /// What is known of the elements of a parameter after its steps.
    fn elements(&self, index: usize, rates: Rates) -> Result<Elements, CaseError> {
        let parameter = &self.names.params[index];
        let stored = self.stored(List::Gradient)?;
        // AdamW sees clipped gradients.
        let clip = self.clip()?;
        let shaky = clip * stored.bound(index, self.rules.gradient);
        let whole_step = rates.learning_rate * (self.step + 1) as f64;
        let slopes = self.gradient(parameter)?.unwrap_or_default();
        Ok(Elements {
            sample: self.rules.sample,
            whole_step: self.rules.sample_rates * whole_step,
            near_zero: slopes
                .iter()
                .map(|slope| {
                    whole_step * self.unsure(clip * slope.abs(), shaky) > self.rules.sample
                })
                .collect(),
            is_bias: kind(&parameter.name) == Kind::AttentionBias,
        })
    }

    /// How far AdamW's first step, as a share of the learning rate, may be off where the gradient may be
    /// off by what its norm may be: a whole step where that could turn its sign, and some of it where
    /// it is not large beside `eps`.
    fn unsure(&self, slope: f64, shaky: f64) -> f64 {
        let step = |slope: f64| slope / (slope.abs() + self.eps);
        step(slope + shaky) - step(slope - shaky)
    }

    /// By what the official step multiplied its gradients.
    fn clip(&self) -> Result<f64, CaseError> {
        self.case.number(&format!("step{}.clip_coefficient", self.step))
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
        let expected = self.record.of_both([self.single[index], self.double[index]]);
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
        if self.record == Precision::Double {
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
