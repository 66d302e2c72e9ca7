//! Rules of `[model]`: sizes that fit each other.

use super::Checker;
use crate::config::{BackboneKind, Config, PretrainedPart};

impl Checker {
    pub(super) fn model(&mut self, config: &Config) {
        let model = &config.model;
        self.at_least("model.queries", model.queries as u64, 1);
        let lists: [(&str, &[usize]); 4] = [
            ("model.backbone.blocks", &model.backbone.blocks),
            ("model.backbone.stem", &model.backbone.stem),
            ("model.backbone.widths", &model.backbone.widths),
            ("model.decoder.points", &model.decoder.points),
        ];
        for (path, list) in lists {
            self.must(path, list, !list.contains(&0), "numbers of at least 1");
        }
        self.levels(config);
        self.hgnetv2(config);
        let freeze_at = model.backbone.freeze_at;
        let known = (-1..=4).contains(&freeze_at);
        self.must("model.backbone.freeze_at", freeze_at, known, "a number from -1 to 4");
        let encoder = &model.encoder;
        self.heads("model.encoder", encoder.hidden, encoder.heads);
        // The position embedding has sines and cosines of two coordinates (deim-facts 3.14).
        let quarters = encoder.hidden > 0 && encoder.hidden.is_multiple_of(4);
        self.must("model.encoder.hidden", encoder.hidden, quarters, "a multiple of 4");
        self.at_least("model.encoder.feedforward", encoder.feedforward as u64, 1);
        let inner = encoder.hidden as f64 * encoder.expansion;
        let fits = encoder.expansion.is_finite() && inner >= 1.0;
        self.must(
            "model.encoder.expansion",
            encoder.expansion,
            fits,
            "a finite number that leaves at least 1 of `hidden` channels",
        );
        self.positive("model.encoder.depth_mult", encoder.depth_mult);
        let decoder = &model.decoder;
        self.heads("model.decoder", decoder.hidden, decoder.heads);
        self.at_least("model.decoder.hidden", decoder.hidden as u64, 1);
        self.at_least("model.decoder.feedforward", decoder.feedforward as u64, 1);
        // `aux_outputs` is mandatory (deim-facts 3.11).
        self.at_least("model.decoder.layers", decoder.layers as u64, 2);
        if let Some(layer) = decoder.eval_layer
            && layer >= decoder.layers
        {
            self.relation(
                "no such decoder layer".into(),
                &[
                    ("model.decoder.eval_layer", format!("layer {layer}, counted from 0")),
                    ("model.decoder.layers", format!("{} layers", decoder.layers)),
                ],
                None,
            );
        }
        // The bins lie on both sides of zero, and their spacing is a root of degree reg_max - 2.
        let fits = decoder.reg_max >= 4 && decoder.reg_max.is_multiple_of(2);
        self.must("model.decoder.reg_max", decoder.reg_max, fits, "an even number of at least 4");
        self.positive("model.decoder.reg_scale", decoder.reg_scale);
    }

    /// The hash is of a file that something is taken from.
    pub(super) fn pretrained(&mut self, config: &Config) {
        let Some(pretrained) = &config.pretrained else { return };
        let Some(hash) = &pretrained.blake3 else { return };
        let digit = |c: char| c.is_ascii_digit() || ('a'..='f').contains(&c);
        let whole = hash.len() == 64 && hash.chars().all(digit);
        self.must("pretrained.blake3", hash, whole, "64 hexadecimal digits, as b3sum prints them");
        if pretrained.part == PretrainedPart::None {
            self.relation(
                "a hash of weights that nothing uses".into(),
                &[
                    ("pretrained.blake3", "names a file".into()),
                    ("pretrained.part", "nothing of it is used".into()),
                ],
                None,
            );
        }
    }

    /// The levels are the coarsest of the backbone's, and every one is sampled.
    fn levels(&mut self, config: &Config) {
        let strides = &config.model.strides;
        let known = [4, 8, 16, 32];
        let fits = !strides.is_empty() && known.ends_with(strides);
        self.must("model.strides", strides, fits, "the last of 4, 8, 16, 32, for example [16, 32]");
        let points = &config.model.decoder.points;
        if fits && points.len() != strides.len() {
            self.relation(
                "a number of sampling points for every level".into(),
                &[
                    ("model.decoder.points", format!("{} numbers", points.len())),
                    ("model.strides", format!("{} levels", strides.len())),
                ],
                None,
            );
        }
    }

    fn hgnetv2(&mut self, config: &Config) {
        let backbone = &config.model.backbone;
        let kind = |kind: &str| ("model.backbone.kind", format!("the backbone is {kind}"));
        let sizes = "model.backbone.hgnetv2";
        match (&backbone.hgnetv2, backbone.kind) {
            (None, BackboneKind::Presnet) => {}
            (None, BackboneKind::Hgnetv2) => {
                let help = "extend a part such as `models/backbones/hgnetv2-b0.toml`";
                self.relation(
                    "HGNetv2 without sizes".into(),
                    &[kind("HGNetv2")],
                    Some(help.into()),
                );
            }
            (Some(_), BackboneKind::Presnet) => {
                let unused = (sizes, "sizes that nothing uses".into());
                self.relation("sizes of another backbone".into(), &[unused, kind("PResNet")], None);
            }
            (Some(net), BackboneKind::Hgnetv2) => {
                // The stem halves its inner channels on the way.
                let stem = net.stem[0] >= 2 && net.stem[0].is_multiple_of(2) && net.stem[1] > 0;
                let expected = "an even number and a number of at least 1";
                self.must("model.backbone.hgnetv2.stem", net.stem, stem, expected);
                for (index, stage) in net.stages.iter().enumerate() {
                    let path = format!("{sizes}.stages.{index}");
                    let counts = [stage.middle, stage.blocks, stage.layers];
                    let expected = "`middle`, `blocks` and `layers` of at least 1";
                    self.must(&path, counts, !counts.contains(&0), expected);
                    let even = stage.out >= 2 && stage.out.is_multiple_of(2);
                    self.must(&format!("{path}.out"), stage.out, even, "an even number");
                    let odd = stage.kernel % 2 == 1;
                    self.must(&format!("{path}.kernel"), stage.kernel, odd, "an odd number");
                }
            }
        }
    }

    fn heads(&mut self, part: &str, hidden: usize, heads: usize) {
        let (hidden_path, heads_path) = (format!("{part}.hidden"), format!("{part}.heads"));
        self.at_least(&heads_path, heads as u64, 1);
        if heads > 0 && !hidden.is_multiple_of(heads) {
            self.relation(
                format!("`{heads_path}` does not divide `{hidden_path}`"),
                &[
                    (&heads_path, format!("{heads} heads")),
                    (&hidden_path, format!("{hidden} channels")),
                ],
                None,
            );
        }
    }
}
