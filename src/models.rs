//! `deim models`: the ten detectors, what each costs, and what was published about it.

use std::io::Write;
use std::process::ExitCode;

use anyhow::bail;
use clap::builder::RangedU64ValueParser;
use comfy_table::{CellAlignment, Table, presets};
use deim_eval::{Cost, cost};
use deim_spec::official::{Official, Published, Recipe, models};
use serde_json::{Value, json};

use crate::output::{DONE, Outcome};

/// Classes of COCO, on which all ten were published.
const CLASSES: usize = 80;
/// The side of the image for which operations were published.
const PUBLISHED_SIZE: usize = 640;
/// The stride of the coarsest level.
const STRIDE: usize = 32;

/// List the ten official detectors: parameters and GFLOPs, counted here and as published.
///
/// `trained` is the network that trains. `deployed` is what is left of it for inference: convolutions
/// side by side in the encoder are joined, norms are folded into convolutions, and heads of D-FINE
/// that do not predict are gone. GFLOPs are two for each multiply-add of convolutions, linear layers
/// and attention, as PyTorch counts them; under `calflops` by the rules of the tool that the paper
/// used, on the deployed network.
#[derive(clap::Args)]
#[command(after_help = "Example: deim models --size 320")]
pub struct Args {
    /// Print one JSON document, with recipes and published numbers.
    #[arg(long)]
    json: bool,
    /// Side of the square image in pixels, a multiple of 32.
    #[arg(long, value_name = "PIXELS", default_value_t = PUBLISHED_SIZE,
          value_parser = RangedU64ValueParser::<usize>::new().range(32..=8192))]
    size: usize,
}

/// A detector with its numbers.
struct Counted {
    official: &'static Official,
    cost: Cost,
    published: Published,
}

pub fn run(args: Args) -> Outcome {
    let size = args.size;
    if !size.is_multiple_of(STRIDE) {
        bail!("--size {size}: expected a multiple of {STRIDE}, the stride of the coarsest level");
    }
    let counted = models().iter().map(|official| {
        let cost = cost(&official.architecture()?, CLASSES, size);
        Ok(Counted { official, cost, published: official.published()? })
    });
    let counted = counted.collect::<anyhow::Result<Vec<Counted>>>()?;
    let mut out = std::io::stdout().lock();
    match args.json {
        true => writeln!(out, "{}", serde_json::to_string_pretty(&document(&counted, size))?)?,
        false => write!(out, "{}", text(&counted, size))?,
    }
    Ok(ExitCode::from(DONE))
}

/// A published number that is not what is counted here, rounded.
struct Deviation<'a> {
    /// `parameters` or `gflops`.
    quantity: &'static str,
    what: String,
    why: Option<&'a str>,
}

impl Counted {
    fn deviations(&self, size: usize) -> Vec<Deviation<'_>> {
        let about = &self.published.about;
        let mut found = Vec::new();
        let parameters = self.cost.parameters_deployed as f64 / 1e6;
        if parameters.round() != about.parameters_m {
            found.push(Deviation {
                quantity: "parameters",
                what: format!("{parameters:.1} M deployed, {} M published", about.parameters_m),
                why: about.parameters_note.as_deref(),
            });
        }
        let gflops = giga(self.cost.flops_calflops);
        if size == PUBLISHED_SIZE && gflops.round() != about.gflops {
            found.push(Deviation {
                quantity: "gflops",
                what: format!("{gflops:.1} GFLOPs by calflops, {} published", about.gflops),
                why: about.gflops_note.as_deref(),
            });
        }
        found
    }
}

fn giga(operations: u64) -> f64 {
    operations as f64 / 1e9
}

fn text(counted: &[Counted], size: usize) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).force_no_tty();
    table.set_header([
        "name",
        "detector",
        "M trained",
        "deployed",
        "paper",
        "GFLOPs trained",
        "deployed",
        "calflops",
        "paper",
    ]);
    let mut notes = String::new();
    for one in counted {
        let Counted { official, cost, published } = one;
        let deviations = one.deviations(size);
        let of_paper = |quantity: &str, number: f64| {
            let deviates = deviations.iter().any(|deviation| deviation.quantity == quantity);
            format!("{number}{}", if deviates { "*" } else { "" })
        };
        let millions = |number: u64| format!("{:.2}", number as f64 / 1e6);
        let operations = |number: u64| format!("{:.2}", giga(number));
        table.add_row([
            official.name.to_owned(),
            official.title.to_owned(),
            millions(cost.parameters),
            millions(cost.parameters_deployed),
            of_paper("parameters", published.about.parameters_m),
            operations(cost.flops),
            operations(cost.flops_deployed),
            operations(cost.flops_calflops),
            match size == PUBLISHED_SIZE {
                true => of_paper("gflops", published.about.gflops),
                false => "-".to_owned(),
            },
        ]);
        for Deviation { what, why, .. } in &deviations {
            let why = why.unwrap_or("no reason is known");
            notes += &format!("* {}: {what}:\n  {why}\n", official.title);
        }
    }
    for column in table.column_iter_mut().skip(2) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    let mut text = format!(
        "{} detectors of {CLASSES} classes: parameters in millions, GFLOPs of one image of {size} x {size}\n\n",
        counted.len()
    );
    for line in table.lines() {
        text += line.trim_end();
        text.push('\n');
    }
    if !notes.is_empty() {
        text += &format!("\n{notes}");
    }
    text
}

fn document(counted: &[Counted], size: usize) -> Value {
    let detector = |one: &Counted| {
        let Counted { official, cost, published } = one;
        let about = &published.about;
        let at_this_size = (size == PUBLISHED_SIZE).then_some(about.gflops);
        let deviations = one.deviations(size);
        let deviations = deviations.iter().map(|Deviation { quantity, what, why }| {
            json!({ "quantity": quantity, "what": what, "why": why })
        });
        json!({
            "name": official.name,
            "title": official.title,
            "part": official.part,
            "recipes": {
                "deim": official.recipe_path(Recipe::Deim),
                "baseline": official.recipe_path(Recipe::Baseline),
            },
            "parameters": { "trained": cost.parameters, "deployed": cost.parameters_deployed },
            "flops": {
                "trained": cost.flops,
                "deployed": cost.flops_deployed,
                "calflops": cost.flops_calflops,
            },
            "published": {
                "parameters_millions": about.parameters_m,
                "gflops": at_this_size,
                "latency_ms": about.latency_ms,
                "ap": published.ap,
                "baseline_ap": about.baseline_ap,
                "source": published.source,
            },
            "deviations": deviations.collect::<Vec<_>>(),
        })
    };
    json!({
        "size": size,
        "classes": CLASSES,
        "models": counted.iter().map(detector).collect::<Vec<_>>(),
    })
}
