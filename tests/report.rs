//! What `deim report` makes of a ledger, and what it refuses.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod micro;

use std::fs;
use std::path::PathBuf;

use deim_lab::record::{Line, Record};
use deim_lab::{Cell, Ledger};
use micro::{Lab, finished_lines};

const PAPER: &str = r#"
title = "gamma of MAL on COCO (paper Table 5)"
source = "the paper"

[[row]]
about = { epochs = 24 }
settings = { "loss.gamma" = 1.5 }
ap = 52.4
"#;

/// A laboratory whose experiment `micro` has three seeds and a paper.
fn lab() -> Lab {
    let lab = Lab::new();
    let experiments = lab.path().join("experiments");
    fs::create_dir(experiments.join("paper")).unwrap();
    fs::write(experiments.join("paper/table5.toml"), PAPER).unwrap();
    let path = experiments.join("micro.toml");
    let text = fs::read_to_string(&path).unwrap().replace("count = 1", "count = 3");
    fs::write(path, format!("paper = \"paper/table5.toml\"\n{text}")).unwrap();
    lab
}

/// An AP for each cell: gamma 2.0 is clearly worse.
fn ap(cell: &Cell) -> f64 {
    let noise = (cell.seed * 3 + cell.row as u64 * 5) % 4;
    0.31 - 0.05 * cell.row as f64 + 0.01 * cell.seed as f64 + 0.001 * noise as f64
}

/// A ledger in which every cell is finished, except those of which `skip` holds.
fn finish(lab: &Lab, skip: impl Fn(&Cell) -> bool) {
    for cell in lab.plan("micro").cells.iter().filter(|cell| !skip(cell)) {
        lab.pretend_finished("micro", cell, ap(cell));
    }
}

fn folder(lab: &Lab) -> PathBuf {
    lab.path().join("results/micro/default")
}

fn read(lab: &Lab, name: &str) -> String {
    fs::read_to_string(folder(lab).join(name)).unwrap()
}

/// Lines written by hand, after those that are there.
fn append(lab: &Lab, lines: Vec<Line>) {
    Ledger::at(folder(lab).join("ledger.jsonl")).extend(|_| Ok(lines)).unwrap();
}

#[test]
fn a_ledger_becomes_tables_and_figures() {
    let lab = lab();
    finish(&lab, |_| false);
    let told = lab.deim(&["report", "micro"]);
    assert_eq!(told.code, Some(0), "{told}");
    let mut settings = insta::Settings::clone_current();
    // Ids follow from the whole configuration, which other changes may change.
    settings.add_filter(r"\b[0-9a-f]{16}\b", "[cell]");
    settings.add_filter(r"`[0-9a-f]{8}`", "`[cell]`");
    settings.bind(|| {
        insta::assert_snapshot!("terminal", told.out);
        insta::assert_snapshot!("table.md", read(&lab, "table.md"));
        insta::assert_snapshot!("table.csv", read(&lab, "table.csv"));
        insta::assert_snapshot!("table.tex", read(&lab, "table.tex"));
    });
    let figure = read(&lab, "figure.svg");
    let curve = read(&lab, "curve.svg");
    for words in ["Does it run?", "gamma", "reference", "worse", "synthetic scenes", "52.4"] {
        assert!(figure.contains(words), "{words} is not in the figure");
    }
    for words in ["Does it run?", "gamma 1.5", "gamma 2.0", "epochs trained"] {
        assert!(curve.contains(words), "{words} is not in the curve");
    }
    for name in ["figure.png", "curve.png"] {
        let png = fs::read(folder(&lab).join(name)).unwrap();
        assert!(png.starts_with(b"\x89PNG") && png.len() > 10_000, "{name} is blank");
    }
}

#[test]
fn the_same_ledger_gives_the_same_bytes_whatever_the_threads() {
    let lab = lab();
    finish(&lab, |_| false);
    let mut renderings = Vec::new();
    for threads in ["1", "3"] {
        let mut command = lab.command(&["report"]);
        let output = command.env("POLARS_MAX_THREADS", threads).output().unwrap();
        assert!(output.status.success());
        let mut files: Vec<_> =
            fs::read_dir(folder(&lab)).unwrap().map(|f| f.unwrap().path()).collect();
        files.sort();
        renderings.push(files.iter().map(|f| fs::read(f).unwrap()).collect::<Vec<_>>());
    }
    assert_eq!(renderings[0].len(), 11);
    assert!(renderings[0] == renderings[1], "a file depends on the number of threads");
}

#[test]
fn an_edited_digit_fails_the_check_and_names_the_line() {
    let lab = lab();
    finish(&lab, |_| false);
    lab.deim(&["report"]);
    let told = lab.deim(&["report", "--check"]);
    assert_eq!(told.code, Some(0), "{told}");
    assert!(told.out.contains("10 files follow from the ledger"), "{told}");

    let table = read(&lab, "table.md");
    let edited = table.replacen("| 27.", "| 29.", 1);
    assert_ne!(table, edited, "the table has no such number to edit");
    fs::write(folder(&lab).join("table.md"), edited).unwrap();
    let told = lab.deim(&["report", "--check"]);
    assert_eq!(told.code, Some(1), "{told}");
    assert!(told.out.contains("table.md: differs from line"), "{told}");
    assert!(told.out.contains("| 29.") && told.out.contains("| 27."), "{told}");

    fs::remove_file(folder(&lab).join("figure.png")).unwrap();
    let told = lab.deim(&["report", "--check"]);
    assert!(told.out.contains("figure.png: is missing"), "{told}");
}

#[test]
fn an_edited_ledger_fails_the_check_too() {
    let lab = lab();
    finish(&lab, |_| false);
    lab.deim(&["report"]);
    let ledger = folder(&lab).join("ledger.jsonl");
    let text = fs::read_to_string(&ledger).unwrap();
    fs::write(&ledger, text.replace("\"ap\":0.32", "\"ap\":0.34")).unwrap();
    let told = lab.deim(&["report", "--check"]);
    assert_eq!(told.code, Some(1), "{told}");

    // A changed seed is not even compared: the id no longer follows.
    fs::write(&ledger, text.replacen("\"seed\":0", "\"seed\":9", 1)).unwrap();
    let told = lab.deim(&["report", "--check"]);
    assert_eq!(told.code, Some(1), "{told}");
    assert!(told.err.contains("does not follow from what the ledger says"), "{told}");
}

#[test]
fn missing_cells_are_marked_and_counted() {
    let lab = lab();
    finish(&lab, |cell| cell.row == 1 && cell.seed == 2);
    let told = lab.deim(&["report"]);
    assert_eq!(told.code, Some(0), "{told}");
    assert!(told.out.contains("incomplete: 1 of 6 cells are missing"), "{told}");
    let table = read(&lab, "table.md");
    assert!(table.contains("| 2 of 3 |") && table.contains("(missing)"), "{table}");
    assert!(read(&lab, "figure.svg").contains("Incomplete: 1 of 6"));
}

#[test]
fn fewer_seeds_than_the_experiment_asks_for_are_told() {
    let lab = lab();
    finish(&lab, |cell| cell.seed > 0);
    let told = lab.deim(&["report"]);
    assert!(told.out.contains("fewer seeds than the experiment asks for: 1 of 3"), "{told}");
    assert!(told.out.contains("cannot tell"), "{told}");
    assert!(!told.out.contains("better") && !told.out.contains("worse"), "{told}");
}

#[test]
fn stale_and_foreign_cells_are_counted_and_left_out() {
    let lab = lab();
    finish(&lab, |_| false);
    lab.deim(&["report"]);
    let before = read(&lab, "table.csv");
    let foreign = &lab.plan("other").cells[1];
    append(&lab, finished_lines("other", foreign, 0.99));
    let told = lab.deim(&["report"]);
    assert!(told.out.contains("stale: 1 finished cell belongs to another spec"), "{told}");
    assert_eq!(read(&lab, "table.csv"), before, "a foreign cell reached a number");
}

#[test]
fn two_device_classes_are_not_mixed() {
    let lab = lab();
    finish(&lab, |_| false);
    let mut cell = lab.plan("micro").cells[0].clone();
    let numerics = deim_train::NUMERICS;
    cell.id = deim_spec::cell_id(&cell.config, cell.seed, &cell.manifest, numerics, "cuda");
    let mut lines = finished_lines("micro", &cell, 0.99);
    for line in &mut lines {
        if let Record::Started(origin) = &mut line.record {
            origin.device_class = "cuda".into();
        }
    }
    append(&lab, lines);
    let told = lab.deim(&["report"]);
    assert_eq!(told.code, Some(1), "{told}");
    assert!(told.err.contains("cpu and of cuda; say which with --device"), "{told}");
    let told = lab.deim(&["report", "--device", "cpu"]);
    assert_eq!(told.code, Some(0), "{told}");
    assert!(told.out.contains("stale: 1 finished cell"), "{told}");
}

#[test]
fn other_numerics_are_stale_and_without_a_current_cell_there_is_no_table() {
    let lab = lab();
    let numerics = deim_train::NUMERICS + 1;
    for cell in &lab.plan("micro").cells {
        let mut cell = cell.clone();
        cell.id = deim_spec::cell_id(&cell.config, cell.seed, &cell.manifest, numerics, "cpu");
        let mut lines = finished_lines("micro", &cell, 0.3);
        for line in &mut lines {
            if let Record::Started(origin) = &mut line.record {
                origin.numerics = numerics;
            }
        }
        append(&lab, lines);
    }
    let told = lab.deim(&["report", "micro"]);
    assert_eq!(told.code, Some(1), "{told}");
    assert!(told.err.contains("none of the 6 finished cells"), "{told}");
    assert!(!folder(&lab).join("table.md").exists());
}

#[test]
fn a_torn_last_line_is_told_and_left_out() {
    let lab = lab();
    finish(&lab, |_| false);
    lab.deim(&["report"]);
    let table = read(&lab, "table.md");
    let ledger = folder(&lab).join("ledger.jsonl");
    let text = fs::read_to_string(&ledger).unwrap();
    fs::write(&ledger, format!("{text}{{\"at\":\"2025")).unwrap();
    let told = lab.deim(&["report"]);
    assert_eq!(told.code, Some(0), "{told}");
    assert!(told.err.contains("1 torn last line"), "{told}");
    assert_eq!(read(&lab, "table.md"), table);
}

#[test]
fn a_ledger_that_cannot_be_reported_says_why() {
    let lab = lab();
    let told = lab.deim(&["report", "micro"]);
    assert_eq!(told.code, Some(2), "{told}");
    assert!(told.err.contains("micro has no results"), "{told}");

    // Begun, but nothing finished.
    let cell = &lab.plan("micro").cells[0];
    append(&lab, finished_lines("micro", cell, 0.3)[..2].to_vec());
    let told = lab.deim(&["report"]);
    assert_eq!(told.code, Some(1), "{told}");
    assert!(told.err.contains("no cell is finished yet; run `deim ablation micro"), "{told}");
    let told = lab.deim(&["report", "--check"]);
    assert_eq!(told.code, Some(0), "{told}");
    assert!(told.out.contains("nothing to check"), "{told}");

    fs::remove_file(lab.path().join("experiments/micro.toml")).unwrap();
    let told = lab.deim(&["report"]);
    assert_eq!(told.code, Some(1), "{told}");
    assert!(told.err.contains("micro.toml is gone"), "{told}");
}

#[test]
fn tables_without_a_ledger_fail_the_check_and_nothing_at_all_passes_it() {
    let lab = lab();
    let told = lab.deim(&["report", "--check"]);
    assert_eq!(told.code, Some(0), "{told}");
    assert!(told.out.contains("nothing to check: no ledger"), "{told}");

    fs::create_dir_all(folder(&lab)).unwrap();
    fs::write(folder(&lab).join("table.md"), "| AP |\n| 99.9 |\n").unwrap();
    let told = lab.deim(&["report", "--check"]);
    assert_eq!(told.code, Some(1), "{told}");
    assert!(told.out.contains("table.md: there is no ledger"), "{told}");
}
