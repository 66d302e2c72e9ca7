//! The two ways in which COCO files in the wild write a number or a flag.

use serde::{Deserialize, Deserializer, de::Error};
use serde_json::Number;

/// An integer, also where pandas or numpy wrote `1.0`.
pub fn integer<'de, D: Deserializer<'de>>(deserializer: D) -> Result<i64, D::Error> {
    let number = Number::deserialize(deserializer)?;
    if let Some(value) = number.as_i64() {
        return Ok(value);
    }
    match number.as_f64() {
        // Above 2^53 a float no longer tells neighbouring ids apart.
        Some(value) if value.fract() == 0.0 && value.abs() < 9.007_199_254_740_992e15 => {
            Ok(value as i64)
        }
        _ => Err(D::Error::custom(format!("expected an integer id, found {number}"))),
    }
}

/// `0`, `1`, `true` or `false`.
pub fn flag<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Flag {
        Bool(bool),
        Number(f64),
    }
    match Flag::deserialize(deserializer) {
        Ok(Flag::Bool(value)) => Ok(value),
        Ok(Flag::Number(value)) if value == 0.0 || value == 1.0 => Ok(value == 1.0),
        _ => Err(D::Error::custom("expected iscrowd to be 0, 1, true or false")),
    }
}
