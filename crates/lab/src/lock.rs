//! One process a cell: the lock that a process holds on `runs/CELL/lock` while it trains.
//!
//! The operating system releases it when the process ends, however it ends, so that there are no
//! stale locks. The file's text only says who holds it.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Seek, SeekFrom, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::clock;
use crate::error::LabError;

/// Who trains a cell.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    pub pid: u32,
    pub host: String,
    /// Since when, UTC, RFC 3339.
    pub since: String,
}

impl std::fmt::Display for Holder {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "process {} on {} since {}", self.pid, self.host, self.since)
    }
}

/// The right to train a cell, until it is dropped.
#[derive(Debug)]
pub struct CellLock {
    _file: File,
}

/// The outcome of asking for a cell.
#[derive(Debug)]
pub enum Asked {
    Ours(CellLock),
    /// Another process has it; who, where the file tells.
    Theirs(Option<Holder>),
}

/// Asks for the cell of this run folder, which is created if need be.
pub fn ask(folder: &Path) -> Result<Asked, LabError> {
    std::fs::create_dir_all(folder)
        .map_err(|error| LabError::file("create the folder", folder, error))?;
    let path = folder.join("lock");
    let failed = |error| LabError::file("lock", &path, error);
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path)
        .map_err(failed)?;
    // `holder` below takes the lock for a moment to see whether it is free; outwait it.
    let patience = Instant::now() + Duration::from_millis(300);
    loop {
        match file.try_lock() {
            Ok(()) => break,
            Err(TryLockError::WouldBlock) if Instant::now() < patience => {
                std::thread::sleep(Duration::from_millis(20));
            }
            Err(TryLockError::WouldBlock) => return Ok(Asked::Theirs(read(&path))),
            Err(TryLockError::Error(error)) => return Err(failed(error)),
        }
    }
    let holder = Holder { pid: std::process::id(), host: host(), since: clock::now() };
    let text = serde_json::to_string(&holder).map_err(|error| failed(error.into()))?;
    file.set_len(0)
        .and_then(|()| file.seek(SeekFrom::Start(0)))
        .and_then(|_| file.write_all(text.as_bytes()))
        .map_err(failed)?;
    Ok(Asked::Ours(CellLock { _file: file }))
}

/// Whether a process has the cell of this run folder now; the inner value is who, where known.
pub fn holder(folder: &Path) -> Result<Option<Option<Holder>>, LabError> {
    let path = folder.join("lock");
    let file = match File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(LabError::file("read", &path, error)),
    };
    match file.try_lock_shared() {
        Ok(()) => Ok(None),
        Err(TryLockError::WouldBlock) => Ok(Some(read(&path))),
        Err(TryLockError::Error(error)) => Err(LabError::file("lock", &path, error)),
    }
}

fn read(path: &Path) -> Option<Holder> {
    serde_json::from_str(&std::fs::read_to_string(path).ok()?).ok()
}

/// The name of this machine, for the reader.
fn host() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname")
        .ok()
        .or_else(|| std::env::var("HOSTNAME").ok())
        .map(|name| name.trim().to_owned())
        .filter(|name| !name.is_empty())
        .unwrap_or_else(|| "an unnamed host".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_is_had_by_one_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let run = folder.path().join("runs/abc");
        assert_eq!(holder(&run).unwrap(), None);
        let Asked::Ours(lock) = ask(&run).unwrap() else { panic!("the lock is free") };
        let seen = holder(&run).unwrap().flatten().expect("held, and says by whom");
        assert_eq!(seen.pid, std::process::id());
        // A second open file description is what another process has.
        match ask(&run).unwrap() {
            Asked::Theirs(Some(other)) => assert_eq!(other, seen),
            asked => panic!("expected the other holder, found {asked:?}"),
        }
        drop(lock);
        assert_eq!(holder(&run).unwrap(), None);
        assert!(matches!(ask(&run).unwrap(), Asked::Ours(_)));
    }
}
