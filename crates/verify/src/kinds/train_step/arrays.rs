//! What a step did to every parameter and state, compared by norms and samples.

use deim_spec::Config;
use deim_train::param_groups::{ParamGroups, Rates};

use super::names::{Kind, Names, Parameter, Values, kind, norm, values};
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
    /// Counted from 0.
    pub step: usize,
    pub ours: &'a Computed,
    /// The same step of weights in which every number is its neighbour: what changes by that cannot
    /// be known better in 32 bits.
    pub neighbours: &'a [Computed],
}

/// Norms in 32 and 64 bits and samples of all tensors of a list.
struct Stored<'a> {
    name: String,
    single: &'a [f64],
    double: &'a [f64],
    samples: &'a [f64],
}

/// One tensor of ours, and the same of the neighbours.
struct Tensors<'a> {
    ours: Vec<f32>,
    neighbours: Vec<Vec<f32>>,
    name: &'a str,
}

impl<'a> Tensors<'a> {
    fn new(
        step: &Step<'_>,
        name: &'a str,
        of: impl Fn(&Computed) -> Result<Vec<f32>, CaseError>,
    ) -> Result<Self, CaseError> {
        let neighbours = step.neighbours.iter().map(&of).collect::<Result<_, _>>()?;
        Ok(Self { ours: of(step.ours)?, neighbours, name })
    }

    /// How far the neighbours' element is from ours.
    fn noise(&self, element: usize) -> f64 {
        let at = |values: &Vec<f32>| f64::from(values[element]);
        let away = self.neighbours.iter().map(|values| (at(values) - at(&self.ours)).abs());
        away.fold(0.0, f64::max)
    }
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
            name,
        })
    }

    /// Whether the gradient of each parameter is more than noise in the official code.
    fn comparable(&self) -> Result<Vec<bool>, CaseError> {
        let name = format!("step{}.comparable", self.step);
        let flags = self.case.shaped(&name, &[self.names.params.len()])?;
        Ok(flags.values.iter().map(|&flag| flag != 0.0).collect())
    }

    fn gradient<'a>(&self, parameter: &'a Parameter) -> Result<Tensors<'a>, CaseError> {
        Tensors::new(self, &parameter.name, |computed| {
            Ok(values(&computed.gradients, &parameter.name, &parameter.shape)?.to_vec())
        })
    }

    fn compare_gradients(&self, comparable: &[bool], check: &mut Check) -> Result<(), CaseError> {
        let stored = self.stored("grad", self.names.params.len())?;
        for (index, parameter) in self.names.params.iter().enumerate() {
            let name = format!("{}_norm of {}", stored.name, parameter.name);
            let has = self.ours.gradients.contains_key(&parameter.name);
            let should = stored.single[index] >= 0.0;
            check.same(&format!("{name}: has a gradient"), &has, &should);
            if !has || !should || !comparable[index] {
                continue;
            }
            let tensors = self.gradient(parameter)?;
            let bound = stored.norm(index, &tensors, self.rules.gradient, 0.0, check)?;
            // The case states no rule for single elements: that of the norm, and the element's noise.
            let bound = |element: usize| {
                let noise = self.rules.gradient.noise * tensors.noise(element);
                Some(bound.max(noise).max(self.rules.sample))
            };
            stored.samples(index, &tensors, bound, check)?;
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
            let tensors = Tensors::new(self, &parameter.name, |computed| {
                let after = values(&computed.after, &parameter.name, &parameter.shape)?;
                let before = values(&computed.before, &parameter.name, &parameter.shape)?;
                Ok(after.iter().zip(before).map(|(after, before)| after - before).collect())
            })?;
            stored.norm(index, &tensors, self.rules.delta, 0.0, check)?;
            let elements = self.elements(parameter, groups.rates(&parameter.name))?;
            stored.samples(index, &tensors, |element| elements.bound(element), check)?;
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
            let tensors = Tensors::new(self, &state.name, |computed| {
                Ok(values(of(computed), &state.name, &state.shape)?.to_vec())
            })?;
            let Some(parameter) = parameter.map(|parameter| &self.names.params[parameter]) else {
                // The statistics of a batch norm.
                stored.norm(index, &tensors, self.rules.state, 0.0, check)?;
                stored.samples(index, &tensors, |_| Some(self.rules.sample), check)?;
                continue;
            };
            let elements = self.elements(parameter, groups.rates(&parameter.name))?;
            let least = elements.norm_bound(&tensors.ours);
            stored.norm(index, &tensors, self.rules.state, least, check)?;
            stored.samples(index, &tensors, |element| elements.bound(element), check)?;
        }
        Ok(())
    }

    /// What is known of the elements of a parameter after its steps.
    fn elements(&self, parameter: &Parameter, rates: Rates) -> Result<Elements, CaseError> {
        let whole_step = self.rules.sample_rates * rates.learning_rate * (self.step + 1) as f64;
        let has = self.ours.gradients.contains_key(&parameter.name);
        let gradient = if has { Some(self.gradient(parameter)?) } else { None };
        let near_zero = gradient.iter().flat_map(|gradient| {
            // Within the noise of its sign.
            let noise = |element| self.rules.gradient.noise * gradient.noise(element);
            let slopes = gradient.ours.iter().enumerate();
            slopes.map(move |(element, slope)| f64::from(slope.abs()) <= noise(element))
        });
        let is_bias = kind(&parameter.name) == Kind::AttentionBias;
        Ok(Elements { rules: self.rules, whole_step, near_zero: near_zero.collect(), is_bias })
    }
}

/// How sure the elements of a parameter are after AdamW's steps.
struct Elements {
    rules: Rules,
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
        Some(if near_zero { self.whole_step.max(self.rules.sample) } else { self.rules.sample })
    }

    /// How far the norm of the values may be off because those of gradients near zero are.
    fn norm_bound(&self, values: &[f32]) -> f64 {
        let shaky = values.iter().zip(&self.near_zero).filter(|&(_, &near_zero)| near_zero);
        let shaky: Vec<f32> = shaky.map(|(&value, _)| value).collect();
        let whole = norm(values);
        if whole > 0.0 { self.whole_step * norm(&shaky) / whole } else { 0.0 }
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
    /// Compares a norm; returns what it may be off, `least` in any case.
    fn norm(
        &self,
        index: usize,
        tensors: &Tensors<'_>,
        rule: NormRule,
        least: f64,
        check: &mut Check,
    ) -> Result<f64, CaseError> {
        let (single, double) = (self.single[index], self.double[index]);
        let mut tolerance = rule.bound(single, double);
        tolerance.absolute = tolerance.absolute.max(least);
        let name = format!("{}_norm of {}", self.name, tensors.name);
        check.values(&name, &[norm(&tensors.ours)], &[single], tolerance)?;
        Ok(tolerance.absolute)
    }

    /// Compares the strided elements, each within its own bound.
    fn samples(
        &self,
        index: usize,
        tensors: &Tensors<'_>,
        bound: impl Fn(usize) -> Option<f64>,
        check: &mut Check,
    ) -> Result<(), CaseError> {
        let count = tensors.ours.len();
        let name = format!("{}_samples of {}", self.name, tensors.name);
        for sample in 0..count.min(SAMPLES) {
            let element = if count <= SAMPLES { sample } else { sample * count / SAMPLES };
            let Some(absolute) = bound(element) else { continue };
            let expected = self.samples[index * SAMPLES + sample];
            let tolerance = Tolerance { absolute, relative: 0.0 }.with_rounding();
            check.values(&name, &[f64::from(tensors.ours[element])], &[expected], tolerance)?;
        }
        Ok(())
    }
}
