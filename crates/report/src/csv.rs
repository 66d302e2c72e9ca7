//! `table.csv`: the same numbers for a machine, as fractions and with all their digits.

use crate::frame::METRICS;
use crate::number::exact;
use crate::study::{Against, Study, detectable};

/// One line a row of the experiment. An empty field is a value that does not exist.
pub fn table(study: &Study) -> String {
    let mut head: Vec<String> = study.keys.clone();
    head.extend(["seeds", "missing", "ap_by_seed", "cells"].map(str::to_owned));
    for (name, _) in METRICS {
        head.extend(["mean", "std", "min", "max"].map(|statistic| format!("{name}_{statistic}")));
    }
    head.extend(
        [
            "ap_low",
            "ap_high",
            "reference",
            "seeds_compared",
            "difference",
            "difference_low",
            "difference_high",
            "p_t_test",
            "p_t_test_holm",
            "p_sign_flip",
            "detectable",
            "verdict",
            "best_ap_mean",
            "best_epoch_mean",
            "seconds_mean",
            "steps_mean",
            "reference_row",
            "epochs",
            "parameters",
            "flops",
            "seconds_per_epoch",
            "paper_ap_percent",
        ]
        .map(str::to_owned),
    );
    // Only where there is one: a table without keeps its columns.
    head.extend(study.has_latencies().then(|| "latency_ms".to_owned()));
    let mut lines = vec![record(&head)];
    lines.extend((0..study.rows.len()).map(|at| record(&fields(study, at))));
    lines.concat()
}

fn fields(study: &Study, at: usize) -> Vec<String> {
    let (row, cost) = (&study.rows[at], &study.costs[at]);
    let number = |value: Option<f64>| value.map(exact).unwrap_or_default();
    let mut fields = row.labels.clone();
    let finished: Vec<_> = row.cells.iter().filter(|cell| cell.ap.is_some()).collect();
    let by_seed = finished.iter().map(|cell| format!("{}:{}", cell.seed, number(cell.ap)));
    fields.push(finished.len().to_string());
    fields.push(row.missing().to_string());
    fields.push(by_seed.collect::<Vec<_>>().join(" "));
    fields.push(finished.iter().map(|cell| cell.id.as_str()).collect::<Vec<_>>().join(" "));
    for (name, _) in METRICS {
        let spread = row.spread(name);
        fields.extend([spread.mean, spread.deviation, spread.smallest, spread.largest].map(number));
    }
    fields.extend([row.interval.map(|ends| ends[0]), row.interval.map(|ends| ends[1])].map(number));
    match &row.against {
        Against::Reference => {
            fields.push("true".to_owned());
            fields.extend(std::iter::repeat_n(String::new(), 9));
        }
        Against::Compared(comparison) => {
            fields.extend(["false".to_owned(), comparison.seeds.to_string()]);
            fields.extend(
                [
                    comparison.difference,
                    comparison.interval.map(|ends| ends[0]),
                    comparison.interval.map(|ends| ends[1]),
                    comparison.t_test,
                    comparison.t_test_holm,
                    comparison.sign_flip,
                    detectable(comparison),
                ]
                .map(number),
            );
            fields.push(comparison.verdict.to_string());
        }
    }
    fields.extend(["best_ap", "best_epoch", "seconds", "steps"].map(|name| number(row.mean(name))));
    let whole = |value: Option<u64>| value.map(|value| value.to_string()).unwrap_or_default();
    fields.push((study.references[at] + 1).to_string());
    fields.extend([whole(Some(cost.epochs.into())), whole(cost.parameters()), whole(cost.flops())]);
    let seconds = row.mean("seconds").map(|seconds| seconds / f64::from(cost.epochs.max(1)));
    fields.extend([seconds, row.paper].map(number));
    if study.has_latencies() {
        fields.push(number(study.latencies[at].as_ref().map(|latency| latency.median_ms)));
    }
    fields
}

/// One line, quoted where RFC 4180 asks for it.
fn record(fields: &[String]) -> String {
    let quoted: Vec<String> = fields
        .iter()
        .map(|field| {
            if field.contains([',', '"', '\n', '\r']) {
                format!("\"{}\"", field.replace('"', "\"\""))
            } else {
                field.clone()
            }
        })
        .collect();
    quoted.join(",") + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commas_and_quotes_do_not_break_a_line() {
        let fields = ["a,b", "say \"hi\"", "plain"].map(str::to_owned);
        assert_eq!(record(&fields), "\"a,b\",\"say \"\"hi\"\"\",plain\n");
    }
}
