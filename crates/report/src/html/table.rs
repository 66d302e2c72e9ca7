//! The measured table, and the printed one, which no reader can take for it.

use deim_spec::PaperTable;

use super::markup::{Page, escaped};
use crate::latency;
use crate::markdown::{SHARES, difference, mean_and_spread, seeds, size, time_per_epoch};
use crate::number::percent_or_dash;
use crate::printed::{Printed, PrintedCell, letter};
use crate::study::{Against, Study, detectable};

/// A row for each setting, each number over its seeds.
pub fn measured(page: &mut Page, study: &Study, anchor: &str) {
    page.line(&format!(
        "<div class=\"wide\" role=\"region\" tabindex=\"0\" aria-labelledby=\"{anchor}-caption\">"
    ));
    page.line("<table class=\"sortable\">");
    page.line(&format!(
        "<caption id=\"{anchor}-caption\">AP in percent on {}, mean &plusmn; standard deviation over \
         seeds</caption>",
        escaped(&study.data_name)
    ));
    let mut heads: Vec<String> = study.names.iter().map(|name| column(name)).collect();
    let against = format!("AP against {} [95 %]", study.reference_label());
    let own = ["AP", "seeds", "AP50", "AP75", "APs", "APm", "APl"];
    heads.extend(own.map(column));
    heads.extend([&against, "verdict", "detectable"].map(column));
    heads.extend(["epochs", "params, M", "GFLOPs"].map(column));
    heads.extend(latency::column(study).map(|_| column(latency::HEAD)));
    heads.push(column("time / epoch"));
    if study.paper.is_some() {
        heads.push("<th scope=\"col\" class=\"printed\">paper&rsquo;s AP</th>".to_owned());
    }
    page.line(&format!("<thead><tr>{}</tr></thead>", heads.concat()));
    page.line("<tbody>");
    for at in 0..study.rows.len() {
        page.line(&row(study, at));
    }
    page.line("</tbody>");
    page.line("</table>");
    page.line("</div>");
}

fn column(name: &str) -> String {
    format!("<th scope=\"col\">{}</th>", escaped(name))
}

fn row(study: &Study, at: usize) -> String {
    let row = &study.rows[at];
    let head = |label: &String| format!("<th scope=\"row\">{}</th>", escaped(label));
    let mut cells: Vec<String> = row.labels.iter().map(head).collect();
    let plain = |text: &str| format!("<td>{}</td>", escaped(text));
    let bold = |text: &str| format!("<td><strong>{}</strong></td>", escaped(text));
    let ap = mean_and_spread(row);
    cells.push(if row.against.is_better() { bold(&ap) } else { plain(&ap) });
    cells.push(plain(&seeds(row)));
    cells.extend(SHARES.map(|name| plain(&percent_or_dash(row.mean(name)))));
    let verdict = row.against.word();
    let reference = match study.has_one_reference() {
        true => String::new(),
        false => format!(" over {}", study.reference_of(at)),
    };
    match &row.against {
        Against::Reference => cells.push(plain("reference")),
        Against::Compared(_) => cells.push(plain(&format!("{}{reference}", difference(row)))),
    }
    cells.push(if row.against.is_decided() { bold(&verdict) } else { plain(&verdict) });
    cells.push(plain(&match &row.against {
        Against::Reference => "-".to_owned(),
        Against::Compared(comparison) => percent_or_dash(detectable(comparison)),
    }));
    cells.extend(size(&study.costs[at]).iter().map(|text| plain(text)));
    cells.extend(latency::column(study).map(|texts| plain(&texts[at])));
    // Its unit changes with its size.
    let seconds = row.mean("seconds").map(|seconds| format!("{seconds}"));
    cells.push(format!(
        "<td data-sort=\"{}\">{}</td>",
        seconds.unwrap_or_else(|| "-".to_owned()),
        escaped(&time_per_epoch(row, &study.costs[at]))
    ));
    if study.paper.is_some() {
        let paper = row.paper.map_or_else(|| "-".to_owned(), |ap| format!("{ap:.1}"));
        cells.push(format!("<td class=\"printed\"><em>{paper}</em></td>"));
    }
    format!("<tr>{}</tr>", cells.concat())
}

/// The rows of the paper, closed until they are asked for.
pub fn printed(page: &mut Page, table: &PaperTable) {
    let printed = Printed::new(table);
    page.line("<details>");
    page.line("<summary>Printed in the paper, not measured here</summary>");
    page.line(&format!(
        "<p>{}. Read in: {}.</p>",
        escaped(&printed.title),
        escaped(&printed.source)
    ));
    page.line(
        "<div class=\"wide\" role=\"region\" tabindex=\"0\" aria-label=\"Printed in the paper, a wide table\">",
    );
    page.line("<table class=\"printed\">");
    let heads: String = printed.head.iter().map(|head| column(head)).collect();
    page.line(&format!("<thead><tr>{heads}</tr></thead>"));
    page.line("<tbody>");
    for row in &printed.rows {
        let cells: String = row.iter().map(printed_cell).collect();
        page.line(&format!("<tr>{cells}</tr>"));
    }
    page.line("</tbody>");
    page.line("</table>");
    page.line("</div>");
    page.line("<ol class=\"letters\">");
    for note in &printed.notes {
        page.element("li", note);
    }
    page.line("</ol>");
    page.line("</details>");
}

fn printed_cell(cell: &PrintedCell) -> String {
    let marks: Vec<String> = cell.marks.iter().map(|mark| letter(*mark)).collect();
    let marks = match marks.is_empty() {
        true => String::new(),
        false => format!("<sup>{}</sup>", marks.join(",")),
    };
    format!("<td><em>{}</em>{marks}</td>", escaped(&cell.text))
}
