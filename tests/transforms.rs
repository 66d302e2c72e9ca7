//! The training transforms against the official pixels, where these are at hand, and against the
//! hashes of what was found equal to them, where they are not.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use burn::tensor::Device;
use deim_data::transforms::boxes::mirror;
use deim_data::transforms::course::Course;
use deim_data::transforms::iou_crop::IouCrop;
use deim_data::transforms::mosaic::{Affine, merge};
use deim_data::transforms::photometric::{
    adjust_brightness, adjust_contrast, adjust_hue, adjust_saturation,
};
use deim_data::transforms::resize::{resize_image, resize_shorter};
use deim_data::transforms::zoom_out::ZoomOut;
use deim_data::{Draws, Image, Sample, TrainLoader};
use deim_verify::Outcome;

/// The cases need photographs, which cannot be committed; where they lie beside the workspace, they
/// count.
fn collection() -> Option<PathBuf> {
    let all = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/reference/cases/transforms");
    if !all.is_dir() {
        println!("not checked: the whole collection of cases is not here");
        return None;
    }
    Some(all)
}

fn verify(folder: &Path) -> Vec<deim_verify::CaseReport> {
    deim_verify::run(&[folder.to_owned()], &Device::flex()).expect("there are cases").cases
}

#[test]
fn every_official_operation_gives_the_same_pixels_and_boxes() {
    let Some(all) = collection() else { return };
    let reports = verify(&all);
    assert!(reports.len() >= 25, "only {} cases", reports.len());
    for report in &reports {
        assert_eq!(report.outcome, Outcome::Pass, "{}", report.line());
    }
}

/// A copy of a case and its inputs, with one word of a file exchanged or one byte changed.
fn changed(all: &Path, case: &str, change: impl Fn(&Path)) -> Outcome {
    let folder = tempfile::tempdir().unwrap();
    for name in ["images", case] {
        fs::create_dir(folder.path().join(name)).unwrap();
        for file in fs::read_dir(all.join(name)).unwrap() {
            let file = file.unwrap();
            let copy = folder.path().join(name).join(file.file_name());
            fs::write(copy, fs::read(file.path()).unwrap()).unwrap();
        }
    }
    change(folder.path());
    verify(&folder.path().join(case)).remove(0).outcome
}

/// Changes the last byte of an array where it lies in the file; of its first number if it has many.
fn spoil(path: &Path, array: &str) {
    let mut bytes = fs::read(path).unwrap();
    let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let header: serde_json::Value = serde_json::from_slice(&bytes[8..8 + length]).unwrap();
    let entry = &header[array];
    let start = 8 + length + entry["data_offsets"][0].as_u64().unwrap() as usize;
    match entry["dtype"].as_str().unwrap() {
        "U8" => bytes[start] ^= 64,
        "I64" => bytes[start] ^= 1,
        // The top of the exponent: 0 becomes 2, and 0.5 huge.
        "F32" => bytes[start + 3] ^= 0x40,
        "F64" => bytes[start + 7] ^= 0x40,
        other => panic!("{array} has type {other}"),
    }
    fs::write(path, bytes).unwrap();
}

#[test]
fn a_changed_value_of_any_kind_of_case_is_noticed() {
    let Some(all) = collection() else { return };
    for (case, array) in [
        ("affine", "1.1.boxes"),
        ("affine", "0.0.out.sha256"),
        ("brightness", "0.1.out"),
        ("brightness", "factors"),
        ("channel_permutation", "2.0.out.strided5"),
        ("contrast", "0.0.out.sum"),
        ("convert", "table"),
        ("convert", "image_strided"),
        ("convert", "boxes_cxcywh"),
        ("hflip", "1.boxes"),
        ("hflip", "2.out.shape"),
        ("hue", "2.1.out.sha256"),
        ("iou_crop", "0.draws"),
        ("iou_crop", "2.inside"),
        ("iou_crop", "4.sanitized_labels"),
        ("iou_crop", "5.crop_top_left_height_width"),
        ("iou_crop", "8.sanitized_boxes"),
        ("mixup_0", "images"),
        ("mixup_0", "mixed"),
        ("mixup_0", "1.mixup"),
        ("mixup_0", "in.2.labels"),
        ("mixup_1", "2.area"),
        ("mosaic_0", "tiles"),
        ("mosaic_0", "max_hw"),
        ("mosaic_0", "merged.sha256"),
        ("mosaic_0", "final_boxes_cxcywh"),
        ("mosaic_1", "out.sha256"),
        ("mosaic_1", "final_labels"),
        ("mosaic_1", "resized640.boxes"),
        ("multi_scale_nearest", "index_640_to_213"),
        ("multi_scale_nearest", "out56"),
        ("photometric_distort", "3.factors"),
        ("photometric_distort", "0.permutation"),
        ("pipeline_0", "image_u8.sha256"),
        ("pipeline_1", "labels"),
        ("pipeline_2", "boxes_cxcywh"),
        ("resize", "0.r96x160"),
        ("resize", "2.r640.sha256"),
        ("resize", "1.s320.boxes"),
        ("saturation", "2.0.out"),
        ("zoom_out", "1.0.padding_ltrb"),
        ("zoom_out", "0.1.draws"),
    ] {
        let outcome = changed(&all, case, |folder| {
            let inputs = folder.join(case).join("tensors.safetensors");
            // The apply draw comes first and decides nothing: its probability was 1.
            match array.ends_with("draws") {
                true => fs::write(&inputs, shifted(&fs::read(&inputs).unwrap(), array)).unwrap(),
                false => spoil(&inputs, array),
            }
        });
        assert!(matches!(outcome, Outcome::Fail { .. }), "{case} with another {array} passes");
    }
}

/// The file with the third number of an array changed.
fn shifted(bytes: &[u8], array: &str) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let header: serde_json::Value = serde_json::from_slice(&bytes[8..8 + length]).unwrap();
    let start = 8 + length + header[array]["data_offsets"][0].as_u64().unwrap() as usize;
    bytes[start + 8..start + 12].copy_from_slice(&0.75_f32.to_le_bytes());
    bytes
}

#[test]
fn another_order_or_another_parameter_of_a_pipeline_is_noticed() {
    let Some(all) = collection() else { return };
    for (case, from, to) in [
        ("pipeline_0", "\"flip\": true", "\"flip\": false"),
        ("pipeline_0", "\"RandomPhotometricDistort\"", "\"Mosaic2\""),
        ("pipeline_0", "0.6320304870605469", "0.9320304870605469"),
        ("pipeline_1", "62,\n", "42,\n"),
        ("pipeline_1", "\"RandomPhotometricDistort\"", "\"Resize\""),
        ("pipeline_2", "\"top\": 225", "\"top\": 227"),
        ("pipeline_2", "\"RandomZoomOut\"", "\"RandomHorizontalFlip\""),
    ] {
        let outcome = changed(&all, case, |folder| {
            let plan = folder.join(case).join("plan.json");
            let text = fs::read_to_string(&plan).unwrap();
            assert!(text.contains(from), "{case} does not contain {from}");
            fs::write(&plan, text.replacen(from, to, 1)).unwrap();
        });
        assert!(matches!(outcome, Outcome::Fail { .. }), "{case} with {to} passes");
    }
}

/// Blocks of colour with some noise.
fn picture(width: usize, height: usize) -> Image {
    let mut draws = Draws::new(11, "picture", &[width as u64, height as u64]);
    let blocks: Vec<u8> = (0..3 * 64).map(|_| draws.bits() as u8).collect();
    let mut pixels = Vec::with_capacity(width * height * 3);
    for y in 0..height {
        for x in 0..width {
            let block = (y * 8 / height * 8 + x * 8 / width) * 3;
            let noise = draws.bits();
            pixels.extend((0..3).map(|c| blocks[block + c] ^ ((noise >> (8 * c)) as u8 & 31)));
        }
    }
    Image { width, height, pixels }
}

fn sample(width: usize, height: usize) -> Sample {
    Sample {
        image: picture(width, height),
        boxes: vec![[3.0, 5.0, width as f32 * 0.5, height as f32 * 0.75]],
        labels: vec![1],
        image_id: 1,
        original_size: [width as u32, height as u32],
        dropped_boxes: 0,
    }
}

/// Recorded when all official cases passed to the last bit.
#[test]
fn every_operation_still_gives_the_pixels_that_were_equal_to_pillows() {
    let adjusted = |adjust: &dyn Fn(&mut Image)| {
        let mut image = picture(61, 47);
        adjust(&mut image);
        image
    };
    let (wide, tall) = (sample(61, 47), sample(40, 90));
    let mosaic = merge(&[&wide, &tall, &tall, &wide], 32);
    let map = Affine { degrees: 7.5, shift: [3, -2], scale: 1.2 };
    let still = Affine { degrees: 0.0, shift: [3, -2], scale: 0.7 };
    let course = Course {
        zoom_out: Some(ZoomOut { width: 130, height: 101, left: 31, top: 17 }),
        crop: Some(IouCrop { left: 20, top: 11, width: 77, height: 81 }),
        flip: true,
        photometric: None,
    };
    let results = [
        ("larger", resize_image(&wide.image, 96, 96)),
        ("smaller", resize_image(&wide.image, 32, 24)),
        ("rows first", resize_image(&tall.image, 64, 32)),
        ("shorter side", resize_shorter(&tall, 24).image),
        ("mirror", adjusted(&mirror)),
        ("brightness", adjusted(&|image| adjust_brightness(image, 1.1))),
        ("contrast", adjusted(&|image| adjust_contrast(image, 0.6))),
        ("saturation", adjusted(&|image| adjust_saturation(image, 1.4))),
        ("hue", adjusted(&|image| adjust_hue(image, -0.041))),
        ("mosaic", mosaic.image.clone()),
        ("affine", map.apply(mosaic.clone()).image),
        ("affine without a turn", still.apply(mosaic).image),
        ("zoom-out, crop, flip, resize", course.apply(tall, 64).image),
    ];
    let lines: Vec<String> = results
        .iter()
        .map(|(name, image)| {
            let hash = blake3::hash(&image.pixels).to_hex();
            format!("{name}: {} x {}, {}", image.width, image.height, &hash[..16])
        })
        .collect();
    insta::assert_snapshot!("pixels_of_transforms", lines.join("\n"));
}

/// The rows of `density` are named by how many times as many objects an image has as in its first.
#[test]
fn the_rows_of_density_are_as_dense_as_they_say() {
    let experiments = Path::new(env!("CARGO_MANIFEST_DIR")).join("experiments");
    let density = deim_spec::load(&experiments, "density", &deim_spec::Options::default()).unwrap();
    let objects = |row: &deim_spec::Row| {
        let config = &row.config;
        let train = deim_data::open(&config.data, None).unwrap().train;
        let (mut images, mut objects) = (0, 0);
        for seed in 0..2 {
            let loader = TrainLoader::new(Arc::clone(&train), config, seed, 0).unwrap();
            for batch in loader.batches(config.phases().augment_start, 0) {
                let targets = batch.unwrap().targets;
                images += targets.len();
                objects += targets.iter().map(|target| target.labels.len()).sum::<usize>();
            }
        }
        objects as f64 / images as f64
    };
    let base = objects(&density.rows[0]);
    for row in &density.rows {
        let named: f64 = row.settings[0].1.trim_end_matches('x').parse().unwrap();
        let found = objects(row) / base;
        assert!((found / named - 1.0).abs() < 0.06, "{named}x is {found:.2}x");
    }
}

/// Our recipes go through the same operations in the same epochs as the official configurations.
#[test]
fn every_official_recipe_has_the_official_epochs() {
    let Some(all) = collection() else { return };
    for official in deim_spec::official::models() {
        for recipe in deim_spec::official::Recipe::BOTH {
            let name = match (recipe, official.name.strip_prefix('r')) {
                (deim_spec::official::Recipe::Deim, _) => format!("deim_{}", official.name),
                (_, Some(depth)) => format!("baseline_rt{depth}"),
                (_, None) => format!("baseline_df_{}", official.name),
            };
            let file = all.join("../schedule").join(&name).join("phases.json");
            let phases: serde_json::Value =
                serde_json::from_str(&fs::read_to_string(file).unwrap()).unwrap();
            let config = official.config(recipe).unwrap();
            let policy = deim_data::Policy::new(&config, 0).unwrap();
            let mut last = 0;
            for phase in phases["phases"].as_array().unwrap() {
                let [from, to] =
                    ["from_epoch", "to_epoch"].map(|key| phase[key].as_u64().unwrap() as u32);
                let has = |list: &str, operation: &str| {
                    phase[list].as_array().unwrap().iter().any(|name| name == operation)
                };
                for epoch in from..=to {
                    let stage = policy.stage(epoch);
                    let place = format!("{name}, epoch {epoch}: {stage:?}");
                    assert_eq!(stage.mosaic, has("mosaic_drawn", "Mosaic"), "{place}");
                    assert_eq!(stage.strong, has("mosaic_not_drawn", "RandomZoomOut"), "{place}");
                    assert_eq!(stage.mixup, phase["mixup_possible"], "{place}");
                    assert_eq!(stage.multi_scale, phase["multi_scale"], "{place}");
                }
                last = to;
            }
            assert_eq!(last + 1, config.epochs, "{name}");
        }
    }
}
