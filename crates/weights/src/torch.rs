//! PyTorch's zip format: a pickle with the structure, and an entry for each storage.

use std::collections::BTreeSet;
use std::sync::Mutex;

use crate::archive::Archive;
use crate::error::{Problem, broken, refused, unsupported};
use crate::pickle::{self, Pickle};
use crate::source::Source;

/// The storages of a file.
#[derive(Debug)]
pub struct Zip {
    source: Source,
    archive: Archive,
    big_endian: bool,
    /// Storages whose checksum has been compared.
    checked: Mutex<BTreeSet<String>>,
}

/// The structure and the storages of a file.
pub fn read(source: Source) -> Result<(Pickle, Zip), Problem> {
    let archive = Archive::read(&source)?;
    if archive.entries.contains_key("constants.pkl") {
        return unsupported(
            "a TorchScript program, not weights; save the module's state_dict() instead",
        );
    }
    let length = archive.entries.get("data.pkl").map_or(0, |entry| entry.length);
    if length > pickle::MAX_PICKLE {
        return refused(format!("a pickle of {length} bytes"));
    }
    let (pickle, used) = pickle::run(&archive.fetch(&source, "data.pkl")?)?;
    if used as u64 != length {
        return broken(format!("the pickle ends after {used} of {length} bytes"));
    }
    let big_endian = match archive.entries.get("byteorder").map(|entry| entry.length) {
        None => false,
        Some(length) if length <= 8 => match archive.fetch(&source, "byteorder")?.as_slice() {
            b"little" => false,
            b"big" => true,
            _ => return broken("the byte order is neither little nor big"),
        },
        Some(_) => return broken("the byte order is neither little nor big"),
    };
    Ok((pickle, Zip { source, archive, big_endian, checked: Mutex::default() }))
}

impl Zip {
    pub fn length(&self) -> u64 {
        self.source.length()
    }

    /// Bytes of a storage; none if the file has no such storage.
    pub fn storage_bytes(&self, key: &str) -> Option<u64> {
        self.archive.entries.get(&entry(key)).map(|entry| entry.length)
    }

    /// A part of a storage, little-endian, of numbers of this size.
    pub fn fetch(
        &self,
        key: &str,
        start: u64,
        length: u64,
        size: usize,
    ) -> Result<Vec<u8>, Problem> {
        let name = entry(key);
        let mut checked = self.checked.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let mut bytes = if checked.contains(key) {
            let Some(stored) = self.archive.entries.get(&name) else {
                return broken(format!("the archive has no `{name}`"));
            };
            match start.checked_add(length).filter(|&end| end <= stored.length) {
                Some(_) => self.source.read(stored.start + start, length)?,
                None => return broken(format!("`{name}` is too short")),
            }
        } else {
            let mut whole = self.archive.fetch(&self.source, &name)?;
            checked.insert(key.to_owned());
            let end = start.checked_add(length).filter(|&end| end <= whole.len() as u64);
            let Some(end) = end else {
                return broken(format!("`{name}` is too short"));
            };
            whole.truncate(end as usize);
            whole.drain(..start as usize);
            whole
        };
        if self.big_endian {
            bytes.chunks_exact_mut(size).for_each(<[u8]>::reverse);
        }
        Ok(bytes)
    }
}

fn entry(key: &str) -> String {
    format!("data/{key}")
}
