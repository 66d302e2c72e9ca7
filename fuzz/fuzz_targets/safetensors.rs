//! Files of safetensors; what is read can be written and reads back equal.
#![no_main]

use std::sync::LazyLock;

use deim_fuzz::Folder;
use deim_fuzz::weights::read_all;
use libfuzzer_sys::fuzz_target;

static FOLDER: LazyLock<Folder> = LazyLock::new(|| Folder::new("safetensors"));

fuzz_target!(|data: &[u8]| {
    let path = FOLDER.write("file.safetensors", data);
    read_all(&path);
    let Ok(file) = deim_weights::open(&path) else { return };
    let Some((_, entries)) = file.best() else { return };
    let Ok(tensors) = file.tensors(entries) else { return };
    let Ok(bytes) = deim_weights::encode(&tensors) else { return };
    let again = FOLDER.write("again.safetensors", &bytes);
    let again = deim_weights::open(&again).expect("what was written");
    let (_, entries) = again.best().expect("what was written");
    assert_eq!(again.tensors(entries).expect("what was written"), tensors);
});
