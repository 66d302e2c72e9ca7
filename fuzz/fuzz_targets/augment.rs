//! The training transforms on images of any size and boxes that training may see.
#![no_main]

use std::sync::Arc;

use arbitrary::Arbitrary;
use deim_data::dataset::{Dataset, Truth};
use deim_data::error::DataError;
use deim_data::readers::Object;
use deim_data::sample::{Image, Sample};
use deim_data::{Policy, TrainLoader};
use deim_spec::Config;
use libfuzzer_sys::fuzz_target;

#[derive(Arbitrary, Debug)]
struct Input {
    seed: u64,
    epoch: u8,
    input_size: u8,
    tile: u8,
    pictures: [Picture; 3],
}

#[derive(Arbitrary, Debug)]
struct Picture {
    width: u8,
    height: u8,
    scale: u8,
    boxes: Vec<[f32; 4]>,
}

#[derive(Debug)]
struct Pictures(Vec<Arc<Sample>>);

impl Dataset for Pictures {
    fn len(&self) -> usize {
        self.0.len()
    }

    fn sample(&self, index: usize) -> Result<Arc<Sample>, DataError> {
        let len = self.len();
        self.0.get(index).cloned().ok_or(DataError::Index { index, len })
    }

    fn truth(&self, index: usize) -> Result<Truth, DataError> {
        Err(DataError::Index { index, len: 0 })
    }

    fn classes(&self) -> &[String] {
        &[]
    }

    fn category_ids(&self) -> &[i64] {
        &[]
    }

    fn manifest(&self) -> &str {
        ""
    }
}

fn sample(id: usize, picture: &Picture) -> Sample {
    // From 1 to 64 pixels a side, one at most eight times the other: a mosaic is as large as its
    // narrowest tile is long.
    let scale = 1 + u32::from(picture.scale % 8);
    let size = [picture.width, picture.height].map(|side| (1 + u32::from(side % 8)) * scale);
    let [width, height] = size.map(|side| side as usize);
    let boxes: Vec<[f32; 4]> = picture
        .boxes
        .iter()
        .take(20)
        .map(|rect| rect.map(f64::from))
        .filter(|bbox| bbox.iter().all(|value| value.is_finite()))
        .map(|bbox| Object { bbox, class: 0, area: 0.0, crowd: false, ignored: false })
        .filter_map(|object| Some(object.training_box(size).ok()?.0))
        .collect();
    Sample {
        image: Image { width, height, pixels: vec![id as u8; width * height * 3] },
        labels: vec![id as u32; boxes.len()],
        boxes,
        image_id: id as i64,
        original_size: size,
        dropped_boxes: 0,
    }
}

fuzz_target!(|input: Input| {
    let pictures = input.pictures.iter().enumerate().map(|(id, p)| Arc::new(sample(id, p)));
    let pictures = Arc::new(Pictures(pictures.collect()));
    let mut config = Config { epochs: 20, ..Config::default() };
    config.data.input_size = usize::from(input.input_size);
    config.data.batch_size = 2;
    config.augment.mosaic_tile = usize::from(input.tile % 40);
    let Ok(policy) = Policy::new(&config, input.seed) else { return };
    let epoch = u32::from(input.epoch % 20);
    for index in 0..pictures.len() {
        let made = policy.sample(&*pictures, epoch, index).expect("every picture is there");
        let side = config.data.input_size;
        assert_eq!((made.image.width, made.image.height), (side, side));
        assert_eq!(made.boxes.len(), made.labels.len());
        for [x1, y1, x2, y2] in &made.boxes {
            let side = side as f32;
            assert!(0.0 <= *x1 && x1 < x2 && *x2 <= side, "{x1} {x2} of {side}");
            assert!(0.0 <= *y1 && y1 < y2 && *y2 <= side, "{y1} {y2} of {side}");
        }
    }
    let loader = TrainLoader::new(pictures, &config, input.seed, 0).expect("two pictures a batch");
    for batch in loader.batches(epoch, 0) {
        let batch = batch.expect("every picture is there");
        assert_eq!(batch.images.len(), 2 * 3 * batch.size * batch.size);
        assert!(batch.images.iter().all(|value| (0.0..=1.0).contains(value)));
        for target in &batch.targets {
            assert_eq!(target.boxes.len(), target.labels.len());
        }
    }
});
