//! The column of latencies, where the ledger has any, and what has to be known about it.

use std::collections::BTreeSet;

use deim_lab::record::Latency;

use crate::facts::distinct;
use crate::number::three_digits;
use crate::study::Study;

/// The head of the column.
pub const HEAD: &str = "latency, ms";

/// A number or a dash for each row; none where nobody measured any, so that there is no column.
pub fn column(study: &Study) -> Option<Vec<String>> {
    study.has_latencies().then(|| {
        let text = |latency: &Option<Latency>| {
            latency.as_ref().map_or_else(|| "-".to_owned(), |one| three_digits(one.median_ms))
        };
        study.latencies.iter().map(text).collect()
    })
}

/// What was measured, how and on what.
pub fn note(study: &Study) -> String {
    let measured = study.latencies.iter().flatten().map(|one| {
        let Latency { runs, batch, size, classes, precision, threads, .. } = one;
        let images = if *batch == 1 { "one image".to_owned() } else { format!("{batch} images") };
        let threads =
            if *threads == 1 { "1 thread".to_owned() } else { format!("{threads} threads") };
        format!(
            "median of {runs} forward passes of {images} of {size} px and {classes} classes in \
             {precision}, on {} ({}, {threads}) by {}",
            one.device, one.device_class, one.program
        )
    });
    let measured = distinct(measured);
    if measured.is_empty() {
        return "latency was not measured".to_owned();
    }
    format!(
        "latency: {}; from pixels to logits and boxes, of the network as it trains, with nothing \
         folded, measured apart from training and once for rows of one architecture",
        measured.join("; ")
    )
}

/// What keeps the rows' latencies from being compared, if anything.
pub fn warning(study: &Study) -> Option<String> {
    let ways: BTreeSet<_> = study
        .latencies
        .iter()
        .flatten()
        .map(|one| (&one.device, one.threads, &one.precision, one.batch))
        .collect();
    (ways.len() > 1).then(|| format!("mixed: latencies were measured in {} ways", ways.len()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples;
    use crate::{csv, latex, markdown, terminal};

    fn latency(median_ms: f64, device: &str) -> Option<Latency> {
        Some(Latency { device: device.into(), ..samples::latency(median_ms) })
    }

    #[test]
    fn without_a_measurement_no_table_has_the_column() {
        let study = samples::study();
        assert_eq!((column(&study), warning(&study)), (None, None));
        for table in [markdown::page(&study, &[]), latex::page(&study), csv::table(&study)] {
            assert!(!table.contains("latency, ms") && !table.contains("latency_ms"), "{table}");
        }
        assert!(markdown::page(&study, &[]).contains("latency was not measured"));
    }

    #[test]
    fn with_one_every_table_has_the_column_its_device_and_dashes_for_the_other_rows() {
        let mut study = samples::study();
        study.latencies[1] = latency(12.345, "a quiet processor");
        let page = markdown::page(&study, &[]);
        assert!(page.contains("| latency, ms |") && page.contains("| 12.3 |"), "{page}");
        assert!(page.contains("50 forward passes of one image of 160 px"), "{page}");
        assert!(page.contains("on a quiet processor (cpu, 2 threads)"), "{page}");
        assert!(!page.contains("was not measured"), "{page}");
        let tex = latex::page(&study);
        assert!(tex.contains("& latency, ms &") && tex.contains("& 12.3 &"), "{tex}");
        let csv = csv::table(&study);
        let lines: Vec<&str> = csv.lines().collect();
        assert!(lines[0].ends_with(",latency_ms"), "{}", lines[0]);
        assert!(lines[1].ends_with(',') && lines[2].ends_with(",12.345"), "{csv}");
        let terminal = terminal::table(&study, None);
        assert!(terminal.contains("latency, ms") && terminal.contains("12.3"), "{terminal}");
        assert_eq!(column(&study).unwrap(), ["-", "12.3", "-"]);
    }

    #[test]
    fn latencies_of_two_devices_are_marked() {
        let mut study = samples::study();
        study.latencies[0] = latency(12.0, "a");
        study.latencies[1] = latency(10.0, "a");
        assert_eq!(warning(&study), None);
        study.latencies[1] = latency(10.0, "b");
        assert!(
            markdown::page(&study, &[]).contains("**mixed: latencies were measured in 2 ways**")
        );
    }
}
