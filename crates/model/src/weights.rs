//! A module's tensors by their official names: to read, to fill, to load.

use std::collections::BTreeMap;

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::{Tensor, TensorData};

/// Why weights do not fit a model.
#[derive(Debug, thiserror::Error)]
pub enum WeightsError {
    #[error("the tensor `{0}` of the model is missing in the weights")]
    Missing(String),
    #[error("the tensor `{name}` has shape {found:?} in the weights, expected {expected:?}")]
    Shape { name: String, expected: Vec<usize>, found: Vec<usize> },
}

/// The names and values of all tensors, parameters and buffers, in the order of the module.
pub fn read(module: &impl Module) -> Vec<(String, TensorData)> {
    struct Reader(Path, Vec<(String, TensorData)>);
    impl ModuleVisitor for Reader {
        fn enter_module(&mut self, name: &str, _: &str) {
            self.0.enter(name);
        }
        fn exit_module(&mut self, _: &str, _: &str) {
            self.0.exit();
        }
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            self.1.push((self.0.official_name(), param.val().into_data()));
        }
    }
    let mut reader = Reader(Path::default(), Vec::new());
    module.visit(&mut reader);
    reader.1
}

/// The module with the values of these tensors; names that it does not have are ignored.
pub fn load<M: Module>(
    module: M,
    tensors: &BTreeMap<String, TensorData>,
) -> Result<M, WeightsError> {
    let mut problem = None;
    let module = fill(module, |name, shape| match tensors.get(name) {
        Some(data) if data.shape.iter().eq(shape) => Some(data.clone()),
        other => {
            problem.get_or_insert_with(|| match other {
                None => WeightsError::Missing(name.to_owned()),
                Some(data) => WeightsError::Shape {
                    name: name.to_owned(),
                    expected: shape.to_vec(),
                    found: data.shape.to_vec(),
                },
            });
            None
        }
    });
    match problem {
        None => Ok(module),
        Some(error) => Err(error),
    }
}

/// The module with every tensor replaced by `value(official name, shape)`, where that gives one.
pub(crate) fn fill<M: Module>(
    module: M,
    value: impl FnMut(&str, &[usize]) -> Option<TensorData>,
) -> M {
    struct Filler<F>(Path, F);
    impl<F: FnMut(&str, &[usize]) -> Option<TensorData>> ModuleMapper for Filler<F> {
        fn enter_module(&mut self, name: &str, _: &str) {
            self.0.enter(name);
        }
        fn exit_module(&mut self, _: &str, _: &str) {
            self.0.exit();
        }
        fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            let name = self.0.official_name();
            param.map(|old| match (self.1)(&name, &old.dims()) {
                None => old,
                Some(data) => {
                    let new = Tensor::from_data(data, &old.device());
                    new.set_require_grad(old.is_require_grad())
                }
            })
        }
    }
    module.map(&mut Filler(Path::default(), value))
}

/// The place in the module tree while it is walked.
#[derive(Default)]
struct Path(Vec<String>);

impl Path {
    fn enter(&mut self, name: &str) {
        self.0.push(name.to_owned());
    }

    fn exit(&mut self) {
        self.0.pop();
    }

    fn official_name(&self) -> String {
        official_name(&self.0)
    }
}

/// The name that the official checkpoints give to the tensor at this path of modules.
pub fn official_name(path: &[String]) -> String {
    // The variant of an enum is a part of Burn's paths, but not of names; modules are lower case.
    let parts = path.iter().filter(|part| !part.starts_with(char::is_uppercase));
    let name = parts.map(String::as_str).collect::<Vec<_>>().join(".");
    // A residual block has one of two kinds of shortcut, and officially both are called `short`.
    name.replace(".short_pooled.", ".short.")
}

/// Whether a name is of a buffer, which moves with the average but takes no gradient.
pub fn is_buffer(name: &str) -> bool {
    name.ends_with(".running_mean") || name.ends_with(".running_var")
}
