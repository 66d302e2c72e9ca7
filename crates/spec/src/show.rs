//! A resolved row as TOML, each value with its origin in a comment.

use crate::experiment::Row;

/// The row's configuration; the text is itself a part that resolves to the same values.
pub fn annotated(row: &Row) -> String {
    let plain = toml::to_string(&row.config).expect("a checked Config has only numbers TOML has");
    let mut section = String::new();
    let mut lines: Vec<(String, String)> = Vec::new();
    for line in plain.lines() {
        let header = line.trim_start_matches('[').trim_end_matches(']');
        let path = if header.len() < line.len() && line.starts_with('[') && line.ends_with(']') {
            section = header.to_owned();
            section.clone()
        } else if let Some((key, _)) = line.split_once(" = ") {
            if section.is_empty() { key.to_owned() } else { format!("{section}.{key}") }
        } else {
            String::new()
        };
        let origin = row.provenance.get(&path).map(ToString::to_string).unwrap_or_default();
        lines.push((line.to_owned(), origin));
    }
    let noted = lines.iter().filter(|(_, origin)| !origin.is_empty());
    let width = noted.map(|(line, _)| line.chars().count()).max().unwrap_or_default();
    let mut text = String::new();
    for (line, origin) in lines {
        let line = match origin.is_empty() {
            true => line,
            false => format!("{line:width$}  # {origin}"),
        };
        text.push_str(&line);
        text.push('\n');
    }
    text
}
