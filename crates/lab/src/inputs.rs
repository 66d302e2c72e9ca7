//! The files that a run reads and its configuration does not name: images, and weights to start from.
//!
//! Their contents belong to a cell's id, as the manifest of the data set and the hash of the weights.
//! Where they lie does not: it is told on the command line and written down as provenance.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use deim_data::Place;
use deim_spec::Config;
use deim_spec::config::{Data, Pretrained, PretrainedPart, Source};
use deim_train::pretrained;

use crate::error::LabError;

/// What the command line gives.
#[derive(Clone, Debug, Default)]
pub struct Inputs {
    pub data: Option<Place>,
    pub weights: Vec<WeightsFile>,
    /// The manifest of `data`, once it was read.
    manifest: Arc<OnceLock<String>>,
}

/// A file of weights and what identifies it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WeightsFile {
    pub path: PathBuf,
    pub blake3: String,
}

impl WeightsFile {
    /// Reads the whole file for its hash.
    pub fn read(path: &Path) -> Result<Self, LabError> {
        Ok(Self { path: path.to_owned(), blake3: pretrained::hash(path)? })
    }
}

/// What a row starts from, if anything.
pub(crate) fn starts_from(config: &Config) -> Option<&Pretrained> {
    config.pretrained.as_ref().filter(|one| one.part != PretrainedPart::None)
}

impl Inputs {
    pub fn new(data: Option<Place>, weights: Vec<WeightsFile>) -> Self {
        Self { data, weights, manifest: Arc::default() }
    }

    /// The configuration with everything decided: the hash of the weights it starts from, and no
    /// trace of weights that it does not start from.
    pub fn settle(&self, config: &Config) -> Result<Config, LabError> {
        let pretrained = match starts_from(config) {
            None => None,
            Some(known @ Pretrained { blake3: Some(_), .. }) => Some(known.clone()),
            Some(open) => Some(Pretrained { blake3: Some(self.hash_for(config)?), ..open.clone() }),
        };
        Ok(Config { pretrained, ..config.clone() })
    }

    /// The hash of the only file, or of the only one of several that has the row's architecture.
    fn hash_for(&self, config: &Config) -> Result<String, LabError> {
        match self.weights.as_slice() {
            [one] => Ok(one.blake3.clone()),
            [] => Err(LabError::Input(
                "this recipe starts from pretrained weights (`pretrained.part`): add --pretrained \
                 FILE, or start from random ones with --set pretrained.part=none"
                    .to_owned(),
            )),
            several => {
                let paths: Vec<&Path> = several.iter().map(|file| file.path.as_path()).collect();
                match pretrained::fitting(config, &paths)?.as_slice() {
                    [at] => Ok(several[*at].blake3.clone()),
                    fitting => Err(LabError::Input(format!(
                        "of the {} files of --pretrained, {} fit a row's architecture: expected \
                         one, or its hash in `pretrained.blake3`",
                        several.len(),
                        if fitting.is_empty() { "none".into() } else { fitting.len().to_string() },
                    ))),
                }
            }
        }
    }

    /// The file that a settled configuration starts from.
    pub fn weights_of(&self, config: &Config) -> Result<Option<PathBuf>, LabError> {
        let Some(hash) = starts_from(config).and_then(|one| one.blake3.as_ref()) else {
            return Ok(None);
        };
        let found = self.weights.iter().find(|file| file.blake3 == *hash);
        found.map(|file| Some(file.path.clone())).ok_or_else(|| {
            let given: Vec<String> = self
                .weights
                .iter()
                .map(|file| format!("{} has {}", file.path.display(), short(&file.blake3)))
                .collect();
            LabError::Input(format!(
                "a cell starts from the weights of blake3 {hash}: add --pretrained FILE; {}",
                if given.is_empty() { "none was given".into() } else { given.join(", ") }
            ))
        })
    }

    /// The manifest of a data set; a folder is read once, however many rows and plans ask.
    pub fn manifest(&self, data: &Data) -> Result<String, LabError> {
        if data.source == Source::Synthetic {
            return Ok(deim_data::open(data, None)?.manifest());
        }
        if let Some(known) = self.manifest.get() {
            return Ok(known.clone());
        }
        let manifest = deim_data::open(data, self.data.as_ref())?.manifest();
        Ok(self.manifest.get_or_init(|| manifest).clone())
    }

    /// Refuses what these configurations have no use for.
    pub fn check_used<'a>(
        &self,
        mut configs: impl Iterator<Item = &'a Config> + Clone,
    ) -> Result<(), LabError> {
        if let Some(file) = self.weights.first()
            && configs.clone().all(|config| starts_from(config).is_none())
        {
            return Err(LabError::Input(format!(
                "--pretrained {}: no row starts from a file; --set pretrained.part=backbone makes \
                 them",
                file.path.display()
            )));
        }
        match &self.data {
            Some(place) if configs.all(|config| config.data.source == Source::Synthetic) => {
                let folder = place.folder.clone();
                Err(deim_data::DataError::PlaceNotUsed { folder }.into())
            }
            _ => Ok(()),
        }
    }

    /// Where the images of a row are.
    pub fn place_of(&self, data: &Data) -> Option<Place> {
        self.data.clone().filter(|_| data.source == Source::Folder)
    }
}

pub(crate) fn short(hash: &str) -> &str {
    hash.get(..8).unwrap_or(hash)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(part: Option<PretrainedPart>, blake3: Option<&str>) -> Config {
        let blake3 = blake3.map(str::to_owned);
        Config { pretrained: part.map(|part| Pretrained { part, blake3 }), ..Config::default() }
    }

    fn inputs(hashes: &[&str]) -> Inputs {
        let file = |hash: &&str| WeightsFile {
            path: format!("{hash}.pth").into(),
            blake3: (*hash).to_owned(),
        };
        Inputs::new(None, hashes.iter().map(file).collect())
    }

    #[test]
    fn a_recipe_that_starts_from_a_file_gets_its_hash_and_no_other_recipe_does() {
        let backbone = Some(PretrainedPart::Backbone);
        let settled = inputs(&["aa"]).settle(&config(backbone, None)).unwrap();
        assert_eq!(settled, config(backbone, Some("aa")));
        assert_eq!(inputs(&["aa"]).settle(&config(None, None)).unwrap(), Config::default());
        // Saying that nothing is used is the same as saying nothing.
        let none = config(Some(PretrainedPart::None), None);
        assert_eq!(inputs(&[]).settle(&none).unwrap(), Config::default());
        // What is pinned needs the file only when it trains.
        let pinned = config(backbone, Some("bb"));
        assert_eq!(inputs(&["aa"]).settle(&pinned).unwrap(), pinned);
        let error = inputs(&["aa"]).weights_of(&pinned).unwrap_err().to_string();
        assert!(error.contains("blake3 bb") && error.contains("aa.pth"), "{error}");
        let path = inputs(&["aa", "bb"]).weights_of(&pinned).unwrap();
        assert_eq!(path, Some("bb.pth".into()));
    }

    #[test]
    fn a_recipe_without_its_file_is_told_what_to_do() {
        let open = config(Some(PretrainedPart::Detector), None);
        let error = inputs(&[]).settle(&open).unwrap_err().to_string();
        assert!(error.contains("--pretrained FILE"), "{error}");
    }

    #[test]
    fn files_that_nothing_reads_are_refused() {
        let synthetic = Config::default();
        let mut folder = Config::default();
        folder.data.source = Source::Folder;
        let with = Inputs::new(Some(Place::default()), vec![]);
        assert!(with.check_used([&synthetic].into_iter()).is_err());
        assert!(with.check_used([&synthetic, &folder].into_iter()).is_ok());
        let open = config(Some(PretrainedPart::Backbone), None);
        assert!(inputs(&["aa"]).check_used([&synthetic].into_iter()).is_err());
        assert!(inputs(&["aa"]).check_used([&synthetic, &open].into_iter()).is_ok());
    }
}
