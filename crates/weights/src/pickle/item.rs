//! A value with the pickle that it is in, to look around from.

use crate::pickle::node::{Id, Node, Pickle, Stored};

/// A value of a pickle.
#[derive(Clone, Copy)]
pub struct Item<'a> {
    pickle: &'a Pickle,
    id: Id,
}

impl<'a> Item<'a> {
    pub fn root(pickle: &'a Pickle) -> Self {
        Self { pickle, id: pickle.root }
    }

    fn at(self, id: Id) -> Self {
        Self { pickle: self.pickle, id }
    }

    pub fn node(self) -> &'a Node {
        self.pickle.node(self.id)
    }

    /// Keys and values of a dictionary, in the order of writing; none for anything else.
    pub fn entries(self) -> Option<impl Iterator<Item = (Self, Self)>> {
        match self.node() {
            Node::Dict(entries) => {
                Some(entries.iter().map(move |&(key, value)| (self.at(key), self.at(value))))
            }
            _ => None,
        }
    }

    /// The value of a text key; of equal keys the last counts.
    pub fn get(self, key: &str) -> Option<Self> {
        let Node::Dict(entries) = self.node() else { return None };
        let found = entries.iter().rev().find(|&&(name, _)| self.at(name).text() == Some(key));
        found.map(|&(_, value)| self.at(value))
    }

    /// The values of a list or tuple.
    pub fn values(self) -> Option<impl Iterator<Item = Self>> {
        match self.node() {
            Node::List(values) | Node::Tuple(values) => {
                Some(values.iter().map(move |&value| self.at(value)))
            }
            _ => None,
        }
    }

    pub fn text(self) -> Option<&'a str> {
        match self.node() {
            Node::Text(text) => Some(text),
            _ => None,
        }
    }

    pub fn int(self) -> Option<i64> {
        match self.node() {
            Node::Int(value) => Some(*value),
            _ => None,
        }
    }

    /// An integer or a float, as a float.
    pub fn number(self) -> Option<f64> {
        match self.node() {
            Node::Int(value) => Some(*value as f64),
            Node::Float(value) => Some(*value),
            _ => None,
        }
    }

    pub fn tensor(self) -> Option<&'a Stored> {
        match self.node() {
            Node::Tensor(tensor) => Some(tensor),
            _ => None,
        }
    }
}
