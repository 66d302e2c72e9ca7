//! What differs between two configurations, key by key.

use std::collections::{BTreeMap, BTreeSet};

use deim_spec::Recorded;
use serde::Serialize;
use serde_json::Value;

/// A key with two values; `absent` where one side does not set it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Difference {
    pub key: String,
    pub before: String,
    pub after: String,
}

impl Difference {
    pub fn new(key: &str, before: impl ToString, after: impl ToString) -> Self {
        Self { key: key.to_owned(), before: before.to_string(), after: after.to_string() }
    }
}

impl std::fmt::Display for Difference {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{} {} -> {}", self.key, self.before, self.after)
    }
}

/// The keys whose values differ, in alphabetical order.
pub fn between(before: &Recorded, after: &Recorded) -> Vec<Difference> {
    let (before, after) = (leaves(before), leaves(after));
    let keys: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    let value = |side: &BTreeMap<String, String>, key: &String| {
        side.get(key).cloned().unwrap_or_else(|| "absent".to_owned())
    };
    keys.into_iter()
        .map(|key| Difference::new(key, value(&before, key), value(&after, key)))
        .filter(|difference| difference.before != difference.after)
        .collect()
}

/// Every value by its dotted key, as tables print it.
fn leaves(config: &Recorded) -> BTreeMap<String, String> {
    fn walk(value: &Value, key: &str, found: &mut BTreeMap<String, String>) {
        match value {
            Value::Object(map) => {
                for (name, inner) in map {
                    let key = if key.is_empty() { name.clone() } else { format!("{key}.{name}") };
                    walk(inner, &key, found);
                }
            }
            Value::String(text) => drop(found.insert(key.to_owned(), text.clone())),
            other => drop(found.insert(key.to_owned(), other.to_string())),
        }
    }
    let mut found = BTreeMap::new();
    walk(config.as_value(), "", &mut found);
    found
}

#[cfg(test)]
mod tests {
    use deim_spec::Config;

    use super::*;

    #[test]
    fn only_what_differs_is_named() {
        let mut after = Config::default();
        let before = Recorded::from(&after);
        assert_eq!(between(&before, &before), []);
        after.loss.gamma = 2.0;
        after.schedule.flat_epoch = Some(7);
        let differences: Vec<String> =
            between(&before, &Recorded::from(&after)).iter().map(ToString::to_string).collect();
        assert_eq!(differences, ["loss.gamma 1.5 -> 2.0", "schedule.flat_epoch absent -> 7"]);
    }
}
