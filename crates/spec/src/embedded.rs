//! The model parts and recipes that the binary carries, so that the official detectors are known
//! without the `experiments` folder. A test holds this list against the folder.

use std::path::Path;

/// Where the files stand, as far as messages and origins are concerned.
pub(crate) const ROOT: &str = "experiments";

macro_rules! files {
    ($($path:literal),+ $(,)?) => {
        &[$(($path, include_str!(concat!("../../../experiments/", $path)))),+]
    };
}

/// Each file's path relative to `experiments`, in order, and its text.
pub(crate) const FILES: &[(&str, &str)] = files![
    "models/backbones/hgnetv2-b0.toml",
    "models/backbones/hgnetv2-b1.toml",
    "models/backbones/hgnetv2-b2.toml",
    "models/backbones/hgnetv2-b3.toml",
    "models/backbones/hgnetv2-b4.toml",
    "models/backbones/hgnetv2-b5.toml",
    "models/backbones/hgnetv2-b6.toml",
    "models/backbones/presnet-r101.toml",
    "models/backbones/presnet-r18.toml",
    "models/backbones/presnet-r34.toml",
    "models/backbones/presnet-r50.toml",
    "models/dfine-l.toml",
    "models/dfine-m.toml",
    "models/dfine-mini.toml",
    "models/dfine-n.toml",
    "models/dfine-s.toml",
    "models/dfine-x.toml",
    "models/rtdetrv2-mini.toml",
    "models/rtdetrv2-r101.toml",
    "models/rtdetrv2-r18.toml",
    "models/rtdetrv2-r34.toml",
    "models/rtdetrv2-r50-m.toml",
    "models/rtdetrv2-r50.toml",
    "paper/detectors.toml",
    "recipes/baseline.toml",
    "recipes/deim.toml",
    "recipes/official/baseline-dfine-l.toml",
    "recipes/official/baseline-dfine-m.toml",
    "recipes/official/baseline-dfine-n.toml",
    "recipes/official/baseline-dfine-s.toml",
    "recipes/official/baseline-dfine-x.toml",
    "recipes/official/baseline-rtdetrv2-r101.toml",
    "recipes/official/baseline-rtdetrv2-r18.toml",
    "recipes/official/baseline-rtdetrv2-r34.toml",
    "recipes/official/baseline-rtdetrv2-r50-m.toml",
    "recipes/official/baseline-rtdetrv2-r50.toml",
    "recipes/official/common-baseline-dfine.toml",
    "recipes/official/common-baseline-rtdetrv2.toml",
    "recipes/official/common-deim-dfine.toml",
    "recipes/official/common-deim-rtdetrv2.toml",
    "recipes/official/common.toml",
    "recipes/official/deim-dfine-l.toml",
    "recipes/official/deim-dfine-m.toml",
    "recipes/official/deim-dfine-n.toml",
    "recipes/official/deim-dfine-s.toml",
    "recipes/official/deim-dfine-x.toml",
    "recipes/official/deim-rtdetrv2-r101.toml",
    "recipes/official/deim-rtdetrv2-r18.toml",
    "recipes/official/deim-rtdetrv2-r34.toml",
    "recipes/official/deim-rtdetrv2-r50-m.toml",
    "recipes/official/deim-rtdetrv2-r50.toml",
];

/// The text of a file, by its path below [`ROOT`].
pub(crate) fn text(path: &Path) -> Option<&'static str> {
    let inside = path.strip_prefix(ROOT).ok()?;
    FILES.iter().find(|(name, _)| Path::new(name) == inside).map(|(_, text)| *text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parts::toml_files_below;

    #[test]
    fn the_binary_carries_the_folder_as_it_is() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../experiments");
        let mut found = vec!["paper/detectors.toml".to_owned()];
        for part in ["models", "recipes"] {
            let files = toml_files_below(&folder.join(part)).expect("readable");
            found.extend(files.into_iter().map(|file| {
                let inside = file.strip_prefix(&folder).expect("below the folder");
                inside.to_string_lossy().into_owned()
            }));
        }
        found.sort();
        let carried: Vec<&str> = FILES.iter().map(|(path, _)| *path).collect();
        assert_eq!(carried, found, "list every part of `experiments` in embedded.rs");
        for (path, text) in FILES {
            let written = std::fs::read_to_string(folder.join(path)).expect("readable");
            assert_eq!(*text, written, "{path}");
        }
    }
}
