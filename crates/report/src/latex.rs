//! `table.tex`: the same table for a paper, ready to paste; it needs the package booktabs and no other.
//!
//! Two tables: what was measured, and what the paper prints. Bold only where the verdict is *better*.

use std::fmt::Write;

use crate::latency;
use crate::markdown::{
    SHARES, difference, mean_and_spread, notes, seeds, size, time_per_epoch, warnings,
};
use crate::number::percent_or_dash;
use crate::printed::{Printed, PrintedCell, letter};
use crate::study::Study;

/// The whole file.
pub fn page(study: &Study) -> String {
    let mut page = format!(
        "% {} at scale {}; written by `deim report`, checked by `deim report --check`.\n\
         % Needs \\usepackage{{booktabs}}.\n",
        comment(&study.name),
        comment(&study.scale)
    );
    measured(&mut page, study);
    if let Some(table) = &study.published {
        printed(&mut page, study, &Printed::new(table));
    }
    page
}

/// What stands around a table.
struct Frame<'a> {
    caption: String,
    label: String,
    /// The columns of words; the others are numbers.
    words: usize,
    head: Vec<String>,
    rows: Vec<Vec<String>>,
    notes: &'a [String],
}

impl Frame<'_> {
    fn write(&self, page: &mut String) {
        let columns = "l".repeat(self.words) + &"r".repeat(self.head.len() - self.words);
        // Writing to a String cannot fail.
        let _ = writeln!(page, "\\begin{{table*}}[t]\n\\centering");
        let _ = writeln!(page, "\\caption{{{}}}\n\\label{{{}}}", self.caption, self.label);
        let _ = writeln!(page, "\\scriptsize\\setlength{{\\tabcolsep}}{{2pt}}");
        let _ = writeln!(page, "\\begin{{tabular}}{{{columns}}}\n\\toprule");
        let _ = writeln!(page, "{} \\\\\n\\midrule", self.head.join(" & "));
        for row in &self.rows {
            // After a line break, a bracket or a star would be its argument.
            let line = row.join(" & ");
            let guard = if line.starts_with(['[', '*']) { "{}" } else { "" };
            let _ = writeln!(page, "{guard}{line} \\\\");
        }
        let _ = writeln!(page, "\\bottomrule\n\\end{{tabular}}");
        if !self.notes.is_empty() {
            let _ =
                writeln!(page, "\n\\smallskip\n\\begin{{minipage}}{{\\textwidth}}\\raggedright");
            for note in self.notes {
                let _ = writeln!(page, "{note}.\\par");
            }
            let _ = writeln!(page, "\\end{{minipage}}");
        }
        let _ = writeln!(page, "\\end{{table*}}");
    }
}

fn measured(page: &mut String, study: &Study) {
    let mut head: Vec<String> = study.names.iter().map(|name| escape(name)).collect();
    head.push(r"AP $\pm$ std".to_owned());
    head.extend(["seeds", "AP50", "AP75", "APs", "APm", "APl"].map(subscript));
    head.push("difference [95\\,\\%]".to_owned());
    head.extend(["verdict", "epochs", "params (M)", "GFLOPs"].map(str::to_owned));
    head.extend(latency::column(study).map(|_| latency::HEAD.to_owned()));
    head.push("time / epoch".to_owned());
    let row = |at: usize| {
        let row = &study.rows[at];
        let mut line: Vec<String> = row.labels.iter().map(|label| escape(label)).collect();
        let ap = number(&mean_and_spread(row));
        line.push(if row.against.is_better() { format!("\\textbf{{{ap}}}") } else { ap });
        line.push(number(&seeds(row)));
        line.extend(SHARES.map(|name| number(&percent_or_dash(row.mean(name)))));
        line.push(number(&difference(row)));
        line.push(row.against.verdict().map(|verdict| verdict.to_string()).unwrap_or_default());
        line.extend(size(&study.costs[at]).map(|size| number(&size)));
        line.extend(latency::column(study).map(|cells| number(&cells[at])));
        line.push(number(&time_per_epoch(row, &study.costs[at])));
        line
    };
    let reference = match study.has_one_reference() {
        true => format!("Differences are to {}", escape(&study.reference_label())),
        false => {
            let pairs = study.references.iter().enumerate().filter(|(row, of)| row != *of);
            let pairs = pairs.map(|(row, _)| {
                let label = study.rows[row].label(&study.names);
                format!("of {} to {}", escape(&label), escape(&study.reference_of(row)))
            });
            format!("Differences are {}", pairs.collect::<Vec<_>>().join(", "))
        }
    };
    let told = warnings(study).into_iter().chain(notes(study));
    let told: Vec<String> = told.map(|note| sentence(&escape(&plain(&note)))).collect();
    Frame {
        caption: format!(
            "{} Measured on \\emph{{{}}}, scale {}. {reference}. Bold: better, as far as the seeds can tell.",
            closed(&escape(&study.title)),
            escape(&study.data_name),
            escape(&study.scale)
        ),
        label: label(study, ""),
        words: study.names.len(),
        head,
        rows: (0..study.rows.len()).map(row).collect(),
        notes: &told,
    }
    .write(page);
}

fn printed(page: &mut String, study: &Study, printed: &Printed) {
    let cell = |at: usize, cell: &PrintedCell| {
        let text = if at < printed.labels { escape(&cell.text) } else { number(&cell.text) };
        let marks: Vec<String> = cell.marks.iter().map(|mark| letter(*mark)).collect();
        match marks.is_empty() {
            true => text,
            false => format!("{text}\\textsuperscript{{{}}}", marks.join(",")),
        }
    };
    let row =
        |row: &Vec<PrintedCell>| row.iter().enumerate().map(|(at, one)| cell(at, one)).collect();
    let notes = printed.notes.iter().enumerate();
    let notes: Vec<String> = notes
        .map(|(mark, note)| format!("\\textsuperscript{{{}}}~{}", letter(mark), escape(note)))
        .collect();
    let _ = writeln!(page);
    Frame {
        caption: format!(
            "Printed in the paper, not measured here: {} Read in: {}.",
            closed(&escape(&printed.title)),
            escape(&printed.source)
        ),
        label: label(study, ":printed"),
        words: printed.labels,
        head: printed.head.iter().map(|name| subscript(name)).collect(),
        rows: printed.rows.iter().map(row).collect(),
        notes: &notes,
    }
    .write(page);
}

/// The head of a column, with the index of an AP below the line.
fn subscript(head: &str) -> String {
    match head.strip_prefix("AP") {
        Some(index) if !index.is_empty() => format!("AP$_{{{}}}$", escape(index)),
        _ => escape(head),
    }
}

/// A label of characters that every package takes.
fn label(study: &Study, suffix: &str) -> String {
    let name = format!("tab:{}:{}{suffix}", study.name, study.scale);
    let plain = |c: char| if c.is_ascii_alphanumeric() || c == ':' { c } else { '-' };
    name.chars().map(plain).collect()
}

/// A text that cannot end its comment.
fn comment(text: &str) -> String {
    text.replace(['\n', '\r'], " ")
}

/// A number with a true minus and a true plus-minus; a dash for what is absent.
fn number(text: &str) -> String {
    match text {
        "-" => "--".to_owned(),
        text => escape(text).replace('-', "$-$").replace('+', "$+$"),
    }
}

/// Without the marks of Markdown.
fn plain(note: &str) -> String {
    note.replace(['*', '`'], "")
}

fn sentence(text: &str) -> String {
    let mut characters = text.chars();
    let first = characters.next().into_iter().flat_map(char::to_uppercase);
    first.chain(characters).collect()
}

/// With a full stop, where it does not end in a mark of its own.
fn closed(text: &str) -> String {
    if text.ends_with(['.', '?', '!']) { text.to_owned() } else { format!("{text}.") }
}

/// Text in which no character means something to LaTeX; letters beyond ASCII are left to its own UTF-8.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '\\' => escaped.push_str(r"\textbackslash{}"),
            '{' | '}' | '$' | '&' | '#' | '%' | '_' => {
                escaped.push('\\');
                escaped.push(character);
            }
            '~' => escaped.push_str(r"\textasciitilde{}"),
            '^' => escaped.push_str(r"\textasciicircum{}"),
            '<' => escaped.push_str(r"$<$"),
            '>' => escaped.push_str(r"$>$"),
            '|' => escaped.push_str(r"$|$"),
            '±' => escaped.push_str(r"$\pm$"),
            '×' => escaped.push_str(r"$\times$"),
            '"' => escaped.push_str("''"),
            '\n' | '\r' | '\t' => escaped.push(' '),
            character => escaped.push(character),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::study;

    /// Lines between `\midrule` and `\bottomrule` of each table.
    fn bodies(page: &str) -> Vec<Vec<&str>> {
        let tables = page.split("\\midrule\n").skip(1);
        let body = |table: &'_ str| table.find("\\bottomrule").unwrap_or_default();
        tables.map(|table| table[..body(table)].lines().collect()).collect()
    }

    #[test]
    fn nothing_is_left_that_latex_would_obey() {
        assert_eq!(
            escape(r"50 % of a_b & {c} #1 $x ^ ~ \input"),
            r"50 \% of a\_b \& \{c\} \#1 \$x \textasciicircum{} \textasciitilde{} \textbackslash{}input"
        );
        assert_eq!(escape("a < b | ±1\n\"q\""), "a $<$ b $|$ $\\pm$1 ''q''");
        let mut study = study();
        study.title = r"\input{secret} 100 %".into();
        study.rows[0].labels[0] = "[M*] & more".into();
        let page = page(&study);
        assert!(!page.contains(r"\input{"), "{page}");
        assert!(page.contains("\n{}[M*] \\& more & "), "{page}");
    }

    #[test]
    fn every_row_has_as_many_cells_as_the_table_has_columns() {
        for (table, body) in
            page(&study()).split("\\begin{tabular}{").skip(1).zip(bodies(&page(&study())))
        {
            let columns = table.find('}').unwrap();
            for line in body {
                assert!(line.ends_with(" \\\\"), "{line}");
                assert_eq!(line.replace("\\&", "").matches('&').count() + 1, columns, "{line}");
            }
        }
    }

    #[test]
    fn bold_is_only_what_the_seeds_can_tell() {
        let mut study = study();
        assert!(!page(&study).contains("\\textbf"), "no row is better");
        // Undecided, and yet the largest mean of the table.
        study.rows[0].spreads.get_mut("ap").unwrap().mean = Some(0.9);
        assert!(!page(&study).contains("\\textbf"));
        let crate::study::Against::Compared(comparison) = &mut study.rows[0].against else {
            panic!()
        };
        comparison.verdict = deim_eval::paired::Verdict::Better;
        let page = page(&study);
        assert_eq!(page.matches("\\textbf{90.0").count(), 1, "{page}");
        assert_eq!(page.matches("\\textbf").count(), 1);
    }

    #[test]
    fn printed_numbers_stand_in_a_table_of_their_own() {
        let page = page(&study());
        let [measured, printed] = bodies(&page).try_into().unwrap();
        assert!(measured.iter().all(|line| !line.contains("52.4")), "{measured:?}");
        assert_eq!(printed, ["1.3 & 52.2 & 24 \\\\", "1.5 & 52.4 & 24 \\\\"]);
        assert!(page.contains("Printed in the paper, not measured here: gamma of MAL on COCO."));
        assert!(page.contains("Measured on \\emph{synthetic scenes}"));
    }
}
