//! The small detectors of cases: an official configuration with sizes of their own in `case.toml`.

use deim_spec::Config;
use deim_spec::config::{
    Activation, Backbone, BackboneKind, EncoderVersion, HgNet, HgStage, QueryPos,
};
use deim_spec::official;

use super::loss::failed;
use crate::case::{Case, CaseError};

/// Height and width of the images.
pub fn input_size(case: &Case) -> Result<[usize; 2], CaseError> {
    let wrong =
        || CaseError::new("case.toml: 'input_size' is not a height and a width, multiples of 32");
    let size = counts(case, "input_size")?;
    let size: [usize; 2] = size.try_into().map_err(|_| wrong())?;
    if size.iter().any(|&side| side == 0 || side % 32 != 0) {
        return Err(wrong());
    }
    Ok(size)
}

/// The configuration that a case describes.
pub fn config(case: &Case) -> Result<Config, CaseError> {
    let base = case.text("base_config")?;
    let name = official_name(base)
        .ok_or_else(|| CaseError::new(format!("case.toml: 'base_config' is '{base}'")))?;
    let mut config = name.architecture().map_err(failed)?;
    config.data.input_size = input_size(case)?[0];
    let model = &mut config.model;
    backbone(case, &mut model.backbone)?;
    if let Some(indices) = case.optional("backbone.return_idx", counts)? {
        model.strides = indices.into_iter().map(|index| 4 << index.min(3)).collect();
    }

    let encoder = &mut model.encoder;
    set(case, "encoder.hidden_dim", &mut encoder.hidden)?;
    set(case, "encoder.nhead", &mut encoder.heads)?;
    set(case, "encoder.dim_feedforward", &mut encoder.feedforward)?;
    set_number(case, "encoder.expansion", &mut encoder.expansion)?;
    set_number(case, "encoder.depth_mult", &mut encoder.depth_mult)?;
    if let Some(version) = case.optional("encoder.version", text)? {
        encoder.version = match version.as_str() {
            "dfine" => EncoderVersion::Dfine,
            _ => EncoderVersion::RtDetrv2,
        };
    }

    let decoder = &mut model.decoder;
    set(case, "decoder.hidden_dim", &mut decoder.hidden)?;
    set(case, "decoder.nhead", &mut decoder.heads)?;
    set(case, "decoder.dim_feedforward", &mut decoder.feedforward)?;
    set(case, "decoder.num_layers", &mut decoder.layers)?;
    set(case, "decoder.reg_max", &mut decoder.reg_max)?;
    set(case, "decoder.num_queries", &mut model.queries)?;
    set(case, "decoder.num_denoising", &mut config.denoising.queries)?;
    set_number(case, "decoder.reg_scale", &mut decoder.reg_scale)?;
    if let Some(points) = case.optional("decoder.num_points", counts)? {
        decoder.points = points;
    }
    if let Some(method) = case.optional("decoder.query_pos_method", text)? {
        decoder.query_pos = match method.as_str() {
            "as_reg" => QueryPos::AsReg,
            _ => QueryPos::Default,
        };
    }
    if let Some(activation) = case.optional("decoder.activation", text)? {
        decoder.activation = match activation.as_str() {
            "relu" => Activation::Relu,
            _ => Activation::Silu,
        };
    }
    Ok(config)
}

/// The detector behind the name of an official file: `deim_hgnetv2_s_coco.yml`, `deim_r50vd_60e_coco.yml`.
fn official_name(file: &str) -> Option<&'static official::Official> {
    let stem = file.trim_end_matches(".yml").trim_end_matches("_coco");
    let name = match stem.split_once("hgnetv2_") {
        Some((_, name)) => name.to_owned(),
        None => {
            let (depth, rest) = stem.split_once("_r")?.1.split_once("vd")?;
            if rest.starts_with("_m") { format!("r{depth}_m") } else { format!("r{depth}") }
        }
    };
    official::model(&name)
}

fn backbone(case: &Case, backbone: &mut Backbone) -> Result<(), CaseError> {
    if case.text("backbone.type")? == "HGNetv2" {
        let stem = counts(case, "backbone.stem")?;
        let &[_, middle, out] = stem.as_slice() else {
            return Err(CaseError::new("case.toml: 'backbone.stem' is not three channels"));
        };
        let [first, second, third, last] = ["stage1", "stage2", "stage3", "stage4"]
            .map(|key| stage(case, &format!("backbone.{key}")));
        backbone.kind = BackboneKind::Hgnetv2;
        backbone.hgnetv2 = Some(HgNet {
            stem: [middle, out],
            stages: [first?, second?, third?, last?],
            lab: case.flag("backbone.use_lab")?,
        });
        return Ok(());
    }
    let Some(depth) = case.optional("backbone.depth", Case::count)? else { return Ok(()) };
    let named = official::model(&format!("r{depth}"))
        .ok_or_else(|| CaseError::new(format!("case.toml: 'backbone.depth' is {depth}")))?;
    *backbone = named.architecture().map_err(failed)?.model.backbone;
    Ok(())
}

/// `in,mid,out,blocks,downsample,light,kernel,layers`, as the official class lists them.
fn stage(case: &Case, key: &str) -> Result<HgStage, CaseError> {
    let wrong = || CaseError::new(format!("case.toml: '{key}' is not a stage of HGNetv2"));
    let text = case.text(key)?;
    let parts: Vec<&str> = text.split(',').map(str::trim).collect();
    let &[_, middle, out, blocks, _, light, kernel, layers] = parts.as_slice() else {
        return Err(wrong());
    };
    let count = |text: &str| text.parse::<usize>().map_err(|_| wrong());
    Ok(HgStage {
        middle: count(middle)?,
        out: count(out)?,
        blocks: count(blocks)?,
        light: light == "True",
        kernel: count(kernel)?,
        layers: count(layers)?,
    })
}

fn set(case: &Case, key: &str, place: &mut usize) -> Result<(), CaseError> {
    if let Some(value) = case.optional(key, Case::count)? {
        *place = value;
    }
    Ok(())
}

fn set_number(case: &Case, key: &str, place: &mut f64) -> Result<(), CaseError> {
    if let Some(value) = case.optional(key, Case::number)? {
        *place = value;
    }
    Ok(())
}

fn text(case: &Case, key: &str) -> Result<String, CaseError> {
    case.text(key).map(str::to_owned)
}

fn counts(case: &Case, key: &str) -> Result<Vec<usize>, CaseError> {
    let numbers = case.numbers(key)?;
    let count = |&number: &f64| (number >= 0.0 && number.fract() == 0.0).then_some(number as usize);
    let counts: Option<Vec<usize>> = numbers.iter().map(count).collect();
    counts.ok_or_else(|| CaseError::new(format!("case.toml: '{key}' is not a list of counts")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn official_files_name_their_detectors() {
        let name = |file| official_name(file).map(|official| official.name);
        assert_eq!(name("deim_hgnetv2_s_coco.yml"), Some("s"));
        assert_eq!(name("deim_r18vd_120e_coco.yml"), Some("r18"));
        assert_eq!(name("deim_r50vd_m_60e_coco.yml"), Some("r50_m"));
        assert_eq!(name("deim_r101vd_60e_coco.yml"), Some("r101"));
        assert_eq!(name("something.yml"), None);
    }
}
