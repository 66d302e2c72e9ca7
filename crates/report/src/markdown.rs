//! `table.md`: what a reader of the repository sees.

use std::fmt::Write;

use crate::facts::distinct;
use crate::figures::Figure;
use crate::latency;
use crate::number::{
    billions, exact, interval_percent, list, millions, minutes, percent, percent_or_dash, short,
    signed_percent, time,
};
use crate::printed::{Printed, PrintedCell, letter};
use crate::study::{Against, Row, RowCost, Study, detectable};

/// The whole page: the question, the answer, the table, and everything the numbers depend on.
///
/// The two figures that a reader wants first are in it; the others among `drawn` are linked.
pub fn page(study: &Study, drawn: &[&Figure]) -> String {
    let mut page = String::new();
    // Writing to a String cannot fail.
    let _ = writeln!(page, "# {}\n\n{}\n\n**{}**\n", study.title, study.question, study.verdict());
    table(&mut page, study);
    let _ = writeln!(page, "\n![Every row's AP, difference and verdict](figure.svg)\n");
    if study.has_curves() {
        let _ = writeln!(page, "![AP over epochs](curve.svg)\n");
    }
    let others = drawn.iter().filter(|figure| figure.png.is_none());
    let others: Vec<String> =
        others.map(|figure| format!("[{}]({})", figure.about, figure.svg)).collect();
    if !others.is_empty() {
        let _ = writeln!(page, "More figures: {}.\n", others.join(", "));
    }
    for warning in warnings(study) {
        let _ = writeln!(page, "- **{warning}**");
    }
    for note in notes(study).into_iter().chain(paper_notes(study)) {
        let _ = writeln!(page, "- {note}");
    }
    if let Some(table) = &study.published {
        printed(&mut page, &Printed::new(table));
    }
    cells(&mut page, study);
    let _ = writeln!(page, "\nMade by\n\n```\n{}\n```", study.command());
    page
}

fn table(page: &mut String, study: &Study) {
    let mut head: Vec<String> = study.names.clone();
    head.push(format!("AP ± std on {}", study.data_name));
    head.extend(["seeds", "AP50", "AP75", "APs", "APm", "APl"].map(str::to_owned));
    head.push(format!("AP against {} [95 %]", study.reference_label()));
    head.extend(["verdict", "p: t / sign", "detectable", "best epoch's AP"].map(str::to_owned));
    head.extend(["epochs", "params (M)", "GFLOPs"].map(str::to_owned));
    head.extend(latency::column(study).map(|_| latency::HEAD.to_owned()));
    head.extend(["time / epoch", "min / cell"].map(str::to_owned));
    head.extend(study.paper.iter().map(|paper| format!("*paper's AP ({paper})*")));
    let _ = writeln!(page, "| {} |", head.join(" | "));
    let rule = (0..head.len()).map(|at| if at < study.names.len() { ":--" } else { "--:" });
    let _ = writeln!(page, "|{}|", rule.collect::<Vec<_>>().join("|"));
    for at in 0..study.rows.len() {
        let _ = writeln!(page, "| {} |", line(study, at).join(" | "));
    }
}

fn line(study: &Study, at: usize) -> Vec<String> {
    let row = &study.rows[at];
    let mut line: Vec<String> = row.labels.iter().map(|label| escaped(label)).collect();
    let emphasis = if row.against.is_better() { "**" } else { "" };
    line.push(format!("{emphasis}{}{emphasis}", mean_and_spread(row)));
    line.push(seeds(row));
    line.extend(SHARES.map(|name| percent_or_dash(row.mean(name))));
    match &row.against {
        Against::Reference => line.extend(["reference", "", "", ""].map(str::to_owned)),
        Against::Compared(comparison) => {
            let difference = difference(row);
            line.push(match study.has_one_reference() {
                true => difference,
                false => format!("{difference} over {}", escaped(&study.reference_of(at))),
            });
            let bold = if row.against.is_decided() { "**" } else { "" };
            line.push(format!("{bold}{}{bold}", comparison.verdict));
            let p = |p: Option<f64>| p.map_or_else(|| "-".to_owned(), |p| format!("{p:.3}"));
            line.push(format!("{} / {}", p(comparison.t_test_holm), p(comparison.sign_flip)));
            line.push(percent_or_dash(detectable(comparison)));
        }
    }
    line.push(percent_or_dash(row.mean("best_ap")));
    line.extend(size(&study.costs[at]));
    line.extend(latency::column(study).map(|cells| cells[at].clone()));
    line.push(time_per_epoch(row, &study.costs[at]));
    line.push(row.mean("seconds").map_or_else(|| "-".to_owned(), minutes));
    if study.paper.is_some() {
        line.push(row.paper.map_or_else(|| "-".to_owned(), |ap| format!("*{ap:.1}*")));
    }
    line
}

/// A label that does not end its column.
fn escaped(label: &str) -> String {
    label.replace('|', "\\|").replace('*', "\\*")
}

/// The metrics beside AP, in the order of their columns.
pub const SHARES: [&str; 5] = ["ap50", "ap75", "ap_small", "ap_medium", "ap_large"];

/// Epochs, parameters in millions and GFLOPs.
pub fn size(cost: &RowCost) -> [String; 3] {
    let or_dash = |number: Option<String>| number.unwrap_or_else(|| "-".to_owned());
    [
        cost.epochs.to_string(),
        or_dash(cost.parameters().map(millions)),
        or_dash(cost.flops().map(billions)),
    ]
}

/// How long an epoch took, its evaluation included.
pub fn time_per_epoch(row: &Row, cost: &RowCost) -> String {
    let seconds = row.mean("seconds").map(|seconds| seconds / f64::from(cost.epochs.max(1)));
    seconds.map_or_else(|| "-".to_owned(), time)
}

/// "+0.9 [+0.2, +1.6]": the mean difference to the reference and its interval, as far as known.
pub fn difference(row: &Row) -> String {
    let Against::Compared(comparison) = &row.against else { return "reference".to_owned() };
    let difference = comparison.difference.map(signed_percent).unwrap_or("-".to_owned());
    let interval = comparison.interval.map(interval_percent);
    [Some(difference), interval].into_iter().flatten().collect::<Vec<_>>().join(" ")
}

/// "31.4 ± 0.8", or what keeps it from being known.
pub fn mean_and_spread(row: &Row) -> String {
    match (row.mean("ap"), row.ap.deviation) {
        (Some(mean), Some(deviation)) => format!("{} ± {}", percent(mean), percent(deviation)),
        (Some(mean), None) => percent(mean),
        (None, _) => "missing".to_owned(),
    }
}

/// "3", or "2 of 3" where cells are missing.
pub fn seeds(row: &Row) -> String {
    match row.missing() {
        0 => row.cells.len().to_string(),
        missing => format!("{} of {}", row.cells.len() - missing, row.cells.len()),
    }
}

/// What is wrong with the table.
pub fn warnings(study: &Study) -> Vec<String> {
    let mut warnings = Vec::new();
    let (missing, planned) = (study.missing(), study.planned());
    if missing > 0 {
        warnings.push(format!("incomplete: {missing} of {planned} cells are missing"));
    }
    if study.seeds().len() < study.asked {
        warnings.push(format!(
            "fewer seeds than the experiment asks for: {} of {}",
            study.seeds().len(),
            study.asked
        ));
    }
    if study.stale > 0 {
        let what = if study.stale == 1 { "cell belongs" } else { "cells belong" };
        warnings.push(format!(
            "stale: {} finished {what} to another spec, data set, numerics version or device class; not used",
            study.stale
        ));
    }
    if !study.contradicted.is_empty() {
        let ids: Vec<&str> = study.contradicted.iter().map(|id| short(id)).collect();
        warnings.push(format!(
            "contradicted: finished twice with different numbers, of which the first are shown: {}",
            list(&ids)
        ));
    }
    warnings.extend(latency::warning(study));
    if study.devices.len() > 1 {
        warnings.push(format!("mixed: the cells ran on {} devices", study.devices.len()));
    }
    warnings
}

/// What the numbers depend on.
pub fn notes(study: &Study) -> Vec<String> {
    let mut notes = Vec::new();
    notes.push(format!("measured: {}", study.data.join("; ")));
    notes.push(format!("budget: {}", study.budget.join("; ")));
    notes.extend(study.caveats.iter().map(|caveat| format!("not as published: {caveat}")));
    let seeds: Vec<String> = study.seeds().iter().map(u64::to_string).collect();
    notes.push(format!("seeds: {}", seeds.join(", ")));
    notes.push(format!(
        "device: {} ({}); numerics version {}; {}; scale {}",
        study.devices.join(", "),
        study.device_class,
        study.numerics,
        study.programs.join(", "),
        study.scale
    ));
    for (from, cells) in &study.reused {
        let noun = if *cells == 1 { "cell is" } else { "cells are" };
        notes.push(format!("{cells} {noun} the same as in {from} and were trained there"));
    }
    notes.push(
        "AP in percent over IoU 0.50:0.95, of the averaged weights after the last epoch; the best epoch's AP is chosen \
         on the same validation images and is shown for comparison only"
            .to_owned(),
    );
    notes.push(format!(
        "±: sample standard deviation over seeds; differences are paired by seed, with Student's 95 % interval; the \
         verdict is the paired t test at {} after Holm's correction over the rows, from {} seeds on; the exact \
         sign-flip test beside it assumes less and cannot fall below 2 / 2^seeds; detectable: the true difference that \
         would be found in 80 % of repetitions, before the correction",
        exact(deim_eval::paired::LEVEL),
        deim_eval::paired::LEAST_SEEDS
    ));
    notes.push(sizes(study));
    notes
}

/// What has to be known about the column of the paper's AP.
fn paper_notes(study: &Study) -> Vec<String> {
    let mut notes = Vec::new();
    if let Some(paper) = &study.paper {
        let compare = match study.is_synthetic() {
            true => {
                "comes from another data set, model and budget: compare the order and the sign, never the level"
            }
            false => "comes from another program, and from one training as far as is known",
        };
        notes.push(format!("*paper's AP* ({paper}) {compare}"));
    }
    for row in &study.rows {
        if let Some(doubt) = &row.doubt {
            notes
                .push(format!("the paper's AP of {} is doubted: {doubt}", row.label(&study.names)));
        }
    }
    notes
}

/// What the columns about size and time are.
fn sizes(study: &Study) -> String {
    let counted: Vec<String> = study
        .costs
        .iter()
        .filter_map(|cost| Some((cost.side, cost.classes?)))
        .map(|(side, classes)| format!("one image of {side} px and {classes} classes"))
        .collect();
    let counted = distinct(counted.into_iter());
    let sizes = match counted.is_empty() {
        true => "parameters and GFLOPs are not counted, because the number of classes is not known"
            .to_owned(),
        false => format!(
            "params and GFLOPs are counted from the configuration and not measured: the deployed detector, by the \
             rules of calflops as in the paper, for {}",
            list(&counted)
        ),
    };
    format!(
        "{sizes}; time / epoch is training and evaluation on the device above, beside whatever else it did; {}",
        latency::note(study)
    )
}

/// The published table, apart from what was measured.
fn printed(page: &mut String, printed: &Printed) {
    let _ = writeln!(page, "\n## Printed in the paper, not measured here\n");
    let _ = writeln!(page, "{}. Read in: {}.\n", printed.title, printed.source);
    let _ = writeln!(page, "| {} |", printed.head.join(" | "));
    let rule = (0..printed.head.len()).map(|at| if at < printed.labels { ":--" } else { "--:" });
    let _ = writeln!(page, "|{}|", rule.collect::<Vec<_>>().join("|"));
    let cell = |cell: &PrintedCell| {
        let marks = cell.marks.iter().map(|mark| format!(" [{}]", letter(*mark)));
        format!("{}{}", escaped(&cell.text), marks.collect::<String>())
    };
    for row in &printed.rows {
        let _ = writeln!(page, "| {} |", row.iter().map(cell).collect::<Vec<_>>().join(" | "));
    }
    if !printed.notes.is_empty() {
        let _ = writeln!(page);
    }
    for (mark, note) in printed.notes.iter().enumerate() {
        let _ = writeln!(page, "- [{}] {note}", letter(mark));
    }
}

fn cells(page: &mut String, study: &Study) {
    let _ = writeln!(page, "\n## Cells, by seed\n");
    for row in &study.rows {
        let ids: Vec<String> = row
            .cells
            .iter()
            .map(|cell| {
                let missing = if cell.ap.is_none() { " (missing)" } else { "" };
                format!("{}: `{}`{missing}", cell.seed, short(&cell.id))
            })
            .collect();
        let _ = writeln!(page, "- {}: {}", row.label(&study.names), ids.join(", "));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gather::{gather, seeds};
    use crate::samples;

    fn study(references: &[usize]) -> Study {
        let mut experiment = samples::experiment();
        experiment.references = references.to_vec();
        experiment.reference = references[0];
        let ledger = samples::ledger(&experiment);
        let cells = samples::cells(&experiment, &seeds(&experiment, &ledger), "cpu");
        gather(&experiment, &cells, &ledger).unwrap()
    }

    #[test]
    fn a_row_with_a_reference_of_its_own_says_which() {
        let study = study(&[0, 0, 1]);
        let page = page(&study, &[]);
        assert!(page.contains("AP against its own reference"), "{page}");
        let row = |start: &str| page.lines().find(|line| line.starts_with(start)).unwrap();
        assert!(row("| 1.3 |").contains("| reference |"), "{page}");
        assert!(row("| 1.5 |").contains("over gamma 1.3 |"), "{page}");
        assert!(row("| 2.0 |").contains("over gamma 1.5 | **worse** |"), "{page}");
        assert!(study.verdict().contains("annot tell gamma 1.5 from gamma 1.3"));
        assert!(study.verdict().contains("Worse than gamma 1.5: gamma 2.0"));
    }

    #[test]
    fn printed_numbers_never_stand_in_a_row_of_measured_ones_without_italics() {
        let page = page(&study(&[1, 1, 1]), &[]);
        let (measured, printed) = page.split_once("## Printed in the paper, not measured").unwrap();
        assert!(measured.contains("| *52.4* |") && !measured.contains("| 52.4 |"), "{measured}");
        assert!(printed.contains("| 1.5 | 52.4 | 24 |"), "{printed}");
        assert!(measured.contains("comes from another data set, model and budget"));
    }

    #[test]
    fn what_is_not_as_published_is_said_below_the_table() {
        let mut study = study(&[1, 1, 1]);
        assert!(!page(&study, &[]).contains("not as published"));
        study.caveats = vec!["half of the images".to_owned()];
        assert!(page(&study, &[]).contains("- not as published: half of the images\n"));
    }
}
