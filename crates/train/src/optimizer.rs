//! AdamW over all parameters of a detector, in groups, with one clipping norm.

use std::collections::BTreeMap;

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::{Device, Gradients, Shape, Tensor, TensorData};
use deim_model::{Detector, weights};
use deim_ops::{AdamW, update_all};
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
        let mut taker =
            Taker { path: Vec::new(), gradients, taken: Vec::new(), shapes: BTreeMap::new() };
        let detector = detector.map(&mut taker);
        let mut names = Vec::with_capacity(taker.taken.len());
        let mut steps = Vec::with_capacity(taker.taken.len());
        for Taken { name, value, gradient } in taker.taken {
            let step = self.step(&name, schedule, iteration);
            let zeros = || value.zeros_like();
            let Moments { mean, square } = self
                .moments
                .remove(&name)
                .unwrap_or_else(|| Moments { mean: zeros(), square: zeros() });
            names.push(name);
            steps.push((step, [value, gradient, mean, square]));
        }
        let updated = update_all(steps, clip_factor(norm, self.config.clip_norm));
        let mut values = BTreeMap::new();
        for (name, [value, mean, square]) in names.into_iter().zip(updated) {
            values.insert(name.clone(), value);
            self.moments.insert(name, Moments { mean, square });
        }
        detector.map(&mut Giver { path: Vec::new(), shapes: taker.shapes, values })
    }

    fn step(&self, name: &str, schedule: &FlatCosine, iteration: u64) -> AdamW {
        let rates = self.rates[name];
        AdamW {
            learning_rate: schedule.used(rates.learning_rate, iteration),
            weight_decay: rates.weight_decay,
            beta1: self.config.beta1,
            beta2: self.config.beta2,
            eps: self.config.eps,
            step: self.steps,
        }
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
    deim_ops::global_norm(gradients.values().cloned().collect())
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

/// A parameter on its way through the update, flat.
struct Taken {
    name: String,
    value: Tensor<1>,
    gradient: Tensor<1>,
}

/// Takes every parameter that has a gradient out of a detector: all are updated together, and those
/// that nothing else holds in place.
struct Taker {
    path: Vec<String>,
    gradients: NamedGradients,
    taken: Vec<Taken>,
    shapes: BTreeMap<String, Vec<usize>>,
}

impl ModuleMapper for Taker {
    fn enter_module(&mut self, name: &str, _: &str) {
        self.path.push(name.to_owned());
    }
    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.pop();
    }
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let name = weights::official_name(&self.path);
        let Some(gradient) = self.gradients.remove(&name) else { return param };
        let (id, tensor, mapper) = param.consume();
        let empty = Tensor::empty([0; D], &tensor.device());
        self.shapes.insert(name.clone(), tensor.dims().to_vec());
        let value = tensor.inner().reshape([-1]);
        self.taken.push(Taken { name, value, gradient });
        Param::from_mapped_value(id, empty, mapper)
    }
}

/// Puts parameters back.
struct Giver {
    path: Vec<String>,
    shapes: BTreeMap<String, Vec<usize>>,
    values: BTreeMap<String, Tensor<1>>,
}

impl ModuleMapper for Giver {
    fn enter_module(&mut self, name: &str, _: &str) {
        self.path.push(name.to_owned());
    }
    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.pop();
    }
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let name = weights::official_name(&self.path);
        let Some(value) = self.values.remove(&name) else { return param };
        let (id, _, mapper) = param.consume();
        let value = value.reshape(Shape::from(self.shapes[&name].clone()));
        Param::from_mapped_value(id, Tensor::<D>::from_inner(value).require_grad(), mapper)
    }
}
