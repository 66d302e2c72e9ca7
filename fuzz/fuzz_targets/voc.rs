//! One annotation file of Pascal VOC, and where the input has them a list of images and one of
//! classes, beside two pictures.
#![no_main]

use std::sync::LazyLock;

use deim_data::readers::Format;
use deim_fuzz::{Folder, files};
use libfuzzer_sys::fuzz_target;

static FOLDER: LazyLock<Folder> = LazyLock::new(|| {
    let folder = Folder::new("voc");
    folder.pictures("JPEGImages");
    folder
});

fuzz_target!(|data: &[u8]| {
    let [sheet, list, classes] = files(data);
    FOLDER.write("Annotations/a.xml", sheet);
    FOLDER.write("ImageSets/Main/train.txt", if list.is_empty() { b"a" } else { list });
    let labels = FOLDER.write("label_list.txt", classes);
    if classes.is_empty() {
        std::fs::remove_file(labels).expect("a file that was just written");
    }
    FOLDER.look(Format::Voc);
});
