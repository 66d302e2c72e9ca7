//! The HTML page in a real browser: headless Chromium opens it from the disk and clicks through it.
//!
//! `.ci/run` installs the browser and sets `DEIM_BROWSER`, so that there the test cannot pass unseen;
//! elsewhere it says that it was left out when there is none.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod micro;

use std::path::{Path, PathBuf};
use std::process::Command;

use micro::Lab;

/// What a reader does, ending in a report on the page.
const READER: &str = include_str!("html/reader.js");

/// The browser; none where there is none and none is demanded.
fn browser() -> Option<PathBuf> {
    if let Some(path) = std::env::var_os("DEIM_BROWSER") {
        return Some(path.into());
    }
    let folders = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&folders)
        .flat_map(|folder| ["chromium", "chromium-browser"].map(|name| folder.join(name)))
        .find(|path| path.exists());
    if found.is_none() {
        eprintln!("left out: no chromium on this machine; DEIM_BROWSER names one");
    }
    found
}

/// A page of the micro experiment, and its folder.
fn page() -> (Lab, PathBuf) {
    let lab = Lab::new();
    for (at, cell) in lab.plan("micro").cells.iter().enumerate() {
        lab.pretend_finished("micro", cell, 0.3 + at as f64 / 100.0);
    }
    let told = lab.deim(&["report", "--html", "page.html"]);
    assert_eq!(told.code, Some(0), "{told}");
    let path = lab.path().join("page.html");
    (lab, path)
}

/// Opens the page in a window of this width, reads it as `READER` does, and gives what it found wrong.
fn read(browser: &Path, page: &Path, width: u32) -> Vec<String> {
    let text = std::fs::read_to_string(page).unwrap();
    let script = format!("<script>{READER}</script></body>");
    let opened = page.with_file_name("opened.html");
    std::fs::write(&opened, text.replace("</body>", &script)).unwrap();
    let profile = page.with_file_name("profile");
    let output = Command::new(browser)
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"])
        .args(["--host-resolver-rules=MAP * ~NOTFOUND", "--virtual-time-budget=10000"])
        .arg(format!("--window-size={width},900"))
        .arg(format!("--user-data-dir={}", profile.display()))
        .arg("--dump-dom")
        .arg(format!("file://{}", opened.display()))
        .output()
        .unwrap_or_else(|error| panic!("{}: {error}", browser.display()));
    let dom = String::from_utf8_lossy(&output.stdout);
    let found =
        dom.split_once("<pre id=\"found\">").and_then(|(_, rest)| rest.split_once("</pre>"));
    let (found, _) = found.unwrap_or_else(|| {
        panic!("the reader did not come to an end: {}", String::from_utf8_lossy(&output.stderr))
    });
    found.lines().map(str::to_owned).collect()
}

#[test]
fn a_reader_can_click_through_the_page_on_a_desk_and_on_a_phone() {
    let Some(browser) = browser() else { return };
    let (_lab, page) = page();
    for width in [1280, 500] {
        assert_eq!(read(&browser, &page, width), ["done"], "{width} pixels wide");
    }
}

#[test]
fn the_reader_finds_what_is_broken() {
    let Some(browser) = browser() else { return };
    let (_lab, page) = page();
    let text = std::fs::read_to_string(&page).unwrap();
    let broken = text.replace("head.setAttribute(\"aria-sort\"", "head.setAttribute(\"sorted\"");
    assert_ne!(text, broken);
    std::fs::write(&page, broken).unwrap();
    let found = read(&browser, &page, 1280);
    assert!(found.iter().any(|line| line.contains("sort")), "{found:?}");
}

#[test]
fn the_page_is_not_written_while_checking() {
    let (lab, _) = page();
    let told = lab.deim(&["report", "--check", "--html", "other.html"]);
    assert_eq!(told.code, Some(2), "{told}");
    assert!(!lab.path().join("other.html").exists());
}
