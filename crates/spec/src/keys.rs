//! Every configuration key with its meaning and its default, from the types of `config.rs`.

use serde_json::{Value, json};

use crate::config::Config;
use crate::error::nearest;

/// One configuration key that holds a value rather than a table.
#[derive(Clone, Debug, PartialEq)]
pub struct Key {
    /// For example `loss.gamma`.
    pub path: String,
    /// The doc comment of the field.
    pub meaning: String,
    /// The built-in default as TOML; `absent` if there is none.
    pub default: String,
}

/// All keys, in alphabetical order of their paths.
pub fn all() -> Vec<Key> {
    let schema = schemars::schema_for!(Config).to_value();
    let defaults = whole(&Config::default());
    let mut keys = Vec::new();
    walk(&schema, &schema, "", &mut keys);
    for key in &mut keys {
        key.default = lookup(&defaults, &key.path).map_or_else(|| "absent".into(), label);
    }
    keys.sort_by(|a, b| a.path.cmp(&b.path));
    keys
}

/// The key that was probably meant by one that does not exist.
pub fn suggestion(written: &str) -> Option<String> {
    let keys = all();
    let paths: Vec<&str> = keys.iter().map(|key| key.path.as_str()).collect();
    nearest(written, &paths).map(str::to_owned).or_else(|| {
        // Someone who leaves out the table means the key by its last name.
        let last = |path: &&str| path.rsplit('.').next().map(str::to_owned).unwrap_or_default();
        let names: Vec<String> = paths.iter().map(last).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let meant = nearest(written, &names)?;
        paths.iter().zip(&names).find(|(_, name)| **name == meant).map(|(path, _)| (*path).into())
    })
}

fn walk(root: &Value, schema: &Value, prefix: &str, keys: &mut Vec<Key>) {
    let Some(properties) = schema.get("properties").and_then(Value::as_object) else { return };
    for (name, property) in properties {
        let path = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
        let target = resolve(root, property);
        if target.get("properties").is_some() {
            walk(root, target, &path, keys);
        } else {
            let text = property.get("description").or_else(|| target.get("description"));
            let meaning = text.and_then(Value::as_str).unwrap_or_default().replace('\n', " ");
            keys.push(Key { path, meaning, default: String::new() });
        }
    }
}

/// Follows a reference into the schema's definitions; a table that may be absent is that table.
fn resolve<'a>(root: &'a Value, schema: &'a Value) -> &'a Value {
    let choices = schema.get("anyOf").and_then(Value::as_array);
    let schema = choices.and_then(|choices| choices.first()).unwrap_or(schema);
    let target = schema.get("$ref").and_then(Value::as_str).and_then(|path| path.strip_prefix('#'));
    target.and_then(|pointer| root.pointer(pointer)).unwrap_or(schema)
}

/// The configuration as JSON, as it is recorded and hashed.
pub(crate) fn as_json(config: &Config) -> Value {
    serde_json::to_value(config).expect("a Config has string keys and no failing Serialize")
}

/// The same for a reader, with what is not recorded at its default: a key that came when there were
/// cells already, whose ids must not change.
pub(crate) fn whole(config: &Config) -> Value {
    let mut whole = as_json(config);
    whole["model"]["precision"] = json!(config.model.precision);
    whole
}

/// The value under a dotted path.
pub(crate) fn lookup<'a>(config: &'a Value, path: &str) -> Option<&'a Value> {
    path.split('.').try_fold(config, |value, segment| value.get(segment))
}

/// A value as it is printed in tables: the same however the spec spelled it.
pub fn label(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// The dotted paths of a configuration that hold values rather than tables.
pub(crate) fn leaf_paths(config: &Value) -> Vec<String> {
    fn walk(value: &Value, prefix: &str, found: &mut Vec<String>) {
        match value {
            Value::Object(map) => {
                for (name, inner) in map {
                    let path =
                        if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
                    walk(inner, &path, found);
                }
            }
            _ => found.push(prefix.to_owned()),
        }
    }
    let mut found = Vec::new();
    walk(config, "", &mut found);
    found.sort();
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{HgNet, HgStage, Precision, Pretrained, PretrainedPart};

    #[test]
    fn every_key_is_explained() {
        let unexplained: Vec<String> =
            all().into_iter().filter(|key| key.meaning.is_empty()).map(|key| key.path).collect();
        assert!(unexplained.is_empty(), "no doc comment: {unexplained:?}");
    }

    #[test]
    fn keys_are_those_of_the_serialized_configuration() {
        let mut config = Config::default();
        config.loss.mal_alpha = Some(1.0);
        config.schedule.flat_epoch = Some(1);
        config.schedule.stop_epoch = Some(1);
        config.schedule.augment_end = Some(1);
        config.model.decoder.eval_layer = Some(1);
        let (part, blake3) = (PretrainedPart::Backbone, Some("hash".to_owned()));
        config.pretrained = Some(Pretrained { part, blake3 });
        let stage = HgStage { middle: 1, out: 2, blocks: 1, light: false, kernel: 3, layers: 1 };
        let stages = std::array::from_fn(|_| stage.clone());
        config.model.backbone.hgnetv2 = Some(HgNet { stem: [2, 2], stages, lab: false });
        let keys: Vec<String> = all().into_iter().map(|key| key.path).collect();
        assert_eq!(keys, leaf_paths(&whole(&config)));
        config.model.precision = Precision::Bf16;
        assert_eq!(keys, leaf_paths(&as_json(&config)));
    }

    #[test]
    fn slips_are_recognised() {
        assert_eq!(suggestion("loss.gama").as_deref(), Some("loss.gamma"));
        assert_eq!(suggestion("mosaic").as_deref(), Some("augment.mosaic"));
        assert_eq!(suggestion("gama").as_deref(), Some("loss.gamma"));
        assert_eq!(suggestion("nothing.like.it"), None);
    }

    #[test]
    fn meaning_and_default_come_from_the_types() {
        let keys = all();
        let gamma = keys.iter().find(|key| key.path == "loss.gamma").expect("is a key");
        assert_eq!(gamma.default, "1.5");
        assert!(gamma.meaning.starts_with("Exponent"), "{}", gamma.meaning);
        let flat = keys.iter().find(|key| key.path == "schedule.flat_epoch").expect("is a key");
        assert_eq!(flat.default, "absent");
        let precision = keys.iter().find(|key| key.path == "model.precision").expect("is a key");
        assert_eq!(precision.default, "f32");
    }
}
