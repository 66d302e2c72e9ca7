//! Ledgers: what is read, is read again after another record was added.
#![no_main]

use std::sync::LazyLock;

use deim_fuzz::Folder;
use deim_lab::Ledger;
use deim_lab::record::{Line, Record};
use libfuzzer_sys::fuzz_target;

static FOLDER: LazyLock<Folder> = LazyLock::new(|| Folder::new("ledger"));

fuzz_target!(|data: &[u8]| {
    let path = FOLDER.write("ledger.jsonl", data);
    let ledger = Ledger::at(path);
    let Ok(before) = ledger.read() else {
        // Damage stops everything and stays as it is.
        assert!(ledger.extend(|_| Ok(Vec::new())).is_err());
        return;
    };
    let record = Record::Failed { reason: "fuzzed".into(), killed: false };
    ledger.append("cell", record).expect("a ledger that was read");
    let after = ledger.read().expect("a ledger that was appended to");
    assert_eq!(after.torn, 0);
    assert_eq!(after.lines.len(), before.lines.len() + 1);
    // NaN is not itself, so that lines are compared as they are written.
    let written = |lines: &[Line]| serde_json::to_string(lines).expect("a line");
    assert_eq!(written(&after.lines[..before.lines.len()]), written(&before.lines));
});
