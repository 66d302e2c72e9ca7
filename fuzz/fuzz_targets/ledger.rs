//! Ledgers: what is read, is read again after another record was added.
//!
//! The crate `deim-lab` brings Burn, which takes the fuzzer long to build, so that the files that
//! read a ledger are compiled here by themselves.
#![no_main]
#![allow(dead_code, reason = "a few files of a crate, used in part")]

// What these files call the crates they are from.
extern crate self as deim_train;

#[path = "../../crates/lab/src/clock.rs"]
mod clock;
#[path = "../../crates/lab/src/error.rs"]
mod error;
#[path = "../../crates/train/src/events.rs"]
pub mod events;
#[path = "../../crates/lab/src/ledger.rs"]
mod ledger;
#[path = "../../crates/lab/src/record.rs"]
mod record;

use std::sync::LazyLock;

use deim_fuzz::Folder;
use libfuzzer_sys::fuzz_target;

static FOLDER: LazyLock<Folder> = LazyLock::new(|| Folder::new("ledger"));

fuzz_target!(|data: &[u8]| {
    let path = FOLDER.write("ledger.jsonl", data);
    let ledger = ledger::Ledger::at(path.clone());
    let Ok(before) = ledger.read() else {
        // Damage stops everything and stays as it is.
        assert!(ledger.extend(|_| Ok(Vec::new())).is_err());
        return;
    };
    let record = record::Record::Failed { reason: "fuzzed".into(), killed: false };
    ledger.append("cell", record).expect("a ledger that was read");
    let after = ledger.read().expect("a ledger that was appended to");
    assert_eq!(after.torn, 0);
    assert_eq!(after.lines.len(), before.lines.len() + 1);
    // NaN is not itself, so that lines are compared as they are written.
    let written = |lines: &[record::Line]| serde_json::to_string(lines).expect("a line");
    assert_eq!(written(&after.lines[..before.lines.len()]), written(&before.lines));
});
