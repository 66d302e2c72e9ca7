//! One experiment at one scale: question, answer, table, figures, cells, commands.

use super::markup::{Page, escaped};
use super::{Chapter, cells, table};
use crate::error::Error;
use crate::figures::FIGURES;
use crate::figures::theme::{Theme, themed};
use crate::markdown::{notes, warnings};

pub fn section(page: &mut Page, chapter: &Chapter) -> Result<(), Error> {
    let study = &chapter.study;
    let anchor = escaped(&chapter.anchor());
    page.line(&format!("<section id=\"{anchor}\" aria-labelledby=\"{anchor}-title\">"));
    page.line(&format!("<h2 id=\"{anchor}-title\">{}</h2>", escaped(&study.title)));
    page.line(&format!("<p class=\"question\">{}</p>", escaped(&study.question)));
    page.line(&format!("<p class=\"verdict\">{}</p>", escaped(&study.verdict())));
    page.line(&format!(
        "<p class=\"basis\">Measured on {}, scale {}, {}.</p>",
        escaped(&study.data_name),
        escaped(&study.scale),
        escaped(&study.seed_counts())
    ));
    for warning in warnings(study) {
        page.line(&format!("<p class=\"warning\" role=\"note\">{}</p>", escaped(&warning)));
    }
    table::measured(page, study, &anchor);
    figures(page, chapter)?;
    page.line("<details>");
    page.line("<summary>What the numbers depend on</summary>");
    page.line("<ul>");
    for note in notes(study) {
        page.element("li", &note.replace('*', ""));
    }
    page.line("</ul>");
    page.line("</details>");
    if let Some(published) = &study.published {
        table::printed(page, published);
    }
    cells::details(page, chapter);
    page.line("<h3>Make it again</h3>");
    page.line("<p>Train what is missing, and write the table and the figures:</p>");
    page.command(&study.command());
    page.line("<p>Check that they follow from the ledger:</p>");
    page.command(&format!(
        "cargo run --release -- report {} --scale {} --check",
        study.name, study.scale
    ));
    page.line("</section>");
    Ok(())
}

fn figures(page: &mut Page, chapter: &Chapter) -> Result<(), Error> {
    page.line("<div class=\"figures\">");
    for figure in &FIGURES {
        let Some(svg) = figure.draw(&chapter.study)? else { continue };
        // The page has one style sheet for all of them.
        let svg = themed(&svg, Theme::Light);
        let name = format!("{}-{}", chapter.anchor(), figure.name);
        page.line(&format!("<figure aria-labelledby=\"{}\">", escaped(&name)));
        page.line(&in_page(&svg));
        page.line(&format!(
            "<figcaption id=\"{}\">{}. <button type=\"button\" class=\"save\" data-name=\"{}.svg\" \
             hidden>Save as SVG</button></figcaption>",
            escaped(&name),
            escaped(figure.about),
            escaped(&name)
        ));
        page.line("</figure>");
    }
    page.line("</div>");
    Ok(())
}

/// A document's `svg` element as a part of a page: without the XML declaration, one picture to a
/// screen reader.
fn in_page(svg: &str) -> String {
    let element = svg.find("<svg").map_or(svg, |at| &svg[at..]).trim_end();
    element.replacen("<svg", "<svg role=\"img\" focusable=\"false\"", 1)
}
