//! What an experiment on files would cost, whether or not the files are at hand.
//!
//! A cell has an id only when its images and its first weights are known. What it costs follows from
//! less: from finished cells that are alike, if this device has any, and else from counted operations
//! and the one training time that the paper prints. The second is an estimate and says so.

use std::collections::BTreeSet;

use deim_spec::config::Source;
use deim_spec::official::{self, Recipe};
use deim_spec::{Config, Experiment};
use serde::Serialize;

use crate::benches;
use crate::cost::Costs;
use crate::error::LabError;
use crate::history;
use crate::inputs::starts_from;
use crate::ledger::Ledger;
use crate::plan::Setting;
use crate::shelf::Shelf;

/// Hours of an epoch of RT-DETRv2-R50 on COCO, on one RTX 4090: Table 7 of the paper's later version,
/// which does not name the detector (`experiments/paper/table7.toml`).
pub const PAPER_HOURS_PER_EPOCH: f64 = 1.181;
/// Images in that epoch.
const PAPER_IMAGES: f64 = 118_287.0;
/// The side of its images, and the classes.
const PAPER_SIDE: usize = 640;
const PAPER_CLASSES: usize = 80;
/// A backward pass costs two forward passes: one for the inputs' gradients, one for the weights'.
const PASSES: f64 = 3.0;
const SECONDS_PER_HOUR: f64 = 3600.0;

/// What the cells of an experiment would cost.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Outlook {
    pub experiment: String,
    pub scale: String,
    pub device_class: String,
    pub cells: usize,
    pub seeds: usize,
    pub rows: Vec<RowOutlook>,
    /// Images to train on, where their number is known, and how it is.
    pub images: Option<usize>,
    pub images_from: String,
    /// What has to be given before a cell has an id.
    pub missing: Vec<String>,
    /// The timed steps that `benched_hours` are scaled from.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub benched_from: Vec<String>,
}

/// What one cell of a row would cost.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RowOutlook {
    pub title: String,
    pub epochs: u32,
    pub steps: Option<u64>,
    /// Floating-point operations of all training steps, counted from the configuration.
    pub operations: Option<f64>,
    /// Hours by finished cells that are alike, on this device class.
    pub measured_hours: Option<f64>,
    /// Hours on this device class by a step that `deim bench train` timed, scaled by operations.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub benched_hours: Option<f64>,
    /// Hours on the paper's device, by operations.
    pub estimated_hours: Option<f64>,
}

impl Outlook {
    /// Hours of all cells by one basis; none where any row has none.
    pub fn total(&self, hours: impl Fn(&RowOutlook) -> Option<f64>) -> Option<f64> {
        let rows: Option<f64> = self.rows.iter().map(hours).sum();
        rows.map(|rows| rows * self.seeds as f64)
    }
}

/// Whether an experiment trains on files.
pub fn is_about_files(experiment: &Experiment) -> bool {
    experiment.rows.iter().any(|row| row.config.data.source == Source::Folder)
}

/// Looks at the ledgers and, where it is given, at the data set; changes nothing.
pub fn make(experiment: &Experiment, setting: &Setting) -> Result<Outlook, LabError> {
    let (images, images_from) = images(experiment, setting)?;
    let costs = costs(experiment, setting)?;
    let class = setting.device.class();
    let benches = benches::read(&setting.results, &class)?;
    let mut benched_from = BTreeSet::new();
    let rows = experiment.rows.iter().map(|row| {
        let config = &row.config;
        let epochs = f64::from(config.epochs);
        let steps = images.map(|images| (images / config.data.batch_size.max(1)) as u64);
        let steps = steps.map(|steps| steps * u64::from(config.epochs));
        let seen = steps.map(|steps| steps as f64 * config.data.batch_size as f64);
        let pass = forward(config);
        let operations = seen.map(|seen| seen * PASSES * pass);
        let bench = benches::nearest(&benches, config.model.precision, PASSES * pass);
        benched_from.extend(bench.map(ToString::to_string));
        let measured = setting
            .inputs
            .settle(config)
            .ok()
            .and_then(|settled| costs.estimate(&settled, &class))
            .map(|seconds| seconds / SECONDS_PER_HOUR);
        Ok(RowOutlook {
            title: row.title(),
            epochs: config.epochs,
            steps,
            operations,
            measured_hours: measured,
            benched_hours: bench
                .zip(operations)
                .map(|(bench, operations)| operations / bench.rate() / SECONDS_PER_HOUR),
            estimated_hours: images
                .map(|images| {
                    let share = pass / yardstick()? * images as f64 / PAPER_IMAGES;
                    Ok::<f64, LabError>(PAPER_HOURS_PER_EPOCH * share * epochs)
                })
                .transpose()?,
        })
    });
    let rows = rows.collect::<Result<Vec<RowOutlook>, LabError>>()?;
    Ok(Outlook {
        experiment: experiment.name.clone(),
        scale: experiment.scale.clone(),
        device_class: class,
        cells: rows.len() * experiment.seeds.len(),
        seeds: experiment.seeds.len(),
        rows,
        images,
        images_from,
        missing: missing(experiment, setting),
        benched_from: benched_from.into_iter().collect(),
    })
}

/// What has to be given on the command line before the cells have ids.
pub fn missing(experiment: &Experiment, setting: &Setting) -> Vec<String> {
    let mut missing = Vec::new();
    if is_about_files(experiment) && setting.inputs.data.is_none() {
        let what = experiment.expects.map_or("the data set", |expected| expected.title());
        missing.push(format!("--data DIR, where {what} lies"));
    }
    let open = |config: &Config| starts_from(config).is_some_and(|one| one.blake3.is_none());
    if experiment.rows.iter().any(|row| open(&row.config)) && setting.inputs.weights.is_empty() {
        missing.push("--pretrained FILE, the weights to start from".to_owned());
    }
    missing
}

/// The number of images to train on, and where it comes from.
fn images(experiment: &Experiment, setting: &Setting) -> Result<(Option<usize>, String), LabError> {
    let row = experiment.rows.iter().find(|row| row.config.data.source == Source::Folder);
    if let (Some(row), Some(place)) = (row, &setting.inputs.data) {
        let images = deim_data::open(&row.config.data, Some(place))?.train.len();
        return Ok((Some(images), format!("counted in {}", place.folder.display())));
    }
    Ok(match experiment.expects {
        Some(expected) => {
            let known = expected.train_images();
            let from = match known {
                Some(_) => format!("as many as {} has", expected.title()),
                None => format!("{} is not at hand", expected.title()),
            };
            (known, from)
        }
        None => (None, "no data set is at hand".to_owned()),
    })
}

/// What finished cells have cost, in this experiment's ledger and in all others.
fn costs(experiment: &Experiment, setting: &Setting) -> Result<Costs, LabError> {
    let ledger = Ledger::new(&setting.results, &experiment.name, &experiment.scale);
    let own = history::by_cell(&ledger.read()?.lines);
    let shelf = Shelf::load(&setting.results, &ledger);
    let mut costs = Costs::default();
    let others = shelf.histories().map(|(_, _, history)| history);
    for history in others.chain(own.into_values()) {
        if let (Some(provenance), Some(finished)) = (&history.provenance, &history.finished) {
            costs.add(provenance, finished);
        }
    }
    Ok(costs)
}

/// Operations of a forward pass of one image, as the detector trains.
fn forward(config: &Config) -> f64 {
    deim_eval::cost(config, PAPER_CLASSES, config.data.input_size).flops as f64
}

/// The same of the detector whose training time is known.
fn yardstick() -> Result<f64, LabError> {
    let model = official::model("r50").ok_or_else(|| LabError::Input("no detector r50".into()))?;
    let config = model.config(Recipe::Baseline).map_err(LabError::from)?;
    Ok(deim_eval::cost(&config, PAPER_CLASSES, PAPER_SIDE).flops as f64)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use deim_spec::{Options, load};

    use super::*;
    use crate::device::{DeviceChoice, Devices};
    use crate::inputs::Inputs;
    use crate::record::{Finished, Line, Record};
    use crate::samples;

    fn experiments() -> &'static Path {
        Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../experiments"))
    }

    fn paper(name: &str) -> Experiment {
        let options = Options { scale: Some("paper".into()), ..Options::default() };
        load(experiments(), name, &options).unwrap()
    }

    fn setting(results: &Path) -> Setting {
        Setting {
            results: results.to_owned(),
            runs: results.join("runs"),
            device: Devices::default(),
            numerics: 1,
            inputs: Inputs::default(),
        }
    }

    #[test]
    fn the_yardstick_is_what_the_paper_prints() {
        let published = paper("T7").paper.unwrap().rows[0].clone();
        assert_eq!(published.number("hours_per_epoch"), Some(PAPER_HOURS_PER_EPOCH));
        // So the baseline's own row costs what the paper says in total, but for the dropped last batch.
        let results = tempfile::tempdir().unwrap();
        let outlook = make(&paper("T7"), &setting(results.path())).unwrap();
        let hours = outlook.rows[0].estimated_hours.unwrap();
        assert!((hours - published.number("total_hours").unwrap()).abs() < 0.1, "{hours}");
    }

    #[test]
    fn without_its_files_an_experiment_has_a_price_and_says_what_is_missing() {
        let results = tempfile::tempdir().unwrap();
        let outlook = make(&paper("T4"), &setting(results.path())).unwrap();
        assert_eq!((outlook.cells, outlook.images), (12, Some(118_287)));
        // 7392 steps an epoch (deim-facts section 2).
        assert!(outlook.rows.iter().all(|row| row.steps == Some(24 * 7392)));
        assert_eq!(outlook.total(|row| row.measured_hours), None);
        assert_eq!(outlook.missing.len(), 2, "{:?}", outlook.missing);
        // How many images CrowdHuman has is not known without it.
        let outlook = make(&paper("T3"), &setting(results.path())).unwrap();
        assert_eq!((outlook.images, outlook.total(|row| row.estimated_hours)), (None, None));
    }

    #[test]
    fn a_timed_step_gives_hours_on_its_class_of_device_scaled_by_operations() {
        let results = tempfile::tempdir().unwrap();
        let folder = results.path().join("bench");
        std::fs::create_dir(&folder).unwrap();
        let line_in = |precision: &str, class: &str, what: &str, rate: f64| {
            format!(
                "{{\"what\":\"{what}\",\"device_class\":\"{class}\",\"device\":\"a card\",\"model\":\"r50\",\
                 \"precision\":\"{precision}\",\"size\":640,\"batch\":16,\"images_per_second\":{rate},\"operations_per_image\":{}}}\n",
                PASSES * yardstick().unwrap()
            )
        };
        let line = |class: &str, what: &str, rate: f64| line_in("f32", class, what, rate);
        // Not the same device, not a step, not the same arithmetic.
        let others = [
            line("cpu", "train", 1.0),
            line("cuda", "infer", 9.0),
            line_in("bf16", "cuda", "train", 1000.0),
        ];
        let lines = [others.concat(), line("cuda", "train", 100.0)];
        std::fs::write(folder.join("card.json"), lines.concat()).unwrap();
        let mut setting = setting(results.path());
        setting.device = DeviceChoice::Cuda(0).into();
        let outlook = make(&paper("T7"), &setting).unwrap();
        let hours = outlook.rows[0].benched_hours.unwrap();
        let images = outlook.rows[0].steps.unwrap() as f64
            * paper("T7").rows[0].config.data.batch_size as f64;
        assert!((hours - images / 100.0 / 3600.0).abs() < 1e-6 * hours, "{hours}");
        assert_eq!(outlook.benched_from.len(), 1, "{:?}", outlook.benched_from);
        // On a class of device that nothing was timed on there is no such number.
        setting.device = DeviceChoice::Vulkan(None).into();
        assert_eq!(make(&paper("T7"), &setting).unwrap().rows[0].benched_hours, None);
        std::fs::write(folder.join("card.json"), "{").unwrap();
        let error = make(&paper("T7"), &setting).unwrap_err().to_string();
        assert!(error.contains("card.json"), "{error}");
    }

    #[test]
    fn a_finished_cell_that_is_alike_is_a_measurement_and_of_this_device_only() {
        let results = tempfile::tempdir().unwrap();
        let mut experiment = paper("T4");
        for row in &mut experiment.rows {
            row.config.pretrained = None;
        }
        let mut provenance = samples::provenance();
        let mut config = experiment.rows[0].config.clone();
        config.epochs = 12;
        provenance.config = (&config).into();
        let line = |record| Line { at: "2025-01-01T00:00:00Z".into(), cell: "c".into(), record };
        let finished: Finished = samples::finished(7200.0);
        let lines = vec![
            line(Record::Started(Box::new(provenance))),
            line(Record::Finished(Box::new(finished))),
        ];
        let ledger = Ledger::new(results.path(), "dense-o2o", "paper");
        ledger.extend(|_| Ok(lines)).unwrap();
        let mut setting = setting(results.path());
        let measured =
            |setting: &Setting| make(&experiment, setting).unwrap().rows[3].measured_hours;
        assert_eq!(measured(&setting), Some(4.0), "twice the epochs of two hours");
        setting.device = DeviceChoice::Cuda(0).into();
        assert_eq!(measured(&setting), None);
    }
}
