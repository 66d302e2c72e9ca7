//! `--set KEY=VALUE`, read as if it were a line of a file.

use crate::axes::Axis;
use crate::error::Diagnostic;
use crate::keys;
use crate::node::{Table, leaves, merge, nest, parse_flag, segments};
use crate::source::{Place, Sources};
use crate::typed;

const FLAG: &str = "--set ";

/// Merges the flags in their order; the last one for a key counts.
pub(crate) fn read(set: &[String], sources: &mut Sources) -> Result<Table, Diagnostic> {
    let mut merged = Table::new();
    for assignment in set {
        let source = sources.add_flag(format!("{FLAG}{assignment}"));
        let place = |start: usize, end: usize| Place {
            source,
            start: FLAG.len() + start,
            end: FLAG.len() + end,
        };
        let Some(equals) = assignment.find('=') else {
            return Err(Diagnostic::new("a value to set needs a key")
                .at(place(0, assignment.len()), "expected KEY=VALUE, for example loss.gamma=2.0"));
        };
        let (key, text) = (&assignment[..equals], &assignment[equals + 1..]);
        let node = parse_flag(source, FLAG.len() + equals + 1, text)?;
        let table = nest(segments(key, place(0, equals), sources), node);
        typed::config(&table).map_err(|error| advised(error, key))?;
        merge(&mut merged, table);
    }
    Ok(merged)
}

/// A flag has no table around it that would say which keys there are.
fn advised(error: Diagnostic, key: &str) -> Diagnostic {
    let unknown = !keys::all().iter().any(|known| known.path == key);
    match keys::suggestion(key) {
        _ if key == "seeds" => Diagnostic { help: vec!["use `--seeds N`".into()], ..error },
        Some(meant) if unknown => {
            Diagnostic { help: vec![format!("did you mean `{meant}`?")], ..error }
        }
        _ => error,
    }
}

/// A flag must not set what an axis sets: the label of the row would not be true.
pub(crate) fn keep_off(axes: &[Axis], flags: &Table) -> Result<(), Diagnostic> {
    let flags = leaves(flags);
    for axis in axes {
        for choice in &axis.choices {
            for (key, place) in leaves(&choice.table) {
                if let Some((_, flag)) = flags.iter().find(|(flag, _)| *flag == key) {
                    return Err(Diagnostic::new(format!(
                        "`{key}` belongs to the axis `{}`",
                        axis.name
                    ))
                    .at(*flag, "this flag would make the labels of the rows untrue")
                    .context(place, "the axis sets it here"));
                }
            }
        }
    }
    Ok(())
}
