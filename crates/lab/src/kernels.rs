//! Which GPU kernels were chosen.
//!
//! CubeCL times the candidates for an operation on the device when it first meets a shape, and keeps
//! the winners with the compiled kernels in a file. Another winner may add numbers in another order: so
//! the choices outlive a run, and a run's record says which they were.

use std::path::Path;

/// The folder of the choices, beside the cells' own.
pub const FOLDER: &str = ".autotune";

/// Keeps choices in this folder, unless a `cubecl.toml` names another; before a device is first used.
#[cfg(any(feature = "cuda", feature = "vulkan"))]
pub fn keep_in(folder: &Path) {
    use burn::cubecl::config::cache::CacheConfig;
    use burn::cubecl::config::{CubeClRuntimeConfig, RuntimeConfig};

    // The configuration names a folder when it is first read; later words count.
    if matches!(CubeClRuntimeConfig::get().environment.path, CacheConfig::Target) {
        burn::cubecl::environment::set_root(folder);
    }
}

/// There is nothing to keep: no GPU can be opened.
#[cfg(not(any(feature = "cuda", feature = "vulkan")))]
pub fn keep_in(_folder: &Path) {}

/// A hash of all choices made so far. Runs with equal fingerprints ran the same kernels; runs with
/// different ones may have, since the file also holds what only other shapes need. None where no
/// choice was kept.
pub fn fingerprint(folder: &Path) -> Option<String> {
    let mut files: Vec<_> = std::fs::read_dir(folder)
        .ok()?
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "db"))
        .collect();
    files.sort();
    let mut all = Vec::new();
    for file in &files {
        all.extend(deim_data::content_hash(&std::fs::read(file).ok()?));
    }
    let hash = deim_data::content_hash(&all);
    (!files.is_empty()).then(|| hash[..8].iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_choice_changes_the_fingerprint_and_a_passing_file_does_not() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(fingerprint(&folder.path().join("none")), None);
        assert_eq!(fingerprint(folder.path()), None);
        let write =
            |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
        write("default.db", "matmul: 3");
        let first = fingerprint(folder.path()).unwrap();
        write("default.db-shm", "who has it open");
        assert_eq!(fingerprint(folder.path()).as_ref(), Some(&first));
        write("default.db", "matmul: 4");
        assert_ne!(fingerprint(folder.path()), Some(first));
    }
}
