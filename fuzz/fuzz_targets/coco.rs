//! COCO's annotations, beside two pictures.
#![no_main]

use std::sync::LazyLock;

use deim_data::readers::Format;
use deim_fuzz::Folder;
use libfuzzer_sys::fuzz_target;

static FOLDER: LazyLock<Folder> = LazyLock::new(|| {
    let folder = Folder::new("coco");
    folder.pictures("train2017");
    folder
});

fuzz_target!(|data: &[u8]| {
    FOLDER.write("annotations/instances_train2017.json", data);
    FOLDER.look(Format::Coco);
});
