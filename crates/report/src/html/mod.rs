//! `deim report --html`: every answer on one page that needs nothing but a browser.
//!
//! The page carries its style, its script and its figures in itself, so it can be mailed, archived
//! and opened from a disk. Without the script everything is still there to be read.

mod cells;
mod chapter;
mod markup;
mod table;

use std::collections::BTreeMap;

use deim_lab::history::History;

use crate::error::Error;
use crate::figures::theme;
use crate::study::Study;
use markup::{Page, escaped};

/// A study and what its ledger says of every cell.
pub struct Chapter {
    pub study: Study,
    pub histories: BTreeMap<String, History>,
    /// Where the ledger lies, for the reader.
    pub ledger: String,
}

impl Chapter {
    /// What links point to: the same on every page.
    fn anchor(&self) -> String {
        format!("{}-{}", self.study.name, self.study.scale)
    }
}

const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

/// The whole page.
pub fn page(chapters: &[Chapter]) -> Result<String, Error> {
    let mut page = Page::default();
    page.line("<!doctype html>");
    page.line("<html lang=\"en\">");
    page.line("<head>");
    page.line("<meta charset=\"utf-8\">");
    page.line("<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">");
    page.line("<meta name=\"color-scheme\" content=\"light dark\">");
    page.line(&format!("<title>{}</title>", escaped(&title(chapters))));
    // Nothing is fetched, whatever a label of a ledger may contain.
    page.line(
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; \
         style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:\">",
    );
    page.line(&format!("<style>\n{STYLE}{}</style>", dark_figures()));
    page.line("</head>");
    page.line("<body>");
    page.line("<a class=\"skip\" href=\"#answers\">Skip to the answers</a>");
    head(&mut page, chapters);
    page.line("<main id=\"answers\" tabindex=\"-1\">");
    for chapter in chapters {
        chapter::section(&mut page, chapter)?;
    }
    page.line("</main>");
    page.line("<p id=\"said\" class=\"unseen\" role=\"status\"></p>");
    page.line(&format!("<script>\n{SCRIPT}</script>"));
    page.line("</body>");
    page.line("</html>");
    Ok(page.text)
}

fn title(chapters: &[Chapter]) -> String {
    match chapters {
        [one] => one.study.title.clone(),
        _ => "Ablations of DETR training".to_owned(),
    }
}

/// The figures' colours on dark pages, as the reader's system or the switch of this page says.
fn dark_figures() -> String {
    let rules = |root: &str| {
        theme::dark_paints()
            .map(|(attribute, paint)| format!("{root} figure svg [{attribute}]{{{paint}}}\n"))
            .collect::<String>()
    };
    format!(
        "@media (prefers-color-scheme: dark) {{\n{}}}\n{}",
        rules(":root:not([data-theme=light])"),
        rules(":root[data-theme=dark]")
    )
}

fn head(page: &mut Page, chapters: &[Chapter]) {
    page.line("<header>");
    page.line(&format!("<h1>{}</h1>", escaped(&title(chapters))));
    page.line(
        "<p>Every number on this page was read from the ledger of a run; numbers in <em>italics</em> \
         are the paper&rsquo;s and were not measured here.</p>",
    );
    page.line(
        "<button type=\"button\" id=\"theme\" hidden>Colours: <span>as the system</span></button>",
    );
    if chapters.len() > 1 {
        page.line("<nav aria-label=\"Answers\">");
        page.line("<ol>");
        for chapter in chapters {
            page.line(&format!(
                "<li><a href=\"#{}\">{}</a> <span class=\"scale\">{}</span>\
                 <br><span class=\"short\">{}</span></li>",
                escaped(&chapter.anchor()),
                escaped(&chapter.study.title),
                escaped(&chapter.study.scale),
                escaped(&chapter.study.verdict())
            ));
        }
        page.line("</ol>");
        page.line("</nav>");
    }
    page.line("</header>");
}

#[cfg(test)]
mod tests;
