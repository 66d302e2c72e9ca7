//! Other names of experiments: `T4` is the experiment whose file says `alias = ["T4"]`.

use std::path::Path;

use crate::error::{Diagnostic, SpecError};
use crate::node::{Value, parse};
use crate::parts::toml_files;
use crate::source::Sources;

/// The name of the experiment that is called so: that of its file, or one of its aliases.
pub fn name(experiments_dir: &Path, asked: &str) -> Result<String, SpecError> {
    resolve(experiments_dir, asked).map_err(|error| SpecError::new(vec![error], Sources::default()))
}

/// The same; a name that nobody has is returned as it is, for the reader of the file to complain.
pub(crate) fn resolve(root: &Path, asked: &str) -> Result<String, Diagnostic> {
    if root.join(format!("{asked}.toml")).exists() {
        return Ok(asked.to_owned());
    }
    let mut found = all(root);
    found.retain(|(alias, _)| alias.eq_ignore_ascii_case(asked));
    match found.as_slice() {
        [] => Ok(asked.to_owned()),
        [(_, name)] => Ok(name.clone()),
        several => {
            let names: Vec<String> = several.iter().map(|(_, name)| format!("`{name}`")).collect();
            Err(Diagnostic::new(format!("`{asked}` is ambiguous"))
                .note(format!("an alias of {}", names.join(" and of ")))
                .help("use the name of the file"))
        }
    }
}

/// What is wrong with an experiment's aliases: another experiment is called so too.
pub(crate) fn check(root: &Path, name: &str, aliases: &[String]) -> Result<(), Diagnostic> {
    for alias in aliases {
        let is_file = root.join(format!("{alias}.toml")).exists();
        let other = all(root)
            .into_iter()
            .find(|(other, of)| of != name && other.eq_ignore_ascii_case(alias))
            .map(|(_, of)| of);
        if let Some(other) = other.or_else(|| is_file.then(|| alias.clone())) {
            return Err(Diagnostic::new(format!("`{alias}` names two experiments"))
                .note(format!("an alias of `{name}`, and `{other}` is called so as well")));
        }
    }
    Ok(())
}

/// Every alias with the name of its experiment. A file that is no TOML has none: whoever loads it
/// is told.
pub(crate) fn all(root: &Path) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for file in toml_files(root).unwrap_or_default() {
        let Ok(text) = std::fs::read_to_string(root.join(&file)) else { continue };
        let mut sources = Sources::default();
        let source = sources.add_file(file.clone(), text.clone());
        let Ok(node) = parse(source, &text) else { continue };
        let name = file.trim_end_matches(".toml");
        for alias in node.at(&["alias"]).map(|node| node.array()).unwrap_or_default() {
            if let Value::String(alias) = &alias.value {
                found.push((alias.clone(), name.to_owned()));
            }
        }
    }
    found
}
