//! A preview shows what training sees, and says what it lost.

use super::*;
use crate::loader::TrainLoader;
use crate::transforms::tensor::{target, write_chw};

fn config() -> Config {
    let mut config = Config { epochs: 20, ..Config::default() };
    (config.data.batch_size, config.data.input_size) = (4, 96);
    (config.data.synthetic.train_images, config.data.synthetic.scene_size) = (10, 96);
    config.augment.mosaic_tile = 48;
    config.augment.mixup = 1.0;
    config
}

fn scenes(config: &Config) -> Arc<dyn Dataset> {
    crate::open(&config.data, None).unwrap().train
}

fn request(transform: Transform) -> Request {
    let epoch = config().phases().augment_start;
    Request { transform, seed: 3, epoch, first: 1, count: 4 }
}

#[test]
fn every_transform_shows_its_images_with_boxes_inside() {
    let config = config();
    let dataset = scenes(&config);
    for transform in Transform::ALL {
        let shown = preview(&dataset, &config, request(transform)).unwrap();
        assert_eq!(shown.len(), 4, "{transform}");
        assert_eq!(transform.name().parse(), Ok(transform));
        assert!(shown.iter().any(|shown| !shown.boxes.is_empty()), "{transform}");
        for Shown { image, boxes, labels, own, .. } in &shown {
            assert_eq!(image.pixels.len(), image.width * image.height * 3);
            assert_eq!(boxes.len(), labels.len());
            assert!(*own <= boxes.len());
            for [x1, y1, x2, y2] in boxes {
                // A batch holds shares of the image, whose way back is rounded.
                let (right, bottom) = (image.width as f32 + 1e-3, image.height as f32 + 1e-3);
                assert!(-1e-3 <= *x1 && x1 < x2 && *x2 <= right, "{transform}: {x1} {x2}");
                assert!(-1e-3 <= *y1 && y1 < y2 && *y2 <= bottom, "{transform}: {y1} {y2}");
            }
        }
    }
}

#[test]
fn a_batch_is_the_one_that_the_loader_gives_and_names_its_images() {
    let config = config();
    let dataset = scenes(&config);
    let request = request(Transform::Batch);
    let shown = preview(&dataset, &config, request).unwrap();
    let loader = TrainLoader::new(Arc::clone(&dataset), &config, request.seed, 0).unwrap();
    let batch = loader.batches(request.epoch, 1).next().unwrap().unwrap();
    for (place, shown) in shown.iter().enumerate() {
        assert_eq!(dataset.sample(shown.index).unwrap().image_id, batch.image_ids[place]);
        assert_eq!(shown.labels, batch.targets[place].labels);
        assert_eq!(shown.image.width, batch.size);
        // Mixup is certain here, so that a neighbour's boxes come last.
        let before = &shown_in(&dataset, &config, request, shown.index);
        assert_eq!(shown.own, before.boxes.len());
        assert_eq!(shown.labels[..shown.own], before.labels);
    }
    let beyond = Request { first: 2, ..request };
    assert!(matches!(
        preview(&dataset, &config, beyond),
        Err(DataError::Step { step: 2, steps: 2 })
    ));
}

fn shown_in(
    dataset: &Arc<dyn Dataset>,
    config: &Config,
    request: Request,
    index: usize,
) -> crate::sample::Sample {
    let policy = Policy::new(config, request.seed).unwrap();
    policy.sample(&**dataset, request.epoch, index).unwrap()
}

#[test]
fn the_policy_is_that_of_the_epoch_and_the_transforms_have_its_draws() {
    let mut config = config();
    let dataset = scenes(&config);
    let shown = preview(&dataset, &config, request(Transform::Policy)).unwrap();
    let sample = shown_in(&dataset, &config, request(Transform::Policy), 2);
    assert_eq!((&shown[1].image, &shown[1].boxes), (&sample.image, &sample.boxes));
    // A policy of nothing but certain mosaics.
    let mut dense = config.clone();
    (dense.augment.mosaic, dense.augment.photometric, dense.augment.flip) = (1.0, 0.0, 0.0);
    let policy = preview(&dataset, &dense, request(Transform::Policy)).unwrap();
    let mosaic = preview(&dataset, &dense, request(Transform::Mosaic)).unwrap();
    for (mosaic, policy) in mosaic.iter().zip(&policy) {
        assert_eq!((&mosaic.image, &mosaic.boxes), (&policy.image, &policy.boxes));
    }
    // A policy of nothing but a certain crop, flipped where a flip is drawn.
    config.augment.mosaic = 0.0;
    config.augment.photometric = 0.0;
    config.augment.zoom_out = 0.0;
    config.augment.flip = 0.0;
    config.augment.iou_crop = 1.0;
    let cropped = preview(&dataset, &config, request(Transform::IouCrop)).unwrap();
    let policy = preview(&dataset, &config, request(Transform::Policy)).unwrap();
    for (cropped, policy) in cropped.iter().zip(&policy) {
        assert_eq!((&cropped.image, &cropped.boxes), (&policy.image, &policy.boxes));
        assert_eq!(cropped.dropped, policy.dropped);
    }
}

#[test]
fn mixup_shows_both_images_and_whose_boxes_are_whose() {
    let config = config();
    let dataset = scenes(&config);
    let plain = preview(&dataset, &config, request(Transform::Resize)).unwrap();
    let mixed = preview(&dataset, &config, request(Transform::Mixup)).unwrap();
    for (place, shown) in mixed.iter().enumerate() {
        let other = &plain[(place + 3) % 4];
        assert_eq!(shown.own, plain[place].boxes.len());
        assert_eq!(shown.labels, [plain[place].labels.clone(), other.labels.clone()].concat());
        assert!(shown.drawn.ends_with(&format!("#{}", other.index)), "{}", shown.drawn);
    }
}

#[test]
fn pixels_and_boxes_survive_the_way_through_a_batch() {
    let config = config();
    let sample = scenes(&config).sample(0).unwrap();
    let side = sample.image.width;
    let mut images = vec![0.0; 3 * side * side];
    write_chw(&sample.image, &mut images);
    let batch = crate::sample::Batch {
        images: images.into(),
        bytes: None,
        size: side,
        targets: vec![target(&sample)],
        image_ids: vec![1],
        original_sizes: vec![sample.original_size],
        dropped_boxes: 0,
    };
    let (image, target) = stage::picture(&batch, 0);
    assert_eq!((image, &target.labels), (sample.image.clone(), &sample.labels));
    for (found, expected) in target.boxes.iter().zip(&sample.boxes) {
        assert!(found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-3));
    }
}

#[test]
fn an_image_that_is_not_there_is_refused() {
    let config = config();
    let request = Request { first: 10, ..request(Transform::None) };
    let error = preview(&scenes(&config), &config, request).err().unwrap().to_string();
    assert!(error.contains("10"), "{error}");
    assert!("mosiac".parse::<Transform>().unwrap_err().contains("mosaic"));
}
