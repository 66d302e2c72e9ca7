//! The identity of a cell: a hash of everything that decides its number.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::config::Config;
use crate::keys::as_json;

/// A configuration as the program that computed wrote it down. A program of another age may know
/// other keys, so it is not read as a [`Config`]: the words stay as they are, and the id can be
/// computed from them again.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Recorded(Value);

impl From<&Config> for Recorded {
    fn from(config: &Config) -> Self {
        Self(as_json(config))
    }
}

impl From<&Recorded> for Recorded {
    fn from(recorded: &Recorded) -> Self {
        recorded.clone()
    }
}

impl Recorded {
    /// The value or table at a key such as `loss.gamma`.
    pub fn get(&self, key: &str) -> Option<&Value> {
        key.split('.').try_fold(&self.0, |table, name| table.get(name))
    }

    /// All of it, as JSON.
    pub fn as_value(&self) -> &Value {
        &self.0
    }
}

/// The id of a cell: 16 hexadecimal characters, shown shortened to 8.
///
/// `manifest` identifies the data set, `numerics` the version of the code that computes, and
/// `device_class` is `cpu`, `cuda` or `vulkan`, or for example `2xcuda` where two shared each batch. Two
/// specs that resolve to the same values have the same id, however they were written.
pub fn cell_id(
    config: impl Into<Recorded>,
    seed: u64,
    manifest: &str,
    numerics: u32,
    device_class: &str,
) -> String {
    let identity = json!({
        "config": config.into().0,
        "seed": seed,
        "manifest": manifest,
        "numerics": numerics,
        "device_class": device_class,
    });
    let hash = blake3::hash(canonical(&identity).as_bytes()).to_hex();
    hash[..16].to_owned()
}

/// JSON with sorted keys, no white space and one spelling for each number.
pub(crate) fn canonical(value: &Value) -> String {
    match value {
        Value::Object(map) => {
            // Not the map's own order, which depends on a feature any crate of a build may enable.
            let mut names: Vec<&String> = map.keys().collect();
            names.sort();
            let members = names
                .into_iter()
                .map(|name| format!("{}:{}", Value::from(name.as_str()), canonical(&map[name])));
            format!("{{{}}}", members.collect::<Vec<_>>().join(","))
        }
        Value::Array(items) => {
            format!("[{}]", items.iter().map(canonical).collect::<Vec<_>>().join(","))
        }
        // Minus zero and zero are one value.
        Value::Number(number) if number.is_f64() && number.as_f64() == Some(0.0) => "0.0".into(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys;

    fn id(config: &Config) -> String {
        cell_id(config, 0, "m", 1, "cpu")
    }

    #[test]
    fn is_sixteen_hexadecimal_characters_and_stays_what_it_was() {
        let id = id(&Config::default());
        assert!(id.len() == 16 && id.chars().all(|c| c.is_ascii_hexdigit()), "{id}");
        let canonical =
            canonical(&json!({"b": [1, 1.0, -0.0, 1e-8], "a": {"d": null, "c": "x\"y"}}));
        assert_eq!(canonical, r#"{"a":{"c":"x\"y","d":null},"b":[1,1.0,0.0,1e-8]}"#);
    }

    #[test]
    fn of_a_finished_cell_follows_from_its_record_whatever_keys_the_program_knows() {
        let config = Config::default();
        let mut recorded = Recorded::from(&config);
        let line = serde_json::to_string(&recorded).expect("plain values");
        assert_eq!(serde_json::from_str::<Recorded>(&line).expect("JSON"), recorded);
        assert_eq!(cell_id(&recorded, 0, "m", 1, "cpu"), id(&config));
        recorded.0["loss"]["a_key_of_another_age"] = json!(1.0);
        let line = serde_json::to_string(&recorded).expect("plain values");
        let read: Recorded = serde_json::from_str(&line).expect("JSON");
        assert_eq!(read.get("loss.a_key_of_another_age"), Some(&json!(1.0)));
        assert_eq!(read.get("loss.gamma.nothing"), None);
        assert_eq!(cell_id(&read, 0, "m", 1, "cpu"), cell_id(&recorded, 0, "m", 1, "cpu"));
        assert_ne!(cell_id(&read, 0, "m", 1, "cpu"), id(&config));
    }

    #[test]
    fn changes_with_everything_beside_the_configuration() {
        let config = Config::default();
        let ids = [
            cell_id(&config, 0, "m", 1, "cpu"),
            cell_id(&config, 1, "m", 1, "cpu"),
            cell_id(&config, 0, "n", 1, "cpu"),
            cell_id(&config, 0, "m", 2, "cpu"),
            cell_id(&config, 0, "m", 1, "cuda"),
        ];
        let unique: std::collections::BTreeSet<&String> = ids.iter().collect();
        assert_eq!(unique.len(), ids.len());
    }

    /// Changes the value at a path of the JSON to another of its type.
    fn change(config: &mut Value, path: &str) {
        let pointer = format!("/{}", path.replace('.', "/"));
        let value = config.pointer_mut(&pointer).expect("a leaf");
        *value = match value.clone() {
            Value::Bool(flag) => json!(!flag),
            Value::Number(number) if number.is_f64() => {
                json!(number.as_f64().expect("f64") + 0.125)
            }
            Value::Number(number) => json!(number.as_i64().expect("i64") + 1),
            Value::Array(items) if path == "optimizer.groups" => json!(items[1..]),
            Value::Array(items) => {
                let last = items.last().and_then(Value::as_u64).expect("numbers") + 1;
                items[..items.len() - 1].iter().cloned().chain([json!(last)]).collect()
            }
            Value::String(text) => json!(match text.as_str() {
                "bottleneck" => "basic",
                "silu" => "relu",
                "as-reg" => "default",
                "mal" => "vfl",
                "presnet" => "hgnetv2",
                "rtdetrv2" => "dfine",
                "rt-detrv2" => "dfine",
                "bilinear" => "discrete",
                "others" => "itself",
                "random" => "oldest",
                other => panic!("a new choice needs another one to change to: {other}"),
            }),
            other => panic!("not a leaf: {other}"),
        };
    }

    #[test]
    fn changes_with_every_leaf_of_the_configuration() {
        let mut config = Config::default();
        config.loss.mal_alpha = Some(1.0);
        config.schedule.flat_epoch = Some(30);
        config.schedule.stop_epoch = Some(50);
        config.schedule.augment_end = Some(50);
        config.model.decoder.eval_layer = Some(1);
        let before = as_json(&config);
        let mut ids = vec![id(&config)];
        for path in keys::leaf_paths(&before) {
            // There is one source of data so far, so it has nothing to change to.
            if path == "data.source" {
                continue;
            }
            let mut after = before.clone();
            change(&mut after, &path);
            let after: Config = serde_json::from_value(after).expect("still a configuration");
            let id = id(&after);
            assert!(!ids.contains(&id), "{path} does not change the id");
            ids.push(id);
        }
    }
}
