//! A directory of experiments, written for one test.

use std::path::Path;

use deim_spec::{Experiment, Options, SpecError, load};
use tempfile::TempDir;

pub struct Folder(TempDir);

impl Folder {
    /// Files as `(path, text)`, paths relative to the folder.
    pub fn new(files: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().expect("a temporary directory");
        for (path, text) in files {
            let path = folder.path().join(path);
            std::fs::create_dir_all(path.parent().expect("has a parent")).expect("a directory");
            std::fs::write(path, text).expect("a file");
        }
        Self(folder)
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }

    pub fn load(&self, name: &str, options: &Options) -> Result<Experiment, SpecError> {
        load(self.path(), name, options)
    }

    /// The message about an experiment that must not load, with this folder called `experiments`.
    #[allow(dead_code, reason = "each test binary compiles this module anew")]
    pub fn error(&self, name: &str, options: &Options) -> String {
        let error = self.load(name, options).expect_err("must not load");
        error.render(false).replace(&self.path().display().to_string(), "experiments")
    }
}

/// An experiment file with the head that every test needs.
pub fn experiment(body: &str) -> String {
    format!("title = \"t\"\nquestion = \"q\"\n{body}")
}
