//! The values of a pickle, in one list: values refer to each other by their place in it, so cycles and
//! deep nesting cost nothing.

use std::collections::BTreeSet;

use crate::error::{Problem, broken, refused};
use crate::tensor::{Dtype, View};

/// A value's place.
pub type Id = u32;

/// A value.
#[derive(Clone, Debug)]
pub enum Node {
    None,
    Bool(bool),
    Int(i64),
    /// An integer of more than 64 bits, little-endian.
    Long(Vec<u8>),
    Float(f64),
    Text(String),
    Bytes(Vec<u8>),
    List(Vec<Id>),
    Tuple(Vec<Id>),
    /// In the order of writing; of equal keys the last counts.
    Dict(Vec<(Id, Id)>),
    /// A class or function by its full name, not called.
    Global(String),
    Storage(Storage),
    Tensor(Stored),
    /// An object of this class, which nothing looks into.
    Opaque(String),
}

/// A run of numbers that tensors are views of.
#[derive(Clone, Debug)]
pub struct Storage {
    pub key: String,
    /// None for storages of bytes, whose tensors say what they hold.
    pub dtype: Option<Dtype>,
    /// In numbers, or in bytes where there is no type.
    pub count: u64,
}

/// A tensor and the storage that it lies in.
#[derive(Clone, Debug)]
pub struct Stored {
    pub key: String,
    pub dtype: Dtype,
    pub view: View,
}

/// What a pickle comes to.
#[derive(Debug)]
pub struct Pickle {
    nodes: Vec<Node>,
    /// Values and references that may still be made.
    budget: u64,
    pub root: Id,
    /// Classes whose objects became opaque.
    pub opaque: BTreeSet<String>,
}

/// Enough for a checkpoint of 20,000 tensors; some hundred MiB at worst.
const BUDGET: u64 = 4_000_000;

impl Pickle {
    pub fn new() -> Self {
        // The first value stands for whatever is not there yet.
        Self { nodes: vec![Node::None], budget: BUDGET, root: 0, opaque: BTreeSet::new() }
    }

    /// Takes from what may still be made.
    pub fn spend(&mut self, amount: usize) -> Result<(), Problem> {
        match self.budget.checked_sub(amount as u64) {
            Some(left) => {
                self.budget = left;
                Ok(())
            }
            None => refused(format!("more than {BUDGET} values")),
        }
    }

    pub fn add(&mut self, node: Node) -> Result<Id, Problem> {
        let text = match &node {
            Node::Text(text) | Node::Global(text) | Node::Opaque(text) => text.len(),
            Node::Bytes(bytes) | Node::Long(bytes) => bytes.len(),
            _ => 0,
        };
        self.spend(1 + text / 32)?;
        let id = self.nodes.len() as Id;
        self.nodes.push(node);
        Ok(id)
    }

    pub fn node(&self, id: Id) -> &Node {
        &self.nodes[id as usize]
    }

    /// All storages that the pickle refers to, some of them more than once.
    pub fn storages(&self) -> impl Iterator<Item = &Storage> {
        self.nodes.iter().filter_map(|node| match node {
            Node::Storage(storage) => Some(storage),
            _ => None,
        })
    }

    pub fn node_mut(&mut self, id: Id) -> &mut Node {
        &mut self.nodes[id as usize]
    }

    /// The values of a tuple.
    pub fn tuple(&self, id: Id) -> Result<&[Id], Problem> {
        match self.node(id) {
            Node::Tuple(values) => Ok(values),
            other => broken(format!("a tuple expected, found {}", other.kind())),
        }
    }
}

impl Node {
    /// What it is, for messages.
    pub fn kind(&self) -> String {
        match self {
            Self::None => "None".into(),
            Self::Bool(_) => "bool".into(),
            Self::Int(_) | Self::Long(_) => "int".into(),
            Self::Float(_) => "float".into(),
            Self::Text(_) => "str".into(),
            Self::Bytes(_) => "bytes".into(),
            Self::List(_) => "list".into(),
            Self::Tuple(_) => "tuple".into(),
            Self::Dict(_) => "dict".into(),
            Self::Global(name) => format!("the name {name}"),
            Self::Storage(_) => "storage".into(),
            Self::Tensor(_) => "tensor".into(),
            Self::Opaque(class) => class.clone(),
        }
    }
}
