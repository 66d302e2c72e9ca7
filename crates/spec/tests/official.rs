//! The ten official detectors and their twenty recipes, against the official code.
//!
//! The manifests and schedules were written by the official code (`shared/reference/FORMAT.md`). They
//! lie beside the repository; without them those tests print a note and prove nothing.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};

use deim_spec::config::{Activation, ClassLoss, Config, ParamGroup, QueryPos};
use deim_spec::official::{self, Family, Official, Recipe, models};
use regex::Regex;
use serde_json::Value;

/// The reference cases, if this machine has them.
fn reference(inside: &str) -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/reference/cases");
    let found = path.join(inside);
    if found.exists() {
        return Some(found);
    }
    eprintln!("note: there is no {}: nothing is compared", found.display());
    None
}

fn json(path: &Path) -> Value {
    serde_json::from_str(&std::fs::read_to_string(path).expect("readable")).expect("JSON")
}

fn config(official: &Official, recipe: Recipe) -> Config {
    official.config(recipe).unwrap_or_else(|error| panic!("{}: {error}", official.name))
}

/// The name of a schedule's folder.
fn folder(official: &Official, recipe: Recipe) -> String {
    let name = official.name;
    match (recipe, official.family) {
        (Recipe::Deim, _) => format!("deim_{name}"),
        (Recipe::Baseline, Family::Dfine) => format!("baseline_df_{name}"),
        (Recipe::Baseline, Family::Rtdetrv2) => {
            format!("baseline_rt{}", name.strip_prefix('r').expect("all begin with r"))
        }
    }
}

#[test]
fn every_detector_is_found_by_its_name_and_resolves() {
    assert_eq!(models().len(), 10);
    for official in models() {
        assert_eq!(official::model(official.name), Some(official));
        let architecture = official.architecture().unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(architecture.model.decoder.kind, official.family);
        let deim = config(official, Recipe::Deim);
        assert_eq!(deim.model, architecture.model, "the model parts are in the DEIM flavour");
        let baseline = config(official, Recipe::Baseline);
        assert_eq!(deim.loss.class, ClassLoss::Mal);
        assert_eq!(baseline.loss.class, ClassLoss::Vfl);
        assert_eq!(baseline.model.decoder.activation, Activation::Relu);
        assert_eq!(baseline.model.decoder.query_pos, QueryPos::Default);
        let published = official.published().unwrap_or_else(|error| panic!("{error}"));
        assert!(published.ap > published.about.baseline_ap);
    }
    assert_eq!(official::model("r20"), None);
}

/// Everything that a schedule's `case.toml` and `phases.json` say about the budget.
#[test]
fn schedules_are_the_official_ones() {
    for official in models() {
        for recipe in Recipe::BOTH {
            let name = folder(official, recipe);
            let Some(path) = reference(&format!("schedule/{name}")) else { return };
            let text = std::fs::read_to_string(path.join("case.toml")).unwrap();
            let case: toml::Table = toml::from_str(&text).unwrap();
            let number = |key: &str| case[key].as_integer().unwrap() as u64;
            let config = config(official, recipe);
            let schedule = &config.schedule;
            assert_eq!(u64::from(config.epochs), number("epochs"), "{name}");
            assert_eq!(config.data.batch_size as u64, number("total_batch"), "{name}");
            assert_eq!(schedule.warmup_iterations, number("warmup_iter"), "{name}");
            let divisor = schedule.first_iteration_divisor;
            assert_eq!(divisor, number("linear_warmup_duration"), "{name}");
            assert_eq!(Some(schedule.lr_gamma), case["lr_gamma"].as_float(), "{name}");
            assert_eq!(u64::from(schedule.no_aug_epochs), number("no_aug_epoch"), "{name}");
            assert_eq!(schedule.stop_epoch.map(u64::from), Some(number("stop_epoch")), "{name}");
            // Where the rate is constant, the official `flat_epoch` is far after the end.
            if schedule.lr_gamma < 1.0 {
                let flat = schedule.flat_epoch.map(u64::from);
                assert_eq!(flat, Some(number("flat_epoch")), "{name}");
            } else {
                assert!(number("flat_epoch") > number("epochs"), "{name}");
            }
            let scales = case["scales"].as_array().unwrap();
            let base = scales.iter().filter(|scale| scale.as_integer() == Some(640)).count();
            assert_eq!(config.augment.multi_scale_repeat, base, "{name}");
            assert_eq!(config.augment.mixup, case["mixup_prob"].as_float().unwrap(), "{name}");
            let mosaic = case["mosaic_prob"].as_float().unwrap().max(0.0);
            assert_eq!(config.augment.mosaic, mosaic, "{name}");
            operations(&config, &json(&path.join("phases.json")), &name);
        }
    }
}

/// Which operations the official container applies in each epoch, against the phases derived here.
fn operations(config: &Config, phases: &Value, name: &str) {
    let here = config.phases();
    let mut epoch = 0;
    for range in phases["phases"].as_array().unwrap() {
        assert_eq!(range["from_epoch"], epoch, "{name}: no gap");
        while range["to_epoch"].as_u64().unwrap() >= u64::from(epoch) {
            let has = |list: &str, wanted: &str| {
                range[list].as_array().unwrap().iter().any(|operation| operation == wanted)
            };
            let strong = (here.augment_start..here.augment_end).contains(&epoch);
            let dense = (here.augment_start..here.flat).contains(&epoch);
            let mosaic = dense && config.augment.mosaic > 0.0;
            let at = format!("{name}, epoch {epoch}");
            assert_eq!(has("mosaic_drawn", "Mosaic"), mosaic, "{at}");
            assert_eq!(has("mosaic_drawn", "RandomZoomOut"), strong && !mosaic, "{at}");
            for operation in ["RandomPhotometricDistort", "RandomZoomOut", "RandomIoUCrop"] {
                assert_eq!(has("mosaic_not_drawn", operation), strong, "{at}: {operation}");
            }
            assert_eq!(range["mixup_possible"], dense && config.augment.mixup > 0.0, "{at}");
            let multi_scale = config.augment.multi_scale_repeat > 0 && epoch < here.stop;
            assert_eq!(range["multi_scale"], multi_scale, "{at}");
            epoch += 1;
        }
    }
    assert_eq!(epoch, config.epochs, "{name}: every epoch");
}

/// A parameter of a manifest: its name and its number of scalars.
type Parameter = (String, u64);

/// The trainable parameters that a manifest lists, in the DEIM flavour.
fn parameters(manifest: &Value) -> Vec<Parameter> {
    let entries = manifest["state_dict"].as_array().unwrap().iter();
    let trained = entries.filter(|entry| entry["requires_grad"] == true);
    let mut found: Vec<Parameter> = trained
        .map(|entry| {
            let shape = entry["shape"].as_array().unwrap().iter();
            let scalars = shape.map(|size| size.as_u64().unwrap()).product();
            (entry["name"].as_str().unwrap().to_owned(), scalars)
        })
        .collect();
    found.dedup();
    found
}

/// What a recipe trains, from what the DEIM flavour has: the same but for the frozen parts of the
/// backbone, the position embedding, and the layers that do not predict.
fn trained(mut parameters: Vec<Parameter>, deim: &Config, config: &Config) -> Vec<Parameter> {
    let backbone = &config.model.backbone;
    let frozen = |name: &str| {
        let stem = name.starts_with("backbone.stem.") || name.starts_with("backbone.conv1.");
        let norm = name.contains(".bn.") || name.contains(".norm.");
        let norm = norm && name.starts_with("backbone.");
        (stem && backbone.freeze_at >= 0) || (norm && backbone.freeze_norm)
    };
    parameters.retain(|(name, _)| !frozen(name));
    if config.model.decoder.query_pos != deim.model.decoder.query_pos {
        let hidden = config.model.decoder.hidden as u64;
        let head = "decoder.query_pos_head.layers.";
        parameters.retain(|(name, _)| !name.starts_with(head));
        let layers = [(4, 2 * hidden), (2 * hidden, hidden)];
        for (index, (inside, outside)) in layers.into_iter().enumerate() {
            parameters.push((format!("{head}{index}.weight"), inside * outside));
            parameters.push((format!("{head}{index}.bias"), outside));
        }
    }
    for layer in deim.model.decoder.layers..config.model.decoder.layers {
        for list in ["decoder.layers", "dec_score_head", "dec_bbox_head"] {
            let first = format!("decoder.{list}.0.");
            let copies: Vec<Parameter> = parameters
                .iter()
                .filter_map(|(name, scalars)| {
                    let rest = name.strip_prefix(&first)?;
                    Some((format!("decoder.{list}.{layer}.{rest}"), *scalars))
                })
                .collect();
            parameters.extend(copies);
        }
    }
    parameters
}

fn takes(group: &ParamGroup, name: &str) -> bool {
    let found = |pattern: &String| Regex::new(pattern).unwrap().is_match(name);
    group.all.iter().all(found) && !group.none.iter().any(found)
}

/// Each group of the optimizer, the rest last: rate, decay, tensors, scalars.
fn groups(config: &Config, parameters: &[Parameter]) -> Vec<(f64, f64, u64, u64)> {
    let optimizer = &config.optimizer;
    let mut found: Vec<(f64, f64, u64, u64)> = optimizer
        .groups
        .iter()
        .map(|group| {
            let lr = group.lr.unwrap_or(optimizer.lr);
            (lr, group.weight_decay.unwrap_or(optimizer.weight_decay), 0, 0)
        })
        .collect();
    found.push((optimizer.lr, optimizer.weight_decay, 0, 0));
    for (name, scalars) in parameters {
        let takers: Vec<usize> =
            (0..optimizer.groups.len()).filter(|at| takes(&optimizer.groups[*at], name)).collect();
        assert!(takers.len() < 2, "{name}: the official groups are disjoint");
        let group = &mut found[takers.first().copied().unwrap_or(optimizer.groups.len())];
        group.2 += 1;
        group.3 += scalars;
    }
    found
}

#[test]
fn deim_optimizers_are_those_of_the_manifests() {
    for official in models() {
        let Some(path) = reference(&format!("manifests/{}.json", official.name)) else { return };
        let manifest = json(&path);
        let config = config(official, Recipe::Deim);
        let expected = &manifest["optimizer"];
        assert_eq!(expected["lr"], config.optimizer.lr);
        assert_eq!(expected["weight_decay"], config.optimizer.weight_decay);
        assert_eq!(expected["betas"][0], config.optimizer.beta1);
        assert_eq!(expected["betas"][1], config.optimizer.beta2);
        let groups = groups(&config, &parameters(&manifest));
        let expected = expected["groups"].as_array().unwrap();
        assert_eq!(groups.len(), expected.len(), "{}", official.name);
        for ((lr, decay, tensors, _), expected) in groups.into_iter().zip(expected) {
            assert_eq!(expected["lr"], lr, "{}", official.name);
            assert_eq!(expected["weight_decay"], decay, "{}", official.name);
            assert_eq!(expected["tensors"], tensors, "{}", official.name);
        }
    }
}

#[test]
fn parameter_groups_of_all_twenty_are_the_official_ones() {
    for official in models() {
        let Some(path) = reference(&format!("manifests/{}.json", official.name)) else { return };
        let manifest = parameters(&json(&path));
        let deim = config(official, Recipe::Deim);
        for recipe in Recipe::BOTH {
            let name = folder(official, recipe);
            let Some(path) = reference(&format!("schedule/{name}/phases.json")) else { return };
            let config = config(official, recipe);
            let groups = groups(&config, &trained(manifest.clone(), &deim, &config));
            let expected = json(&path);
            let expected = expected["groups"].as_array().unwrap();
            assert_eq!(groups.len(), expected.len(), "{name}");
            for (index, (group, expected)) in groups.into_iter().zip(expected).enumerate() {
                let (lr, decay, tensors, scalars) = group;
                assert_eq!(expected["initial_lr"], lr, "{name}, group {index}");
                assert_eq!(expected["weight_decay"], decay, "{name}, group {index}");
                assert_eq!(expected["num_tensors"], tensors, "{name}, group {index}: tensors");
                assert_eq!(expected["num_scalars"], scalars, "{name}, group {index}: scalars");
            }
        }
    }
}

/// One line a recipe, so that a change of any of them is seen.
#[test]
fn recipes_in_one_table() {
    let mut table = String::new();
    for recipe in Recipe::BOTH {
        for official in models() {
            table += &essentials(official, &config(official, recipe), recipe);
        }
    }
    insta::assert_snapshot!(table);
}

fn essentials(official: &Official, config: &Config, recipe: Recipe) -> String {
    let (phases, schedule) = (config.phases(), &config.schedule);
    let (augment, loss, ema) = (&config.augment, &config.loss, &config.ema);
    let (backbone, decoder) = (&config.model.backbone, &config.model.decoder);
    let pattern = |list: &[String]| list.join(" & ");
    let groups: Vec<String> = config
        .optimizer
        .groups
        .iter()
        .map(|group| {
            let none = match group.none.is_empty() {
                true => String::new(),
                false => format!(" not {}", group.none.join(", ")),
            };
            let lr = group.lr.map(|lr| format!(" lr {lr:e}")).unwrap_or_default();
            let decay = group.weight_decay.map(|wd| format!(" wd {wd:e}")).unwrap_or_default();
            format!("    group {}{none}:{lr}{decay}\n", pattern(&group.all))
        })
        .collect();
    format!(
        "{recipe:?} {}: {} epochs of batches of {}/{}\n    \
         augmented {} to {}, Dense O2O to {}, stage 2 from {}, last {} flat; mosaic {} mixup {} scales x{}\n    \
         lr {:e} wd {:e} clip {} warm-up {} first 1/{} to {}; ema {} over {} then {}\n    \
         {:?} gamma {} alpha {} union {}; {:?} {:?} layers {} predicts {:?}; freeze {} norms {}\n{}",
        official.title,
        config.epochs,
        config.data.batch_size,
        config.data.eval_batch_size,
        phases.augment_start,
        phases.augment_end,
        phases.flat,
        phases.stop,
        schedule.no_aug_epochs,
        augment.mosaic,
        augment.mixup,
        augment.multi_scale_repeat,
        config.optimizer.lr,
        config.optimizer.weight_decay,
        config.optimizer.clip_norm,
        schedule.warmup_iterations,
        schedule.first_iteration_divisor,
        schedule.lr_gamma,
        ema.decay,
        ema.warmups,
        ema.restart_decay,
        loss.class,
        loss.gamma,
        loss.alpha,
        loss.union_set,
        decoder.activation,
        decoder.query_pos,
        decoder.layers,
        decoder.eval_layer,
        backbone.freeze_at,
        backbone.freeze_norm,
        groups.concat(),
    )
}
