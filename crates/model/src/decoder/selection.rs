//! Query selection: the tokens with the highest class scores become the queries (deim-facts 3.12).

use burn::tensor::activation::sigmoid;
use burn::tensor::{Device, IndexingUpdateOp, Int, Tensor, TensorData};
use deim_ops::{best_of_rows, like, widened};
use deim_spec::config::DecoderKind;

use super::Decoder;
use super::layer::Scene;
use crate::outputs::Prediction;
use crate::trace;

/// The queries that decoding starts from.
pub(super) struct Selection {
    /// `[batch, queries, hidden]`, detached.
    pub content: Tensor<3>,
    /// Boxes before the sigmoid `[batch, queries, 4]`, detached.
    pub boxes: Tensor<3>,
    /// The same tokens' predictions, for the encoder's loss.
    pub prediction: Prediction,
    /// Which tokens these are `[batch, queries]`.
    pub tokens: Tensor<2, Int>,
}

impl Decoder {
    /// The tokens with the highest class scores become the queries.
    pub(super) fn select(&self, scene: &Scene) -> Selection {
        let device = scene.memory.device();
        let [_, tokens, hidden] = scene.memory.dims();
        let (anchors, valid) = anchors(&scene.levels, &device);
        let memory = scene.memory.clone() * like(valid, &scene.memory);
        // In 16 bits the scores of many tokens would be equal; from here on there are no fewer than 32.
        let memory = widened(self.enc_output.proj.forward(memory));
        let memory = self.enc_output.norm.forward(memory);
        trace::record("enc_output", &memory);
        let anchors = like(anchors, &memory);
        let logits = self.enc_score_head.forward(memory.clone());
        trace::record("enc_score_head", &logits);
        let scores = logits.clone().detach().max_dim(2).squeeze_dim(2);
        let chosen = best_of_rows(scores, self.queries.min(tokens));
        let gather = |tensor: Tensor<3>| {
            let [_, _, width] = tensor.dims();
            tensor.gather(1, chosen.clone().unsqueeze_dim::<3>(2).repeat_dim(2, width))
        };
        // The box head works token by token: scoring all and gathering is RT-DETRv2's order, but
        // gathering first gives the same numbers for a fraction of the work.
        let content = gather(memory.clone());
        let anchors = gather_constant(anchors, &chosen);
        let change = self.enc_bbox_head.forward(content.clone());
        self.record_boxes(memory, &chosen, &change);
        let boxes = change + anchors;
        debug_assert_eq!(content.dims()[2], hidden);
        Selection {
            content: content.detach(),
            boxes: boxes.clone().detach(),
            prediction: Prediction { logits: gather(logits), boxes: sigmoid(boxes), corners: None },
            tokens: chosen,
        }
    }

    /// Records the output of the box head on what the official code gives it: D-FINE the chosen tokens,
    /// RT-DETRv2 all. The rows of the chosen ones are those that this pass goes on with.
    fn record_boxes(&self, memory: Tensor<3>, chosen: &Tensor<2, Int>, change: &Tensor<3>) {
        if trace::is_on() && self.config.kind == DecoderKind::Rtdetrv2 {
            let chosen = chosen.clone().unsqueeze_dim::<3>(2).repeat_dim(2, 4);
            let all = self.enc_bbox_head.forward(memory);
            let difference = change.clone() - all.clone().gather(1, chosen.clone());
            let all = all.scatter(1, chosen, difference, IndexingUpdateOp::Add);
            trace::record("enc_bbox_head", &all);
        } else {
            trace::record("enc_bbox_head", change);
        }
    }
}

/// The box before the sigmoid that every token starts from, `[1, tokens, 4]`, and whether it is
/// usable, `[1, tokens, 1]` (deim-facts 3.12).
pub fn anchors(levels: &[[usize; 2]], device: &Device) -> (Tensor<3>, Tensor<3>) {
    let (mut boxes, mut valid) = (Vec::new(), Vec::new());
    for (level, &[height, width]) in levels.iter().enumerate() {
        let size = 0.05 * 2_f32.powi(level as i32);
        for (row, column) in (0..height).flat_map(|row| (0..width).map(move |column| (row, column)))
        {
            let centre = [(column as f32 + 0.5) / width as f32, (row as f32 + 0.5) / height as f32];
            let anchor = [centre[0], centre[1], size, size];
            let usable = anchor.iter().all(|&side| side > 0.01 && side < 0.99);
            // An unusable anchor is officially infinite; its sigmoid is one either way, and this
            // value has no NaN in its gradient.
            boxes.extend(anchor.map(|side| if usable { (side / (1.0 - side)).ln() } else { 1e30 }));
            valid.push(if usable { 1.0_f32 } else { 0.0 });
        }
    }
    let tokens = valid.len();
    (
        Tensor::from_data(TensorData::new(boxes, [1, tokens, 4]), device),
        Tensor::from_data(TensorData::new(valid, [1, tokens, 1]), device),
    )
}

/// Rows of a table `[1, tokens, width]` for every image: `[batch, count, width]`.
fn gather_constant(table: Tensor<3>, chosen: &Tensor<2, Int>) -> Tensor<3> {
    let [batch, count] = chosen.dims();
    let [_, tokens, width] = table.dims();
    let rows = chosen.clone().reshape([batch * count]);
    table.reshape([tokens, width]).select(0, rows).reshape([batch, count, width])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_at_the_border_of_a_fine_level_are_unusable() {
        // deim-facts 5.4: 316 of the 8400 anchors of a 640 image.
        let (anchors, valid) = anchors(&[[80, 80], [40, 40], [20, 20]], &Device::flex());
        let valid: Vec<f32> = valid.into_data().iter().collect();
        assert_eq!(valid.len() - valid.iter().sum::<f32>() as usize, 316);
        let anchors: Vec<f32> = anchors.into_data().iter().collect();
        assert_eq!(anchors[0], 1e30);
    }
}
