//! Reading files, and what they extend.

use std::path::{Component, Path, PathBuf};

use crate::embedded;
use crate::error::{Diagnostic, nearest};
use crate::file::HEAD_KEYS;
use crate::node::{Node, Table, merge, parse};
use crate::source::{Place, Sources};
use crate::typed;

/// Reads the files of one experiment and remembers their texts.
pub(crate) struct Parts<'a> {
    pub root: &'a Path,
    pub sources: Sources,
    /// Read what the binary carries, and nothing from a disk.
    embedded: bool,
    /// The files being read, outermost first; a part in here that is asked for again is a circle.
    open: Vec<PathBuf>,
}

impl<'a> Parts<'a> {
    pub fn new(root: &'a Path) -> Self {
        Self { root, sources: Sources::default(), embedded: false, open: Vec::new() }
    }

    /// Reads the files that the binary carries.
    pub fn embedded() -> Parts<'static> {
        Parts { embedded: true, ..Parts::new(Path::new(embedded::ROOT)) }
    }

    /// Reads a file as the one that everything else belongs to.
    pub fn outermost(&mut self, path: &Path) -> Result<Node, Diagnostic> {
        let inside = path.strip_prefix(self.root).unwrap_or(path);
        self.open.push(tidy(inside));
        self.read(path, None)
    }

    /// Reads a file without looking at what it extends.
    pub fn read(&mut self, path: &Path, asked: Option<Place>) -> Result<Node, Diagnostic> {
        let name = path.display().to_string();
        let read = match self.embedded {
            true => embedded::text(path).map(|text| text.as_bytes().to_vec()).ok_or_else(|| {
                std::io::Error::new(std::io::ErrorKind::NotFound, "not carried by the binary")
            }),
            false => std::fs::read(path),
        };
        let text = match read {
            Ok(bytes) => String::from_utf8(bytes).map_err(|_| {
                let problem = Diagnostic::new(format!("cannot read {name}"));
                problem.at_some(asked, "expected UTF-8 text, found other bytes")
            })?,
            Err(error) => return Err(self.unreadable(path, asked, &error)),
        };
        let source = self.sources.add_file(name, text.clone());
        parse(source, &text)
    }

    fn unreadable(&self, path: &Path, asked: Option<Place>, error: &std::io::Error) -> Diagnostic {
        let name = path.display();
        if error.kind() != std::io::ErrorKind::NotFound {
            let problem = Diagnostic::new(format!("cannot read {name}"));
            return problem.at_some(asked, error.to_string());
        }
        let problem = Diagnostic::new(format!("there is no file {name}"));
        let problem = match asked {
            Some(place) => {
                problem.at(place, "expected a path relative to the experiments directory")
            }
            None => problem,
        };
        let found = siblings(path);
        let found: Vec<&str> = found.iter().map(String::as_str).collect();
        let written = path.file_name().map(|name| name.to_string_lossy()).unwrap_or_default();
        match nearest(&written, &found) {
            Some(name) => problem.help(format!("did you mean `{name}`?")),
            None if found.is_empty() => problem,
            None => problem.help(format!("found there: {}", found.join(", "))),
        }
    }

    /// Merges the parts of an `extends` list, each after what it extends itself, in list order.
    pub fn extends(&mut self, paths: &[String], list: Option<&Node>) -> Result<Table, Diagnostic> {
        let mut merged = Table::new();
        for (path, node) in paths.iter().zip(list.map(Node::array).unwrap_or_default()) {
            merge(&mut merged, self.part(path, node.place)?);
        }
        Ok(merged)
    }

    fn part(&mut self, path: &str, asked: Place) -> Result<Table, Diagnostic> {
        if Path::new(path).is_absolute() {
            return Err(Diagnostic::new("a part lies inside the experiments directory")
                .at(asked, "expected a relative path, found an absolute one"));
        }
        let tidied = tidy(Path::new(path));
        if let Some(first) = self.open.iter().position(|open| *open == tidied) {
            let chain = self.open[first..].iter().chain([&tidied]);
            let chain: Vec<String> = chain.map(|path| path.display().to_string()).collect();
            return Err(Diagnostic::new("`extends` goes in a circle")
                .at(asked, "this part is what is being extended")
                .note(chain.join(" extends ")));
        }
        let node = self.read(&self.root.join(&tidied), Some(asked))?;
        self.open.push(tidied);
        let table = self.fragment(node)?;
        self.open.pop();
        Ok(table)
    }

    /// Checks a part's own values and lays them on what it extends.
    pub fn fragment(&mut self, node: Node) -> Result<Table, Diagnostic> {
        let place = node.place;
        let mut own = node.table().cloned().unwrap_or_default();
        let extends = own.remove("extends");
        let paths = match &extends {
            Some(entry) => typed::read::<Vec<String>>(&entry.node).map_err(|error| Diagnostic {
                title: "wrong value for `extends`".into(),
                ..error
            })?,
            None => Vec::new(),
        };
        if let Some(name) = HEAD_KEYS.iter().find(|name| own.contains_key(**name)) {
            let place = own.get(*name).map_or(place, |entry| entry.key);
            return Err(Diagnostic::new(format!("`{name}` in a part"))
                .at(place, "expected a configuration key")
                .help("only an experiment, which no other file extends, has a title, a question, `alias`, `paper`, `scales`, `axis` and `seeds`"));
        }
        typed::config(&own)?;
        let mut merged = self.extends(&paths, extends.as_ref().map(|entry| &entry.node))?;
        merge(&mut merged, own);
        Ok(merged)
    }
}

/// The path without `.` and with `name/..` taken out, so that a file has one spelling.
fn tidy(path: &Path) -> PathBuf {
    let mut tidied = PathBuf::new();
    for component in path.components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir if tidied.file_name().is_some() => {
                tidied.pop();
            }
            other => tidied.push(other),
        }
    }
    tidied
}

/// The TOML files in the same directory, in order.
fn siblings(path: &Path) -> Vec<String> {
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    toml_files(directory).unwrap_or_default()
}

/// The names of a directory's TOML files, in order.
pub(crate) fn toml_files(directory: &Path) -> std::io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        let path = entry?.path();
        if path.is_file() && path.extension().is_some_and(|extension| extension == "toml") {
            names.extend(path.file_name().map(|name| name.to_string_lossy().into_owned()));
        }
    }
    names.sort();
    Ok(names)
}

/// The paths of all TOML files in a directory and below it, in order.
pub(crate) fn toml_files_below(directory: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut found: Vec<PathBuf> =
        toml_files(directory)?.into_iter().map(|name| directory.join(name)).collect();
    let mut folders = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        let path = entry?.path();
        if path.is_dir() {
            folders.push(path);
        }
    }
    folders.sort();
    for folder in folders {
        found.extend(toml_files_below(&folder)?);
    }
    Ok(found)
}
