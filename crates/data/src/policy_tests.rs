//! The epoch policy and the properties every augmented sample has.

use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::dataset::open;
use crate::dataset::{Dataset, Truth};
use crate::sample::Image;
use crate::transforms::iou_crop::IouCrop;
use crate::transforms::mosaic::merge;
use crate::transforms::zoom_out::ZoomOut;

/// A small, fast configuration: dense from 2 to 4, strong until 6, plain until 8.
fn config() -> Config {
    let mut config = Config { epochs: 8, ..Config::default() };
    config.schedule.augment_start = 2;
    config.schedule.flat_epoch = Some(4);
    config.schedule.stop_epoch = Some(6);
    config.data.input_size = 64;
    config.data.batch_size = 4;
    config.data.synthetic.scene_size = 96;
    config.data.synthetic.train_images = 20;
    config.augment.mosaic_tile = 32;
    config.augment.multi_scale_repeat = 1;
    config
}

fn train(config: &Config) -> Arc<dyn Dataset> {
    open(&config.data, None).unwrap().train
}

/// One image without boxes whose bytes say which operations ran on it.
struct White;

impl Dataset for White {
    fn len(&self) -> usize {
        1
    }
    fn sample(&self, _: usize) -> Result<Arc<Sample>, DataError> {
        let image = Image { width: 64, height: 64, pixels: vec![200; 64 * 64 * 3] };
        let boxes = vec![[8.0, 8.0, 56.0, 56.0]];
        Ok(Arc::new(Sample {
            image,
            boxes,
            labels: vec![0],
            image_id: 9,
            original_size: [64, 64],
            dropped_boxes: 0,
        }))
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

/// Which of mosaic (several boxes), photometric (brightness) and zoom-out or crop (another box)
/// are ever seen in an epoch.
fn seen(augment: Augment, epoch: u32) -> [bool; 3] {
    let mut config = config();
    config.augment = Augment { flip: 0.0, mosaic_tile: 32, multi_scale_repeat: 0, ..augment };
    let mut seen = [false; 3];
    for seed in 0..40 {
        let sample = Policy::new(&config, seed).unwrap().sample(&White, epoch, 0).unwrap();
        let mosaic = sample.labels.len() > 1;
        seen[0] |= mosaic;
        seen[1] |= !sample.image.pixels.iter().all(|&value| value == 200 || value == 0);
        seen[2] |= !mosaic && sample.boxes != [[8.0, 8.0, 56.0, 56.0]];
    }
    seen
}

#[test]
fn each_phase_has_its_operations_and_no_others() {
    let all = Augment { mosaic: 0.5, ..Augment::default() };
    for epoch in [0, 1, 6, 7, 100] {
        assert_eq!(seen(all.clone(), epoch), [false; 3], "epoch {epoch}");
    }
    for epoch in [2, 3] {
        assert_eq!(seen(all.clone(), epoch), [true; 3], "epoch {epoch}");
    }
    for epoch in [4, 5] {
        assert_eq!(seen(all.clone(), epoch), [false, true, true], "epoch {epoch}");
    }
}

#[test]
fn a_mosaic_is_neither_zoomed_out_nor_cropped_but_distorted() {
    let augment = Augment { mosaic: 1.0, zoom_out: 1.0, iou_crop: 1.0, ..Augment::default() };
    assert_eq!(seen(augment, 3), [true, true, false]);
}

#[test]
fn mixup_and_multi_scale_follow_the_epochs() {
    let mut config = config();
    config.augment.mixup = 1.0;
    let policy = Policy::new(&config, 5).unwrap();
    for epoch in 0..8 {
        let mut sizes = std::collections::BTreeSet::new();
        for step in 0..20 {
            let target =
                |index: u32| crate::sample::Target { labels: vec![index], boxes: vec![[0.5; 4]] };
            let batch = Batch {
                images: vec![0.0; 2 * 3 * 64 * 64].into(),
                bytes: None,
                size: 64,
                targets: vec![target(0), target(1)],
                image_ids: vec![0, 1],
                original_sizes: vec![[64, 64]; 2],
                dropped_boxes: 0,
            };
            let out = policy.batch(batch, epoch, step);
            assert_eq!(out.images.len(), 2 * 3 * out.size * out.size);
            let mixed = out.targets[0].labels == [0, 1] && out.targets[1].labels == [1, 0];
            assert_eq!(mixed, (2..4).contains(&epoch), "epoch {epoch}");
            sizes.insert(out.size);
        }
        let expected: &[usize] = if epoch < 6 { &[32, 64] } else { &[64] };
        let sizes: Vec<_> = sizes.into_iter().collect();
        assert!(expected.iter().all(|size| sizes.contains(size)), "epoch {epoch}: {sizes:?}");
        assert_eq!(sizes.len() > 1, epoch < 6, "epoch {epoch}: {sizes:?}");
    }
}

#[test]
fn bad_probabilities_and_sizes_are_refused_by_key() {
    let mut bad = config();
    bad.augment.zoom_out = 1.5;
    assert!(Policy::new(&bad, 0).unwrap_err().to_string().contains("augment.zoom_out"));
    let mut small = config();
    small.data.input_size = 32;
    assert!(Policy::new(&small, 0).unwrap_err().to_string().contains("data.input_size"));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 120, ..ProptestConfig::default() })]

    /// Whatever is drawn: boxes inside, at least a pixel, one label each; same draw, same sample.
    #[test]
    fn every_sample_is_sound_and_repeatable(seed: u64, epoch in 0_u32..8, index in 0_usize..20) {
        let config = config();
        let set = train(&config);
        let policy = Policy::new(&config, seed).unwrap();
        let sample = policy.sample(&*set, epoch, index).unwrap();
        prop_assert_eq!((sample.image.width, sample.image.height), (64, 64));
        prop_assert_eq!(sample.image.pixels.len(), 64 * 64 * 3);
        prop_assert_eq!(sample.boxes.len(), sample.labels.len());
        prop_assert_eq!(sample.image_id, index as i64 + 1);
        for &[x1, y1, x2, y2] in &sample.boxes {
            prop_assert!(x1 >= 0.0 && y1 >= 0.0 && x2 <= 64.0 && y2 <= 64.0);
            prop_assert!(x2 - x1 >= 1.0 && y2 - y1 >= 1.0);
        }
        prop_assert_eq!(policy.sample(&*set, epoch, index).unwrap(), sample);
    }

    /// A crop or a zoom-out never makes a box larger, and every label stays with its box.
    #[test]
    fn boxes_never_grow_and_keep_their_labels(seed: u64, index in 0_usize..20) {
        let set = train(&config());
        let source = set.sample(index).unwrap();
        // The label names the box, so a label that strays is noticed.
        let mut sample = Sample::clone(&source);
        sample.labels = (0..sample.boxes.len() as u32).collect();
        let area = |b: &[f32; 4]| (b[2] - b[0]) * (b[3] - b[1]);
        let mut draws = Draws::new(seed, "test", &[]);
        let zoom_out = ZoomOut::draw(96, 96, 0.5, &mut draws);
        let mut boxes = sample.boxes.clone();
        if let Some(zoom) = &zoom_out {
            zoom.shift(&mut boxes);
        }
        let mut course = Course { zoom_out, flip: draws.chance(0.5), ..Course::default() };
        let canvas = course.frame(&sample.image);
        course.crop = IouCrop::draw([canvas.width, canvas.height], &boxes, 0.8, &mut draws);
        let seen = course.frame(&sample.image);
        let sample = course.apply(sample, 40);
        let scale = (40.0 / seen.width as f32) * (40.0 / seen.height as f32);
        for (rect, &label) in sample.boxes.iter().zip(&sample.labels) {
            let before = area(&source.boxes[label as usize]) * scale;
            prop_assert!(area(rect) <= before * 1.001 + 1e-2, "{before} became {rect:?}");
        }
    }

    /// The hull of a turned box holds its middle and stays inside the canvas.
    #[test]
    fn a_mosaic_keeps_boxes_inside_and_labels_in_order(seed: u64, index in 0_usize..17) {
        let set = train(&config());
        let tiles: Vec<_> = (index..index + 4).map(|i| set.sample(i).unwrap()).collect();
        let merged = merge(&[&tiles[0], &tiles[1], &tiles[2], &tiles[3]], 32);
        let labels: Vec<u32> = tiles.iter().flat_map(|tile| tile.labels.clone()).collect();
        prop_assert_eq!(&merged.labels, &labels);
        let affine = Affine::draw(64, 64, &mut Draws::new(seed, "mosaic", &[]));
        prop_assert!(affine.degrees.abs() <= 10.0 && (0.5..=1.5).contains(&affine.scale));
        prop_assert!(affine.shift.iter().all(|shift| shift.abs() <= 6));
        let out = affine.apply(merged);
        prop_assert_eq!(&out.labels, &labels);
        for rect in &out.boxes {
            prop_assert!(rect.iter().all(|edge| (0.0..=64.0).contains(edge)));
        }
    }
}

#[test]
fn a_mosaic_does_not_depend_on_which_samples_were_made_before() {
    for source in [MosaicSource::Others, MosaicSource::Cache, MosaicSource::Itself] {
        let mut config = config();
        config.augment =
            Augment { mosaic: 0.8, mosaic_source: source, mosaic_cache: 3, ..config.augment };
        let set = train(&config);
        let fresh =
            |epoch, index| Policy::new(&config, 8).unwrap().sample(&*set, epoch, index).unwrap();
        let policy = Policy::new(&config, 8).unwrap();
        // Backwards, from one epoch to the other and back.
        for epoch in [3, 2, 3] {
            for index in (0..set.len()).rev() {
                let found = policy.sample(&*set, epoch, index).unwrap();
                assert_eq!(found, fresh(epoch, index), "{source:?}, epoch {epoch}, #{index}");
            }
        }
    }
}

#[test]
fn the_sources_of_a_mosaic_are_what_they_say() {
    let others = |source, index| {
        let mut config = config();
        config.augment = Augment { mosaic: 1.0, mosaic_source: source, ..config.augment };
        Policy::new(&config, 8).unwrap().mosaic_others(20, 3, index).0
    };
    let order = epoch_order(8, 3, 20);
    assert_eq!(others(MosaicSource::Itself, 5), [5; 3]);
    assert_eq!(others(MosaicSource::Cache, order[0]), [order[0]; 3]);
    for (place, &index) in order.iter().enumerate() {
        let before = &order[..=place];
        assert!(others(MosaicSource::Cache, index).iter().all(|other| before.contains(other)));
    }
    assert!(order.iter().any(|&index| {
        !others(MosaicSource::Others, index).iter().all(|other| order[..2].contains(other))
    }));
    let mut config = config();
    config.augment = Augment { mosaic: 1.0, mosaic_source: MosaicSource::Itself, ..config.augment };
    let set = train(&config);
    let labels = &set.sample(2).unwrap().labels;
    let stitched = Policy::new(&config, 8).unwrap().sample(&*set, 3, 2).unwrap();
    assert_eq!(stitched.labels.len() + stitched.dropped_boxes, 4 * labels.len());
    assert!(stitched.labels.iter().all(|label| labels.contains(label)));
}

#[test]
fn every_box_is_either_in_the_batch_or_counted_as_dropped() {
    let mut config = config();
    config.augment = Augment { iou_crop: 1.0, mosaic: 0.0, ..config.augment };
    let dataset = train(&config);
    let policy = Policy::new(&config, 3).unwrap();
    let mut dropped = 0;
    for index in 0..dataset.len() {
        let before = dataset.sample(index).unwrap().boxes.len();
        let sample = policy.sample(&*dataset, 4, index).unwrap();
        assert_eq!(sample.boxes.len() + sample.dropped_boxes, before);
        dropped += sample.dropped_boxes;
    }
    assert!(dropped > 0, "no crop lost a box");

    let loader = crate::loader::TrainLoader::new(dataset, &config, 3, 0).unwrap();
    let batches = loader.batches(4, 0).map(|batch| batch.unwrap().dropped_boxes);
    assert_eq!(batches.sum::<usize>(), dropped);
}

/// A long image and a tall one.
struct Extremes;

impl Dataset for Extremes {
    fn len(&self) -> usize {
        2
    }
    fn sample(&self, index: usize) -> Result<Arc<Sample>, DataError> {
        let [width, height] = if index == 0 { [3000, 30] } else { [30, 3000] };
        Ok(Arc::new(Sample {
            image: Image::black(width, height),
            boxes: vec![],
            labels: vec![],
            image_id: index as i64,
            original_size: [width as u32, height as u32],
            dropped_boxes: 0,
        }))
    }
    fn truth(&self, index: usize) -> Result<Truth, DataError> {
        White.truth(index)
    }
    fn classes(&self) -> &[String] {
        &[]
    }
    fn category_ids(&self) -> &[i64] {
        &[]
    }
    fn manifest(&self) -> &str {
        "extremes"
    }
}

#[test]
fn a_mosaic_of_a_long_and_a_tall_image_is_refused_before_it_takes_the_memory() {
    let mut config = config();
    config.augment.mosaic = 1.0;
    config.augment.mosaic_tile = 128;
    let policy = Policy::new(&config, 0).unwrap();
    let refused =
        (0..4).filter_map(|index| policy.sample(&Extremes, 2 + index % 2, 0).err()).next();
    let error = refused.expect("a mosaic of both shapes").to_string();
    assert!(error.contains("25600 x 25600") && error.contains("augment.mosaic = 0"), "{error}");
}
