//! How many predictions answer for a target under one-to-one and under one-to-many matching.
//!
//! The assignments are computed by the code that trains and the code that is verified against YOLOX;
//! the predictions are made up, because no detector is the detector: one that has learned nothing,
//! whose boxes are its anchors, and one that is right everywhere. Any real one lies between.

use deim_data::{Target, TruthObject};
use deim_report::figures::matches::{Matches, matches};
use deim_spec::config;
use deim_train::matcher::{Matcher, Predictions};
use deim_train::simota::{Anchor, AnchorPredictions, SimOta};

/// Strides of the levels that predict, in pixels of the input.
const STRIDES: [usize; 3] = [8, 16, 32];
/// Side of the finest level's anchor boxes as a share of the image (deim-facts 3.12).
const ANCHOR_SIDE: f32 = 0.05;
/// A logit that is certain.
const SURE: f32 = 12.0;

/// An image's targets: size in pixels and objects.
pub struct Scene {
    pub size: [u32; 2],
    pub objects: Vec<TruthObject>,
}

/// Draws the figure for images that enter as squares of `input` pixels; `data` names them.
pub fn draw(
    scenes: impl Iterator<Item = anyhow::Result<Scene>>,
    classes: usize,
    input: usize,
    data: &str,
) -> anyhow::Result<String> {
    let anchors = anchors(input);
    let mut one = Matches { name: "one-to-one (Hungarian)".into(), positives: vec![] };
    let mut perfect =
        Matches { name: "one-to-many (SimOTA), perfect boxes".into(), positives: vec![] };
    let mut untrained =
        Matches { name: "one-to-many (SimOTA), anchors as boxes".into(), positives: vec![] };
    for scene in scenes {
        let target = target(&scene?, input as f32);
        let guesses = Guesses::untrained(&anchors, classes, input as f32);
        untrained.positives.push(guesses.one_to_many(&anchors, &target));
        let answers = Guesses::perfect(&anchors, &target, classes, input as f32);
        one.positives.push(answers.one_to_one(&target, input as f32));
        perfect.positives.push(answers.one_to_many(&anchors, &target));
    }
    let images = match one.positives.len() {
        1 => "1 image".to_owned(),
        count => format!("{count} images"),
    };
    let about = format!(
        "{images} of {data} at {input} x {input} pixels; predictions at strides 8, 16 and 32. No detector is involved, but \
         one that has learned nothing (its boxes are its anchors) and one that is right everywhere; what the paper counted \
         is not known in more detail."
    );
    Ok(matches(&one, &[perfect, untrained], &about)?)
}

fn anchors(input: usize) -> Vec<Anchor> {
    let level = |stride: usize| {
        let side = input / stride;
        (0..side * side).map(move |at| Anchor {
            x: (at % side) as f32,
            y: (at / side) as f32,
            stride: stride as f32,
        })
    };
    STRIDES.into_iter().flat_map(level).collect()
}

/// The targets in pixels of the input, without crowds and empty boxes.
fn target(scene: &Scene, input: f32) -> Target {
    let [across, down] = scene.size.map(|side| f64::from(input) / f64::from(side.max(1)));
    let mut target = Target::default();
    for object in scene.objects.iter().filter(|object| !object.crowd) {
        let [x, y, w, h] = object.bbox;
        if w > 0.0 && h > 0.0 {
            let sides = [(x + w / 2.0) * across, (y + h / 2.0) * down, w * across, h * down];
            target.labels.push(object.class);
            target.boxes.push(sides.map(|side| side as f32));
        }
    }
    target
}

/// A prediction for each anchor, boxes as centre and size in pixels.
struct Guesses {
    boxes: Vec<[f32; 4]>,
    logits: Vec<f32>,
    classes: usize,
}

impl Guesses {
    /// Boxes of one size a level around the anchors' centres, and no opinion about classes.
    fn untrained(anchors: &[Anchor], classes: usize, input: f32) -> Self {
        let own = |anchor: &Anchor| {
            let side = ANCHOR_SIDE * input * anchor.stride / STRIDES[0] as f32;
            [(anchor.x + 0.5) * anchor.stride, (anchor.y + 0.5) * anchor.stride, side, side]
        };
        let boxes = anchors.iter().map(own).collect();
        Self { boxes, logits: vec![0.0; anchors.len() * classes], classes }
    }

    /// Each anchor predicts the smallest target that its centre lies in, else the nearest one, with
    /// its class.
    fn perfect(anchors: &[Anchor], target: &Target, classes: usize, input: f32) -> Self {
        let mut guesses = Self::untrained(anchors, classes, input);
        guesses.logits.fill(-SURE);
        for (at, anchor) in anchors.iter().enumerate() {
            let [x, y] = [anchor.x, anchor.y].map(|place| (place + 0.5) * anchor.stride);
            let far = |&[cx, cy, w, h]: &[f32; 4]| {
                let outside = |from: f32, half: f32| (from.abs() - half / 2.0).max(0.0);
                let distance = outside(x - cx, w).hypot(outside(y - cy, h));
                // Among those that it lies in, the smallest.
                (distance, w * h)
            };
            let nearest = (0..target.boxes.len()).min_by(|&a, &b| {
                let (a, b) = (far(&target.boxes[a]), far(&target.boxes[b]));
                a.0.total_cmp(&b.0).then(a.1.total_cmp(&b.1))
            });
            if let Some(nearest) = nearest {
                guesses.boxes[at] = target.boxes[nearest];
                guesses.logits[at * classes + target.labels[nearest] as usize] = SURE;
            }
        }
        guesses
    }

    fn one_to_many(&self, anchors: &[Anchor], target: &Target) -> usize {
        let predictions = AnchorPredictions {
            boxes: &self.boxes,
            class_logits: &self.logits,
            objectness_logits: &vec![SURE; anchors.len()],
            classes: self.classes,
        };
        SimOta::default().assign(predictions, anchors, target).positives.len()
    }

    fn one_to_one(&self, target: &Target, input: f32) -> usize {
        let share = |sides: &[f32; 4]| sides.map(|side| side / input);
        let boxes: Vec<f32> = self.boxes.iter().flat_map(share).collect();
        let target = Target {
            labels: target.labels.clone(),
            boxes: target.boxes.iter().map(share).collect(),
        };
        let predictions =
            Predictions { logits: &self.logits, boxes: &boxes, classes: self.classes };
        let matcher = Matcher::new(&config::Matcher::default());
        matcher.match_all(&[(predictions, &target)]).0.iter().map(Vec::len).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(bbox: [f64; 4], crowd: bool) -> TruthObject {
        TruthObject { bbox, class: 1, area: 1.0, crowd }
    }

    #[test]
    fn a_large_target_takes_ten_perfect_predictions_and_one_query() {
        let objects = vec![object([16.0, 16.0, 64.0, 64.0], false), object([0.0; 4], true)];
        let target = target(&Scene { size: [96, 96], objects }, 96.0);
        assert_eq!(target.labels.len(), 1, "a crowd is no target");
        let anchors = anchors(96);
        assert_eq!(anchors.len(), 144 + 36 + 9);
        let answers = Guesses::perfect(&anchors, &target, 8, 96.0);
        assert_eq!(answers.one_to_one(&target, 96.0), 1);
        assert_eq!(answers.one_to_many(&anchors, &target), 10);
        let guesses = Guesses::untrained(&anchors, 8, 96.0);
        assert_eq!(guesses.one_to_many(&anchors, &target), 1, "poor boxes sum up to less than 2");
    }
}
