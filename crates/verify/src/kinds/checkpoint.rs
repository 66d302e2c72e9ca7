//! Files of `torch.save`: every tensor and number of them, and the predictions of a loaded average.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use burn::tensor::{Device, Tensor, TensorData};
use deim_model::Detector;
use deim_model::pretrained::{Choice, load_pretrained};
use deim_weights::{Entries, Entry, Layout, Moment, Part, WeightFile};
use serde::Deserialize;

use super::loss::failed;
use super::micro;
use crate::case::{Case, CaseError};
use crate::compare::{Check, Tolerance};
use crate::fill;
use crate::tensors::{self, Array};

/// Stands for infinity in the arrays of a case.
const INFINITE: f32 = 1e30;

/// What is no parameter of the model: statistics, counters, constants, and names written twice.
const NO_PARAMETERS: [&str; 6] = [
    "running_mean",
    "running_var",
    "num_batches_tracked",
    "anchors",
    "valid_mask",
    "num_points_scale",
];
const TWICE: [&str; 2] = ["decoder.decoder.up", "decoder.decoder.reg_scale"];

/// The parts of `layout.json` that say more than `case.toml`.
#[derive(Deserialize)]
struct LayoutFile {
    /// By optimizer group, in the order of the indices.
    optimizer_param_names: Vec<Vec<String>>,
    optimizer_param_groups: Vec<BTreeMap<String, serde_json::Value>>,
}

pub fn verify(case: &Case, device: &Device, check: &mut Check) -> Result<(), CaseError> {
    let tolerance = case.tolerance("tensors")?;
    let stored = case.folder.join("tensors.safetensors");
    if !stored.is_file() {
        return filled(case, tolerance, check);
    }
    let arrays = tensors::read(&stored)?;
    let with = |prefix: &str| -> BTreeMap<&str, &Array> {
        arrays
            .iter()
            .filter_map(|(name, array)| Some((name.strip_prefix(prefix)?, array)))
            .collect()
    };
    let (model, average) = (with("model."), with("ema.module."));
    let mut predicted = false;
    for name in case.texts("files")? {
        let file = open(&case.folder, &name)?;
        // Whatever else is there, the average is what counts; a release holds it as `model`.
        let (part, best) =
            file.best().ok_or_else(|| CaseError::new(format!("{name}: no weights")))?;
        let mut expected = average.clone();
        if file.layout == Layout::Backbone {
            expected.retain(|name, _| name.starts_with("backbone."));
        }
        entries(&name, &file, best, &expected, tolerance, check)?;
        if part == Part::Ema
            && let Some(entered) = file.parts.get(&Part::Model)
        {
            entries(&name, &file, entered, &model, tolerance, check)?;
        }
        if file.optimizer.is_some() {
            training(case, &name, &file, check)?;
            moments(case, &file, &with("optimizer."), tolerance, check)?;
        }
        if !predicted && file.layout != Layout::Backbone && arrays.contains_key("eval.pred_logits")
        {
            predictions(case, &file, &arrays, device, check)?;
            predicted = true;
        }
    }
    Ok(())
}

/// A checkpoint before the first step: its weights are the documented fill.
fn filled(case: &Case, tolerance: Tolerance, check: &mut Check) -> Result<(), CaseError> {
    let name = case.text("file")?;
    let file = open(&case.folder, name)?;
    training(case, name, &file, check)?;
    let constants = tensors::read(&case.folder.join("constants.safetensors"))?;
    for (part, entered) in &file.parts {
        if let Some(expected) = case.optional("state_dict_entries", Case::count)? {
            check.same(&format!("{}: entries", part.name()), &entered.len(), &expected);
        }
        let mut expected = BTreeMap::new();
        for (name, entry) in entered {
            let array = match fill::tensor(name, &entry.shape) {
                Some(values) => {
                    let values = values.into_iter().map(f64::from).collect();
                    Array { shape: entry.shape.clone(), values }
                }
                None => constants.get(name).cloned().ok_or_else(|| {
                    CaseError::new(format!("constants.safetensors lacks '{name}'"))
                })?,
            };
            expected.insert(name.as_str(), array);
        }
        let expected = expected.iter().map(|(&name, array)| (name, array)).collect();
        entries(name, &file, entered, &expected, tolerance, check)?;
    }
    check.same(
        "parts",
        &file.parts.keys().copied().collect::<Vec<_>>(),
        &vec![Part::Ema, Part::Model],
    );
    Ok(())
}

fn open(folder: &Path, name: &str) -> Result<WeightFile, CaseError> {
    deim_weights::open(&folder.join(name)).map_err(|error| CaseError::new(error.to_string()))
}

/// Compares a state dict, both its names and its values.
fn entries(
    file_name: &str,
    file: &WeightFile,
    found: &Entries,
    expected: &BTreeMap<&str, &Array>,
    tolerance: Tolerance,
    check: &mut Check,
) -> Result<(), CaseError> {
    let ours: BTreeSet<&str> = found.keys().map(String::as_str).collect();
    let theirs: BTreeSet<&str> = expected.keys().copied().collect();
    check.same(&format!("{file_name}: names"), &ours, &theirs);
    for (name, entry) in found {
        if let Some(array) = expected.get(name.as_str()) {
            tensor(name, file, entry, array, tolerance, check)?;
        }
    }
    Ok(())
}

fn tensor(
    name: &str,
    file: &WeightFile,
    entry: &Entry,
    expected: &Array,
    tolerance: Tolerance,
    check: &mut Check,
) -> Result<(), CaseError> {
    // A case stores single numbers as arrays of one.
    let listed = |shape: &[usize]| if shape.is_empty() { vec![1] } else { shape.to_vec() };
    check.same(&format!("{name}: shape"), &listed(&entry.shape), &listed(&expected.shape));
    let tensor = file.read(entry).map_err(|error| CaseError::new(error.to_string()))?;
    let finite = |value: f64| if value == f64::INFINITY { f64::from(INFINITE) } else { value };
    let ours: Vec<f64> = tensor.f64s().into_iter().map(finite).collect();
    check.values(name, &ours, &expected.values, tolerance)
}

/// Compares what a training checkpoint holds beside its tensors.
fn training(
    case: &Case,
    name: &str,
    file: &WeightFile,
    check: &mut Check,
) -> Result<(), CaseError> {
    let keys: Vec<String> = file.top_level.iter().map(|(key, _)| key.clone()).collect();
    check.same(&format!("{name}: top_level_keys"), &keys, &case.texts("top_level_keys")?);
    for (ours, key) in [("last_epoch", "last_epoch"), ("ema.updates", "ema_updates")] {
        let expected = Some(case.number(key)?);
        check.same(&format!("{name}: {key}"), &file.numbers.get(ours).copied(), &expected);
    }
    let parameters: u64 = file.best().map_or(0, |(_, entries)| {
        let counted = entries.iter().filter(|(name, _)| {
            let last = name.rsplit('.').next().unwrap_or(name);
            !NO_PARAMETERS.contains(&last) && !TWICE.contains(&name.as_str())
        });
        counted.map(|(_, entry)| entry.count()).sum()
    });
    if let Some(expected) = case.optional("num_parameters", Case::count)? {
        check.same(&format!("{name}: num_parameters"), &parameters, &(expected as u64));
    }
    Ok(())
}

/// Compares the optimizer's memory, and its groups with the names of their parameters.
fn moments(
    case: &Case,
    file: &WeightFile,
    arrays: &BTreeMap<&str, &Array>,
    tolerance: Tolerance,
    check: &mut Check,
) -> Result<(), CaseError> {
    let Some(optimizer) = &file.optimizer else { return Ok(()) };
    let layout: LayoutFile = case.json("layout.json")?;
    let (_, model) = file.best().ok_or_else(|| CaseError::new("no weights"))?;
    let sizes: Vec<usize> = optimizer.groups.iter().map(|group| group.parameters.len()).collect();
    let expected: Vec<usize> = layout.optimizer_param_names.iter().map(Vec::len).collect();
    check.same("optimizer: group sizes", &sizes, &expected);
    for (index, (group, expected)) in
        optimizer.groups.iter().zip(&layout.optimizer_param_groups).enumerate()
    {
        for (setting, value) in expected {
            if let Some(value) = value.as_f64() {
                let found = group.numbers.get(setting).copied();
                check.same(&format!("optimizer: group {index}: {setting}"), &found, &Some(value));
            }
        }
    }
    let names: Vec<&String> = layout.optimizer_param_names.iter().flatten().collect();
    let mut compared = BTreeSet::new();
    for (index, of_parameter) in &optimizer.state {
        let shape = names
            .get(*index as usize)
            .and_then(|name| model.get(*name))
            .map(|entry| entry.shape.clone())
            .ok_or_else(|| CaseError::new(format!("optimizer: index {index} has no parameter")))?;
        for (what, moment) in of_parameter {
            let key = format!("{index}.{what}");
            let array = arrays.get(key.as_str()).ok_or_else(|| {
                CaseError::new(format!("tensors.safetensors lacks 'optimizer.{key}'"))
            })?;
            match moment {
                Moment::Number(value) => check.values(&key, &[*value], &array.values, tolerance)?,
                Moment::Tensor(entry) => {
                    if what != "step" {
                        check.same(&format!("optimizer: {key}: shape"), &entry.shape, &shape);
                    }
                    tensor(&format!("optimizer.{key}"), file, entry, array, tolerance, check)?;
                }
            }
            compared.insert(key);
        }
    }
    let expected: BTreeSet<String> = arrays.keys().map(|&key| key.to_owned()).collect();
    check.same("optimizer: states", &compared, &expected);
    Ok(())
}

/// Compares the predictions of the averaged weights on the image of the case's seed.
fn predictions(
    case: &Case,
    file: &WeightFile,
    arrays: &BTreeMap<String, Array>,
    device: &Device,
    check: &mut Check,
) -> Result<(), CaseError> {
    let config = micro::config(case)?;
    let [height, width] = micro::input_size(case)?;
    let logits =
        arrays.get("eval.pred_logits").map(|array| array.shape.clone()).unwrap_or_default();
    let &[_, _, classes] = logits.as_slice() else {
        return Err(CaseError::new("eval.pred_logits: expected [batch, queries, classes]"));
    };
    let detector = Detector::new(&config, classes, 0, device);
    let (detector, report) =
        load_pretrained(detector, &config, file, Choice::Best).map_err(failed)?;
    if !report.fits() {
        return Err(CaseError::new(format!("the model of the case: {}", report.line())));
    }
    let pixels = fill::image(case.text("seed")?, 1, [height, width]);
    let images = Tensor::from_data(TensorData::new(pixels, [1, 3, height, width]), device);
    let prediction = detector.infer(images);
    let tolerance = case.tolerance("eval")?;
    for (name, ours) in
        [("eval.pred_logits", prediction.logits), ("eval.pred_boxes", prediction.boxes)]
    {
        let expected = arrays
            .get(name)
            .ok_or_else(|| CaseError::new(format!("tensors.safetensors lacks '{name}'")))?;
        let ours: Vec<f64> = ours.into_data().iter::<f64>().collect();
        check.values(name, &ours, &expected.values, tolerance)?;
    }
    Ok(())
}
