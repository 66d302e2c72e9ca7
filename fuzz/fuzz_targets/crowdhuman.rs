//! CrowdHuman's lines, beside two pictures.
#![no_main]

use std::sync::LazyLock;

use deim_data::readers::Format;
use deim_fuzz::Folder;
use libfuzzer_sys::fuzz_target;

static FOLDER: LazyLock<Folder> = LazyLock::new(|| {
    let folder = Folder::new("crowdhuman");
    folder.pictures("Images");
    folder
});

fuzz_target!(|data: &[u8]| {
    FOLDER.write("annotation_train.odgt", data);
    FOLDER.look(Format::CrowdHuman);
});
