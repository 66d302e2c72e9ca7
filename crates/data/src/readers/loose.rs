//! JSON as data sets have it: `NaN`, numbers in strings, floats for ids, lists of the wrong length.
//! What has no sensible reading becomes a value that says so, and never stops the rest.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{DeserializeOwned, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// A JSON value of any kind; lists keep their numbers.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Loose {
    #[default]
    Missing,
    Integer(i64),
    Number(f64),
    Flag(bool),
    Text(String),
    List(Vec<f64>),
    Object,
}

/// Lists longer than this are no box; their rest is skipped.
const LONGEST: usize = 64;

impl Loose {
    /// A whole number, also where a table program wrote `1.0` or `"1"`.
    pub fn integer(&self) -> Option<i64> {
        // Above 2^53 a float no longer tells neighbouring ids apart.
        const EXACT: f64 = 9.007_199_254_740_992e15;
        match self {
            Self::Integer(value) => Some(*value),
            Self::Number(value) if value.fract() == 0.0 && value.abs() < EXACT => {
                Some(*value as i64)
            }
            Self::Text(text) => text.trim().parse().ok(),
            _ => None,
        }
    }

    /// A finite number.
    pub fn number(&self) -> Option<f64> {
        let value = match self {
            Self::Integer(value) => *value as f64,
            Self::Number(value) => *value,
            Self::Text(text) => text.trim().parse().ok()?,
            _ => return None,
        };
        value.is_finite().then_some(value)
    }

    /// Four finite numbers.
    pub fn four(&self) -> Option<[f64; 4]> {
        let Self::List(values) = self else { return None };
        let four: [f64; 4] = values.as_slice().try_into().ok()?;
        four.iter().all(|value| value.is_finite()).then_some(four)
    }

    /// `0`, `1`, `true`, `false`; a missing flag is not set.
    pub fn flag(&self) -> Option<bool> {
        match self {
            Self::Missing => Some(false),
            Self::Flag(value) => Some(*value),
            _ => match self.number() {
                Some(0.0) => Some(false),
                Some(1.0) => Some(true),
                _ => None,
            },
        }
    }

    /// Text, or a number as text.
    pub fn text(&self) -> Option<String> {
        match self {
            Self::Text(text) => Some(text.clone()),
            Self::Integer(value) => Some(value.to_string()),
            _ => None,
        }
    }
}

impl fmt::Display for Loose {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => write!(out, "nothing"),
            Self::Integer(value) => write!(out, "{value}"),
            Self::Number(value) => write!(out, "{value}"),
            Self::Flag(value) => write!(out, "{value}"),
            Self::Text(text) => write!(out, "{text:?}"),
            Self::List(values) => write!(out, "{values:?}"),
            Self::Object => write!(out, "an object"),
        }
    }
}

impl<'de> Deserialize<'de> for Loose {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(LooseVisitor)
    }
}

struct LooseVisitor;

impl<'de> Visitor<'de> for LooseVisitor {
    type Value = Loose;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("any JSON value")
    }

    fn visit_unit<E>(self) -> Result<Loose, E> {
        Ok(Loose::Missing)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Loose, E> {
        Ok(Loose::Flag(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Loose, E> {
        Ok(Loose::Integer(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Loose, E> {
        Ok(i64::try_from(value).map_or(Loose::Number(value as f64), Loose::Integer))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Loose, E> {
        Ok(Loose::Number(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Loose, E> {
        Ok(Loose::Text(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Loose, A::Error> {
        let mut values = Vec::new();
        while values.len() < LONGEST {
            match list.next_element::<Item>()? {
                Some(Item(value)) => values.push(value),
                None => return Ok(Loose::List(values)),
            }
        }
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Loose::List(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Loose, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Loose::Object)
    }
}

/// An element of a list: a number, or NaN for anything else.
struct Item(f64);

impl<'de> Deserialize<'de> for Item {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ItemVisitor;
        impl<'de> Visitor<'de> for ItemVisitor {
            type Value = f64;

            fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str("any JSON value")
            }

            fn visit_unit<E>(self) -> Result<f64, E> {
                Ok(f64::NAN)
            }

            fn visit_bool<E>(self, _: bool) -> Result<f64, E> {
                Ok(f64::NAN)
            }

            fn visit_i64<E>(self, value: i64) -> Result<f64, E> {
                Ok(value as f64)
            }

            fn visit_u64<E>(self, value: u64) -> Result<f64, E> {
                Ok(value as f64)
            }

            fn visit_f64<E>(self, value: f64) -> Result<f64, E> {
                Ok(value)
            }

            fn visit_str<E>(self, value: &str) -> Result<f64, E> {
                Ok(value.trim().parse().unwrap_or(f64::NAN))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<f64, A::Error> {
                while list.next_element::<IgnoredAny>()?.is_some() {}
                Ok(f64::NAN)
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<f64, A::Error> {
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(f64::NAN)
            }
        }
        deserializer.deserialize_any(ItemVisitor).map(Item)
    }
}

/// Parses JSON, also with a byte-order mark and with the `NaN` and `Infinity` that Python writes.
pub fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, serde_json::Error> {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    serde_json::from_slice(bytes).or_else(|error| match without_nan(bytes) {
        Cow::Owned(clean) => serde_json::from_slice(&clean),
        Cow::Borrowed(_) => Err(error),
    })
}

/// The text with `null` for every `NaN`, `Infinity` and `-Infinity` outside of strings.
fn without_nan(bytes: &[u8]) -> Cow<'_, [u8]> {
    let mut clean: Option<Vec<u8>> = None;
    let (mut at, mut copied, mut in_string) = (0, 0, false);
    while at < bytes.len() {
        if in_string {
            match bytes[at] {
                b'\\' => at += 1,
                b'"' => in_string = false,
                _ => {}
            }
        } else if bytes[at] == b'"' {
            in_string = true;
        } else if let Some(token) = ["NaN", "-Infinity", "Infinity"]
            .into_iter()
            .find(|token| bytes[at..].starts_with(token.as_bytes()))
        {
            let clean = clean.get_or_insert_default();
            clean.extend_from_slice(&bytes[copied..at]);
            clean.extend_from_slice(b"null");
            at += token.len();
            copied = at;
            continue;
        }
        at += 1;
    }
    match clean {
        Some(mut clean) => {
            clean.extend_from_slice(&bytes[copied..]);
            Cow::Owned(clean)
        }
        None => Cow::Borrowed(bytes),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn loose(text: &str) -> Loose {
        parse(text.as_bytes()).unwrap()
    }

    #[test]
    fn what_can_be_read_is_and_the_rest_says_what_it_is() {
        assert_eq!(loose("7.0").integer(), Some(7));
        assert_eq!(loose("\" 7 \"").integer(), Some(7));
        assert_eq!(loose("7.5").integer(), None);
        assert_eq!(loose("1e300").integer(), None);
        assert_eq!(loose("18446744073709551615").integer(), None);
        assert_eq!(loose("[1, 2.5, \"3\", 4]").four(), Some([1.0, 2.5, 3.0, 4.0]));
        assert_eq!(loose("[1, 2, NaN, 4]").four(), None);
        assert_eq!(loose("[1, 2, -Infinity, 4]").four(), None);
        assert_eq!(loose("[1, 2, \"NaN\", 4]").four(), None);
        assert_eq!(loose("[[1], {}, true, null]").four(), None);
        assert_eq!(loose("[1, 2, 3]").four(), None);
        assert_eq!(loose("{\"a\": [1, {}]}"), Loose::Object);
        assert_eq!(loose("\"NaN \\\" NaN\""), Loose::Text("NaN \" NaN".into()));
        assert_eq!(loose("true").flag(), Some(true));
        assert_eq!(loose("2").flag(), None);
        assert_eq!(loose("\u{feff}3").integer(), Some(3));
    }

    #[test]
    fn deep_nesting_is_an_error_and_no_overflow() {
        for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
            let deep = format!("{}1{}", open.repeat(500_000), close.repeat(500_000));
            // Either answer will do; a stack overflow would end the process.
            let _ = parse::<Loose>(deep.as_bytes());
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse::<Loose>(&bytes);
        }

        #[test]
        fn text_like_json_does_not_either(text in "[\\[\\]{}\",:0-9a-zN\\\\ -]{0,60}") {
            let _ = parse::<Vec<Loose>>(text.as_bytes());
        }
    }
}
