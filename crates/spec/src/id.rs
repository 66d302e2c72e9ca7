//! The identity of a cell: a hash of everything that decides its number.

use serde::de::Error;
use serde::{Deserialize, Deserializer};
use serde_json::{Value, json};

use crate::config::Config;
use crate::keys::as_json;

/// Keys that came after the first ledgers, each with the value that computes what was computed
/// before it existed. At that value a key is left out of the identity, so that finished cells keep
/// their ids; a change of its default must not change this list.
const LATER_KEYS: [(&str, &str); 20] = [
    ("/denoising/train_padding", "true"),
    ("/ema/restart_decay", "0.9999"),
    ("/ema/use_restart_decay", "false"),
    ("/loss/union_set", "false"),
    ("/loss/weight_ddf", "1.5"),
    ("/loss/weight_fgl", "0.15"),
    ("/model/backbone/freeze_at", "-1"),
    ("/model/backbone/freeze_norm", "false"),
    ("/model/backbone/freeze_stem_only", "true"),
    ("/model/backbone/hgnetv2", "null"),
    ("/model/backbone/kind", "\"presnet\""),
    ("/model/decoder/eval_layer", "null"),
    ("/model/decoder/kind", "\"rtdetrv2\""),
    ("/model/decoder/reg_max", "32"),
    ("/model/decoder/reg_scale", "4.0"),
    ("/model/decoder/sampling", "\"bilinear\""),
    ("/model/encoder/version", "\"rt-detrv2\""),
    ("/model/initial_weights", "\"early\""),
    ("/model/strides", "[8,16,32]"),
    ("/schedule/augment_end", "null"),
];

/// A configuration as an older program recorded it: a key that came later has the value that computes
/// what was computed then, which need not be its default.
pub fn recorded<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Config, D::Error> {
    let mut config = Value::deserialize(deserializer)?;
    for (pointer, value) in LATER_KEYS {
        let (table, key) = pointer.rsplit_once('/').unwrap_or(("", pointer));
        if let Some(Value::Object(table)) = config.pointer_mut(table)
            && !table.contains_key(key)
        {
            let value = serde_json::from_str(value).map_err(D::Error::custom)?;
            table.insert(key.to_owned(), value);
        }
    }
    serde_json::from_value(config).map_err(D::Error::custom)
}

/// The id of a cell: 16 hexadecimal characters, shown shortened to 8.
///
/// `manifest` identifies the data set, `numerics` the version of the code that computes, and
/// `device_class` is `cpu` or `cuda`. Two specs that resolve to the same values have the same id,
/// however they were written.
pub fn cell_id(
    config: &Config,
    seed: u64,
    manifest: &str,
    numerics: u32,
    device_class: &str,
) -> String {
    let identity = json!({
        "config": identity_of(config),
        "seed": seed,
        "manifest": manifest,
        "numerics": numerics,
        "device_class": device_class,
    });
    let hash = blake3::hash(canonical(&identity).as_bytes()).to_hex();
    hash[..16].to_owned()
}

/// What of a configuration belongs to a cell's identity.
fn identity_of(config: &Config) -> Value {
    let mut identity = as_json(config);
    for (pointer, value) in LATER_KEYS {
        let (table, key) = pointer.rsplit_once('/').unwrap_or(("", pointer));
        if let Some(Value::Object(table)) = identity.pointer_mut(table)
            && table.get(key).is_some_and(|found| canonical(found) == value)
        {
            table.remove(key);
        }
    }
    identity
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
    fn of_a_finished_cell_does_not_change_with_keys_that_came_later() {
        // The identity that the first ledgers were written with: no later key at all.
        let mut early = Config::default();
        early.denoising.train_padding = true;
        early.model.initial_weights = crate::config::InitialWeights::Early;
        let identity = canonical(&identity_of(&early));
        for (pointer, _) in LATER_KEYS {
            let key = pointer.rsplit('/').next().expect("a key");
            // `backbone.kind` and `decoder.kind` are one spelling.
            assert!(!identity.contains(&format!("\"{key}\":")), "{key} is in {identity}");
        }
        assert_eq!(id(&early), "e51e001471d91d1c");
        // What an older program wrote is read as what it computed.
        assert_eq!(recorded(identity_of(&early)).expect("a configuration"), early);
        let now = Config::default();
        assert_eq!(recorded(as_json(&now)).expect("a configuration"), now);
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
                "official" => "early",
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
