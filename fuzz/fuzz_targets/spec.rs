//! Experiment files: resolved at every scale and shown, or refused with a message that renders.
//! A second file, where the input has one, is a part that the first may extend.
#![no_main]

use std::sync::LazyLock;

use deim_fuzz::{Folder, files};
use deim_spec::{Options, load, show};
use libfuzzer_sys::fuzz_target;

static FOLDER: LazyLock<Folder> = LazyLock::new(|| Folder::new("spec"));

fuzz_target!(|data: &[u8]| {
    let [experiment, part] = files(data);
    FOLDER.write("question.toml", experiment);
    FOLDER.write("parts/part.toml", part);
    let mut scales = vec![None];
    let mut first = true;
    while let Some(scale) = scales.pop() {
        let options = Options { scale, ..Options::default() };
        match load(FOLDER.path(), "question", &options) {
            Ok(experiment) => {
                for row in &experiment.rows {
                    show::annotated(row);
                    deim_spec::cell_id(&row.config, 0, "manifest", 1, "cpu");
                }
                if std::mem::take(&mut first) {
                    scales.extend(experiment.scales.into_iter().map(Some));
                }
            }
            Err(error) => {
                assert!(error.count() > 0);
                assert!(!error.render(true).is_empty());
            }
        }
    }
});
