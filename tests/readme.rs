//! The README's numbers are those of `results/`.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::Path;

/// The cells of the first table of a Markdown file, heads included.
fn table(path: &str) -> Vec<Vec<String>> {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap();
    let lines = text.lines().skip_while(|line| !line.starts_with('|'));
    lines
        .take_while(|line| line.starts_with('|'))
        .map(|line| line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect())
        .collect()
}

#[test]
fn the_first_table_of_the_readme_is_a_part_of_the_committed_one() {
    let (shown, whole) = (table("README.md"), table("results/gamma/mini/table.md"));
    assert_eq!(shown.len(), whole.len(), "a row is missing or was added");
    let column = |head: &str| {
        let found = whole[0].iter().position(|cell| cell.trim_matches('*').starts_with(head));
        found.unwrap_or_else(|| panic!("results/gamma/mini/table.md has no column {head:?}"))
    };
    let columns: Vec<usize> = shown[0].iter().map(|head| column(head.trim_matches('*'))).collect();
    for (shown, whole) in shown.iter().zip(&whole).skip(2) {
        for (cell, &column) in shown.iter().zip(&columns) {
            assert_eq!(cell, &whole[column], "README.md shows another number than the table");
        }
    }
}
