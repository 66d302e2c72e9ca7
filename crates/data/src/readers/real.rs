//! A split of image files as training and evaluation see it.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::error::ReadError;
use super::findings::Kind;
use super::index::{Index, IndexImage};
use crate::dataset::{Dataset, Seen, Truth};
use crate::decode::{self, PictureError};
use crate::error::DataError;
use crate::sample::Sample;

/// The images of an [`Index`], decoded when they are asked for.
#[derive(Debug)]
pub struct RealDataset {
    index: Index,
    classes: Vec<String>,
    category_ids: Vec<i64>,
    manifest: String,
    /// The images in which decoding found something.
    seen: Mutex<Seen>,
}

impl RealDataset {
    /// Takes an index, or refuses what would spoil a run.
    pub fn open(index: Index) -> Result<Self, ReadError> {
        if let Some((kind, found)) = index.findings.first_error() {
            return Err(ReadError::Spoiled {
                annotations: index.annotations.clone(),
                kind,
                count: found.count,
                example: found.examples.first().cloned().unwrap_or_default(),
            });
        }
        let classes = index.categories.iter().map(|category| category.name.clone()).collect();
        let category_ids = index.categories.iter().map(|category| category.id).collect();
        let manifest = index.manifest(None);
        Ok(Self { index, classes, category_ids, manifest, seen: Mutex::default() })
    }

    /// A set that only grows is whole after any panic.
    fn locked(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn saw(&self, kind: Kind, index: usize) {
        self.locked().entry(kind).or_default().insert(index);
    }

    /// The annotations, with everything that was found in them.
    pub fn index(&self) -> &Index {
        &self.index
    }

    fn image(&self, index: usize) -> Result<&IndexImage, DataError> {
        let len = self.index.images.len();
        self.index.images.get(index).ok_or(DataError::Index { index, len })
    }
}

impl Dataset for RealDataset {
    fn len(&self) -> usize {
        self.index.images.len()
    }

    fn sample(&self, index: usize) -> Result<Arc<Sample>, DataError> {
        let image = self.image(index)?;
        let path = image.path.as_deref().unwrap_or(Path::new(&image.name));
        let picture = decode::read(path)
            .map_err(|source| DataError::Picture { path: path.to_owned(), source })?;
        let found = [picture.image.width as u32, picture.image.height as u32];
        if let Some(annotated) = image.size
            && annotated != found
        {
            let path = path.to_owned();
            return Err(ReadError::SizeMismatch { path, annotated, found }.into());
        }
        if picture.damage.is_some() {
            self.saw(Kind::DamagedImage, index);
        }
        if picture.header.orientation != 1 {
            self.saw(Kind::Rotated, index);
        }
        for kind in Kind::of_colours(&picture.header).into_iter().filter(|kind| kind.loses()) {
            self.saw(kind, index);
        }
        let (boxes, labels) = image.training_boxes(found).unzip();
        Ok(Arc::new(Sample {
            image: picture.image,
            boxes,
            labels,
            image_id: image.id,
            original_size: found,
            dropped_boxes: 0,
        }))
    }

    fn truth(&self, index: usize) -> Result<Truth, DataError> {
        let image = self.image(index)?;
        let size = match (image.size, &image.path) {
            (Some(size), _) => size,
            (None, path) => {
                let path = path.as_deref().unwrap_or(Path::new(&image.name));
                let header = decode::read_header(path);
                let wrong =
                    |source: PictureError| DataError::Picture { path: path.to_owned(), source };
                header.map_err(wrong)?.size
            }
        };
        Ok(image.truth(size))
    }

    fn classes(&self) -> &[String] {
        &self.classes
    }

    fn category_ids(&self) -> &[i64] {
        &self.category_ids
    }

    fn file_name(&self, index: usize) -> String {
        self.index.images.get(index).map(|image| image.name.clone()).unwrap_or_default()
    }

    fn manifest(&self) -> &str {
        &self.manifest
    }

    fn notes(&self) -> BTreeMap<String, u64> {
        let annotations = self.index.findings.iter().map(|(kind, found)| (kind, found.count));
        let seen = self.locked();
        let images = seen.iter().map(|(kind, images)| (*kind, images.len() as u64));
        annotations.chain(images).map(|(kind, count)| (kind.key(), count)).collect()
    }

    fn seen(&self) -> Seen {
        self.locked().clone()
    }

    fn remember(&self, earlier: &Seen) {
        let mut seen = self.locked();
        for (kind, images) in earlier {
            seen.entry(*kind).or_default().extend(images);
        }
    }
}
