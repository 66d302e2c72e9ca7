use std::collections::BTreeSet;

use deim_lab::history;

use super::*;
use crate::gather::gather;
use crate::samples;

fn chapter() -> Chapter {
    let experiment = samples::experiment();
    let cells = samples::cells(&experiment, &[0, 1, 2], "cpu");
    let lines: Vec<_> = cells
        .iter()
        .enumerate()
        .flat_map(|(at, cell)| samples::finished(&experiment, cell, "cpu", 0.3 + at as f64 / 100.0))
        .collect();
    Chapter {
        study: gather(&experiment, &cells, &lines).unwrap(),
        histories: history::by_cell(&lines),
        ledger: "results/gamma/mini/ledger.jsonl".to_owned(),
    }
}

/// The values of an attribute, in order.
fn values<'a>(page: &'a str, attribute: &str) -> Vec<&'a str> {
    let start = format!(" {attribute}=\"");
    page.split(&start).skip(1).filter_map(|rest| rest.split('"').next()).collect()
}

#[test]
fn the_page_needs_nothing_but_itself() {
    let page = page(&[chapter(), chapter()]).unwrap();
    for fetch in ["src=", "<link", "@import", "url(", "<iframe", "fetch("] {
        assert!(!page.contains(fetch), "the page fetches something: {fetch}");
    }
    let outside = values(&page, "href").into_iter().find(|to| !to.starts_with('#'));
    assert_eq!(outside, None, "a link leaves the page");
}

#[test]
fn every_link_and_label_has_its_target_and_no_id_stands_twice() {
    let page = page(&[chapter()]).unwrap();
    let ids = values(&page, "id");
    let unique: BTreeSet<&str> = ids.iter().copied().collect();
    assert_eq!(ids.len(), unique.len(), "an id stands twice");
    let labels = values(&page, "aria-labelledby");
    let links = values(&page, "href").into_iter().map(|to| to.trim_start_matches('#'));
    for target in links.chain(labels) {
        assert!(unique.contains(target), "nothing has the id {target}");
    }
}

#[test]
fn what_a_ledger_or_a_spec_says_cannot_become_markup() {
    let mut chapter = chapter();
    let hostile = "<img src=x onerror=alert(1)>\"'";
    chapter.study.title = hostile.into();
    chapter.study.question = hostile.into();
    chapter.study.rows[0].labels[0] = hostile.into();
    chapter.ledger = hostile.into();
    let page = page(&[chapter]).unwrap();
    assert!(!page.contains("<img"), "text became an element");
}

#[test]
fn every_cell_stands_there_and_a_missing_one_says_so() {
    let mut chapter = chapter();
    let lost = chapter.study.rows[0].cells[0].id.clone();
    chapter.study.rows[0].cells[0].ap = None;
    chapter.histories.remove(&lost);
    let cells: Vec<String> = chapter
        .study
        .rows
        .iter()
        .flat_map(|row| row.cells.iter().map(|cell| cell.id.clone()))
        .collect();
    let page = page(&[chapter]).unwrap();
    for cell in cells {
        assert!(page.contains(&format!("title=\"{cell}\"")), "{cell} is not on the page");
    }
    assert!(page.contains("<td>missing</td>"));
}

#[test]
fn the_same_ledger_gives_the_same_page() {
    assert!(page(&[chapter()]).unwrap() == page(&[chapter()]).unwrap());
}
