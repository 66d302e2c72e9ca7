//! The stack machine, restricted to the instructions that lay out data.

use std::collections::BTreeMap;

use crate::error::{Problem, broken, refused, unsupported};
use crate::pickle::node::{Id, Node, Pickle};

/// The last protocol that `torch.save` can be asked for by default Pythons.
const LAST_PROTOCOL: u8 = 5;
/// A checkpoint of the largest model has two MiB.
pub const MAX_PICKLE: u64 = 64 << 20;
/// Names of classes and functions are some 40 characters long.
const MAX_NAME: usize = 256;
/// The longest integer that is written has ten bytes: it marks the old format.
const MAX_INTEGER: u64 = 64;

/// Reads the pickle at the start of `bytes`; returns it with its length.
pub fn run(bytes: &[u8]) -> Result<(Pickle, usize), Problem> {
    let mut machine = Machine {
        bytes: &bytes[..bytes.len().min(MAX_PICKLE as usize)],
        at: 0,
        stack: Vec::new(),
        marks: Vec::new(),
        memo: BTreeMap::new(),
        pickle: Pickle::new(),
    };
    loop {
        let at = machine.at;
        match machine.step() {
            Ok(true) => {}
            Ok(false) => return Ok((machine.pickle, machine.at)),
            Err(Problem::Broken(what)) => {
                return broken(format!("byte {at} of the pickle: {what}"));
            }
            Err(other) => return Err(other),
        }
    }
}

pub(super) struct Machine<'a> {
    bytes: &'a [u8],
    at: usize,
    stack: Vec<Id>,
    /// Heights of the stack where lists of arguments start.
    marks: Vec<usize>,
    memo: BTreeMap<u64, Id>,
    pub(super) pickle: Pickle,
}

impl Machine<'_> {
    /// One instruction; false after the last.
    fn step(&mut self) -> Result<bool, Problem> {
        let opcode = self.take(1)?[0];
        match opcode {
            b'.' => {
                self.pickle.root = self.pop()?;
                return Ok(false);
            }
            0x80 => {
                let protocol = self.take(1)?[0];
                if protocol > LAST_PROTOCOL {
                    return unsupported(format!("a pickle of protocol {protocol}"));
                }
            }
            // A frame says only how much to read ahead.
            0x95 => {
                self.take(8)?;
            }
            b'(' => {
                self.pickle.spend(1)?;
                self.marks.push(self.stack.len());
            }
            b'0' => {
                self.pop()?;
            }
            b'1' => {
                self.pop_to_mark()?;
            }
            b'2' => {
                let top = self.top()?;
                self.push_again(top)?;
            }
            b'N' => self.push(Node::None)?,
            0x88 => self.push(Node::Bool(true))?,
            0x89 => self.push(Node::Bool(false))?,
            b'K' => self.integer(1)?,
            b'M' => self.integer(2)?,
            b'J' => {
                let word = self.word::<4>()?;
                self.push(Node::Int(i32::from_le_bytes(word).into()))?;
            }
            0x8a => self.long(1)?,
            0x8b => self.long(4)?,
            b'G' => {
                let word = self.word::<8>()?;
                self.push(Node::Float(f64::from_be_bytes(word)))?;
            }
            0x8c => self.text(1)?,
            b'X' => self.text(4)?,
            0x8d => self.text(8)?,
            // Strings of Python 2: text where they are, bytes otherwise.
            b'U' => self.old_text(1)?,
            b'T' => self.old_text(4)?,
            b'C' => self.raw(1)?,
            b'B' => self.raw(4)?,
            0x8e | 0x96 => self.raw(8)?,
            b']' => self.push(Node::List(Vec::new()))?,
            b'}' => self.push(Node::Dict(Vec::new()))?,
            b')' => self.push(Node::Tuple(Vec::new()))?,
            // A set keeps its values as a list does.
            0x8f => self.push(Node::List(Vec::new()))?,
            b'l' | 0x91 => {
                let values = self.pop_to_mark()?;
                self.push(Node::List(values))?;
            }
            b't' => {
                let values = self.pop_to_mark()?;
                self.push(Node::Tuple(values))?;
            }
            0x85..=0x87 => {
                let count = usize::from(opcode - 0x84);
                let values = self.pop_many(count)?;
                self.push(Node::Tuple(values))?;
            }
            b'd' => {
                let entries = pairs(self.pop_to_mark()?)?;
                self.push(Node::Dict(entries))?;
            }
            b'a' => {
                let value = self.pop()?;
                self.append(vec![value])?;
            }
            b'e' | 0x90 => {
                let values = self.pop_to_mark()?;
                self.append(values)?;
            }
            b's' => {
                let entry = self.pop_many(2)?;
                self.insert(entry)?;
            }
            b'u' => {
                let entries = self.pop_to_mark()?;
                self.insert(entries)?;
            }
            b'q' => {
                let place = self.size(1)?;
                self.remember(place)?;
            }
            b'r' => {
                let place = self.size(4)?;
                self.remember(place)?;
            }
            0x94 => self.remember(self.memo.len() as u64)?,
            b'h' => self.recall(1)?,
            b'j' => self.recall(4)?,
            b'c' => {
                let module = self.line()?;
                let name = self.line()?;
                self.push(Node::Global(format!("{module}.{name}")))?;
            }
            0x93 => {
                let parts = self.pop_many(2)?;
                let text = |id: Id| match self.pickle.node(id) {
                    Node::Text(text) if text.len() <= MAX_NAME => Ok(text.as_str()),
                    other => broken(format!("a name expected, found {}", other.kind())),
                };
                let name = format!("{}.{}", text(parts[0])?, text(parts[1])?);
                self.push(Node::Global(name))?;
            }
            b'Q' => {
                let reference = self.pop()?;
                let value = self.persistent(reference)?;
                self.push(value)?;
            }
            // A call of a function, or the making of an object from its class.
            b'R' | 0x81 => {
                let parts = self.pop_many(2)?;
                let value = self.call(parts[0], parts[1])?;
                self.push_again(value)?;
            }
            0x92 => {
                let parts = self.pop_many(3)?;
                let value = self.call(parts[0], parts[1])?;
                self.push_again(value)?;
            }
            b'b' => {
                // Attributes of an object; those of a state dict hold no weights.
                self.pop()?;
                self.top()?;
            }
            b'i' => {
                let (module, name) = (self.line()?, self.line()?);
                self.marks.pop();
                return self.refuse(&format!("{module}.{name}"));
            }
            b'o' => {
                let parts = self.pop_to_mark()?;
                return match parts.first().map(|&class| self.pickle.node(class)) {
                    Some(Node::Global(name)) => self.refuse(name),
                    _ => broken("an object without a class"),
                };
            }
            other => {
                return unsupported(format!(
                    "the pickle instruction 0x{other:02x}, which torch.save does not write"
                ));
            }
        }
        Ok(true)
    }

    pub(super) fn refuse<T>(&self, name: &str) -> Result<T, Problem> {
        refused(format!(
            "the file asks to call `{name}`; reading weights needs no such call, and none was made"
        ))
    }

    fn take(&mut self, count: u64) -> Result<&[u8], Problem> {
        let left = (self.bytes.len() - self.at) as u64;
        if count > left {
            return broken(format!("{count} bytes expected, {left} are left"));
        }
        let start = self.at;
        self.at += count as usize;
        Ok(&self.bytes[start..self.at])
    }

    fn word<const N: usize>(&mut self) -> Result<[u8; N], Problem> {
        let mut word = [0; N];
        word.copy_from_slice(self.take(N as u64)?);
        Ok(word)
    }

    /// An unsigned number of so many bytes.
    fn size(&mut self, width: u64) -> Result<u64, Problem> {
        let bytes = self.take(width)?;
        Ok(bytes.iter().rev().fold(0, |number, &byte| number << 8 | u64::from(byte)))
    }

    /// Text up to the end of a line: module and name of a global.
    fn line(&mut self) -> Result<String, Problem> {
        let rest = &self.bytes[self.at..];
        let Some(length) = rest.iter().take(MAX_NAME).position(|&byte| byte == b'\n') else {
            return broken("a name without an end");
        };
        let line = self.take(length as u64 + 1)?;
        match std::str::from_utf8(&line[..length]) {
            Ok(line) => Ok(line.to_owned()),
            Err(_) => broken("a name that is not text"),
        }
    }

    fn integer(&mut self, width: u64) -> Result<(), Problem> {
        let value = self.size(width)?;
        self.push(Node::Int(value as i64))
    }

    fn long(&mut self, width: u64) -> Result<(), Problem> {
        let length = self.size(width)?;
        if length > MAX_INTEGER {
            return refused(format!("an integer of {length} bytes"));
        }
        let bytes = self.take(length)?;
        let node = if bytes.len() > 8 {
            Node::Long(bytes.to_vec())
        } else {
            let negative = bytes.last().is_some_and(|byte| byte & 0x80 != 0);
            let start = if negative { -1 } else { 0 };
            Node::Int(bytes.iter().rev().fold(start, |number, &byte| number << 8 | i64::from(byte)))
        };
        self.push(node)
    }

    fn text(&mut self, width: u64) -> Result<(), Problem> {
        let length = self.size(width)?;
        let bytes = self.take(length)?;
        let Ok(text) = std::str::from_utf8(bytes) else {
            return broken("text that is not UTF-8");
        };
        let text = text.to_owned();
        self.push(Node::Text(text))
    }

    fn old_text(&mut self, width: u64) -> Result<(), Problem> {
        let length = self.size(width)?;
        let bytes = self.take(length)?;
        let node = match std::str::from_utf8(bytes) {
            Ok(text) => Node::Text(text.to_owned()),
            Err(_) => Node::Bytes(bytes.to_vec()),
        };
        self.push(node)
    }

    fn raw(&mut self, width: u64) -> Result<(), Problem> {
        let length = self.size(width)?;
        let node = Node::Bytes(self.take(length)?.to_vec());
        self.push(node)
    }

    pub(super) fn push(&mut self, node: Node) -> Result<(), Problem> {
        let id = self.pickle.add(node)?;
        self.stack.push(id);
        Ok(())
    }

    /// Pushes a value that exists: a reference costs as much as a value.
    fn push_again(&mut self, id: Id) -> Result<(), Problem> {
        self.pickle.spend(1)?;
        self.stack.push(id);
        Ok(())
    }

    /// Values below the last mark belong to what was begun before it.
    fn pop(&mut self) -> Result<Id, Problem> {
        Ok(self.pop_many(1)?[0])
    }

    fn top(&self) -> Result<Id, Problem> {
        match self.stack.last() {
            Some(&id) => Ok(id),
            None => broken("a value expected, the stack is empty"),
        }
    }

    /// The last values, in the order of their pushing.
    fn pop_many(&mut self, count: usize) -> Result<Vec<Id>, Problem> {
        let floor = self.marks.last().copied().unwrap_or(0);
        match self.stack.len().checked_sub(count).filter(|&start| start >= floor) {
            Some(start) => Ok(self.stack.split_off(start)),
            None => broken(format!("{count} values expected on the stack")),
        }
    }

    fn pop_to_mark(&mut self) -> Result<Vec<Id>, Problem> {
        match self.marks.pop().filter(|&start| start <= self.stack.len()) {
            Some(start) => Ok(self.stack.split_off(start)),
            None => broken("a mark expected"),
        }
    }

    fn append(&mut self, values: Vec<Id>) -> Result<(), Problem> {
        let list = self.top()?;
        match self.pickle.node_mut(list) {
            Node::List(list) => list.extend(values),
            Node::Opaque(_) => {}
            other => return broken(format!("a list expected, found {}", other.kind())),
        }
        Ok(())
    }

    fn insert(&mut self, values: Vec<Id>) -> Result<(), Problem> {
        let entries = pairs(values)?;
        let dictionary = self.top()?;
        match self.pickle.node_mut(dictionary) {
            Node::Dict(known) => known.extend(entries),
            Node::Opaque(_) => {}
            other => return broken(format!("a dictionary expected, found {}", other.kind())),
        }
        Ok(())
    }

    fn remember(&mut self, place: u64) -> Result<(), Problem> {
        let top = self.top()?;
        self.pickle.spend(1)?;
        self.memo.insert(place, top);
        Ok(())
    }

    fn recall(&mut self, width: u64) -> Result<(), Problem> {
        let place = self.size(width)?;
        match self.memo.get(&place) {
            Some(&id) => self.push_again(id),
            None => broken(format!("nothing was remembered as {place}")),
        }
    }
}

fn pairs(values: Vec<Id>) -> Result<Vec<(Id, Id)>, Problem> {
    let (pairs, rest) = values.as_chunks::<2>();
    if !rest.is_empty() {
        return broken("a key without a value");
    }
    Ok(pairs.iter().map(|&[key, value]| (key, value)).collect())
}
