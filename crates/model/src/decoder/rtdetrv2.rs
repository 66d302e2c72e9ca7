//! RT-DETRv2's way of decoding: every layer moves the boxes (deim-facts 3.13).

use burn::tensor::Tensor;
use burn::tensor::activation::sigmoid;
use deim_ops::{like, widened};

use super::layer::Scene;
use super::{Decoder, Mode, inverse_sigmoid};
use crate::outputs::{DecoderOutputs, Prediction};
use crate::trace;

impl Decoder {
    /// Logits and boxes of every layer (training) or of the last that runs (inference).
    pub(super) fn refine_boxes(
        &self,
        content: Tensor<3>,
        first_boxes: Tensor<3>,
        scene: &Scene,
        mode: Mode,
    ) -> DecoderOutputs {
        let depth = self.depth(mode);
        let mut queries = content;
        // The boxes that a layer starts from, without gradient, and the same with it.
        let mut start = first_boxes;
        let mut previous: Option<Tensor<3>> = None;
        let mut layers = Vec::with_capacity(depth);
        for (index, layer) in self.decoder.layers.iter().take(depth).enumerate() {
            let position = self.query_pos_head.forward(start.clone());
            trace::record("query_pos_head", &position);
            let position = like(position, &queries);
            queries = trace::within(format_args!("decoder.layers.{index}"), || {
                layer.forward(queries, start.clone(), position, scene)
            });
            trace::record(format_args!("decoder.layers.{index}"), &queries);
            let wide = widened(queries.clone());
            let change = self.dec_bbox_head[index].forward(wide.clone());
            trace::record(format_args!("dec_bbox_head.{index}"), &change);
            let refined = sigmoid(change.clone() + inverse_sigmoid(start));
            if mode == Mode::Train {
                // Look forward twice: the loss of a layer also reaches the box of the one before.
                let boxes = match previous {
                    None => refined.clone(),
                    Some(previous) => sigmoid(change + inverse_sigmoid(previous)),
                };
                let logits = self.scores(index, wide);
                layers.push(Prediction { logits, boxes, corners: None });
            } else if index + 1 == depth {
                let logits = self.scores(index, wide);
                layers.push(Prediction { logits, boxes: refined.clone(), corners: None });
            }
            start = refined.clone().detach();
            previous = Some(refined);
        }
        DecoderOutputs { layers, pre: None, reference: None }
    }
}
