//! What the calls in a weight file come to. Nothing is called: these are readings of known calls.

use crate::error::{Problem, broken};
use crate::pickle::machine::Machine;
use crate::pickle::node::{Id, Node, Storage, Stored};
use crate::tensor::{Dtype, View};

/// Objects of these classes occur in checkpoints beside the weights; they stay closed.
const CLOSED: [&str; 8] = [
    "argparse.Namespace",
    "collections.",
    "datetime.",
    "numpy.",
    "pathlib.",
    "torch.nn.",
    "torch.optim.",
    "torch.torch_version.TorchVersion",
];

/// Keys of storages are numbers.
const LONGEST_KEY: usize = 64;

/// Python's own types of plain data.
const BUILTINS: [&str; 11] = [
    "bool",
    "bytearray",
    "complex",
    "dict",
    "float",
    "frozenset",
    "int",
    "list",
    "range",
    "set",
    "slice",
];

impl Machine<'_> {
    /// The value of a call of `function` with a tuple of `arguments`.
    pub(super) fn call(&mut self, function: Id, arguments: Id) -> Result<Id, Problem> {
        let name = match self.pickle.node(function) {
            Node::Global(name) => name.clone(),
            other => return broken(format!("a call of {}", other.kind())),
        };
        let arguments = self.pickle.tuple(arguments)?;
        let first = arguments.first().copied();
        let few = || Problem::Broken(format!("`{name}` has too few arguments"));
        let value = match name.as_str() {
            "collections.OrderedDict" | "collections.defaultdict" => {
                // Python 2 wrote the entries as a list of pairs.
                let list = first.map(|list| self.pickle.node(list));
                let entries = match list {
                    Some(Node::List(pairs)) => self.listed(&pairs.clone())?,
                    _ => Vec::new(),
                };
                Node::Dict(entries)
            }
            "torch._utils._rebuild_tensor" | "torch._utils._rebuild_tensor_v2" => {
                let &[storage, offset, shape, strides, ..] = arguments else { return Err(few()) };
                self.tensor(storage, offset, shape, strides, None)?
            }
            "torch._utils._rebuild_tensor_v3" => {
                let &[storage, offset, shape, strides, _, _, dtype, ..] = arguments else {
                    return Err(few());
                };
                self.tensor(storage, offset, shape, strides, Some(dtype))?
            }
            // What a parameter has beyond its values is of no use here.
            "torch._utils._rebuild_parameter" | "torch._utils._rebuild_parameter_with_state" => {
                return first.ok_or_else(few);
            }
            "torch._tensor._rebuild_from_type_v2" => {
                let &[function, _, arguments, ..] = arguments else { return Err(few()) };
                // The function inside must be one of the two that make plain tensors: no nesting.
                return match self.pickle.node(function) {
                    Node::Global(inner) if inner.starts_with("torch._utils._rebuild_") => {
                        self.call(function, arguments)
                    }
                    other => {
                        let kind = other.kind();
                        self.refuse(&kind)
                    }
                };
            }
            "torch.Size" => return first.ok_or_else(few),
            "torch.device" => Node::Opaque(name),
            "copyreg._reconstructor" | "copy_reg._reconstructor" => {
                let class = first.map(|class| self.pickle.node(class));
                match class {
                    Some(Node::Global(class)) if is_closed(class) => Node::Opaque(class.clone()),
                    Some(Node::Global(class)) => return self.refuse(&class.clone()),
                    _ => return broken("an object without a class"),
                }
            }
            "_codecs.encode" => Node::Opaque(name),
            closed if is_closed(closed) => Node::Opaque(name),
            other => return self.refuse(other),
        };
        if let Node::Opaque(class) = &value {
            self.pickle.opaque.insert(class.clone());
        }
        self.pickle.add(value)
    }

    fn listed(&mut self, pairs: &[Id]) -> Result<Vec<(Id, Id)>, Problem> {
        self.pickle.spend(pairs.len())?;
        let pair = |&id: &Id| match self.pickle.node(id) {
            Node::List(pair) | Node::Tuple(pair) if pair.len() == 2 => Ok((pair[0], pair[1])),
            other => broken(format!("a key with its value expected, found {}", other.kind())),
        };
        pairs.iter().map(pair).collect()
    }

    /// The storage behind a reference `('storage', type, key, place, count)`.
    pub(super) fn persistent(&self, reference: Id) -> Result<Node, Problem> {
        let parts = self.pickle.tuple(reference)?;
        let nodes: Vec<&Node> = parts.iter().map(|&id| self.pickle.node(id)).collect();
        let (class, key, count) = match nodes[..] {
            [Node::Text(word), Node::Global(class), Node::Text(key), _, Node::Int(count)]
            | [
                Node::Text(word),
                Node::Global(class),
                Node::Text(key),
                _,
                Node::Int(count),
                Node::None,
            ] if word == "storage" => (class, key, *count),
            _ => return broken("a reference to something that is not a storage"),
        };
        let Ok(count) = u64::try_from(count) else {
            return broken(format!("a storage of {count} numbers"));
        };
        if key.len() > LONGEST_KEY {
            return broken(format!("the key of a storage has {} bytes", key.len()));
        }
        let kind = class
            .rsplit_once('.')
            .filter(|(module, _)| matches!(*module, "torch" | "torch.cuda" | "torch.storage"));
        let dtype = match kind.map(|(_, kind)| kind) {
            Some("DoubleStorage") => Some(Dtype::F64),
            Some("FloatStorage") => Some(Dtype::F32),
            Some("HalfStorage") => Some(Dtype::F16),
            Some("BFloat16Storage") => Some(Dtype::BF16),
            Some("LongStorage") => Some(Dtype::I64),
            Some("IntStorage") => Some(Dtype::I32),
            Some("ShortStorage") => Some(Dtype::I16),
            Some("CharStorage") => Some(Dtype::I8),
            Some("ByteStorage") => Some(Dtype::U8),
            Some("BoolStorage") => Some(Dtype::Bool),
            Some("UntypedStorage") => None,
            // Complex or quantised numbers: the tensors of it stay closed.
            Some(kind) if kind.ends_with("Storage") => return Ok(Node::Opaque(class.clone())),
            _ => return self.refuse(class),
        };
        Ok(Node::Storage(Storage { key: key.clone(), dtype, count }))
    }

    fn tensor(
        &self,
        storage: Id,
        offset: Id,
        shape: Id,
        strides: Id,
        dtype: Option<Id>,
    ) -> Result<Node, Problem> {
        let storage = match self.pickle.node(storage) {
            Node::Storage(storage) => storage,
            Node::Opaque(class) => return Ok(Node::Opaque(format!("a tensor of {class}"))),
            other => return broken(format!("a tensor in {}", other.kind())),
        };
        let typed = dtype.map(|dtype| self.pickle.node(dtype));
        let dtype = match (storage.dtype, typed) {
            (Some(dtype), _) => dtype,
            (None, Some(Node::Global(name))) => match named(name) {
                Some(dtype) => dtype,
                None => return Ok(Node::Opaque(format!("a tensor of {name}"))),
            },
            _ => return broken("a tensor without a type"),
        };
        let count = match storage.dtype {
            Some(_) => storage.count,
            None => storage.count / dtype.size(),
        };
        let view =
            View::new(self.size_of(offset)?, self.sizes(shape)?, self.sizes(strides)?, count)?;
        Ok(Node::Tensor(Stored { key: storage.key.clone(), dtype, view }))
    }

    fn size_of(&self, id: Id) -> Result<u64, Problem> {
        match self.pickle.node(id) {
            Node::Int(value) if *value >= 0 => Ok(*value as u64),
            Node::Int(value) => broken(format!("a size of {value}")),
            other => broken(format!("a size expected, found {}", other.kind())),
        }
    }

    fn sizes(&self, id: Id) -> Result<Vec<u64>, Problem> {
        match self.pickle.node(id) {
            // More axes than any tensor has would cost memory before they are counted.
            Node::Tuple(values) | Node::List(values) if values.len() <= 64 => {
                values.iter().map(|&value| self.size_of(value)).collect()
            }
            other => broken(format!("sizes expected, found {}", other.kind())),
        }
    }
}

fn is_closed(name: &str) -> bool {
    let builtin =
        |module: &str| name.strip_prefix(module).is_some_and(|class| BUILTINS.contains(&class));
    builtin("builtins.")
        || builtin("__builtin__.")
        || CLOSED.iter().any(|known| match known.ends_with('.') {
            true => name.starts_with(known),
            false => name == *known,
        })
}

fn named(dtype: &str) -> Option<Dtype> {
    Some(match dtype.strip_prefix("torch.")? {
        "float64" => Dtype::F64,
        "float32" => Dtype::F32,
        "float16" => Dtype::F16,
        "bfloat16" => Dtype::BF16,
        "int64" => Dtype::I64,
        "int32" => Dtype::I32,
        "int16" => Dtype::I16,
        "int8" => Dtype::I8,
        "uint8" => Dtype::U8,
        "bool" => Dtype::Bool,
        _ => return None,
    })
}
