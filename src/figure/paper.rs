//! The figures of the paper that follow from formulas, recipes and published numbers alone.

use std::path::Path;

use anyhow::{Context, anyhow};
use burn::tensor::{Device, Tensor};
use deim_data::Dataset;
use deim_data::synthetic::{Split, SyntheticScenes};
use deim_report::figures::losses::{LossPanel, losses};
use deim_report::figures::published::{Published, published};
use deim_report::figures::raster::same_drawing;
use deim_report::figures::schedule::{Recipe, Span, schedule};
use deim_report::figures::surfaces::{LossSurface, surfaces};
use deim_report::{Difference, Document};
use deim_spec::config::{ClassLoss as Kind, Loss};
use deim_spec::{PaperRow, PaperTable, official};
use deim_train::losses::class::{ClassLoss, Positives};
use deim_train::schedule::FlatCosine;

use super::matches::{self, Scene};

/// The folder of these figures among the results.
pub const FOLDER: &str = "paper";

/// Images of COCO train2017.
const COCO_IMAGES: u64 = 118_287;
/// The overlaps of the paper's Fig. 4.
const POOR: f64 = 0.05;
const GOOD: f64 = 0.95;

/// All of them; the published numbers are read from `paper/` in the folder of the experiments.
pub fn documents(experiments: &Path) -> anyhow::Result<Vec<Document>> {
    let svg = |name, svg: String| Document { name, content: svg.into_bytes() };
    Ok(vec![
        svg("fig1-published.svg", fig1(experiments)?),
        svg("fig2-surfaces.svg", fig2()?),
        svg("fig3-matches.svg", fig3(experiments)?),
        svg("fig4-losses.svg", fig4()?),
        svg("fig5-schedule.svg", fig5()?),
    ])
}

/// Which files of a folder are not what they should be.
///
/// Losses are computed in single precision, whose last bit depends on the processor: a coordinate that
/// falls beside another by a tenth of a pixel is no difference.
pub fn check(folder: &Path, documents: &[Document]) -> anyhow::Result<Vec<Difference>> {
    let mut differences = deim_report::check(folder, documents)?;
    differences.retain(|difference| {
        let expected = documents.iter().find(|document| document.name == difference.name);
        let found = std::fs::read_to_string(folder.join(difference.name));
        match (expected, found) {
            (Some(expected), Ok(found)) => {
                !same_drawing(&found, &String::from_utf8_lossy(&expected.content))
            }
            _ => true,
        }
    });
    Ok(differences)
}

/// Published AP against epochs and latency.
fn fig1(experiments: &Path) -> anyhow::Result<String> {
    let mut detectors: Vec<Published> = Vec::new();
    for name in ["table1.toml", "table2.toml", "table9.toml"] {
        for row in table(experiments, name)?.rows {
            let detector = named(&row, "detector", name)?;
            // DEIM's own latencies come from the model zoo, which has all of its sizes.
            let is_own = detector.contains("D-FINE") || detector.contains("RT-DETRv2");
            let cell = if is_own { "epochs" } else { "latency_ms" };
            let value = row.number(cell);
            detectors.push(Published {
                epochs: value.filter(|_| is_own),
                latency_ms: value.filter(|_| !is_own),
                ap: row.ap.with_context(|| format!("{name}: {detector} has no AP"))?,
                is_doubted: is_doubted(&row, &["ap", cell]),
                detector,
            });
        }
    }
    const ZOO: &str = "detectors.toml";
    for row in table(experiments, ZOO)?.rows {
        let model = named(&row, "model", ZOO)?;
        for (detector, cell) in [(format!("DEIM-{model}"), "ap"), (model, "baseline_ap")] {
            let ap =
                row.number(cell).with_context(|| format!("{ZOO}: no `{cell}` of {detector}"))?;
            let is_doubted = is_doubted(&row, &[cell, "latency_ms"]);
            let latency_ms = row.number("latency_ms");
            detectors.push(Published { detector, epochs: None, latency_ms, ap, is_doubted });
        }
    }
    let source = "Sources: left and crosses, the paper's Tables 1, 2 and 9; the rest, the official model zoo.";
    Ok(published(&detectors, source)?)
}

/// A published table.
fn table(experiments: &Path, name: &str) -> anyhow::Result<PaperTable> {
    let path = experiments.join("paper").join(name);
    let text = std::fs::read_to_string(&path);
    let text = text.with_context(|| format!("cannot read {}", path.display()))?;
    toml::from_str(&text).with_context(|| format!("cannot read {}", path.display()))
}

/// What a row is about.
fn named(row: &PaperRow, key: &str, table: &str) -> anyhow::Result<String> {
    let name = row.settings.get(key).and_then(|name| name.as_str()).map(str::to_owned);
    name.ok_or_else(|| anyhow!("{table}: expected `settings.{key}`, found {}", row.title()))
}

/// Whether any of these numbers of a row is doubted.
fn is_doubted(row: &PaperRow, cells: &[&str]) -> bool {
    cells.iter().any(|cell| row.suspicious.of(cell).next().is_some())
}

/// MAL and VFL, each with its own parameters.
fn pair() -> [(String, ClassLoss); 2] {
    let mal = ClassLoss::new(&Loss { class: Kind::Mal, ..Loss::default() });
    let vfl = ClassLoss::new(&Loss { class: Kind::Vfl, ..Loss::default() });
    [("VFL".to_owned(), vfl), (format!("MAL, \u{3b3} = {}", mal.gamma), mal)]
}

/// The loss of a matched query of each score, whose box has this overlap.
fn matched(loss: ClassLoss, overlap: f64, scores: &[f64]) -> Vec<f64> {
    let logits: Vec<f32> = scores.iter().map(|p| (p / (1.0 - p)).ln() as f32).collect();
    let positives =
        Positives { places: (0..scores.len()).collect(), qualities: vec![overlap; scores.len()] };
    let logits = Tensor::<1>::from_floats(logits.as_slice(), &Device::flex());
    loss.elementwise(logits, &positives).loss.into_data().iter().collect()
}

/// Scores from almost 0 to almost 1, where the loss is infinite.
fn scores(count: usize) -> Vec<f64> {
    (0..count).map(|at| (at as f64 + 0.5) / count as f64).collect()
}

fn fig2() -> anyhow::Result<String> {
    let surface = |(name, loss): (String, ClassLoss)| {
        let scores = scores(100);
        let overlaps: Vec<f64> = (0..=160).map(|at| f64::from(at) / 160.0).collect();
        let losses = overlaps.iter().flat_map(|&q| matched(loss, q, &scores)).collect();
        let spots = [(0.9, POOR), (0.1, GOOD), (0.9, 0.5)];
        let spots = spots.map(|(p, q)| [p, q, matched(loss, q, &[p])[0]]).to_vec();
        LossSurface { name, scores, overlaps, losses, spots }
    };
    Ok(surfaces(&pair().map(surface))?)
}

/// Matches on the scenes that the scale `mini` trains on.
fn fig3(experiments: &Path) -> anyhow::Result<String> {
    let config = official::part(experiments, &experiments.join("scales/mini.toml"))?;
    let scenes = SyntheticScenes::new(&config.data.synthetic, Split::Train)?;
    let truths = (0..scenes.len()).map(|index| {
        let truth = scenes.truth(index)?;
        Ok(Scene { size: truth.size, objects: truth.objects })
    });
    matches::draw(truths, scenes.classes().len(), config.data.input_size, "synthetic scenes")
}

fn fig4() -> anyhow::Result<String> {
    let panel = |overlap| {
        let scores = scores(100);
        let curves = pair().into_iter().map(|(name, loss)| {
            let values = matched(loss, overlap, &scores);
            (name, scores.iter().copied().zip(values).collect())
        });
        LossPanel { overlap, curves: curves.collect() }
    };
    Ok(losses(&[POOR, GOOD].map(panel))?)
}

/// The schedule of the detector that the paper draws: 60 epochs of RT-DETRv2-R50.
fn fig5() -> anyhow::Result<String> {
    let detector = official::model("r50").context("no official detector is called r50")?;
    let config = detector.config(official::Recipe::Deim)?;
    let steps = COCO_IMAGES / config.data.batch_size as u64;
    let rates = FlatCosine::new(&config, steps);
    // Five points an epoch follow the warm-up, which is shorter than one.
    const POINTS: u64 = 5;
    let total = steps * u64::from(config.epochs);
    let rates = (0..=u64::from(config.epochs) * POINTS).map(|point| {
        let iteration = (point * steps / POINTS).min(total - 1);
        (iteration as f64 / steps as f64, rates.after(config.optimizer.lr, iteration))
    });
    let phases = config.phases();
    let span = |name: &str, from, until| Span { name: name.to_owned(), from, until };
    let recipe = Recipe {
        name: format!("DEIM-{}", detector.title),
        epochs: config.epochs,
        rates: rates.collect(),
        spans: vec![
            span("mosaic, mixup", phases.augment_start, phases.flat),
            span("photometric", phases.augment_start, phases.augment_end),
            span("zoom-out, crop", phases.augment_start, phases.augment_end),
            span("multi-scale", 0, phases.stop),
            span("flip, resize", 0, phases.end),
            span("stage 2", phases.stop, phases.end),
        ],
    };
    Ok(schedule(&recipe)?)
}
