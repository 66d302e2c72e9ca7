//! A TOML value that knows where it was written, and how two of them merge.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry as MapEntry;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::error::Diagnostic;
use crate::source::{Place, Sources};

/// A value and its place.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub value: Value,
    pub place: Place,
}

#[derive(Clone, Debug)]
pub(crate) enum Value {
    Boolean(bool),
    Integer(i64),
    Float(f64),
    String(String),
    Datetime(String),
    Array(Vec<Node>),
    Table(Table),
}

/// A key's place, and its value.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub key: Place,
    pub node: Node,
}

pub(crate) type Table = BTreeMap<String, Entry>;

impl Node {
    /// What the value is, for the second half of "expected ..., found ...".
    pub fn describe(&self) -> String {
        match &self.value {
            Value::Boolean(value) => format!("`{value}`"),
            Value::Integer(value) => format!("the whole number {value}"),
            Value::Float(value) => format!("the number {value:?}"),
            Value::String(value) => format!("the string {value:?}"),
            Value::Datetime(value) => format!("the date {value}"),
            Value::Array(items) => format!("a list of {}", items.len()),
            Value::Table(_) => "a table".into(),
        }
    }

    /// The node under a path whose segments are keys, or positions in a list.
    pub fn at(&self, path: &[&str]) -> Option<&Node> {
        let Some((first, rest)) = path.split_first() else { return Some(self) };
        match &self.value {
            Value::Table(table) => table.get(*first)?.node.at(rest),
            Value::Array(items) => items.get(first.parse::<usize>().ok()?)?.at(rest),
            _ => None,
        }
    }

    pub fn table(&self) -> Option<&Table> {
        match &self.value {
            Value::Table(table) => Some(table),
            _ => None,
        }
    }

    pub fn array(&self) -> &[Node] {
        match &self.value {
            Value::Array(items) => items,
            _ => &[],
        }
    }
}

/// Lays `over` on `base`: tables merge key by key, anything else replaces (deim-facts section 2).
///
/// Associative as long as no key is a table on one side and a plain value on the other; every
/// fragment is checked against the configuration's types before it is merged, so none is.
pub(crate) fn merge(base: &mut Table, over: Table) {
    for (name, entry) in over {
        match base.entry(name) {
            MapEntry::Vacant(place) => {
                place.insert(entry);
            }
            MapEntry::Occupied(mut old) => match (&mut old.get_mut().node.value, entry) {
                (Value::Table(old), Entry { node: Node { value: Value::Table(new), .. }, .. }) => {
                    merge(old, new);
                }
                (_, entry) => {
                    old.insert(entry);
                }
            },
        }
    }
}

/// The dotted paths of everything in a table that is not itself a table, with the keys' places.
pub(crate) fn leaves(table: &Table) -> Vec<(String, Place)> {
    let mut found = Vec::new();
    for (name, entry) in table {
        match &entry.node.value {
            Value::Table(inner) => {
                let inner = leaves(inner).into_iter();
                found.extend(inner.map(|(path, place)| (format!("{name}.{path}"), place)));
            }
            _ => found.push((name.clone(), entry.key)),
        }
    }
    found
}

/// The segments of a dotted key, each with its own place where the source shows the key plainly.
pub(crate) fn segments(key: &str, place: Place, sources: &Sources) -> Vec<(String, Place)> {
    let written = sources.slice(place);
    let quoted = written.len() == key.len() + 2 && written.get(1..=key.len()) == Some(key);
    let first = match (written == key, quoted) {
        (true, _) => Some(place.start),
        (_, true) => Some(place.start + 1),
        _ => None,
    };
    let mut offset = 0;
    let mut found = Vec::new();
    for segment in key.split('.') {
        let place = match first {
            // An empty segment still needs something to point at.
            Some(first) if !segment.is_empty() => {
                let start = first + offset;
                Place { start, end: start + segment.len(), ..place }
            }
            _ => place,
        };
        found.push((segment.to_owned(), place));
        offset += segment.len() + 1;
    }
    found
}

/// The table that holds nothing but one value under a dotted key.
pub(crate) fn nest(path: Vec<(String, Place)>, node: Node) -> Table {
    let mut path = path.into_iter().rev();
    let mut table = Table::new();
    if let Some((name, key)) = path.next() {
        table.insert(name, Entry { key, node });
    }
    for (name, key) in path {
        let place = key;
        let node = Node { value: Value::Table(table), place };
        table = Table::from([(name, Entry { key, node })]);
    }
    table
}

/// Where a stretch of parsed text lies: the source's number and what comes before the text in it.
#[derive(Clone, Copy)]
struct Anchor {
    source: usize,
    offset: usize,
}

impl Anchor {
    fn place(self, span: std::ops::Range<usize>) -> Place {
        let (start, end) = (span.start + self.offset, span.end + self.offset);
        Place { source: self.source, start, end }
    }
}

/// Parses a whole document.
pub(crate) fn parse(source: usize, text: &str) -> Result<Node, Diagnostic> {
    let anchor = Anchor { source, offset: 0 };
    let document = DeTable::parse(text).map_err(|error| {
        let span = error.span().unwrap_or(0..0);
        Diagnostic::new("not valid TOML").at(anchor.place(span), error.message())
    })?;
    let place = anchor.place(document.span());
    Ok(Node { value: Value::Table(table(document.into_inner(), anchor)?), place })
}

/// Parses the value of a flag as TOML; what is not TOML is a string.
pub(crate) fn parse_flag(source: usize, offset: usize, text: &str) -> Result<Node, Diagnostic> {
    let anchor = Anchor { source, offset };
    match DeValue::parse(text) {
        Ok(value) => node(value, anchor),
        Err(_) => {
            Ok(Node { value: Value::String(text.to_owned()), place: anchor.place(0..text.len()) })
        }
    }
}

fn table(parsed: DeTable<'_>, anchor: Anchor) -> Result<Table, Diagnostic> {
    let mut found = Table::new();
    for (key, value) in parsed {
        let place = anchor.place(key.span());
        let node = node(value, anchor)?;
        found.insert(key.into_inner().into_owned(), Entry { key: place, node });
    }
    Ok(found)
}

fn node(parsed: Spanned<DeValue<'_>>, anchor: Anchor) -> Result<Node, Diagnostic> {
    let place = anchor.place(parsed.span());
    let value = match parsed.into_inner() {
        DeValue::Boolean(value) => Value::Boolean(value),
        DeValue::Integer(value) => {
            let number = i64::from_str_radix(value.as_str(), value.radix()).map_err(|_| {
                Diagnostic::new("number too large")
                    .at(place, "expected a whole number that fits into 64 bits")
            })?;
            Value::Integer(number)
        }
        DeValue::Float(value) => {
            let number = value.as_str().parse::<f64>().map_err(|_| {
                Diagnostic::new("not a number").at(place, "expected a floating-point number")
            })?;
            Value::Float(number)
        }
        DeValue::String(value) => Value::String(value.into_owned()),
        DeValue::Datetime(value) => Value::Datetime(value.to_string()),
        DeValue::Array(items) => {
            let items = items.into_iter().map(|item| node(item, anchor));
            Value::Array(items.collect::<Result<_, _>>()?)
        }
        DeValue::Table(inner) => Value::Table(table(inner, anchor)?),
    };
    Ok(Node { value, place })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn table_of(text: &str) -> Table {
        let node = parse(0, text).expect("TOML");
        node.table().cloned().expect("a document is a table")
    }

    /// Paths and integers, which is all that merging looks at.
    fn plain(table: &Table) -> Vec<(String, String)> {
        let whole = Node {
            value: Value::Table(table.clone()),
            place: Place { source: 0, start: 0, end: 0 },
        };
        let paths = leaves(table).into_iter().map(|(path, _)| path);
        let value = |path: &str| {
            let segments: Vec<&str> = path.split('.').collect();
            whole.at(&segments).expect("a leaf").describe()
        };
        paths.map(|path| (path.clone(), value(&path))).collect()
    }

    fn merged(base: &Table, over: &Table) -> Table {
        let mut base = base.clone();
        merge(&mut base, over.clone());
        base
    }

    /// Tables in which a name is always a table or always a value, as the configuration has it.
    fn table() -> impl Strategy<Value = Table> {
        let leaf = |name: &'static str| prop::option::of(0..100i64).prop_map(move |v| (name, v));
        let line = |(name, value): (&str, Option<i64>)| {
            value.map(|value| format!("{name} = {value}\n")).unwrap_or_default()
        };
        (leaf("a"), leaf("b"), leaf("t.a"), leaf("t.b"), leaf("t.u.a"), leaf("v.a"))
            .prop_map(move |(a, b, c, d, e, f)| table_of(&[a, b, c, d, e, f].map(line).concat()))
    }

    proptest! {
        #[test]
        fn merging_is_associative(a in table(), b in table(), c in table()) {
            let left = merged(&merged(&a, &b), &c);
            let right = merged(&a, &merged(&b, &c));
            prop_assert_eq!(plain(&left), plain(&right));
        }

        #[test]
        fn the_later_table_wins_and_the_earlier_fills_up(a in table(), b in table()) {
            let both = plain(&merged(&a, &b));
            let (a, b) = (plain(&a), plain(&b));
            for (path, value) in &both {
                let expected = b.iter().chain(&a).find(|(other, _)| other == path);
                prop_assert_eq!(Some(value), expected.map(|(_, value)| value));
            }
            for (path, _) in a.iter().chain(&b) {
                prop_assert!(both.iter().any(|(other, _)| other == path));
            }
        }
    }

    #[test]
    fn lists_replace() {
        let merged = merged(&table_of("x = [1, 2, 3]"), &table_of("x = [4]"));
        assert_eq!(merged["x"].node.array().len(), 1);
    }

    #[test]
    fn segments_of_a_quoted_key_have_their_own_places() {
        let mut sources = Sources::default();
        let text = "\"loss.gamma\" = 1";
        let source = sources.add_file("f".into(), text.into());
        let place = Place { source, start: 0, end: 12 };
        let found = segments("loss.gamma", place, &sources);
        let shown: Vec<&str> = found.iter().map(|(_, place)| sources.slice(*place)).collect();
        assert_eq!(shown, ["loss", "gamma"]);
        let escaped = segments("loss.gamma", Place { end: 5, ..place }, &sources);
        assert!(escaped.iter().all(|(_, at)| at.end == 5), "no guess where the text differs");
    }
}
