//! YOLO's `data.yaml` and the labels of one picture; a third file, where there is one, lists images.
#![no_main]

use std::sync::LazyLock;

use deim_data::readers::Format;
use deim_fuzz::{Folder, files};
use libfuzzer_sys::fuzz_target;

static FOLDER: LazyLock<Folder> = LazyLock::new(|| {
    let folder = Folder::new("yolo");
    folder.pictures("images/train");
    folder
});

fuzz_target!(|data: &[u8]| {
    let [sheet, labels, list] = files(data);
    // A sheet may name any folder, whose files would all be listed: none but our own here.
    let outside =
        |pair: &[u8]| pair == b".." || (pair[1] == b'/' && !pair[0].is_ascii_alphanumeric());
    if sheet.starts_with(b"/") || sheet.windows(2).any(outside) {
        return;
    }
    FOLDER.write("data.yaml", sheet);
    FOLDER.write("labels/train/a.txt", labels);
    FOLDER.write("train.txt", list);
    FOLDER.look(Format::Yolo);
});
