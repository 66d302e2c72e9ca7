//! Files that say they are from PyTorch, of the present and of the old format.
#![no_main]

use std::sync::LazyLock;

use deim_fuzz::Folder;
use deim_fuzz::weights::read_all;
use libfuzzer_sys::fuzz_target;

static FOLDER: LazyLock<Folder> = LazyLock::new(|| Folder::new("checkpoint"));

fuzz_target!(|data: &[u8]| read_all(&FOLDER.write("file.pth", data)));
