//! The predictions a criterion looks at, laid out so that a step needs one transfer to the host.

use burn::tensor::{DType, Tensor};
use deim_data::Target;
use deim_model::outputs::{DecoderOutputs, Outputs, Prediction};

use crate::boxes::Box4;
use crate::criterion::CriterionError;
use crate::matcher::Predictions;

/// One prediction and what its losses are called after: `loss_mal` + `_aux_0`.
#[derive(Clone, Debug)]
pub struct Head {
    pub suffix: String,
    pub prediction: Prediction,
}

/// Heads over the same queries.
#[derive(Clone, Debug)]
pub struct Group {
    /// The decoder layers in order, then the heads beside them.
    pub heads: Vec<Head>,
    /// How many of the heads are decoder layers; the last of them is the final prediction.
    pub layers: usize,
    /// Reference boxes of the edge distributions.
    pub reference: Option<Tensor<3>>,
}

/// All heads of a step.
#[derive(Clone, Debug)]
pub struct Heads {
    pub matching: Group,
    pub denoising: Option<Group>,
}

impl From<&Outputs> for Heads {
    fn from(outputs: &Outputs) -> Self {
        let last = outputs.matching.layers.len().saturating_sub(1);
        let name =
            |layer: usize| if layer == last { String::new() } else { format!("_aux_{layer}") };
        let mut matching = group(&outputs.matching, name, "_pre");
        matching.heads.push(Head { suffix: "_enc_0".into(), prediction: outputs.encoder.clone() });
        let denoising = outputs
            .denoising
            .as_ref()
            .map(|decoder| group(decoder, |layer| format!("_dn_{layer}"), "_dn_pre"));
        Self { matching, denoising }
    }
}

fn group(decoder: &DecoderOutputs, name: impl Fn(usize) -> String, pre: &str) -> Group {
    let layers = decoder.layers.iter().enumerate();
    let mut heads: Vec<Head> = layers
        .map(|(layer, prediction)| Head { suffix: name(layer), prediction: prediction.clone() })
        .collect();
    heads.extend(
        decoder
            .pre
            .iter()
            .map(|pre_head| Head { suffix: pre.into(), prediction: pre_head.clone() }),
    );
    Group { heads, layers: decoder.layers.len(), reference: decoder.reference.clone() }
}

/// Where a group's numbers lie in the flat tensor.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    pub suffixes: Vec<String>,
    pub layers: usize,
    pub queries: usize,
    /// Rows of one head: batch times queries.
    pub rows: usize,
    reference_at: Option<usize>,
    boxes_at: usize,
    logits_at: usize,
}

impl Layout {
    pub fn heads(&self) -> usize {
        self.suffixes.len()
    }
}

/// All heads in one flat tensor: references, boxes, then logits, each with the matching queries first.
///
/// What the host needs (everything but the denoising logits) is its beginning.
#[derive(Clone, Debug)]
pub struct Gathered {
    /// On the graph when the heads are.
    pub(crate) flat: Tensor<1>,
    /// The same numbers off the graph.
    pub(crate) plain: Tensor<1>,
    /// What the matcher reads: references, boxes and logits.
    host: Vec<f32>,
    /// References and boxes as precise as they are: the losses' share of the same transfer.
    boxes: Vec<f64>,
    /// Where the logits begin; everything before has its gradient from the host.
    pub(crate) logits_at: usize,
    /// The matching queries, then the denoising queries if there are any.
    pub(crate) groups: Vec<Layout>,
    /// Edge distributions of each group's layers `[layers * rows, 4 * bins]`.
    pub(crate) corners: Vec<Option<Tensor<2>>>,
    pub(crate) batch: usize,
    pub(crate) classes: usize,
}

impl Gathered {
    /// Collects the heads and reads back what the host needs.
    pub fn new(heads: &Heads) -> Result<Self, CriterionError> {
        let groups: Vec<&Group> =
            std::iter::once(&heads.matching).chain(&heads.denoising).collect();
        let first = groups[0].heads.first().ok_or(CriterionError::NoHeads)?;
        let [batch, _, classes] = first.prediction.logits.dims();

        let mut parts: Vec<Tensor<1>> = Vec::new();
        let mut length = 0;
        let mut push = |tensor: &Tensor<3>| {
            let count = tensor.dims().iter().product::<usize>();
            parts.push(tensor.clone().reshape([count]));
            length += count;
            length - count
        };
        let mut layouts: Vec<Layout> = Vec::new();
        for group in &groups {
            let Some(first) = group.heads.first() else { return Err(CriterionError::NoHeads) };
            let queries = first.prediction.logits.dims()[1];
            group.heads.iter().try_for_each(|head| check_shape(head, [batch, queries, classes]))?;
            layouts.push(Layout {
                suffixes: group.heads.iter().map(|head| head.suffix.clone()).collect(),
                layers: group.layers,
                queries,
                rows: batch * queries,
                reference_at: group.reference.as_ref().map(&mut push),
                boxes_at: 0,
                logits_at: 0,
            });
        }
        for (group, layout) in groups.iter().zip(&mut layouts) {
            let places: Vec<usize> =
                group.heads.iter().map(|head| push(&head.prediction.boxes)).collect();
            layout.boxes_at = places[0];
        }
        for (group, layout) in groups.iter().zip(&mut layouts) {
            let places: Vec<usize> =
                group.heads.iter().map(|head| push(&head.prediction.logits)).collect();
            layout.logits_at = places[0];
        }

        let flat = Tensor::cat(parts, 0);
        let plain = flat.clone().no_grad();
        let needed = layouts.get(1).map_or(length, |denoising| denoising.logits_at);
        let corners = groups.iter().map(|group| stack_corners(group)).collect();
        let logits_at = layouts[0].logits_at;
        let read =
            deim_ops::read(plain.clone().narrow(0, 0, needed)).map_err(CriterionError::Device)?;
        let boxes = read.iter::<f64>().take(logits_at).collect();
        let host = read
            .convert::<f32>()
            .try_into_vec()
            .map_err(|error| CriterionError::Device(format!("{error:?}")))?;
        Ok(Self { flat, plain, host, boxes, logits_at, groups: layouts, corners, batch, classes })
    }

    /// Index in the flat tensor (and on the host) of a head's box of an image's query.
    pub(crate) fn box_index(&self, group: usize, head: usize, image: usize, query: usize) -> usize {
        let layout = &self.groups[group];
        layout.boxes_at + 4 * (head * layout.rows + image * layout.queries + query)
    }

    /// A head's box of an image's query.
    pub(crate) fn box_of(
        &self,
        group: usize,
        head: usize,
        image: usize,
        query: usize,
    ) -> Box4<f64> {
        self.box_at(self.box_index(group, head, image, query))
    }

    /// The reference box of an image's query, where the group has references.
    pub(crate) fn reference(&self, group: usize, image: usize, query: usize) -> Option<Box4<f64>> {
        let layout = &self.groups[group];
        let start = layout.reference_at?;
        Some(self.box_at(start + 4 * (image * layout.queries + query)))
    }

    /// Whether the predictions are in 64 bits.
    pub(crate) fn is_double(&self) -> bool {
        self.plain.dtype() == DType::F64
    }

    fn box_at(&self, at: usize) -> Box4<f64> {
        [0, 1, 2, 3].map(|axis| self.boxes[at + axis])
    }

    /// The flat logits of a group's heads, off the graph.
    pub(crate) fn logits(&self, group: usize) -> Tensor<1> {
        let layout = &self.groups[group];
        let count = layout.heads() * layout.rows * self.classes;
        self.plain.clone().narrow(0, layout.logits_at, count)
    }

    /// The matching problems of every head, image by image.
    pub(crate) fn problems<'a>(
        &'a self,
        targets: &'a [Target],
    ) -> Vec<(Predictions<'a>, &'a Target)> {
        let layout = &self.groups[0];
        let mut problems = Vec::with_capacity(layout.heads() * self.batch);
        for head in 0..layout.heads() {
            for (image, target) in targets.iter().enumerate() {
                let boxes_at = self.box_index(0, head, image, 0);
                let row = head * layout.rows + image * layout.queries;
                let logits_at = layout.logits_at + row * self.classes;
                let predictions = Predictions {
                    boxes: &self.host[boxes_at..boxes_at + 4 * layout.queries],
                    logits: &self.host[logits_at..logits_at + self.classes * layout.queries],
                    classes: self.classes,
                };
                problems.push((predictions, target));
            }
        }
        problems
    }
}

/// Every head of a group shares the shape of its first, every group batch and classes.
fn check_shape(head: &Head, expected: [usize; 3]) -> Result<(), CriterionError> {
    let logits = head.prediction.logits.dims();
    let boxes = head.prediction.boxes.dims();
    if logits == expected && boxes == [expected[0], expected[1], 4] {
        return Ok(());
    }
    Err(CriterionError::Shape { head: head.suffix.clone(), logits, boxes, expected })
}

fn stack_corners(group: &Group) -> Option<Tensor<2>> {
    let layers = &group.heads[..group.layers];
    let corners: Option<Vec<Tensor<2>>> = layers
        .iter()
        .map(|head| {
            let corners = head.prediction.corners.clone()?;
            let [batch, queries, width] = corners.dims();
            Some(corners.reshape([batch * queries, width]))
        })
        .collect();
    corners.filter(|layers| !layers.is_empty()).map(|layers| Tensor::cat(layers, 0))
}
