//! The images that all transform cases begin with.

use burn::tensor::Device;
use deim_data::{Sample, decode};

use super::transform_boxes::corners;
use crate::case::{self, Case, CaseError};
use crate::compare::Check;

/// The files are there, can be decoded, and hold the objects that are said to be on them.
pub fn verify(case: &Case, _device: &Device, check: &mut Check) -> Result<(), CaseError> {
    for (at, sample) in samples(case)?.iter().enumerate() {
        let [width, height] = sample.original_size.map(|side| side as f32);
        for (number, &[x1, y1, x2, y2]) in sample.boxes.iter().enumerate() {
            let inside =
                0.0 <= x1 && x1 < x2 && x2 <= width && 0.0 <= y1 && y1 < y2 && y2 <= height;
            check.same(&format!("{at}.boxes[{number}] in the image"), &inside, &true);
        }
        let known = sample.labels.iter().all(|&label| label < 80);
        check.same(&format!("{at}.labels are classes of COCO"), &known, &true);
    }
    Ok(())
}

/// The inputs that a case names.
pub fn of(case: &Case) -> Result<Vec<Sample>, CaseError> {
    let name = case.text("input")?;
    let own = case.folder.canonicalize();
    let own = own.map_err(|error| CaseError::new(format!("the case's folder: {error}")))?;
    let folder = own.parent().unwrap_or(&own).join(name);
    let inputs = case::table(&folder).and_then(|table| Case::load(&folder, table, true));
    let inputs = inputs.map_err(|error| CaseError::new(format!("input '{name}': {error}")))?;
    samples(&inputs)
}

fn samples(case: &Case) -> Result<Vec<Sample>, CaseError> {
    let files = case.texts("files")?;
    let sample = |(at, file): (usize, &String)| {
        let picture = decode::read(&case.folder.join(file))
            .map_err(|error| CaseError::new(format!("{file}: {error}")))?;
        let boxes = corners(case, &format!("{at}.boxes"))?;
        let labels = case.indices(&format!("{at}.labels"))?;
        if labels.len() != boxes.len() {
            let (labels, boxes) = (labels.len(), boxes.len());
            return Err(CaseError::new(format!("{file}: {boxes} boxes and {labels} labels")));
        }
        Ok(Sample {
            original_size: [picture.image.width as u32, picture.image.height as u32],
            image: picture.image,
            boxes,
            labels: labels.into_iter().map(|label| label as u32).collect(),
            image_id: at as i64,
            dropped_boxes: 0,
        })
    };
    files.iter().enumerate().map(sample).collect()
}
