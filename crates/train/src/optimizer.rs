//! AdamW over all parameters of a detector, in groups, with one clipping norm.

use std::collections::BTreeMap;

use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::{Device, Gradients, Tensor, TensorData};
use deim_model::{Detector, weights};
use deim_ops::AdamW;
use deim_spec::config;
use regex::Regex;

use crate::schedule::FlatCosine;

/// The learning rate and weight decay of one parameter.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Rates {
    learning_rate: f64,
    weight_decay: f64,
}

/// The moments of one parameter, flat.
struct Moments {
    mean: Tensor<1>,
    square: Tensor<1>,
}

/// AdamW with its state. Parameters are told apart by their official names.
pub struct Optimizer {
    config: config::Optimizer,
    rates: BTreeMap<String, Rates>,
    moments: BTreeMap<String, Moments>,
    steps: u64,
}

impl Optimizer {
    /// An optimizer without history. The patterns were checked when the spec was read.
    pub fn new(config: &config::Optimizer, detector: &Detector) -> Result<Self, regex::Error> {
        let groups = config
            .groups
            .iter()
            .map(|group| {
                let compile = |patterns: &[String]| {
                    patterns
                        .iter()
                        .map(|pattern| Regex::new(pattern))
                        .collect::<Result<Vec<_>, _>>()
                };
                Ok((compile(&group.all)?, compile(&group.none)?, group))
            })
            .collect::<Result<Vec<_>, regex::Error>>()?;
        let rates = weights::read(detector).into_iter().map(|(name, _)| {
            let group = groups.iter().find(|(all, none, _)| {
                all.iter().all(|pattern| pattern.is_match(&name))
                    && !none.iter().any(|pattern| pattern.is_match(&name))
            });
            let group = group.map(|(_, _, group)| group);
            let rates = Rates {
                learning_rate: group.and_then(|group| group.lr).unwrap_or(config.lr),
                weight_decay: group
                    .and_then(|group| group.weight_decay)
                    .unwrap_or(config.weight_decay),
            };
            (name, rates)
        });
        Ok(Self {
            config: config.clone(),
            rates: rates.collect(),
            moments: BTreeMap::new(),
            steps: 0,
        })
    }

    /// One step: clips the global norm of the gradients and updates every parameter that has one.
    pub fn step(
        &mut self,
        detector: Detector,
        gradients: &mut Gradients,
        schedule: &FlatCosine,
        iteration: u64,
    ) -> Detector {
        let mut collector = Collector { path: Vec::new(), gradients, found: BTreeMap::new() };
        let detector = detector.map(&mut collector);
        let gradients = collector.found;
        let Some(clip) = clip_factor(&gradients, self.config.clip_norm) else { return detector };
        self.steps += 1;
        detector.map(&mut Stepper {
            path: Vec::new(),
            gradients,
            clip,
            optimizer: self,
            schedule,
            iteration,
        })
    }

    /// Steps taken and the moments by parameter, for a checkpoint.
    pub fn state(&self) -> (u64, Vec<(String, TensorData)>) {
        let tensors = self.moments.iter().flat_map(|(name, moments)| {
            [
                (format!("mean.{name}"), moments.mean.clone().into_data()),
                (format!("square.{name}"), moments.square.clone().into_data()),
            ]
        });
        (self.steps, tensors.collect())
    }

    /// Goes back to a state.
    pub fn restore(&mut self, steps: u64, tensors: &BTreeMap<String, TensorData>, device: &Device) {
        self.steps = steps;
        self.moments.clear();
        for (name, mean) in tensors {
            let Some(parameter) = name.strip_prefix("mean.") else { continue };
            let Some(square) = tensors.get(&format!("square.{parameter}")) else { continue };
            let [mean, square] = [mean, square].map(|data| Tensor::from_data(data.clone(), device));
            self.moments.insert(parameter.to_owned(), Moments { mean, square });
        }
    }
}

/// `min(1, largest / (norm + 1e-6))` as a tensor `[1]`; none if there is no gradient at all.
fn clip_factor(gradients: &BTreeMap<String, Tensor<1>>, largest: f64) -> Option<Tensor<1>> {
    let squares: Vec<_> =
        gradients.values().map(|gradient| gradient.clone().square().sum()).collect();
    if squares.is_empty() {
        return None;
    }
    let norm = Tensor::cat(squares, 0).sum().sqrt();
    Some(norm.add_scalar(1e-6).recip().mul_scalar(largest).clamp_max(1.0))
}

/// Takes the gradient of every parameter, flat.
struct Collector<'a> {
    path: Vec<String>,
    gradients: &'a mut Gradients,
    found: BTreeMap<String, Tensor<1>>,
}

impl ModuleMapper for Collector<'_> {
    fn enter_module(&mut self, name: &str, _: &str) {
        self.path.push(name.to_owned());
    }
    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.pop();
    }
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let value = param.val();
        if value.is_require_grad()
            && let Some(gradient) = value.grad_remove(self.gradients)
        {
            self.found.insert(weights::official_name(&self.path), gradient.reshape([-1]));
        }
        param
    }
}

/// Updates every parameter that has a gradient.
struct Stepper<'a> {
    path: Vec<String>,
    gradients: BTreeMap<String, Tensor<1>>,
    clip: Tensor<1>,
    optimizer: &'a mut Optimizer,
    schedule: &'a FlatCosine,
    iteration: u64,
}

impl ModuleMapper for Stepper<'_> {
    fn enter_module(&mut self, name: &str, _: &str) {
        self.path.push(name.to_owned());
    }
    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.pop();
    }
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let name = weights::official_name(&self.path);
        let Some(gradient) = self.gradients.remove(&name) else { return param };
        let rates = self.optimizer.rates[&name];
        let config = &self.optimizer.config;
        let adam = AdamW {
            learning_rate: self.schedule.used(rates.learning_rate, self.iteration),
            weight_decay: rates.weight_decay,
            beta1: config.beta1,
            beta2: config.beta2,
            eps: config.eps,
            step: self.optimizer.steps,
        };
        let (id, tensor, mapper) = param.consume();
        let shape: [usize; D] = tensor.dims();
        let value = tensor.inner().reshape([-1]);
        let zeros = || Tensor::zeros(value.shape(), &value.device());
        let Moments { mean, square } = self
            .optimizer
            .moments
            .remove(&name)
            .unwrap_or_else(|| Moments { mean: zeros(), square: zeros() });
        let clip = self.clip.clone();
        let [value, mean, square] = adam.update([value, gradient, mean, square], clip);
        self.optimizer.moments.insert(name, Moments { mean, square });
        let updated = Tensor::<D>::from_inner(value.reshape(shape)).require_grad();
        Param::from_mapped_value(id, updated, mapper)
    }
}
