//! Axes: what varies, and the rows that follow.

use crate::error::Diagnostic;
use crate::file;
use crate::keys::{label, lookup, whole};
use crate::node::{Node, Table, leaves, merge, nest, segments};
use crate::parts::Parts;
use crate::source::Place;
use crate::typed;

/// One axis of the table.
pub(crate) struct Axis {
    /// The key it varies, or its name.
    pub name: String,
    pub choices: Vec<Choice>,
    place: Place,
}

/// One place on an axis.
#[derive(Clone)]
pub(crate) struct Choice {
    pub label: String,
    pub place: Place,
    /// The values it sets.
    pub table: Table,
    /// Index of the choice on the same axis that it is compared with.
    pub against: Option<usize>,
}

/// More rows than anyone means to train.
const MOST_ROWS: usize = 10_000;

/// Reads the axes; `list` is the located form of `axes`.
pub(crate) fn read(
    axes: &[file::Axis],
    list: Option<&Node>,
    parts: &mut Parts<'_>,
) -> Result<Vec<Axis>, Vec<Diagnostic>> {
    let mut found: Vec<Axis> = Vec::new();
    for (axis, node) in axes.iter().zip(list.map(Node::array).unwrap_or_default()) {
        let axis = match axis {
            file::Axis { key: Some(key), values: Some(_), name: None, case: None } => {
                values(key, node, parts)?
            }
            file::Axis { key: None, values: None, name: Some(name), case: Some(list) } => {
                cases(name, list, node, parts)?
            }
            _ => {
                return Err(vec![Diagnostic::new("an axis is neither of the two kinds").at(
                    node.place,
                    "expected `key` and `values`, or `name` and `[[axis.case]]`",
                )]);
            }
        };
        if axis.choices.is_empty() {
            return Err(vec![
                Diagnostic::new(format!("the axis `{}` is empty", axis.name))
                    .at(axis.place, "expected at least one value"),
            ]);
        }
        unique_labels(&axis)?;
        for other in &found {
            disjoint(other, &axis)?;
        }
        found.push(axis);
    }
    let rows = found.iter().try_fold(1usize, |rows, axis| rows.checked_mul(axis.choices.len()));
    if rows.is_none_or(|rows| rows > MOST_ROWS) {
        let place = found.last().map(|axis| axis.place);
        return Err(vec![
            Diagnostic::new("too many rows")
                .at_some(place, format!("expected a product of axes of at most {MOST_ROWS} rows")),
        ]);
    }
    Ok(found)
}

/// The combinations of choices, in the order of the table: the first axis varies slowest.
pub(crate) fn product(axes: &[Axis]) -> Vec<Vec<&Choice>> {
    axes.iter().fold(vec![Vec::new()], |rows, axis| {
        let extended = rows.iter().flat_map(|row| {
            axis.choices.iter().map(move |choice| row.iter().copied().chain([choice]).collect())
        });
        extended.collect()
    })
}

/// An axis over the values of one key.
fn values(key: &str, node: &Node, parts: &Parts<'_>) -> Result<Axis, Vec<Diagnostic>> {
    let place = node.at(&["key"]).map_or(node.place, |node| node.place);
    let path = segments(key, place, &parts.sources);
    let items = node.at(&["values"]).map(Node::array).unwrap_or_default();
    let mut choices = Vec::new();
    for item in items {
        let table = nest(path.clone(), item.clone());
        let config = whole(&typed::config(&table).map_err(|error| vec![error])?);
        match lookup(&config, key) {
            Some(value) if !value.is_object() => {
                let (label, place) = (label(value), item.place);
                choices.push(Choice { label, place, table, against: None });
            }
            _ => {
                return Err(vec![
                    Diagnostic::new(format!("`{key}` is not a single value"))
                        .at(place, "expected a key that holds a value, found a table")
                        .help("use a named axis with `[[axis.case]]` to set several keys together"),
                ]);
            }
        }
    }
    let place =
        if items.is_empty() { node.at(&["values"]).map_or(place, |n| n.place) } else { place };
    Ok(Axis { name: key.to_owned(), choices, place })
}

/// An axis over named cases, each of which sets several keys.
fn cases(
    name: &str,
    list: &[file::Case],
    node: &Node,
    parts: &mut Parts<'_>,
) -> Result<Axis, Vec<Diagnostic>> {
    let place = node.at(&["name"]).map_or(node.place, |node| node.place);
    let nodes = node.at(&["case"]).map(Node::array).unwrap_or_default();
    let mut choices = Vec::new();
    for (case, node) in list.iter().zip(nodes) {
        let mut table =
            parts.extends(&case.extends, node.at(&["extends"])).map_err(|error| vec![error])?;
        let mut own = Table::new();
        let set = node.at(&["set"]).and_then(Node::table);
        for key in case.set.keys() {
            let Some(entry) = set.and_then(|set| set.get(key)) else { continue };
            let path = segments(key, entry.key, &parts.sources);
            let set = nest(path, entry.node.clone());
            let earlier = leaves(&own);
            for (key, place) in leaves(&set) {
                if let Some((_, first)) = earlier.iter().find(|(other, _)| *other == key) {
                    return Err(vec![
                        Diagnostic::new(format!("`{key}` is set twice in one case"))
                            .at(place, "again here")
                            .context(*first, "first here"),
                    ]);
                }
            }
            merge(&mut own, set);
        }
        typed::config(&own).map_err(|error| vec![error])?;
        merge(&mut table, own);
        let place = node.at(&["label"]).map_or(node.place, |node| node.place);
        let against = against(case, list, node).map_err(|error| vec![error])?;
        choices.push(Choice { label: case.label.clone(), place, table, against });
    }
    Ok(Axis { name: name.to_owned(), choices, place })
}

/// The position of the case that a case is compared with: one that itself is compared with nothing.
fn against(
    case: &file::Case,
    list: &[file::Case],
    node: &Node,
) -> Result<Option<usize>, Diagnostic> {
    let Some(wanted) = &case.against else { return Ok(None) };
    let place = node.at(&["against"]).map_or(node.place, |node| node.place);
    let labels: Vec<&str> = list.iter().map(|case| case.label.as_str()).collect();
    match labels.iter().position(|label| label == wanted) {
        Some(found) if list[found].against.is_none() => Ok(Some(found)),
        Some(_) => Err(Diagnostic::new(format!("`{wanted}` is itself compared with another case"))
            .at(place, "expected a case without `against`")),
        None => Err(Diagnostic::new(format!("there is no case `{wanted}` to compare with"))
            .at(place, "expected the label of a case of this axis")
            .suggest(wanted, &labels)),
    }
}

/// The row that each row is compared with, by their positions; its own where with nothing. None
/// where no case says it.
pub(crate) fn references(axes: &[Axis]) -> Option<Vec<usize>> {
    let chosen = || axes.iter().flat_map(|axis| &axis.choices);
    chosen().any(|choice| choice.against.is_some()).then(|| {
        let rows = axes.iter().fold(vec![(0, 0)], |rows, axis| {
            let extended = rows.iter().flat_map(|(row, reference)| {
                let count = axis.choices.len();
                axis.choices.iter().enumerate().map(move |(at, choice)| {
                    (row * count + at, reference * count + choice.against.unwrap_or(at))
                })
            });
            extended.collect()
        });
        rows.into_iter().map(|(_, reference)| reference).collect()
    })
}

fn unique_labels(axis: &Axis) -> Result<(), Vec<Diagnostic>> {
    for (index, choice) in axis.choices.iter().enumerate() {
        if let Some(first) = axis.choices[..index].iter().find(|c| c.label == choice.label) {
            let title = format!("`{}` stands twice on the axis `{}`", choice.label, axis.name);
            return Err(vec![
                Diagnostic::new(title)
                    .at(choice.place, "again here")
                    .context(first.place, "first here"),
            ]);
        }
    }
    Ok(())
}

/// Two axes must not set the same key: one row's label would not be true.
fn disjoint(first: &Axis, second: &Axis) -> Result<(), Vec<Diagnostic>> {
    let common = second.choices.iter().flat_map(|choice| leaves(&choice.table)).find(|(key, _)| {
        let first = first.choices.iter().flat_map(|choice| leaves(&choice.table));
        first.into_iter().any(|(other, _)| other == *key)
    });
    let title = match common {
        Some((key, _)) => format!("two axes set `{key}`"),
        None if first.name == second.name => format!("two axes are called `{}`", first.name),
        None => return Ok(()),
    };
    Err(vec![
        Diagnostic::new(title).at(second.place, "this axis").context(first.place, "and this axis"),
    ])
}
