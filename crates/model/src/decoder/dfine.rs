//! D-FINE's way of decoding: the first layer places a box, and every layer sharpens the distributions
//! of its edges around it (deim-facts 3.12).

use burn::tensor::Tensor;
use burn::tensor::activation::sigmoid;
use deim_ops::{like, widened};

use super::distribution::Bins;
use super::layer::Scene;
use super::{Decoder, Mode, inverse_sigmoid};
use crate::outputs::{DecoderOutputs, Prediction};
use crate::trace;

/// The bound of the position embedding.
const POSITION: f64 = 10.0;

impl Decoder {
    /// Every layer's predictions (training) or those of the last that runs (inference).
    pub(super) fn refine_edges(
        &self,
        content: Tensor<3>,
        first_boxes: Tensor<3>,
        scene: &Scene,
        mode: Mode,
    ) -> DecoderOutputs {
        let bins = Bins::of(&self.config, (&first_boxes.device(), first_boxes.dtype()));
        let depth = self.depth(mode);
        let mut queries = content;
        // The boxes that a layer starts from, without gradient.
        let mut start = first_boxes;
        let mut outputs = DecoderOutputs { layers: Vec::new(), pre: None, reference: None };
        let mut previous: Option<Refined> = None;
        for (index, layer) in self.decoder.layers.iter().take(depth).enumerate() {
            let position = self.query_pos_head.forward(start.clone());
            trace::record("query_pos_head", &position);
            let position = like(position.clamp(-POSITION, POSITION), &queries);
            queries = trace::within(format_args!("decoder.layers.{index}"), || {
                layer.forward(queries, start.clone(), position, scene)
            });
            trace::record(format_args!("decoder.layers.{index}"), &queries);
            let wide = widened(queries.clone());
            let reference = match &outputs.reference {
                Some(reference) => reference.clone(),
                None => self.place(&wide, start, mode, &mut outputs),
            };
            // The queries of the layer before help without being trained by this one; the edges add
            // up with their gradient.
            let refine = |queries| {
                let change = self.dec_bbox_head[index].forward(queries);
                trace::record(format_args!("dec_bbox_head.{index}"), &change);
                change
            };
            let corners = match &previous {
                Some(before) => {
                    refine(wide.clone() + before.queries.clone()) + before.corners.clone()
                }
                None => refine(wide.clone()),
            };
            let probabilities = bins.probabilities(corners.clone());
            let boxes = bins.boxes(reference, bins.integral(probabilities.clone()));
            start = boxes.clone().detach();
            if mode == Mode::Train || index + 1 == depth {
                let logits = self.scores(index, wide.clone());
                let logits = self.decoder.lqe_layers[index].forward(logits, probabilities);
                trace::record(format_args!("decoder.lqe_layers.{index}"), &logits);
                outputs.layers.push(Prediction { logits, boxes, corners: Some(corners.clone()) });
            }
            previous = Some(Refined { queries: wide.detach(), corners });
        }
        outputs
    }

    /// The box that all layers' edges are relative to, without gradient; with it and with a score of
    /// its own, it is one more prediction to train.
    fn place(
        &self,
        queries: &Tensor<3>,
        start: Tensor<3>,
        mode: Mode,
        outputs: &mut DecoderOutputs,
    ) -> Tensor<3> {
        let head = self.pre_bbox_head.as_ref().expect("D-FINE's decoder is made with this head");
        let change = head.forward(queries.clone());
        trace::record("pre_bbox_head", &change);
        let boxes = sigmoid(change + inverse_sigmoid(start));
        let reference = boxes.clone().detach();
        outputs.reference = Some(reference.clone());
        if mode == Mode::Train {
            let logits = self.scores(0, queries.clone());
            outputs.pre = Some(Prediction { logits, boxes, corners: None });
        }
        reference
    }
}

/// What a layer takes over from the one before.
struct Refined {
    /// Detached.
    queries: Tensor<3>,
    corners: Tensor<3>,
}
