//! The format of `torch.save` before PyTorch 1.6: five pickles, then the storages one after the other.

use std::collections::BTreeMap;

use crate::error::{Problem, broken, unsupported};
use crate::pickle::{self, Item, Node, Pickle};
use crate::source::{Source, number};

/// How such a file starts: the pickle of a number that stands for nothing else.
pub const MAGIC: [u8; 15] =
    [0x80, 2, 0x8a, 10, 0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19, b'.'];

const PROTOCOL: i64 = 1001;

/// The storages of a file: first byte and number of bytes, by key.
#[derive(Debug)]
pub struct Legacy {
    source: Source,
    storages: BTreeMap<String, (u64, u64)>,
}

/// The structure and the storages of a file.
pub fn read(source: Source) -> Result<(Pickle, Legacy), Problem> {
    let head = source.read(0, source.length().min(2 * pickle::MAX_PICKLE))?;
    let mut at = MAGIC.len();
    let mut next = || -> Result<Pickle, Problem> {
        let (pickle, used) = pickle::run(&head[at..])?;
        at += used;
        Ok(pickle)
    };
    let protocol = next()?;
    match Item::root(&protocol).int() {
        Some(PROTOCOL) => {}
        _ => return unsupported("an unknown version of PyTorch's old file format"),
    }
    let system = next()?;
    if let Some(Node::Bool(false)) = Item::root(&system).get("little_endian").map(Item::node) {
        return unsupported("an old PyTorch file written on a big-endian machine");
    }
    let pickle = next()?;
    let keys = next()?;
    let Some(keys) = Item::root(&keys).values() else {
        return broken("the list of storages is missing");
    };
    let sizes: BTreeMap<&str, u64> = pickle
        .storages()
        .map(|storage| (storage.key.as_str(), storage.dtype.map_or(1, |dtype| dtype.size())))
        .collect();
    let mut storages = BTreeMap::new();
    let mut start = at as u64;
    for key in keys {
        let Some((key, size)) = key.text().and_then(|key| Some((key, *sizes.get(key)?))) else {
            return broken("the list of storages names one that nothing refers to");
        };
        let count = number(&source.read(start, 8)?, 0, 8)?;
        start += 8;
        let bytes = count.checked_mul(size);
        let end = bytes.and_then(|bytes| start.checked_add(bytes));
        match (bytes, end) {
            (Some(bytes), Some(end)) if end <= source.length() => {
                storages.insert(key.to_owned(), (start, bytes));
                start = end;
            }
            _ => {
                return broken(format!(
                    "storage `{key}` of {count} numbers reaches beyond the end"
                ));
            }
        }
    }
    Ok((pickle, Legacy { source, storages }))
}

impl Legacy {
    pub fn length(&self) -> u64 {
        self.source.length()
    }

    /// Bytes of a storage; none if the file has no such storage.
    pub fn storage_bytes(&self, key: &str) -> Option<u64> {
        self.storages.get(key).map(|&(_, bytes)| bytes)
    }

    /// A part of a storage.
    pub fn fetch(&self, key: &str, start: u64, length: u64) -> Result<Vec<u8>, Problem> {
        let fits =
            |&&(_, bytes): &&(u64, u64)| start.checked_add(length).is_some_and(|end| end <= bytes);
        match self.storages.get(key).filter(fits) {
            Some(&(first, _)) => self.source.read(first + start, length),
            None => broken(format!("storage `{key}` is too short")),
        }
    }
}
