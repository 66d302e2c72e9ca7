//! Every cell of a study with what it was computed by.

use deim_lab::history::History;

use super::Chapter;
use super::markup::{Page, escaped};
use crate::number::{minutes, percent, short};
use crate::study::CellResult;

const HEAD: [&str; 9] =
    ["cell", "row", "seed", "AP", "best AP", "minutes", "finished", "computed by", "weights"];

/// A table that is closed until it is asked for.
pub fn details(page: &mut Page, chapter: &Chapter) {
    let study = &chapter.study;
    page.line("<details>");
    page.line(&format!(
        "<summary>All {} cells and where they come from</summary>",
        study.planned()
    ));
    page.line(&format!(
        "<p>Ledger: <code>{}</code>. <code>deim why CELL</code> prints everything about one.</p>",
        escaped(&chapter.ledger)
    ));
    page.line(
        "<div class=\"wide\" role=\"region\" tabindex=\"0\" aria-label=\"Cells, a wide table\">",
    );
    page.line("<table class=\"sortable\">");
    let heads: String = HEAD.iter().map(|head| format!("<th scope=\"col\">{head}</th>")).collect();
    page.line(&format!("<thead><tr>{heads}</tr></thead>"));
    page.line("<tbody>");
    for row in &study.rows {
        for cell in &row.cells {
            let history = chapter.histories.get(&cell.id);
            let entries = line(cell, &row.label(&study.names), history);
            let entries: String =
                entries.iter().map(|entry| format!("<td>{}</td>", escaped(entry))).collect();
            page.line(&format!(
                "<tr><th scope=\"row\"><code title=\"{}\">{}</code></th>{entries}</tr>",
                escaped(&cell.id),
                escaped(short(&cell.id))
            ));
        }
    }
    page.line("</tbody>");
    page.line("</table>");
    page.line("</div>");
    page.line("</details>");
}

/// What is known of a cell, after its id.
fn line(cell: &CellResult, row: &str, history: Option<&History>) -> [String; 8] {
    let finished = history.and_then(|history| history.finished.as_ref());
    let origin = history.and_then(|history| history.provenance.as_ref());
    let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    [
        row.to_owned(),
        cell.seed.to_string(),
        cell.ap.map_or_else(|| "missing".to_owned(), percent),
        or_dash(finished.and_then(|finished| finished.summary.best.ap).map(percent)),
        or_dash(finished.map(|finished| minutes(finished.seconds))),
        or_dash(finished.and(history).map(|history| history.last.clone())),
        or_dash(origin.map(|origin| {
            let from = origin.reused_from.as_ref();
            let from = from.map(|from| format!("; taken from {from}")).unwrap_or_default();
            format!("{}, {}, {} threads{from}", origin.program, origin.device, origin.threads)
        })),
        or_dash(finished.map(|finished| short(&finished.summary.weights).to_owned())),
    ]
}
