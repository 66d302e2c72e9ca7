//! Draws sheets of synthetic scenes and of augmented batches with their boxes, to look at.
//!
//! `cargo run --release -p deim-data --example contact_sheet -- FOLDER` writes `scenes.png`,
//! `plain.png`, `dense.png` and `strong.png`. The colour of a box is its class.

use std::error::Error;
use std::path::Path;
use std::process::ExitCode;

use deim_data::{Batch, Image, TrainLoader, open};
use deim_spec::config::Config;

const COLOURS: [[u8; 3]; 8] = [
    [255, 0, 0],
    [0, 255, 0],
    [0, 80, 255],
    [255, 255, 0],
    [255, 0, 255],
    [0, 255, 255],
    [255, 128, 0],
    [255, 255, 255],
];

fn main() -> ExitCode {
    let Some(folder) = std::env::args().nth(1) else {
        eprintln!("usage: contact_sheet FOLDER");
        return ExitCode::from(2);
    };
    match write(Path::new(&folder)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn write(folder: &Path) -> Result<(), Box<dyn Error>> {
    let mut config = Config { epochs: 30, ..Config::default() };
    config.data.input_size = 256;
    config.augment.mosaic_tile = 128;
    config.augment.multi_scale_repeat = 0;
    let phases = config.phases();
    let train = open(&config.data)?.train;

    let mut scenes = Vec::new();
    for index in 0..16 {
        let sample = train.sample(index)?;
        let mut image = sample.image.clone();
        for (rect, &class) in sample.boxes.iter().zip(&sample.labels) {
            frame(&mut image, *rect, class);
        }
        scenes.push(image);
    }
    save(&folder.join("scenes.png"), &scenes)?;

    let loader = TrainLoader::new(train, &config, 0, 2)?;
    for (name, epoch) in
        [("plain.png", 0), ("dense.png", phases.augment_start), ("strong.png", phases.flat)]
    {
        // A second batch, where the first was not mixed, shows both kinds.
        for (part, batch) in loader.batches(epoch, 0).take(2).enumerate() {
            save(&folder.join(format!("{part}-{name}")), &images(&batch?))?;
        }
    }
    Ok(())
}

/// A batch's images with their boxes.
fn images(batch: &Batch) -> Vec<Image> {
    let (side, plane) = (batch.size, batch.size * batch.size);
    let framed = batch.targets.iter().enumerate().map(|(index, target)| {
        let values = &batch.images[index * 3 * plane..][..3 * plane];
        let pixels = (0..3 * plane).map(|at| values[at % 3 * plane + at / 3] * 255.0);
        let pixels = pixels.map(|value| value.round() as u8).collect();
        let mut image = Image { width: side, height: side, pixels };
        for (&[cx, cy, w, h], &class) in target.boxes.iter().zip(&target.labels) {
            let corners = [cx - w / 2.0, cy - h / 2.0, cx + w / 2.0, cy + h / 2.0];
            frame(&mut image, corners.map(|edge| edge * side as f32), class);
        }
        image
    });
    framed.collect()
}

/// Draws the outline of a box.
fn frame(image: &mut Image, [x1, y1, x2, y2]: [f32; 4], class: u32) {
    let colour = COLOURS[class as usize % COLOURS.len()];
    let inside = |edge: f32, side: usize| (edge.round().max(0.0) as usize).min(side - 1);
    let (left, right) = (inside(x1, image.width), inside(x2 - 1.0, image.width));
    let (top, bottom) = (inside(y1, image.height), inside(y2 - 1.0, image.height));
    for y in top..=bottom {
        for x in left..=right {
            if x == left || x == right || y == top || y == bottom {
                let start = (y * image.width + x) * 3;
                image.pixels[start..start + 3].copy_from_slice(&colour);
            }
        }
    }
}

/// Writes the images side by side, four in a row.
fn save(path: &Path, images: &[Image]) -> Result<(), Box<dyn Error>> {
    let side = images.first().map_or(1, |image| image.width) + 4;
    let mut sheet = Image::black(side * 4, side * images.len().div_ceil(4));
    for (index, image) in images.iter().enumerate() {
        sheet.paste(image, index % 4 * side, index / 4 * side);
    }
    image::save_buffer(
        path,
        &sheet.pixels,
        sheet.width as u32,
        sheet.height as u32,
        image::ColorType::Rgb8,
    )?;
    eprintln!("wrote {}", path.display());
    Ok(())
}
