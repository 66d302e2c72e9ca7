//! What must hold for every scene.

use super::*;

fn scenes(split: Split) -> SyntheticScenes {
    SyntheticScenes::new(&Synthetic::default(), split).unwrap()
}

/// The hash of the first scenes of both splits, pixels and boxes.
fn pixels_hash() -> String {
    let mut hasher = blake3::Hasher::new();
    for split in [Split::Train, Split::Val] {
        let scenes = scenes(split);
        for index in 0..8 {
            let sample = scenes.sample(index).unwrap();
            hasher.update(&sample.image.pixels);
            for (rect, label) in sample.boxes.iter().zip(&sample.labels) {
                for edge in rect {
                    hasher.update(&edge.to_le_bytes());
                }
                hasher.update(&label.to_le_bytes());
            }
        }
    }
    hasher.finalize().to_hex().to_string()
}

#[test]
fn other_pixels_need_another_generator_version() {
    // Ledgers identify scenes by GENERATOR_VERSION alone. When this hash changes, count it up.
    let expected = "aa152645dca4af1bf16c8b24bd913fb0e38fe3efcd60b615e37c2e72c96e2c1a";
    assert_eq!((GENERATOR_VERSION, pixels_hash().as_str()), (1, expected));
}

#[test]
fn train_and_val_share_no_scene_and_seeds_no_scene_either() {
    let other = Synthetic { seed: 1, ..Synthetic::default() };
    let sets = [
        scenes(Split::Train),
        scenes(Split::Val),
        SyntheticScenes::new(&other, Split::Train).unwrap(),
    ];
    let mut images: Vec<_> = sets
        .iter()
        .flat_map(|set| (0..40).map(|index| set.sample(index).unwrap().image.pixels.clone()))
        .collect();
    images.sort();
    images.dedup();
    assert_eq!(images.len(), 120);
}

#[test]
fn sizes_and_classes_are_mixed_and_boxes_hold_visible_objects() {
    let scenes = scenes(Split::Train);
    let mut sizes = [0; 3];
    let mut classes = [0; CLASSES.len()];
    let mut counts = Vec::new();
    for index in 0..200 {
        let truth = scenes.truth(index).unwrap();
        let sample = scenes.sample(index).unwrap();
        assert_eq!(truth.objects.len(), sample.boxes.len());
        counts.push(truth.objects.len());
        for (object, rect) in truth.objects.iter().zip(&sample.boxes) {
            let [x, y, w, h] = object.bbox;
            assert_eq!([x, y, x + w, y + h].map(|edge| edge as f32), *rect);
            assert!(x >= 0.0 && y >= 0.0 && x + w <= 256.0 && y + h <= 256.0);
            assert!(object.area <= w * h);
            assert!(w.min(h) >= 8.0, "{object:?} is too thin to see");
            let size = usize::from(object.area >= 1024.0) + usize::from(object.area >= 9216.0);
            sizes[size] += 1;
            classes[object.class as usize] += 1;
        }
    }
    let total: i32 = sizes.iter().sum();
    let share = |count: i32| f64::from(count) / f64::from(total);
    assert!((0.08..0.30).contains(&share(sizes[0])), "small {sizes:?}");
    assert!((0.45..0.80).contains(&share(sizes[1])), "medium {sizes:?}");
    assert!((0.08..0.30).contains(&share(sizes[2])), "large {sizes:?}");
    assert!(classes.iter().all(|&count| (0.08..0.18).contains(&share(count))), "{classes:?}");
    assert_eq!(counts.iter().min(), Some(&1));
    assert!(counts.iter().max() > Some(&10), "no scene is crowded: {counts:?}");
}

#[test]
fn the_manifest_follows_what_the_pixels_follow_from() {
    let base = Synthetic::default();
    let of = |config: &Synthetic, split| manifest(config, split);
    let train = of(&base, Split::Train);
    assert_ne!(train, of(&base, Split::Val));
    // More validation scenes leave the training scenes as they are.
    assert_eq!(train, of(&Synthetic { val_images: 7, ..base.clone() }, Split::Train));
    for other in [
        Synthetic { seed: 1, ..base.clone() },
        Synthetic { train_images: 7, ..base.clone() },
        Synthetic { scene_size: 128, ..base.clone() },
        Synthetic { min_objects: 2, ..base.clone() },
        Synthetic { max_objects: 9, ..base },
    ] {
        assert_ne!(train, of(&other, Split::Train));
    }
}

#[test]
fn a_scene_is_the_same_whether_kept_or_drawn_again() {
    let scenes = scenes(Split::Val);
    let first = scenes.sample(3).unwrap();
    assert!(Arc::ptr_eq(&first, &scenes.sample(3).unwrap()), "the scene was drawn twice");
    assert_eq!(*first, *scenes.draw(3).unwrap().sample);
}

#[test]
fn impossible_configurations_are_refused_by_key() {
    let base = Synthetic::default();
    for (config, key) in [
        (Synthetic { train_images: 0, ..base.clone() }, "train_images"),
        (Synthetic { scene_size: 10, ..base.clone() }, "scene_size"),
        (Synthetic { min_objects: 9, max_objects: 3, ..base.clone() }, "min_objects"),
    ] {
        let error = SyntheticScenes::new(&config, Split::Train).err().unwrap().to_string();
        assert!(error.contains(key), "{error}");
    }
    let full = Synthetic { scene_size: 64, min_objects: 40, max_objects: 40, ..base };
    let error = SyntheticScenes::new(&full, Split::Train).unwrap().sample(0).unwrap_err();
    assert!(error.to_string().contains("data.synthetic.min_objects"), "{error}");
}

#[test]
fn other_scene_sizes_work() {
    for scene_size in [64, 128, 640] {
        let config = Synthetic { scene_size, ..Synthetic::default() };
        let sample = SyntheticScenes::new(&config, Split::Train).unwrap().sample(0).unwrap();
        assert_eq!(sample.image.pixels.len(), scene_size * scene_size * 3);
        assert!(!sample.boxes.is_empty());
    }
}
