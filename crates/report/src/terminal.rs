//! The table on the terminal: what fits in a glance.

use comfy_table::{Cell, CellAlignment, ContentArrangement, LineStyle, Table, TableStyle};

use crate::markdown::{mean_and_spread, seeds, warnings};
use crate::number::{interval_percent, minutes, percent_or_dash, signed_percent};
use crate::study::{Against, Row, Study};

/// The columns of the terminal that standard output is, if it is one.
pub fn width() -> Option<u16> {
    Table::new().width()
}

/// The table and the verdict, at most `width` columns wide.
pub fn table(study: &Study, width: Option<u16>) -> String {
    let mut table = Table::new();
    let rule = LineStyle::none().fill('\u{2500}').junction('\u{2500}');
    table.load_style(TableStyle::new().top_border(rule).header_separator(rule).bottom_border(rule));
    table.force_no_tty();
    if let Some(width) = width {
        table.set_content_arrangement(ContentArrangement::Dynamic).set_width(width);
    }
    let mut head: Vec<String> = study.names.clone();
    head.extend(["AP ± std", "seeds", "APs", "APm", "APl"].map(str::to_owned));
    head.push(format!("AP against {}", study.reference_label()));
    head.extend(["verdict", "min/cell"].map(str::to_owned));
    head.extend(study.paper.iter().map(|_| "paper's AP".to_owned()));
    table.set_header(head);
    for row in &study.rows {
        let cells = line(study, row).into_iter().enumerate().map(|(at, text)| {
            let side =
                if at < study.names.len() { CellAlignment::Left } else { CellAlignment::Right };
            Cell::new(text).set_alignment(side)
        });
        table.add_row(cells.collect::<Vec<_>>());
    }
    let mut text = format!("{} ({} scale)\n{}\n", study.title, study.scale, study.question);
    for line in table.lines() {
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text.push_str(&study.verdict());
    text.push('\n');
    for note in warnings(study) {
        text.push_str(&note);
        text.push('\n');
    }
    if let Some(paper) = &study.paper {
        text.push_str(&format!("paper's AP: {paper}; not comparable with {}\n", study.data_name));
    }
    text
}

fn line(study: &Study, row: &Row) -> Vec<String> {
    let mut line = row.labels.clone();
    line.push(mean_and_spread(row));
    line.push(seeds(row));
    line.extend(["ap_small", "ap_medium", "ap_large"].map(|name| percent_or_dash(row.mean(name))));
    match &row.against {
        Against::Reference => line.extend(["reference".to_owned(), String::new()]),
        Against::Compared(comparison) => {
            let difference = comparison.difference.map(signed_percent).unwrap_or("-".to_owned());
            let interval = comparison.interval.map(interval_percent);
            line.push(
                [Some(difference), interval].into_iter().flatten().collect::<Vec<_>>().join(" "),
            );
            line.push(comparison.verdict.to_string());
        }
    }
    line.push(row.mean("seconds").map_or_else(|| "-".to_owned(), minutes));
    if study.paper.is_some() {
        line.push(row.paper.map_or_else(|| "-".to_owned(), |ap| format!("{ap:.1}")));
    }
    line
}
