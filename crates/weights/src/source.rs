//! The bytes of a file, fetched in pieces; no piece reaches beyond the end.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;
use std::sync::Mutex;

use crate::error::{Problem, broken, unsupported};

/// A file that is read where it is needed.
#[derive(Debug)]
pub enum Source {
    File {
        file: Mutex<File>,
        length: u64,
    },
    /// Tests write their files in memory.
    #[cfg(test)]
    Memory(Vec<u8>),
}

impl Source {
    pub fn open(path: &Path) -> Result<Self, Problem> {
        let file = File::open(path)?;
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return unsupported("not a file");
        }
        Ok(Self::File { length: metadata.len(), file: Mutex::new(file) })
    }

    pub fn length(&self) -> u64 {
        match self {
            Self::File { length, .. } => *length,
            #[cfg(test)]
            Self::Memory(bytes) => bytes.len() as u64,
        }
    }

    /// `length` bytes from `start`; memory is asked for only when the file is that long.
    pub fn read(&self, start: u64, length: u64) -> Result<Vec<u8>, Problem> {
        let end = start.checked_add(length).filter(|&end| end <= self.length());
        if end.is_none() {
            let total = self.length();
            return broken(format!("{length} bytes expected at {start}, the file has {total}"));
        }
        match self {
            #[cfg(test)]
            Self::Memory(bytes) => Ok(bytes[start as usize..][..length as usize].to_vec()),
            Self::File { file, .. } => {
                let Ok(length) = usize::try_from(length) else {
                    return unsupported("larger than this machine's address space");
                };
                let mut bytes = vec![0; length];
                // A reader that panicked left no state behind that matters: the next one seeks again.
                let mut file = file.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
                file.seek(SeekFrom::Start(start))?;
                file.read_exact(&mut bytes)?;
                Ok(bytes)
            }
        }
    }
}

/// A little-endian number of two, four or eight bytes at a place in a slice.
pub fn number(bytes: &[u8], at: usize, width: usize) -> Result<u64, Problem> {
    let found = at.checked_add(width).and_then(|end| bytes.get(at..end));
    let Some(found) = found else {
        return broken(format!("{width} bytes expected at {at} of {}", bytes.len()));
    };
    Ok(found.iter().rev().fold(0, |number, &byte| number << 8 | u64::from(byte)))
}
