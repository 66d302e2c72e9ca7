//! Which losses there are, and what they weigh.

use deim_spec::Config;
use deim_spec::config::DecoderKind;

use crate::losses::boxes::Similarity;
use crate::losses::class::ClassLoss;
use crate::losses::edges::EdgeLoss;

/// What the criterion computes; more than an experiment's configuration can ask for.
#[derive(Clone, Debug)]
pub struct CriterionConfig {
    pub class: ClassLoss,
    pub weight_class: f64,
    pub weight_bbox: f64,
    pub weight_giou: f64,
    /// `boxes_weight_format`: weighs the GIoU loss, and replaces IoU as the quality of a class.
    pub boxes_weight: Option<Similarity>,
    /// Boxes and edges learn from the union of all heads' matches (D-FINE).
    pub union_set: bool,
    /// The edge losses of D-FINE.
    pub edges: Option<EdgeLoss>,
}

impl CriterionConfig {
    /// The criterion of a configuration; only D-FINE has edges to apply its edge losses to.
    pub fn new(config: &Config) -> Self {
        let (loss, decoder) = (&config.loss, &config.model.decoder);
        Self {
            class: ClassLoss::new(loss),
            weight_class: loss.weight_class,
            weight_bbox: loss.weight_bbox,
            weight_giou: loss.weight_giou,
            boxes_weight: None,
            union_set: loss.union_set,
            edges: (decoder.kind == DecoderKind::Dfine).then_some(EdgeLoss {
                reg_max: decoder.reg_max,
                reg_scale: decoder.reg_scale,
                up: UP,
                weight_fgl: loss.weight_fgl,
                weight_ddf: loss.weight_ddf,
            }),
        }
    }
}

/// Half the offset at which D-FINE's bins end; the same constant in every official configuration.
const UP: f64 = 0.5;
