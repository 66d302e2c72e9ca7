//! The table on the terminal: what fits in a glance.

use comfy_table::{Cell, CellAlignment, ContentArrangement, LineStyle, Table, TableStyle};

use crate::latency;
use crate::markdown::{SHARES, difference, mean_and_spread, seeds, size, time_per_epoch, warnings};
use crate::number::{list, minutes, percent_or_dash};
use crate::study::Study;

/// The columns of the terminal that standard output is, if it is one.
pub fn width() -> Option<u16> {
    Table::new().width()
}

/// What gives way first where there is no room for all. Settings, AP and the difference always stay,
/// and the verdict leaves last: the sentence below the table has it too.
const LEAVES_FIRST: [&str; 14] = [
    "GFLOPs",
    "params (M)",
    "min/cell",
    latency::HEAD,
    "time/epoch",
    "epochs",
    "paper's AP",
    "AP75",
    "AP50",
    "APm",
    "APl",
    "APs",
    "seeds",
    "verdict",
];

/// A column: its head and a text for each row.
struct Column {
    head: String,
    side: CellAlignment,
    cells: Vec<String>,
}

/// The table and the verdict, at most `width` columns wide.
pub fn table(study: &Study, width: Option<u16>) -> String {
    let mut columns = columns(study);
    let mut left_out = Vec::new();
    if let Some(width) = width {
        for head in LEAVES_FIRST {
            if widest(&drawn(&columns, None)) <= usize::from(width) {
                break;
            }
            let before = columns.len();
            columns.retain(|column| column.head != head);
            left_out.extend((columns.len() < before).then_some(head));
        }
    }
    let mut text = format!("{} ({} scale)\n{}\n", study.title, study.scale, study.question);
    for line in drawn(&columns, width) {
        text.push_str(line.trim_end());
        text.push('\n');
    }
    if !left_out.is_empty() {
        text.push_str(&format!("no room for {}; table.md has all\n", list(&left_out)));
    }
    text.push_str(&study.verdict());
    text.push('\n');
    for note in warnings(study) {
        text.push_str(&note);
        text.push('\n');
    }
    for caveat in &study.caveats {
        text.push_str(&format!("not as published: {caveat}\n"));
    }
    if let Some(paper) = &study.paper {
        let caution = match study.is_synthetic() {
            true => format!("; not comparable with {}", study.data_name),
            false => String::new(),
        };
        text.push_str(&format!("paper's AP: {paper}{caution}\n"));
    }
    text
}

fn columns(study: &Study) -> Vec<Column> {
    let rows = || study.rows.iter();
    let mut columns: Vec<Column> = Vec::new();
    for (at, name) in study.names.iter().enumerate() {
        let cells = rows().map(|row| row.labels[at].clone()).collect();
        columns.push(Column { head: name.clone(), side: CellAlignment::Left, cells });
    }
    let mut add = |head: &str, cells: Vec<String>| {
        columns.push(Column { head: head.to_owned(), side: CellAlignment::Right, cells });
    };
    add("AP ± std", rows().map(mean_and_spread).collect());
    add("seeds", rows().map(seeds).collect());
    for (head, name) in ["AP50", "AP75", "APs", "APm", "APl"].into_iter().zip(SHARES) {
        add(head, rows().map(|row| percent_or_dash(row.mean(name))).collect());
    }
    let differences = rows().enumerate().map(|(at, row)| match study.references[at] == at {
        false if !study.has_one_reference() => {
            format!("{} over {}", difference(row), study.reference_of(at))
        }
        _ => difference(row),
    });
    add(&format!("AP against {}", study.reference_label()), differences.collect());
    let verdicts = rows().map(|row| row.against.verdict().map(|verdict| verdict.to_string()));
    add("verdict", verdicts.map(Option::unwrap_or_default).collect());
    let sizes: Vec<[String; 3]> = study.costs.iter().map(size).collect();
    for (at, head) in ["epochs", "params (M)", "GFLOPs"].into_iter().enumerate() {
        add(head, sizes.iter().map(|size| size[at].clone()).collect());
    }
    if let Some(cells) = latency::column(study) {
        add(latency::HEAD, cells);
    }
    add(
        "time/epoch",
        rows().zip(&study.costs).map(|(row, cost)| time_per_epoch(row, cost)).collect(),
    );
    let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    add("min/cell", rows().map(|row| or_dash(row.mean("seconds").map(minutes))).collect());
    if study.paper.is_some() {
        let papers = rows().map(|row| or_dash(row.paper.map(|ap| format!("{ap:.1}"))));
        add("paper's AP", papers.collect());
    }
    columns
}

/// The lines of a table; one that is still too wide is broken within its cells.
fn drawn(columns: &[Column], width: Option<u16>) -> Vec<String> {
    let mut table = Table::new();
    let rule = LineStyle::none().fill('\u{2500}').junction('\u{2500}');
    table.load_style(TableStyle::new().top_border(rule).header_separator(rule).bottom_border(rule));
    table.force_no_tty();
    if let Some(width) = width {
        table.set_content_arrangement(ContentArrangement::Dynamic).set_width(width);
    }
    table.set_header(columns.iter().map(|column| column.head.clone()));
    let rows = columns.first().map_or(0, |column| column.cells.len());
    for row in 0..rows {
        let cells =
            columns.iter().map(|column| Cell::new(&column.cells[row]).set_alignment(column.side));
        table.add_row(cells.collect::<Vec<_>>());
    }
    table.lines().map(|line| line.trim_end().to_owned()).collect()
}

fn widest(lines: &[String]) -> usize {
    lines.iter().map(|line| line.chars().count()).max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::study;

    fn rows(text: &str) -> Vec<&str> {
        text.lines().skip(2).take_while(|line| !line.starts_with("no room")).collect()
    }

    #[test]
    fn a_wide_terminal_has_every_column_and_says_nothing_of_room() {
        let text = table(&study(), None);
        for head in ["AP75", "GFLOPs", "params (M)", "epochs", "time/epoch", "paper's AP"] {
            assert!(text.contains(head), "{head} is not in\n{text}");
        }
        assert!(!text.contains("no room"));
    }

    #[test]
    fn a_narrow_one_leaves_out_columns_in_order_and_names_them() {
        let study = study();
        let natural = widest(&drawn(&columns(&study), None)) as u16;
        let text = table(&study, Some(natural - 1));
        assert!(text.contains("no room for GFLOPs; table.md has all"), "{text}");
        for width in [60, 80, 100, 120] {
            let text = table(&study, Some(width));
            let too_wide = rows(&text).into_iter().find(|line| line.chars().count() > width.into());
            assert_eq!(too_wide, None, "at {width}");
            for stays in ["AP ± std", "AP against gamma 1.5", "31.1 ± 0.9"] {
                assert!(text.contains(stays), "{stays} is not in\n{text}");
            }
        }
    }
}
