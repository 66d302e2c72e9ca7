//! Where a cell's number comes from.

use std::collections::BTreeMap;
use std::path::Path;

use crate::error::LabError;
use crate::history::History;
use crate::shelf::Shelf;

/// A cell that some ledger knows.
#[derive(Clone, Debug)]
pub struct Found {
    pub id: String,
    /// `experiment/scale` that trained it.
    pub ledger: String,
    pub history: History,
    /// Others that reuse it.
    pub copies: Vec<String>,
}

/// The cell whose id begins with `prefix`, from all ledgers under a results folder.
pub fn find(results: &Path, prefix: &str) -> Result<Found, LabError> {
    let shelf = Shelf::all(results);
    let mut found: BTreeMap<String, Vec<(String, History)>> = BTreeMap::new();
    for (ledger, cell, history) in shelf.histories() {
        if cell.starts_with(prefix) && !prefix.is_empty() {
            found.entry(cell).or_default().push((ledger.to_owned(), history));
        }
    }
    if found.len() > 1 {
        let ids: Vec<&str> = found.keys().take(8).map(String::as_str).collect();
        return Err(LabError::Cell(format!(
            "{} cells begin with {prefix:?}: {}{}; give more of the id",
            found.len(),
            ids.join(", "),
            if found.len() > ids.len() { ", ..." } else { "" }
        )));
    }
    let Some((id, mut places)) = found.pop_first() else {
        let unread = match shelf.notes.is_empty() {
            true => String::new(),
            false => format!(" ({})", shelf.notes.join("; ")),
        };
        return Err(LabError::Cell(format!(
            "no ledger under {} knows a cell whose id begins with {prefix:?}{unread}; \
             `deim plan NAME` lists the ids of an experiment",
            results.display()
        )));
    };
    // The one that trained it first, then the copies.
    let copied = |history: &History| {
        history.provenance.as_ref().is_some_and(|known| known.reused_from.is_some())
    };
    places.sort_by_key(|(_, history)| copied(history));
    let (ledger, history) = places.remove(0);
    Ok(Found { id, ledger, history, copies: places.into_iter().map(|(name, _)| name).collect() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::Ledger;
    use crate::samples;

    fn results() -> tempfile::TempDir {
        let results = tempfile::tempdir().unwrap();
        let gamma = Ledger::new(results.path(), "gamma", "mini");
        for cell in ["abc1", "abd2"] {
            gamma.extend(|_| Ok(samples::finished_lines(cell, samples::provenance()))).unwrap();
        }
        let mut copy = samples::provenance();
        copy.reused_from = Some("gamma/mini".into());
        let first = Ledger::new(results.path(), "components", "mini");
        first.extend(|_| Ok(samples::finished_lines("abc1", copy))).unwrap();
        results
    }

    #[test]
    fn a_prefix_finds_the_cell_where_it_was_trained() {
        let results = results();
        let found = find(results.path(), "abc").unwrap();
        assert_eq!((found.id.as_str(), found.ledger.as_str()), ("abc1", "gamma/mini"));
        assert_eq!(found.copies, ["components/mini"]);
        assert!(found.history.finished.is_some());
    }

    #[test]
    fn an_ambiguous_or_unknown_prefix_is_explained() {
        let results = results();
        let error = find(results.path(), "ab").unwrap_err().to_string();
        assert_eq!(error, "2 cells begin with \"ab\": abc1, abd2; give more of the id");
        for unknown in ["x", ""] {
            let error = find(results.path(), unknown).unwrap_err().to_string();
            assert!(error.contains("no ledger under"), "{error}");
        }
    }
}
