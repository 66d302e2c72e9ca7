//! `deim predict`: what a trained detector finds in images, drawn.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};
use burn::tensor::Device;
use deim_data::{COCO_CLASSES, Dataset, Image, decode, readers, single};
use deim_model::Detector;
use deim_report::data::{Picture, contact_sheet};
use deim_train::postprocess::{Ranked, rank};
use deim_train::upload::images;
use serde::Serialize;

use crate::output::{DONE, FAILED, Outcome};
use crate::progress::count;
use crate::subject::{Subject, SubjectArgs, file_name, write};

/// Draw what a trained detector finds in images.
///
/// Writes a PNG for each image and detections.json with all of them, in COCO's result format with
/// the file and the class by name. An image that cannot be read is named, and the others are done.
#[derive(clap::Args)]
#[command(after_help = "Example: deim predict photo.jpg --cell 1a2b3c4d --out found\n\
                  Example: deim predict --synthetic 4 --cell gamma --row 2 --out found\n\
                  Example: deim predict *.jpg --model n --weights dfine_n_coco.pth --out found")]
pub struct Args {
    /// JPEG or PNG files.
    #[arg(value_name = "IMAGE", required_unless_present = "synthetic")]
    images: Vec<PathBuf>,
    /// Id of a finished cell, or name or path of an experiment.
    #[arg(long, value_name = "CELL|EXPERIMENT", required_unless_present = "model")]
    cell: Option<String>,
    #[command(flatten)]
    subject: SubjectArgs,
    /// Draw on the first N validation scenes of the cell, with dashed boxes where objects are.
    #[arg(long, value_name = "N", requires = "cell", conflicts_with = "images",
          value_parser = clap::value_parser!(u32).range(1..))]
    synthetic: Option<u32>,
    /// Leave out detections with a lower score.
    #[arg(long, value_name = "SCORE", default_value_t = 0.5)]
    threshold: f32,
    /// The folder to write into; it is made where there is none.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

/// What classes are called, and their ids in the data set.
struct Classes {
    ids: Vec<i64>,
    names: Vec<String>,
}

/// A detection as detections.json has it.
#[derive(Serialize)]
struct Found<'a> {
    file: &'a str,
    image_id: i64,
    category_id: i64,
    category: &'a str,
    /// `[x, y, width, height]` in pixels of the image.
    bbox: [f64; 4],
    score: f32,
}

/// An image and the objects that are known to be in it.
struct Shot {
    /// As detections.json and the drawing call it.
    name: String,
    id: i64,
    image: Image,
    objects: Vec<(u32, [f32; 4])>,
}

/// A detector that is ready to look.
struct Eye<'a> {
    args: &'a Args,
    detector: Detector,
    device: Device,
    side: usize,
    most: usize,
    title: String,
    classes: Classes,
}

pub fn run(args: &Args) -> Outcome {
    if !(0.0..=1.0).contains(&args.threshold) {
        bail!("--threshold: expected a score from 0 to 1, found {}", args.threshold);
    }
    let subject = args.subject.find(args.cell.as_deref())?;
    args.subject.compute();
    let (classes, scenes) = classes(args, &subject)?;
    let trained = subject.load(classes.names.len(), args.subject.device)?;
    std::fs::create_dir_all(&args.out)
        .with_context(|| format!("cannot create {}", args.out.display()))?;
    let eye = Eye {
        args,
        detector: trained.detector,
        device: args.subject.device.open()?,
        side: subject.config.data.input_size,
        most: subject.config.eval.detections,
        title: subject.title(),
        classes,
    };

    let mut names = BTreeSet::new();
    let mut seen = Vec::new();
    let mut failed = 0;
    let wanted = match &scenes {
        Some(dataset) => args.synthetic.map_or(0, |count| count as usize).min(dataset.len()),
        None => args.images.len(),
    };
    for at in 0..wanted {
        let shot = match &scenes {
            Some(dataset) => scene(&**dataset, at),
            None => photo(&args.images[at], at as i64 + 1),
        };
        let drawn = shot.and_then(|shot| {
            let found = eye.look(&shot)?;
            let path = args.out.join(fresh(&shot.name, &mut names));
            deim_report::write_file(&path, &eye.draw(&shot, &found)?)?;
            let found_there = count(found.len(), "detection");
            writeln!(std::io::stdout(), "{}: {found_there} in {}", shot.name, path.display())?;
            Ok((shot.name, shot.id, found))
        });
        match drawn {
            Ok(one) => seen.push(one),
            Err(error) => {
                eprintln!("error: {error:#}");
                failed += 1;
            }
        }
    }
    let all: Vec<Found<'_>> = seen
        .iter()
        .flat_map(|(file, id, found)| found.iter().map(|one| eye.entry(file, *id, one)))
        .collect();
    write(&args.out.join("detections.json"), &serde_json::to_vec_pretty(&all)?)?;
    if failed > 0 {
        eprintln!("{} of {} failed", failed, count(wanted, "image"));
    }
    Ok(ExitCode::from(if failed == 0 { DONE } else { FAILED }))
}

type Scenes = Option<std::sync::Arc<dyn Dataset>>;

/// The classes of the data set, and its validation scenes where they are to be drawn on.
fn classes(args: &Args, subject: &Subject) -> anyhow::Result<(Classes, Scenes)> {
    let place = args.subject.data.place();
    if let Some(cell) = &subject.cell {
        if args.synthetic.is_some() && !cell.is_synthetic() {
            bail!("--synthetic: the cell was trained on image files; name some of them");
        }
        let val = cell.open(place.as_ref())?.val;
        return Ok((Classes::of(&*val), args.synthetic.map(|_| val)));
    }
    if let Some(place) = &place {
        return Ok((Classes::of(&readers::open_val(place)?), None));
    }
    let count = subject.classes()?;
    if count == COCO_CLASSES.len() {
        eprintln!("note: 80 classes are taken for those of COCO; --data DIR says otherwise");
        let (ids, names) = COCO_CLASSES.iter().map(|&(id, name)| (id, name.to_owned())).unzip();
        return Ok((Classes { ids, names }, None));
    }
    eprintln!("note: nobody said what the {count} classes are called: --data DIR does");
    let names = (0..count).map(|class| format!("class {class}")).collect();
    Ok((Classes { ids: (0..count as i64).collect(), names }, None))
}

impl Classes {
    fn of(dataset: &dyn Dataset) -> Self {
        Self { ids: dataset.category_ids().to_vec(), names: dataset.classes().to_vec() }
    }
}

fn photo(path: &Path, id: i64) -> anyhow::Result<Shot> {
    let picture = decode::read(path).with_context(|| path.display().to_string())?;
    if let Some(damage) = picture.damage {
        eprintln!("note: {}: {damage}", path.display());
    }
    Ok(Shot { name: path.display().to_string(), id, image: picture.image, objects: Vec::new() })
}

fn scene(dataset: &dyn Dataset, index: usize) -> anyhow::Result<Shot> {
    let sample = dataset.sample(index)?;
    let objects = sample.labels.iter().copied().zip(sample.boxes.iter().copied()).collect();
    let (name, image) = (dataset.file_name(index), sample.image.clone());
    Ok(Shot { name: format!("scene-{name}"), id: sample.image_id, image, objects })
}

/// A name for the drawing of an image that no other image has, and that is no image's own.
fn fresh(image: &str, names: &mut BTreeSet<String>) -> String {
    let name = file_name(Path::new(image));
    let stem = name.rsplit_once('.').map_or(name.as_str(), |(stem, _)| stem);
    let numbered = |number: usize| match number {
        1 => format!("{stem}-detections.png"),
        more => format!("{stem}-detections-{more}.png"),
    };
    let free = (1..).map(numbered).find(|name| names.insert(name.clone()));
    free.unwrap_or_default()
}

impl Eye<'_> {
    /// The detections of an image, best first.
    fn look(&self, shot: &Shot) -> anyhow::Result<Vec<Ranked>> {
        let batch = single(&shot.image, self.side)?;
        let prediction = self.detector.infer(images(&batch, &self.device));
        let ranked = rank(prediction, &batch.original_sizes, self.most);
        let good = |one: &Ranked| one.score >= self.args.threshold;
        Ok(ranked.into_iter().flatten().filter(good).collect())
    }

    fn entry<'a>(&'a self, file: &'a str, image_id: i64, found: &Ranked) -> Found<'a> {
        Found {
            file,
            image_id,
            category_id: self.classes.ids[found.class],
            category: &self.classes.names[found.class],
            bbox: found.bbox,
            score: found.score,
        }
    }

    fn draw(&self, shot: &Shot, found: &[Ranked]) -> anyhow::Result<Vec<u8>> {
        let corners = |&[x, y, w, h]: &[f64; 4]| [x, y, x + w, y + h].map(|side| side as f32);
        let mut picture = Picture {
            image: shot.image.clone(),
            boxes: found.iter().map(|one| corners(&one.bbox)).collect(),
            classes: found.iter().map(|one| one.class as u32).collect(),
            scores: found.iter().map(|one| one.score).collect(),
            dashed_from: found.len(),
            title: format!("{} x {}", shot.image.width, shot.image.height),
            lines: Vec::new(),
        };
        let (classes, boxes): (Vec<u32>, Vec<[f32; 4]>) = shot.objects.iter().copied().unzip();
        picture.classes.extend(classes);
        picture.boxes.extend(boxes);
        let known = match shot.objects.len() {
            0 => String::new(),
            objects => format!("; dashed: {} that are there", count(objects, "object")),
        };
        let note = format!(
            "{} with a score of {} or more, by {}{known}.",
            count(found.len(), "detection"),
            self.args.threshold,
            self.title
        );
        Ok(contact_sheet(
            &file_name(Path::new(&shot.name)),
            &note,
            &[picture],
            &self.classes.names,
        )?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_images_of_one_name_get_two_drawings_and_neither_is_overwritten() {
        let mut names = BTreeSet::new();
        let drawings = ["a/x.png", "b/x.jpg", "x", "a/y.tar.png"];
        let drawings = drawings.map(|image| fresh(image, &mut names));
        let expected = [
            "x-detections.png",
            "x-detections-2.png",
            "x-detections-3.png",
            "y.tar-detections.png",
        ];
        assert_eq!(drawings, expected);
    }
}
