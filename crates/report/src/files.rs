//! Writing what was rendered, and comparing it with what is there.

use std::fs;
use std::io::{ErrorKind, Write};
use std::path::Path;

use crate::FILES;
use crate::error::Error;
use crate::figures::raster::same_picture;

/// A file of a report: its name and its content.
#[derive(Clone, Debug, PartialEq)]
pub struct Document {
    pub name: &'static str,
    pub content: Vec<u8>,
}

/// Why a file on disk is not what the ledger gives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    pub name: &'static str,
    pub what: String,
}

/// Writes the documents into a folder; a reader sees each file's old or new content, never a part.
pub fn write(folder: &Path, documents: &[Document]) -> Result<(), Error> {
    fs::create_dir_all(folder).map_err(|source| Error::file(folder, source))?;
    documents
        .iter()
        .try_for_each(|document| write_atomically(&folder.join(document.name), &document.content))
}

/// Compares the documents with the files of the same names; an empty list means that all follow.
pub fn check(folder: &Path, documents: &[Document]) -> Result<Vec<Difference>, Error> {
    let mut differences = Vec::new();
    for document in documents {
        let path = folder.join(document.name);
        let found = match fs::read(&path) {
            Ok(found) => found,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                differences.push(Difference { name: document.name, what: "is missing".into() });
                continue;
            }
            Err(source) => return Err(Error::file(&path, source)),
        };
        let what = if document.name.ends_with(".png") {
            (!same_picture(&found, &document.content)).then(|| "shows another picture".to_owned())
        } else {
            first_difference(&found, &document.content)
        };
        differences.extend(what.map(|what| Difference { name: document.name, what }));
    }
    let expected = |name: &str| documents.iter().any(|document| document.name == name);
    for name in FILES.into_iter().filter(|name| !expected(name)) {
        if folder.join(name).exists() {
            differences.push(Difference { name, what: "does not belong to this ledger".into() });
        }
    }
    Ok(differences)
}

/// Writes a file under a temporary name beside it, syncs it and renames it.
pub fn write_atomically(path: &Path, content: &[u8]) -> Result<(), Error> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let temporary = path.with_file_name(format!(".{name}.{}.part", std::process::id()));
    let written = fs::File::create(&temporary)
        .and_then(|mut file| file.write_all(content).and_then(|()| file.sync_all()))
        .and_then(|()| fs::rename(&temporary, path));
    written.map_err(|source| {
        // Best effort: the error that matters is the first one.
        let _ = fs::remove_file(&temporary);
        Error::file(path, source)
    })
}

/// The first line in which two texts differ.
fn first_difference(found: &[u8], expected: &[u8]) -> Option<String> {
    if found == expected {
        return None;
    }
    let (found, expected) = (String::from_utf8_lossy(found), String::from_utf8_lossy(expected));
    let (mut found, mut expected) = (found.split('\n'), expected.split('\n'));
    for number in 1.. {
        let (found, expected) = (found.next(), expected.next());
        if found.is_none() && expected.is_none() {
            break;
        }
        if found != expected {
            let shown = |line: Option<&str>| line.map_or("no such line".to_owned(), excerpt);
            return Some(format!(
                "differs from line {number} on\n    there:           {}\n    from the ledger: {}",
                shown(found),
                shown(expected)
            ));
        }
    }
    Some("differs in bytes that are not text".to_owned())
}

/// Enough of a line to recognise it: a row of a table is short, a path of an SVG is not.
fn excerpt(line: &str) -> String {
    const LONGEST: usize = 240;
    match line.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}...", &line[..end]),
        None => line.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn documents() -> Vec<Document> {
        vec![
            Document { name: "table.md", content: b"| a |\n| 31.4 |\n".to_vec() },
            Document { name: "table.csv", content: b"a\n0.314\n".to_vec() },
        ]
    }

    #[test]
    fn what_was_written_checks() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().join("gamma/mini");
        write(&folder, &documents()).unwrap();
        assert_eq!(check(&folder, &documents()).unwrap(), []);
        let left: Vec<_> = fs::read_dir(&folder).unwrap().collect();
        assert_eq!(left.len(), 2, "temporary files stay behind");
    }

    #[test]
    fn an_edited_digit_is_found_with_its_line() {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), &documents()).unwrap();
        fs::write(folder.path().join("table.md"), "| a |\n| 31.9 |\n").unwrap();
        let differences = check(folder.path(), &documents()).unwrap();
        assert_eq!(differences.len(), 1);
        assert_eq!(differences[0].name, "table.md");
        assert!(differences[0].what.contains("line 2"), "{}", differences[0].what);
        assert!(differences[0].what.contains("31.9") && differences[0].what.contains("31.4"));
    }

    #[test]
    fn a_missing_file_and_a_lost_last_line_break_are_found() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("table.md"), "| a |\n| 31.4 |").unwrap();
        let differences = check(folder.path(), &documents()).unwrap();
        assert!(differences[0].what.contains("line 3"), "{}", differences[0].what);
        assert_eq!(differences[1].what, "is missing");
    }

    #[test]
    fn a_figure_that_no_ledger_gives_is_found() {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), &documents()).unwrap();
        fs::write(folder.path().join("curve.svg"), "<svg/>").unwrap();
        let differences = check(folder.path(), &documents()).unwrap();
        assert_eq!(differences.len(), 1);
        assert_eq!(differences[0].name, "curve.svg");
    }

    #[test]
    fn a_folder_that_cannot_be_made_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("results");
        fs::write(&file, "").unwrap();
        let error = write(&file.join("gamma"), &documents()).unwrap_err().to_string();
        assert!(error.contains("results"), "{error}");
    }
}
