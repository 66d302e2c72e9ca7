//! The append-only file of an experiment at one scale: `results/EXPERIMENT/SCALE/ledger.jsonl`.
//!
//! Every line is one write under an exclusive file lock, synced before anyone relies on it. A crash
//! can only leave a last line without its line break. Readers skip and report such a torn tail, and
//! the next writer cuts off that tail and nothing else. A *complete* line that cannot be read is
//! damage of another kind: it stops everything and is left as it is.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use crate::clock;
use crate::error::LabError;
use crate::record::{Line, Record};

/// A ledger, whether or not its file exists yet.
#[derive(Clone, Debug)]
pub struct Ledger {
    path: PathBuf,
}

/// What a ledger holds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Contents {
    pub lines: Vec<Line>,
    /// Bytes of a torn last line; 0 when the file ends as it should.
    pub torn: usize,
}

impl Contents {
    /// What a reader should know about the file, if anything.
    pub fn note(&self, path: &Path) -> Option<String> {
        (self.torn > 0).then(|| {
            format!(
                "{}: 1 torn last line ({} bytes, from a process that was killed while writing) is \
                 left out; the next record replaces it",
                path.display(),
                self.torn
            )
        })
    }
}

impl Ledger {
    /// The ledger of an experiment at a scale.
    pub fn new(results: &Path, experiment: &str, scale: &str) -> Self {
        Self { path: results.join(experiment).join(scale).join("ledger.jsonl") }
    }

    /// The ledger in this file.
    pub fn at(path: PathBuf) -> Self {
        Self { path }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Creates the file where it does not exist and proves that it can be written, so that a
    /// read-only folder is known before an hour of training and not after it.
    pub fn prepare(&self) -> Result<(), LabError> {
        self.open().map(drop)
    }

    /// Everything in the file; nothing when it does not exist.
    pub fn read(&self) -> Result<Contents, LabError> {
        let mut file = match File::open(&self.path) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Contents::default()),
            Err(error) => return Err(LabError::file("read", &self.path, error)),
        };
        file.lock_shared().map_err(|error| LabError::file("lock", &self.path, error))?;
        self.parse(&mut file)
    }

    /// Adds one record about a cell.
    pub fn append(&self, cell: &str, record: Record) -> Result<(), LabError> {
        let line = Line { at: clock::now(), cell: cell.to_owned(), record };
        let mut file = self.open()?;
        self.mend(&mut file)?;
        self.write(&mut file, &[line])
    }

    /// Adds the lines that `choose` gives for what is there, all of them or none, while no other
    /// process can write. Returns what is in the ledger afterwards.
    pub fn extend(
        &self,
        choose: impl FnOnce(&[Line]) -> Result<Vec<Line>, LabError>,
    ) -> Result<Vec<Line>, LabError> {
        let mut file = self.open()?;
        self.mend(&mut file)?;
        let mut lines = self.parse(&mut file)?.lines;
        let more = choose(&lines)?;
        if !more.is_empty() {
            self.write(&mut file, &more)?;
        }
        lines.extend(more);
        Ok(lines)
    }

    /// The file, created if need be, locked for writing until it is dropped.
    fn open(&self) -> Result<File, LabError> {
        let failed = |doing| move |error| LabError::file(doing, &self.path, error);
        if let Some(folder) = self.path.parent() {
            std::fs::create_dir_all(folder)
                .map_err(|error| LabError::file("create the folder", folder, error))?;
        }
        let file = OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .open(&self.path)
            .map_err(failed("write"))?;
        file.lock().map_err(failed("lock"))?;
        Ok(file)
    }

    fn parse(&self, file: &mut File) -> Result<Contents, LabError> {
        let mut bytes = Vec::new();
        file.seek(SeekFrom::Start(0))
            .and_then(|_| file.read_to_end(&mut bytes))
            .map_err(|error| LabError::file("read", &self.path, error))?;
        let mut contents = Contents::default();
        for (index, line) in bytes.split_inclusive(|&byte| byte == b'\n').enumerate() {
            match serde_json::from_slice(line) {
                Ok(line) => contents.lines.push(line),
                Err(_) if !line.ends_with(b"\n") => contents.torn = line.len(),
                Err(source) => {
                    let found = String::from_utf8_lossy(line).trim_end().chars().take(60).collect();
                    let (path, number) = (self.path.clone(), index + 1);
                    return Err(LabError::Line { path, number, found, source });
                }
            }
        }
        Ok(contents)
    }

    /// Makes the file end with a line break: a torn last line is cut off, a last line that only
    /// lost its line break gets it back.
    fn mend(&self, file: &mut File) -> Result<(), LabError> {
        let mended = (|| {
            let length = file.metadata()?.len();
            // A line is some kilobytes; look back in steps until its beginning is found.
            let mut tail = Vec::new();
            let mut start = length;
            while start > 0 && !tail.contains(&b'\n') {
                let step = start.min(64 * 1024);
                start -= step;
                let mut block = vec![0; step as usize];
                file.seek(SeekFrom::Start(start))?;
                file.read_exact(&mut block)?;
                block.extend(tail);
                tail = block;
                if tail.ends_with(b"\n") {
                    return Ok(());
                }
            }
            let begin = tail.iter().rposition(|&byte| byte == b'\n').map_or(0, |at| at + 1);
            let torn = &tail[begin..];
            if torn.is_empty() {
                Ok(())
            } else if serde_json::from_slice::<Line>(torn).is_ok() {
                file.write_all(b"\n")
            } else {
                file.set_len(start + begin as u64)
            }
        })();
        mended.map_err(|error| LabError::file("repair", &self.path, error))
    }

    fn write(&self, file: &mut File, lines: &[Line]) -> Result<(), LabError> {
        let failed = |error| LabError::file("write", &self.path, error);
        let mut bytes = Vec::new();
        for line in lines {
            serde_json::to_writer(&mut bytes, line).map_err(|error| failed(error.into()))?;
            bytes.push(b'\n');
        }
        let before = file.metadata().map_err(failed)?.len();
        let written = file.write_all(&bytes).and_then(|()| file.sync_data());
        written.map_err(|error| {
            // A full disk takes a part of a line: take it back, best effort, as `mend` would.
            let _ = file.set_len(before);
            failed(error)
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ledger() -> (tempfile::TempDir, Ledger) {
        let folder = tempfile::tempdir().unwrap();
        let ledger = Ledger::new(folder.path(), "gamma", "mini");
        (folder, ledger)
    }

    fn failure(text: &str) -> Record {
        Record::Failed { reason: text.into(), killed: false }
    }

    fn cells(ledger: &Ledger) -> Vec<String> {
        ledger.read().unwrap().lines.into_iter().map(|line| line.cell).collect()
    }

    #[test]
    fn what_was_appended_is_read_in_order() {
        let (_folder, ledger) = ledger();
        assert_eq!(ledger.read().unwrap(), Contents::default());
        for cell in ["a", "b", "c"] {
            ledger.append(cell, failure("x")).unwrap();
        }
        assert_eq!(cells(&ledger), ["a", "b", "c"]);
    }

    #[test]
    fn a_complete_line_that_cannot_be_read_stops_readers_and_keeps_its_bytes() {
        let (_folder, ledger) = ledger();
        ledger.append("a", failure("x")).unwrap();
        let mut text = std::fs::read_to_string(ledger.path()).unwrap();
        text.push_str("{\"cell\": 1}\n");
        std::fs::write(ledger.path(), &text).unwrap();
        let error = ledger.read().unwrap_err().to_string();
        assert!(error.contains("ledger.jsonl:2: expected a ledger line"), "{error}");
        assert!(ledger.extend(|_| Ok(vec![])).is_err());
        assert_eq!(std::fs::read_to_string(ledger.path()).unwrap(), text);
    }

    #[test]
    fn a_last_line_that_only_lost_its_line_break_is_kept() {
        let (_folder, ledger) = ledger();
        ledger.append("a", failure("x")).unwrap();
        let text = std::fs::read_to_string(ledger.path()).unwrap();
        std::fs::write(ledger.path(), text.trim_end()).unwrap();
        assert_eq!(ledger.read().unwrap().torn, 0);
        ledger.append("b", failure("y")).unwrap();
        assert_eq!(cells(&ledger), ["a", "b"]);
    }

    #[test]
    fn extend_adds_nothing_when_nothing_is_chosen() {
        let (_folder, ledger) = ledger();
        ledger.append("a", failure("x")).unwrap();
        let before = std::fs::read(ledger.path()).unwrap();
        let lines = ledger.extend(|lines| Ok(lines[1..].to_vec())).unwrap();
        assert_eq!(lines.len(), 1);
        assert_eq!(std::fs::read(ledger.path()).unwrap(), before);
    }

    #[test]
    fn lines_of_many_writers_do_not_mix() {
        let (_folder, ledger) = ledger();
        std::thread::scope(|scope| {
            for writer in 0..4 {
                let ledger = &ledger;
                scope.spawn(move || {
                    for line in 0..20 {
                        let reason = format!("{writer} {line} {}", "long ".repeat(2000));
                        ledger.append("a", failure(&reason)).unwrap();
                    }
                });
            }
        });
        assert_eq!(ledger.read().unwrap().lines.len(), 80);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn a_file_cut_anywhere_loses_only_the_line_it_was_cut_in(cut in 0.0..1.0_f64, long in 0..2_usize) {
            let (_folder, ledger) = ledger();
            // Longer than one step of the search for the last line break, every second time.
            let reason = "x".repeat(1 + long * 150_000);
            for cell in ["a", "b", "c"] {
                ledger.append(cell, failure(&reason)).unwrap();
            }
            let bytes = std::fs::read(ledger.path()).unwrap();
            let kept = (cut * bytes.len() as f64) as usize;
            std::fs::write(ledger.path(), &bytes[..kept]).unwrap();
            let breaks = bytes[..kept].iter().filter(|&&byte| byte == b'\n').count();
            let contents = ledger.read().unwrap();
            // A cut right before a line break keeps the line.
            let whole = breaks + usize::from(kept < bytes.len() && bytes[kept] == b'\n');
            prop_assert_eq!(contents.lines.len(), whole);
            ledger.append("d", failure("after")).unwrap();
            let mended = ledger.read().unwrap();
            prop_assert_eq!(mended.torn, 0);
            prop_assert_eq!(mended.lines.len(), whole + 1);
            prop_assert_eq!(&mended.lines[..whole], &contents.lines[..]);
        }
    }
}
