//! From located values to typed ones, with errors that know their place.
//!
//! A serde deserializer over [`Node`]: the types in `config.rs` and `file.rs` say what is allowed,
//! serde finds what is not, and this file adds where it was written.

use serde::Deserialize;
use serde::de::value::StrDeserializer;
use serde::de::{
    self, DeserializeOwned, DeserializeSeed, Expected, IntoDeserializer, MapAccess, SeqAccess,
    Unexpected, Visitor,
};

use crate::config::Config;
use crate::error::Diagnostic;
use crate::node::{Node, Table, Value};
use crate::source::Place;

/// Reads a value of type `T`.
pub(crate) fn read<T: DeserializeOwned>(node: &Node) -> Result<T, Diagnostic> {
    T::deserialize(node).map_err(TypeError::into_diagnostic)
}

/// Reads a fragment of the configuration; keys it does not have keep their built-in defaults.
pub(crate) fn config(fragment: &Table) -> Result<Config, Diagnostic> {
    Config::deserialize(TableReader(fragment)).map_err(TypeError::into_diagnostic)
}

/// Reads a table that is not itself a value of the file, such as a file's head without its config.
/// A missing key is reported at the start of `whole`.
pub(crate) fn read_table<T: DeserializeOwned>(
    table: &Table,
    whole: Place,
) -> Result<T, Diagnostic> {
    T::deserialize(TableReader(table)).map_err(|mut error| {
        let start = Place { end: whole.start, ..whole };
        error.place.get_or_insert(start);
        error.into_diagnostic()
    })
}

#[derive(Debug)]
pub(crate) struct TypeError {
    place: Option<Place>,
    /// Innermost key first.
    path: Vec<String>,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    UnknownKey { key: String, known: &'static [&'static str] },
    UnknownChoice { found: String, known: &'static [&'static str] },
    MissingKey(&'static str),
    Wrong { expected: String, found: String },
    Other(String),
}

impl TypeError {
    fn of(kind: Kind) -> Self {
        Self { place: None, path: Vec::new(), kind }
    }

    fn wrong(node: &Node, expected: impl Into<String>) -> Self {
        let kind = Kind::Wrong { expected: expected.into(), found: node.describe() };
        Self { place: Some(node.place), path: Vec::new(), kind }
    }

    /// Adds what only the enclosing value knows; the innermost place stands.
    fn under(mut self, segment: &str, node: &Node) -> Self {
        if self.place.is_none() {
            self.place = Some(node.place);
            if let Kind::Wrong { found, .. } = &mut self.kind {
                *found = node.describe();
            }
        }
        self.path.push(segment.to_owned());
        self
    }

    fn into_diagnostic(self) -> Diagnostic {
        let path: Vec<&str> = self.path.iter().rev().map(String::as_str).collect();
        let path = path.join(".");
        let inside = if path.is_empty() { String::new() } else { format!(" in `{path}`") };
        match self.kind {
            Kind::UnknownKey { key, known } => {
                Diagnostic::new(format!("unknown key `{key}`{inside}"))
                    .at_some(self.place, "no such key")
                    .suggest(&key, known)
            }
            Kind::UnknownChoice { found, known } => {
                Diagnostic::new(format!("unknown value for `{path}`"))
                    .at_some(self.place, format!("found {found:?}"))
                    .suggest(&found, known)
            }
            Kind::MissingKey(key) => Diagnostic::new(format!("missing key `{key}`{inside}"))
                .at_some(self.place, format!("expected `{key}`")),
            Kind::Wrong { expected, found } => {
                let expected = plain_words(&expected);
                Diagnostic::new(format!("wrong value for `{path}`"))
                    .at_some(self.place, format!("expected {expected}, found {found}"))
            }
            Kind::Other(message) => {
                Diagnostic::new(format!("wrong value for `{path}`")).at_some(self.place, message)
            }
        }
    }
}

/// What serde expects, in words that do not need Rust.
fn plain_words(expected: &str) -> &str {
    match expected {
        "u32" => "a whole number from 0 to 4294967295",
        "u64" | "usize" => "a whole number, 0 or more",
        "f64" => "a number",
        "a boolean" => "`true` or `false`",
        "a sequence" => "a list",
        other if other.starts_with("struct ") || other == "a map" => "a table",
        other => other,
    }
}

impl std::fmt::Display for TypeError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}", self.kind)
    }
}

impl std::error::Error for TypeError {}

impl de::Error for TypeError {
    fn custom<T: std::fmt::Display>(message: T) -> Self {
        Self::of(Kind::Other(message.to_string()))
    }

    fn invalid_type(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::of(Kind::Wrong { expected: expected.to_string(), found: found.to_string() })
    }

    fn invalid_value(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::invalid_type(found, expected)
    }

    fn unknown_variant(found: &str, known: &'static [&'static str]) -> Self {
        Self::of(Kind::UnknownChoice { found: found.to_owned(), known })
    }

    fn unknown_field(key: &str, known: &'static [&'static str]) -> Self {
        Self::of(Kind::UnknownKey { key: key.to_owned(), known })
    }

    fn missing_field(key: &'static str) -> Self {
        Self::of(Kind::MissingKey(key))
    }
}

impl<'de> de::Deserializer<'de> for &'de Node {
    type Error = TypeError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, TypeError> {
        match &self.value {
            Value::Boolean(value) => visitor.visit_bool(*value),
            Value::Integer(value) => visitor.visit_i64(*value),
            Value::Float(value) => visitor.visit_f64(*value),
            Value::String(value) | Value::Datetime(value) => visitor.visit_borrowed_str(value),
            Value::Array(items) => visitor.visit_seq(Items(items.iter().enumerate())),
            Value::Table(table) => visitor.visit_map(Entries::of(table)),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, TypeError> {
        visitor.visit_some(self)
    }

    fn deserialize_tuple<V: Visitor<'de>>(
        self,
        length: usize,
        visitor: V,
    ) -> Result<V::Value, TypeError> {
        match &self.value {
            Value::Array(items) if items.len() == length => self.deserialize_any(visitor),
            _ => Err(TypeError::wrong(self, format!("a list of {length}"))),
        }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        known: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, TypeError> {
        match &self.value {
            Value::String(value) => {
                let value: StrDeserializer<'de, TypeError> = value.as_str().into_deserializer();
                visitor.visit_enum(value)
            }
            _ => {
                let known: Vec<String> = known.iter().map(|name| format!("\"{name}\"")).collect();
                Err(TypeError::wrong(self, format!("one of {}", known.join(", "))))
            }
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, TypeError> {
        visitor.visit_newtype_struct(self)
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit
        unit_struct seq tuple_struct map struct identifier ignored_any
    }
}

/// A table without a place of its own.
struct TableReader<'de>(&'de Table);

impl<'de> de::Deserializer<'de> for TableReader<'de> {
    type Error = TypeError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, TypeError> {
        visitor.visit_map(Entries::of(self.0))
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option
        unit unit_struct newtype_struct seq tuple tuple_struct map struct enum identifier
        ignored_any
    }
}

struct Items<'de>(std::iter::Enumerate<std::slice::Iter<'de, Node>>);

impl<'de> SeqAccess<'de> for Items<'de> {
    type Error = TypeError;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, TypeError> {
        let Some((index, node)) = self.0.next() else { return Ok(None) };
        seed.deserialize(node).map(Some).map_err(|error| error.under(&index.to_string(), node))
    }
}

struct Entries<'de> {
    rest: std::collections::btree_map::Iter<'de, String, crate::node::Entry>,
    value: Option<(&'de str, &'de Node)>,
}

impl<'de> Entries<'de> {
    fn of(table: &'de Table) -> Self {
        Self { rest: table.iter(), value: None }
    }
}

impl<'de> MapAccess<'de> for Entries<'de> {
    type Error = TypeError;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, TypeError> {
        let Some((name, entry)) = self.rest.next() else { return Ok(None) };
        self.value = Some((name, &entry.node));
        let key: StrDeserializer<'de, TypeError> = name.as_str().into_deserializer();
        seed.deserialize(key).map(Some).map_err(|mut error| {
            error.place = Some(entry.key);
            error
        })
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, TypeError> {
        let (name, node) =
            self.value.take().ok_or_else(|| de::Error::custom("a value before its key"))?;
        seed.deserialize(node).map_err(|error| error.under(name, node))
    }
}
