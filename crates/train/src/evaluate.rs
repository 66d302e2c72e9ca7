//! From an averaged detector to COCO numbers (deim-facts 3.17).

use burn::tensor::Device;
use deim_data::{Batch, DataError, Dataset, EvalLoader};
use deim_eval::{
    Annotation, Category, CocoSet, Detection, EvalError, Evaluation, GroundTruth, ListedImage,
    Metrics,
};
use deim_model::Detector;
use deim_model::outputs::Prediction;

use crate::postprocess::rank;
use crate::upload::images;

/// Evaluates detectors on one data set, again and again.
pub struct Evaluator {
    loader: EvalLoader,
    truth: GroundTruth,
    category_ids: Vec<i64>,
    detections: usize,
}

/// Why an evaluation failed.
#[derive(Debug, thiserror::Error)]
pub enum EvaluateError {
    #[error(transparent)]
    Data(#[from] DataError),
    #[error(transparent)]
    Metric(#[from] EvalError),
}

impl Evaluator {
    pub fn new(
        dataset: &dyn Dataset,
        loader: EvalLoader,
        detections: usize,
    ) -> Result<Self, EvaluateError> {
        let truth = coco_set(dataset)?.ground_truth()?;
        Ok(Self { loader, truth, category_ids: dataset.category_ids().to_vec(), detections })
    }

    /// COCO numbers of a detector on a device without gradients.
    pub fn evaluate(&self, detector: &Detector, device: &Device) -> Result<Metrics, EvaluateError> {
        let detections = self.detect(detector, device, &mut |_| {})?;
        Ok(self.score(&detections)?.metrics)
    }

    /// The best detections of every image; `seen` hears of each batch how many images it has.
    pub fn detect(
        &self,
        detector: &Detector,
        device: &Device,
        seen: &mut dyn FnMut(usize),
    ) -> Result<Vec<Detection>, EvaluateError> {
        let mut detections = Vec::new();
        for batch in self.loader.batches() {
            let batch = batch?;
            let prediction = detector.infer(images(&batch, device));
            self.collect(prediction, &batch, &mut detections);
            seen(batch.image_ids.len());
        }
        Ok(detections)
    }

    /// What detections of the data set are worth.
    pub fn score(&self, detections: &[Detection]) -> Result<Evaluation, EvaluateError> {
        Ok(deim_eval::evaluate(&self.truth, detections)?)
    }

    /// Adds the best detections of a batch's images.
    fn collect(&self, prediction: Prediction, batch: &Batch, detections: &mut Vec<Detection>) {
        let ranked = rank(prediction, &batch.original_sizes, self.detections);
        for (&image_id, ranked) in batch.image_ids.iter().zip(ranked) {
            detections.extend(ranked.into_iter().map(|found| Detection {
                image_id,
                category_id: self.category_ids[found.class],
                bbox: found.bbox,
                score: f64::from(found.score),
            }));
        }
    }
}

/// The objects of a data set under the names of COCO's files.
pub fn coco_set(dataset: &dyn Dataset) -> Result<CocoSet, DataError> {
    let category_ids = dataset.category_ids();
    let categories = category_ids.iter().zip(dataset.classes());
    let mut set = CocoSet {
        categories: categories.map(|(&id, name)| Category { id, name: name.clone() }).collect(),
        ..CocoSet::default()
    };
    for index in 0..dataset.len() {
        let truth = dataset.truth(index)?;
        let ([width, height], file_name) = (truth.size, dataset.file_name(index));
        set.images.push(ListedImage { id: truth.image_id, width, height, file_name });
        for object in &truth.objects {
            set.annotations.push(Annotation {
                id: set.annotations.len() as i64 + 1,
                image_id: truth.image_id,
                category_id: category_ids[object.class as usize],
                bbox: object.bbox,
                area: object.area,
                crowd: object.crowd,
            });
        }
    }
    Ok(set)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use deim_data::{Sample, Truth, TruthObject};
    use deim_spec::Config;

    use super::*;

    /// One image with a cat, a crowd of dogs and a dog that is smaller than its annotated area.
    struct Pets {
        classes: Vec<String>,
        crowd: bool,
    }

    impl Dataset for Pets {
        fn len(&self) -> usize {
            1
        }
        fn sample(&self, index: usize) -> Result<Arc<Sample>, DataError> {
            Err(DataError::Index { index, len: 0 })
        }
        fn truth(&self, _: usize) -> Result<Truth, DataError> {
            let object = |bbox, class, area, crowd| TruthObject { bbox, class, area, crowd };
            Ok(Truth {
                image_id: 42,
                size: [200, 200],
                objects: vec![
                    object([0.0, 0.0, 20.0, 20.0], 0, 400.0, false),
                    object([50.0, 0.0, 20.0, 20.0], 1, 10_000.0, false),
                    object([100.0, 100.0, 80.0, 80.0], 1, 6400.0, self.crowd),
                ],
            })
        }
        fn classes(&self) -> &[String] {
            &self.classes
        }
        fn category_ids(&self) -> &[i64] {
            &[7, 90]
        }
        fn manifest(&self) -> &str {
            ""
        }
    }

    fn metrics(crowd: bool, found: &[(usize, [f64; 4], f64)]) -> Metrics {
        let pets = Arc::new(Pets { classes: vec!["cat".into(), "dog".into()], crowd });
        let loader = EvalLoader::new(pets.clone(), &Config::default(), 0).unwrap();
        let evaluator = Evaluator::new(&*pets, loader, 300).unwrap();
        let detections: Vec<Detection> = found
            .iter()
            .map(|&(class, bbox, score)| Detection {
                image_id: 42,
                category_id: evaluator.category_ids[class],
                bbox,
                score,
            })
            .collect();
        deim_eval::evaluate(&evaluator.truth, &detections).unwrap().metrics
    }

    const CAT: (usize, [f64; 4], f64) = (0, [0.0, 0.0, 20.0, 20.0], 0.5);
    const DOG: (usize, [f64; 4], f64) = (1, [50.0, 0.0, 20.0, 20.0], 0.5);
    const IN_THE_CROWD: (usize, [f64; 4], f64) = (1, [110.0, 110.0, 20.0, 20.0], 0.9);

    /// pycocotools' own 1 is a few roundings below it.
    fn is_one(ap: Option<f64>) -> bool {
        ap.is_some_and(|ap| (ap - 1.0).abs() < 1e-12)
    }

    #[test]
    fn classes_are_the_categories_of_the_data_set() {
        assert!(is_one(metrics(true, &[CAT, DOG]).ap));
        let swapped = [(1, CAT.1, CAT.2), (0, DOG.1, DOG.2)];
        assert_eq!(metrics(true, &swapped).ap, Some(0.0));
    }

    #[test]
    fn a_crowd_absorbs_detections_and_is_not_asked_for() {
        assert!(is_one(metrics(true, &[CAT, DOG, IN_THE_CROWD]).ap));
        // An object in its place is missed, and the detection in it is wrong.
        assert!(metrics(false, &[CAT, DOG, IN_THE_CROWD]).ap < Some(0.8));
    }

    #[test]
    fn sizes_go_by_the_annotated_area() {
        let measured = metrics(true, &[CAT]);
        // The dog of 20 x 20 pixels is annotated as large.
        assert!(is_one(measured.ap_small));
        assert_eq!(measured.ap_large, Some(0.0));
    }
}
