//! JSON schemas of the files, for completion and checking in editors.

use serde_json::{Value, json};

use crate::config::Config;
use crate::file::{Head, ScaleHead};

/// The schema files as `(name, text)`: `experiment.schema.json` and `part.schema.json`.
pub fn files() -> Vec<(&'static str, String)> {
    vec![("experiment.schema.json", text(&experiment())), ("part.schema.json", text(&part()))]
}

/// An experiment: its head, the configuration's keys, and both again in every scale.
fn experiment() -> Value {
    let mut schema = schemars::schema_for!(Head).to_value();
    add(&mut schema, schemars::schema_for!(Config).to_value());
    let mut scale = schemars::schema_for!(ScaleHead).to_value();
    add(&mut scale, schemars::schema_for!(Config).to_value());
    let definitions = take(&mut scale, "$defs");
    take(&mut scale, "$schema");
    take(&mut scale, "title");
    schema["title"] = json!("Experiment");
    schema["properties"]["scales"] = json!({
        "description": "Budgets at which the question can be asked; the default is `mini`, else the first.",
        "type": "object",
        "additionalProperties": { "$ref": "#/$defs/Scale" },
    });
    schema["$defs"]["Scale"] = scale;
    extend(&mut schema["$defs"], definitions);
    schema
}

/// A part: the configuration's keys, and what it extends.
fn part() -> Value {
    let mut schema = schemars::schema_for!(Config).to_value();
    let head = schemars::schema_for!(ScaleHead).to_value();
    schema["title"] = json!("Part");
    schema["description"] =
        json!("Values that an experiment, a scale, a case or another part builds on.");
    schema["properties"]["extends"] = head["properties"]["extends"].clone();
    schema
}

/// Adds the properties and definitions of `other`.
fn add(schema: &mut Value, mut other: Value) {
    for part in ["properties", "$defs"] {
        let more = take(&mut other, part);
        extend(&mut schema[part], more);
    }
}

fn take(schema: &mut Value, key: &str) -> Value {
    schema.as_object_mut().and_then(|map| map.remove(key)).unwrap_or_default()
}

fn extend(target: &mut Value, more: Value) {
    let Value::Object(more) = more else { return };
    match target.as_object_mut() {
        Some(target) => target.extend(more),
        None => *target = Value::Object(more),
    }
}

/// Indented, with sorted keys, so that the text does not depend on how the crates were built.
fn text(schema: &Value) -> String {
    let mut sorted = sorted(schema);
    if let Some(map) = sorted.as_object_mut() {
        map.remove("default");
    }
    let mut text = String::new();
    write(&sorted, 0, &mut text);
    text.push('\n');
    text
}

/// Without the defaults of whole tables, which repeat those of their keys.
fn sorted(value: &Value) -> Value {
    match value {
        Value::Object(map) => {
            let kept = map.iter().filter(|(name, value)| *name != "default" || !value.is_object());
            Value::Object(kept.map(|(name, value)| (name.clone(), sorted(value))).collect())
        }
        Value::Array(items) => items.iter().map(sorted).collect(),
        other => other.clone(),
    }
}

fn write(value: &Value, depth: usize, text: &mut String) {
    let indent = "  ".repeat(depth + 1);
    let close = "  ".repeat(depth);
    match value {
        Value::Object(map) if !map.is_empty() => {
            let mut names: Vec<&String> = map.keys().collect();
            names.sort();
            text.push('{');
            for (index, name) in names.into_iter().enumerate() {
                text.push_str(if index == 0 { "\n" } else { ",\n" });
                text.push_str(&format!("{indent}{}: ", Value::from(name.as_str())));
                write(&map[name], depth + 1, text);
            }
            text.push_str(&format!("\n{close}}}"));
        }
        Value::Array(items) if items.iter().any(|item| item.is_object() || item.is_array()) => {
            text.push('[');
            for (index, item) in items.iter().enumerate() {
                text.push_str(if index == 0 { "\n" } else { ",\n" });
                text.push_str(&indent);
                write(item, depth + 1, text);
            }
            text.push_str(&format!("\n{close}]"));
        }
        other => text.push_str(&other.to_string()),
    }
}
