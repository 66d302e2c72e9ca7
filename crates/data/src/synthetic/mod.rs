//! Scenes drawn from a seed: textured shapes of many sizes on a cluttered backdrop.
//!
//! A scene is a function of `(data.synthetic.seed, split, index)` and the sizes in the
//! configuration, made of additions, multiplications and square roots only, so that it is the same
//! on every machine. Nothing is stored: the manifest is the hash of what the pixels follow from.

mod backdrop;
mod scene;
mod shapes;

use std::sync::{Arc, OnceLock};

use deim_spec::config::Synthetic;

pub use shapes::{CLASSES, Class, Outline, Texture};

use crate::dataset::{Dataset, Truth, TruthObject};
use crate::error::DataError;
use crate::sample::Sample;

/// Changes whenever the same configuration gives other pixels or boxes.
pub const GENERATOR_VERSION: u32 = 1;

/// Decoded scenes kept in memory, at most, for each split.
const CACHE_BYTES: usize = 256 << 20;
const SMALLEST_SCENE: usize = 64;
const LARGEST_SCENE: usize = 4096;

/// The half of the scenes that a data set shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Split {
    Train,
    Val,
}

impl Split {
    /// As in the configuration's keys.
    pub fn name(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Val => "val",
        }
    }

    /// The name of its stream of draws.
    fn stream(self) -> &'static str {
        match self {
            Self::Train => "synthetic-train",
            Self::Val => "synthetic-val",
        }
    }
}

/// One split of the synthetic scenes, drawn when first asked for and then kept.
pub struct SyntheticScenes {
    config: Synthetic,
    split: Split,
    images: usize,
    classes: Vec<String>,
    category_ids: Vec<i64>,
    manifest: String,
    /// The first scenes, as many as `CACHE_BYTES` hold; later ones are drawn each time.
    kept: Vec<OnceLock<Drawn>>,
}

#[derive(Clone)]
struct Drawn {
    sample: Arc<Sample>,
    truth: Truth,
}

impl SyntheticScenes {
    /// Draws nothing yet.
    pub fn new(config: &Synthetic, split: Split) -> Result<Self, DataError> {
        check(config)?;
        let images = match split {
            Split::Train => config.train_images,
            Split::Val => config.val_images,
        };
        let bytes = config.scene_size * config.scene_size * 3;
        Ok(Self {
            config: config.clone(),
            split,
            images,
            classes: CLASSES.iter().map(|class| class.name.to_owned()).collect(),
            category_ids: (1..=CLASSES.len() as i64).collect(),
            manifest: manifest(config, split),
            kept: std::iter::repeat_with(OnceLock::new)
                .take(images.min(CACHE_BYTES / bytes))
                .collect(),
        })
    }

    fn drawn(&self, index: usize) -> Result<Drawn, DataError> {
        if index >= self.images {
            return Err(DataError::Index { index, len: self.images });
        }
        let Some(slot) = self.kept.get(index) else { return self.draw(index) };
        if let Some(drawn) = slot.get() {
            return Ok(drawn.clone());
        }
        // Two threads may draw the same scene at once; both draw the same.
        let drawn = self.draw(index)?;
        Ok(slot.get_or_init(|| drawn).clone())
    }

    fn draw(&self, index: usize) -> Result<Drawn, DataError> {
        let scene = scene::draw(&self.config, self.split, index)?;
        let image_id = index as i64 + 1;
        let size = [self.config.scene_size as u32; 2];
        let objects = scene.objects.iter().map(|object| {
            let [x1, y1, x2, y2] = object.bounds.map(f64::from);
            TruthObject {
                bbox: [x1, y1, x2 - x1, y2 - y1],
                class: object.class,
                area: f64::from(object.area),
                crowd: false,
            }
        });
        let truth = Truth { image_id, size, objects: objects.collect() };
        let sample = Sample {
            image: scene.image,
            boxes: scene
                .objects
                .iter()
                .map(|object| object.bounds.map(|edge| edge as f32))
                .collect(),
            labels: scene.objects.iter().map(|object| object.class).collect(),
            image_id,
            original_size: size,
            dropped_boxes: 0,
        };
        Ok(Drawn { sample: Arc::new(sample), truth })
    }
}

impl Dataset for SyntheticScenes {
    fn len(&self) -> usize {
        self.images
    }

    fn sample(&self, index: usize) -> Result<Arc<Sample>, DataError> {
        Ok(self.drawn(index)?.sample)
    }

    fn truth(&self, index: usize) -> Result<Truth, DataError> {
        Ok(self.drawn(index)?.truth)
    }

    fn classes(&self) -> &[String] {
        &self.classes
    }

    fn category_ids(&self) -> &[i64] {
        &self.category_ids
    }

    fn manifest(&self) -> &str {
        &self.manifest
    }
}

/// The hash of everything that the scenes of a split follow from.
fn manifest(config: &Synthetic, split: Split) -> String {
    // Written out field by field, so that a new one cannot be forgotten here.
    let Synthetic { seed, train_images, val_images, scene_size, min_objects, max_objects } = config;
    let images = match split {
        Split::Train => train_images,
        Split::Val => val_images,
    };
    let split = split.name();
    let text = format!(
        "synthetic scenes {GENERATOR_VERSION}\nsplit {split}\nseed {seed}\nimages {images}\n\
         scene_size {scene_size}\nobjects {min_objects} to {max_objects}\n"
    );
    blake3::hash(text.as_bytes()).to_hex().to_string()
}

fn check(config: &Synthetic) -> Result<(), DataError> {
    for (key, images) in [
        ("data.synthetic.train_images", config.train_images),
        ("data.synthetic.val_images", config.val_images),
    ] {
        if images == 0 {
            return Err(DataError::config(key, "at least 1 image", 0));
        }
    }
    if !(SMALLEST_SCENE..=LARGEST_SCENE).contains(&config.scene_size) {
        let expected = format!("from {SMALLEST_SCENE} to {LARGEST_SCENE} pixels");
        return Err(DataError::config("data.synthetic.scene_size", expected, config.scene_size));
    }
    if config.min_objects > config.max_objects {
        let expected = format!("at most `data.synthetic.max_objects` = {}", config.max_objects);
        return Err(DataError::config("data.synthetic.min_objects", expected, config.min_objects));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
