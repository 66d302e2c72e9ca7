//! Whole training steps: the trainer's own step, compared from the image to the moving average.

mod arrays;
mod measured;
mod names;
mod noise;
mod precision;
mod rules;
mod watcher;

use burn::tensor::Device;
use deim_data::Target;
use deim_model::{Detector, weights};
use deim_spec::{Config, config};
use deim_train::denoising::{Denoising, Layout, assemble, noised};
use deim_train::optimizer::trained;
use deim_train::param_groups::ParamGroups;
use deim_train::schedule::FlatCosine;
use deim_train::step::{Learner, Lesson, Watch};

use self::arrays::{Computed, Step};
pub use self::measured::measure;
use self::names::{Names, Values};
use self::precision::Precision;
use self::rules::Rules;
use self::watcher::Watcher;
use super::loss::failed;
use super::{denoising, detector};
use crate::case::{Case, CaseError};
use crate::compare::{Check, Tolerance};

/// What must be equal but was computed in another order.
const EXACT: Tolerance = Tolerance { absolute: 0.0, relative: 1e-12 };

/// Makes the case's steps twice. In 64 bits every number must be that of the official run in 64
/// bits, and within what the case allows of the one in 32. In 32 bits, as it trains, everything up to
/// the gradients must be within that, too, and the rounding of the rest be like the original's;
/// which parameters it moves beyond their own bound depends on the order of sums, and is told.
pub fn verify(case: &Case, device: &Device, check: &mut Check) -> Result<(), CaseError> {
    let config = config(case, check)?;
    let names = Names::read(case)?;
    let rules = Rules::read(case)?;
    for precision in [Precision::Double, Precision::Single] {
        if !precision.is_on(device) {
            check.notes.push(format!("no {} on this device", precision.name()));
            continue;
        }
        let (mut part, mut told) = (Check::default(), Check::default());
        let mut trainer = Trainer::new(case, &config, precision, device)?;
        groups(&config, &names, trainer.learner.detector(), &mut part)?;
        for step in 0..case.count("steps")? {
            let prefix = format!("step{step}.");
            let mut watcher = Watcher::new(case, &prefix, rules, precision, &mut part)?;
            let mut ours = trainer.step(step, &mut watcher)?;
            ours.gradients = watcher.finish()?;
            let record = Precision::Single;
            let eps = config.optimizer.eps;
            let step = Step { case, names: &names, rules, record, eps, step, ours: &ours };
            step.compare_statistics(&mut part)?;
            match precision {
                Precision::Double => {
                    step.compare_parameters(&config, &mut part)?;
                    let rules = Rules::exact(case, &prefix)?;
                    let step = Step { rules, record: Precision::Double, ..step };
                    step.compare_statistics(&mut part)?;
                    step.compare_parameters(&config, &mut part)?;
                }
                Precision::Single => {
                    noise::compare(&step, &mut part)?;
                    step.compare_parameters(&config, &mut told)?;
                }
            }
        }
        check.include(precision.name(), part);
        if precision == Precision::Single {
            check.mention("32 bits, each parameter", told);
        }
    }
    Ok(())
}

/// A detector in training, with what the case's steps need.
struct Trainer<'a> {
    case: &'a Case,
    config: &'a Config,
    precision: Precision,
    device: Device,
    learner: Learner,
}

impl<'a> Trainer<'a> {
    fn new(
        case: &'a Case,
        config: &'a Config,
        precision: Precision,
        device: &Device,
    ) -> Result<Self, CaseError> {
        let with_gradients = device.clone().autodiff();
        let detector = precision.of(detector::filled(case, config, &with_gradients)?);
        let averaged = precision.of(detector::filled(case, config, device)?);
        let classes = case.count("num_classes")?;
        let learner = Learner::new(config, classes, detector, averaged).map_err(failed)?;
        Ok(Self { case, config, precision, device: with_gradients, learner })
    }

    /// Makes a step of the case; all it gives but the gradients.
    fn step(&mut self, step: usize, watch: &mut dyn Watch) -> Result<Computed, CaseError> {
        let case = self.case;
        let prefix = format!("step{step}.");
        let images = detector::images(case, case.text(&format!("{prefix}seed"))?, &self.device)?;
        let images = images.cast(self.precision.dtype());
        let targets = case.targets_at(&prefix, case.count("batch")?)?;
        let [_, _, height, width] = images.dims();
        let queries = self.learner.detector().queries([height, width]);
        let mut denoising = noise(case, &prefix, self.config, &targets, queries, &self.device)?;
        if let Some(made) = &mut denoising {
            let boxes = &mut made.queries.boxes_unactivated;
            *boxes = boxes.clone().cast(self.precision.dtype());
        }
        let lesson = Lesson { images, targets: &targets, denoising: denoising.as_ref() };
        let before = read(self.learner.detector());
        self.learner.step(lesson, &constant_rate(), step as u64, watch).map_err(failed)?;
        let after = read(self.learner.detector());
        let average = read(&self.learner.ema.detector);
        Ok(Computed { gradients: Values::new(), before, after, average })
    }
}

/// The official configuration with what the case changes in it.
fn config(case: &Case, check: &mut Check) -> Result<Config, CaseError> {
    let mut config = detector::config(case)?;
    let losses = case.texts("losses")?;
    let asks = |name: &str| losses.iter().any(|loss| loss == name);
    let loss = &mut config.loss;
    loss.class = if asks("mal") {
        config::ClassLoss::Mal
    } else if asks("vfl") {
        config::ClassLoss::Vfl
    } else {
        config::ClassLoss::Focal
    };
    loss.gamma = case.number("gamma")?;
    loss.alpha = case.number("alpha")?;

    // The rest is the same recipe; saying so checks ours.
    let [bbox, giou] =
        ["bbox", "giou"].map(|loss| case.number(&format!("weight_dict.loss_{loss}")));
    check.values("weight_dict", &[loss.weight_bbox, loss.weight_giou], &[bbox?, giou?], EXACT)?;
    if asks("local") {
        let [fgl, ddf] =
            ["fgl", "ddf"].map(|loss| case.number(&format!("weight_dict.loss_{loss}")));
        check.values("weight_dict", &[loss.weight_fgl, loss.weight_ddf], &[fgl?, ddf?], EXACT)?;
    }
    check.same("use_uni_set", &loss.union_set, &case.flag("use_uni_set")?);
    let ema = [config.ema.decay, config.ema.warmups as f64];
    check.values("ema", &ema, &[case.number("ema.decay")?, case.number("ema.warmups")?], EXACT)?;
    let optimizer = &mut config.optimizer;
    let ours = [optimizer.beta1, optimizer.beta2, optimizer.eps, optimizer.clip_norm];
    let mut theirs = case.numbers("betas")?;
    theirs.extend([case.number("eps")?, case.number("clip_max_norm")?]);
    check.values("optimizer", &ours, &theirs, EXACT)?;

    let scale = case.number("lr_scale")?;
    let rates = optimizer.groups.iter().map(|group| group.lr.unwrap_or(optimizer.lr));
    let rates: Vec<f64> = rates.chain([optimizer.lr]).map(|rate| rate * scale).collect();
    check.values("group_lr", &rates, &case.numbers("group_lr")?, EXACT)?;
    let decays =
        optimizer.groups.iter().map(|group| group.weight_decay.unwrap_or(optimizer.weight_decay));
    let decays: Vec<f64> = decays.chain([optimizer.weight_decay]).collect();
    check.values("group_weight_decay", &decays, &case.numbers("group_weight_decay")?, EXACT)?;
    optimizer.lr *= scale;
    for group in &mut optimizer.groups {
        group.lr = group.lr.map(|rate| rate * scale);
    }
    Ok(config)
}

/// The learning rates of a case are those of its groups, at every step.
fn constant_rate() -> FlatCosine {
    FlatCosine { warmup: 0, flat: u64::MAX, tail: 0, total: u64::MAX, gamma: 1.0, first_divisor: 1 }
}

/// Which parameters train, and in which group each does.
fn groups(
    config: &Config,
    names: &Names,
    detector: &Detector,
    check: &mut Check,
) -> Result<(), CaseError> {
    let groups = ParamGroups::new(&config.optimizer).map_err(failed)?;
    let mut ours: Vec<(String, usize, i64)> = trained(detector)
        .into_iter()
        .map(|(name, size)| {
            let group = groups.index(&name) as i64;
            (name, size, group)
        })
        .collect();
    let theirs = names.params.iter().filter(|parameter| parameter.requires_grad);
    let mut theirs: Vec<(String, usize, i64)> = theirs
        .map(|parameter| {
            (parameter.name.clone(), parameter.shape.iter().product(), parameter.group)
        })
        .collect();
    ours.sort_unstable();
    theirs.sort_unstable();
    for (ours, theirs) in ours.iter().zip(&theirs) {
        check.same(&format!("names.json: {}", theirs.0), ours, theirs);
    }
    check.same("names.json: params", &ours.len(), &theirs.len());
    Ok(())
}

/// The denoising queries that the case's draws give.
fn noise(
    case: &Case,
    prefix: &str,
    config: &Config,
    targets: &[Target],
    matching: usize,
    device: &Device,
) -> Result<Option<Denoising>, CaseError> {
    let Some(layout) = Layout::new(targets, config.denoising.queries) else { return Ok(None) };
    let noise = denoising::noise(case, prefix, targets.len(), layout.queries())?;
    let classes = case.count("num_classes")?;
    let noised = noised(targets, classes, layout, &config.denoising, &noise);
    Ok(Some(assemble(targets, layout, noised, matching, device)))
}

fn read(detector: &Detector) -> Values {
    weights::read(detector)
        .into_iter()
        .map(|(name, data)| (name, data.iter::<f64>().collect()))
        .collect()
}
