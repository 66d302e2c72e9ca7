//! The pickle of a PyTorch file, in an archive whose checksums are right, with a storage `0`.
#![no_main]

use std::sync::LazyLock;

use deim_fuzz::Folder;
use deim_fuzz::weights::{read_all, zip};
use libfuzzer_sys::fuzz_target;

static FOLDER: LazyLock<Folder> = LazyLock::new(|| Folder::new("pickle"));

fuzz_target!(|data: &[u8]| {
    let archive = zip(&[
        ("file/data.pkl", data),
        ("file/byteorder", b"little"),
        ("file/data/0", &[0; 24]),
        ("file/version", b"3\n"),
    ]);
    read_all(&FOLDER.write("file.pth", &archive));
});
