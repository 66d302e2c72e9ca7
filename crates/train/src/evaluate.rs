//! From an averaged detector to COCO numbers (deim-facts 3.17).

use burn::tensor::{Device, Tensor, TensorData};
use deim_data::{Batch, DataError, Dataset, EvalLoader};
use deim_eval::{Annotation, Category, Detection, EvalError, GroundTruth, Metrics};
use deim_model::Detector;
use deim_model::outputs::Prediction;

use crate::postprocess::rank;

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
        let category_ids = dataset.category_ids().to_vec();
        let categories: Vec<Category> = category_ids
            .iter()
            .zip(dataset.classes())
            .map(|(&id, name)| Category { id, name: name.clone() })
            .collect();
        let mut images = Vec::with_capacity(dataset.len());
        let mut annotations = Vec::new();
        for index in 0..dataset.len() {
            let truth = dataset.truth(index)?;
            images.push(truth.image_id);
            annotations.extend(truth.objects.iter().map(|object| Annotation {
                id: 0,
                image_id: truth.image_id,
                category_id: category_ids[object.class as usize],
                bbox: object.bbox,
                area: object.area,
                crowd: object.crowd,
            }));
        }
        for (id, annotation) in (1..).zip(&mut annotations) {
            annotation.id = id;
        }
        let truth = GroundTruth::from_parts(&images, &categories, &annotations)?;
        Ok(Self { loader, truth, category_ids, detections })
    }

    /// COCO numbers of a detector on a device without gradients.
    pub fn evaluate(&self, detector: &Detector, device: &Device) -> Result<Metrics, EvaluateError> {
        let mut detections = Vec::new();
        for batch in self.loader.batches() {
            let batch = batch?;
            let prediction = detector.infer(images(&batch, device));
            self.collect(prediction, &batch, &mut detections);
        }
        Ok(deim_eval::evaluate(&self.truth, &detections)?.metrics)
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

/// A batch's images `[batch, 3, size, size]` on a device.
pub fn images(batch: &Batch, device: &Device) -> Tensor<4> {
    let shape = [batch.targets.len(), 3, batch.size, batch.size];
    Tensor::from_data(TensorData::new(batch.images.clone(), shape), device)
}
