//! AdamW over all parameters of a detector, in groups, with one clipping norm.

use std::collections::BTreeMap;

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::{Device, Gradients, Tensor, TensorData};
use deim_model::{Detector, weights};
use deim_ops::AdamW;
use deim_spec::config;

use crate::param_groups::{ParamGroups, Rates};
use crate::schedule::FlatCosine;

/// Gradients by their parameters' official names, flat.
pub type NamedGradients = BTreeMap<String, Tensor<1>>;

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
    /// An optimizer without history for what trains in a detector on a device with gradients: buffers,
    /// frozen parameters and constants are in no group. The patterns were checked when the spec was
    /// read.
    pub fn new(config: &config::Optimizer, detector: &Detector) -> Result<Self, regex::Error> {
        let groups = ParamGroups::new(config)?;
        let rates = trained(detector).into_iter().map(|(name, _)| {
            let rates = groups.rates(&name);
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
    pub fn update(
        &mut self,
        detector: Detector,
        gradients: NamedGradients,
        schedule: &FlatCosine,
        iteration: u64,
    ) -> Detector {
        let Some(norm) = global_norm(&gradients) else { return detector };
        self.steps += 1;
        detector.map(&mut Stepper {
            path: Vec::new(),
            gradients,
            clip: clip_factor(norm, self.config.clip_norm),
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

/// The L2 norm of all gradients together, `[1]`; none if there is no gradient at all.
pub fn global_norm(gradients: &NamedGradients) -> Option<Tensor<1>> {
    let squares: Vec<_> =
        gradients.values().map(|gradient| gradient.clone().square().sum()).collect();
    (!squares.is_empty()).then(|| Tensor::cat(squares, 0).sum().sqrt())
}

/// `min(1, largest / (norm + 1e-6))`.
fn clip_factor(norm: Tensor<1>, largest: f64) -> Tensor<1> {
    norm.add_scalar(1e-6).recip().mul_scalar(largest).clamp_max(1.0)
}

/// Takes the gradient of every parameter that has one.
pub fn named(detector: &Detector, gradients: &mut Gradients) -> NamedGradients {
    let mut collector = Collector { path: Vec::new(), gradients, found: BTreeMap::new() };
    detector.visit(&mut collector);
    collector.found
}

struct Collector<'a> {
    path: Vec<String>,
    gradients: &'a mut Gradients,
    found: NamedGradients,
}

impl ModuleVisitor for Collector<'_> {
    fn enter_module(&mut self, name: &str, _: &str) {
        self.path.push(name.to_owned());
    }
    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.pop();
    }
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let value = param.val();
        if value.is_require_grad()
            && let Some(gradient) = value.grad_remove(self.gradients)
        {
            self.found.insert(weights::official_name(&self.path), gradient.reshape([-1]));
        }
    }
}

/// Names and sizes of the parameters that train in a detector on a device with gradients.
pub fn trained(detector: &Detector) -> Vec<(String, usize)> {
    struct Trained(Vec<String>, Vec<(String, usize)>);
    impl ModuleVisitor for Trained {
        fn enter_module(&mut self, name: &str, _: &str) {
            self.0.push(name.to_owned());
        }
        fn exit_module(&mut self, _: &str, _: &str) {
            self.0.pop();
        }
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            let value = param.val();
            if value.is_require_grad() {
                let size = value.dims().iter().product();
                self.1.push((weights::official_name(&self.0), size));
            }
        }
    }
    let mut visitor = Trained(Vec::new(), Vec::new());
    detector.visit(&mut visitor);
    visitor.1
}

/// Updates every parameter that has a gradient.
struct Stepper<'a> {
    path: Vec<String>,
    gradients: NamedGradients,
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
        let zeros = || value.zeros_like();
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
