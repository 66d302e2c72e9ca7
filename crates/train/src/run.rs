//! The training loop: one cell from its configuration and seed to its metrics.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use burn::tensor::Device;
use deim_data::{DataError, Draws, EvalLoader, Splits, TrainLoader};
use deim_eval::Metrics;
use deim_model::weights::{self, WeightsError};
use deim_model::{Detector, official};
use deim_spec::Config;

use crate::bench::BenchError;
use crate::checkpoint::{self, CheckpointError, State, Tensors};
use crate::criterion::CriterionError;
use crate::denoising;
use crate::evaluate::{EvaluateError, Evaluator};
use crate::events::{Event, Seconds, Summary};
use crate::optimizer::trained;
use crate::pretrained::{self, Fitted, StartError};
use crate::ranks::Share;
use crate::records::EpochSums;
use crate::schedule::FlatCosine;
use crate::stages::{Action, File, StageRules, Stages};
use crate::step::{Learner, Lesson, StepError};
use crate::upload::{self, Fed, Feed};
use crate::warm;

/// What to train, where, and how to stop it.
pub struct Job<'a> {
    pub config: &'a Config,
    pub seed: u64,
    /// The cell's id: only its own checkpoints are used.
    pub cell: &'a str,
    /// The devices without gradients. The first holds the optimizer and evaluates; the others, if any,
    /// take their part of every batch.
    pub devices: Vec<Device>,
    /// The cell's folder, for checkpoints and the final weights.
    pub directory: &'a Path,
    /// Threads that make batches; none makes them in the loop.
    pub workers: usize,
    /// The file that `pretrained` asks for.
    pub pretrained: Option<&'a Path>,
    /// Set from elsewhere to stop after the current step, with a checkpoint.
    pub stop: &'a AtomicBool,
    pub splits: &'a Splits,
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq)]
pub enum Ending {
    Finished(Summary),
    /// Asked to stop; the same job goes on from its checkpoint.
    Stopped,
}

/// Why a run failed.
#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    #[error(transparent)]
    Data(#[from] DataError),
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    #[error(transparent)]
    Criterion(#[from] CriterionError),
    #[error(transparent)]
    Start(#[from] StartError),
    #[error(transparent)]
    Evaluate(#[from] EvaluateError),
    #[error("`{}`: {source}", path.display())]
    Weights { path: PathBuf, source: WeightsError },
    #[error("optimizer.groups: {0}")]
    Groups(#[from] regex::Error),
    #[error("epoch {epoch}, step {step}: the loss is not finite: {terms}")]
    NotFinite { epoch: u32, step: u64, terms: String },
    #[error("epoch {epoch}, step {step}: {source}")]
    Step { epoch: u32, step: u64, source: StepError },
    #[error("warming the device: {0}")]
    Warming(#[from] BenchError),
    #[error("the device failed: {0}")]
    Device(String),
    #[error("data.batch_size: {images} images cannot be shared evenly by {devices} devices")]
    Parts { images: usize, devices: usize },
}

/// A long epoch is saved this often, besides at its end.
const SAVE_EVERY: Duration = Duration::from_secs(300);

/// Trains a cell, from its checkpoint if there is one.
pub fn run(job: &Job, observe: &mut dyn FnMut(&Event)) -> Result<Ending, TrainError> {
    let mut run = Run::open(job)?;
    observe(&Event::Started {
        epochs: job.config.epochs,
        steps_per_epoch: run.loader.steps_per_epoch(),
        resumed_at: run.resumed.then_some([u64::from(run.state.epoch), run.state.step]),
        pretrained: run.pretrained.take(),
    });
    if run.state.epoch < job.config.epochs {
        warm::up(job, run.classes, &run.loader.sizes(), observe)?;
    }
    while run.state.epoch < job.config.epochs {
        if run.state.step == 0 {
            run.begin_epoch()?;
        }
        let Some(seconds) = run.train_epoch(observe)? else { return Ok(Ending::Stopped) };
        run.end_epoch(seconds, observe)?;
    }
    run.finish().map(Ending::Finished)
}

/// A run in memory.
struct Run<'a> {
    job: &'a Job<'a>,
    /// The job's devices with gradients.
    devices: Vec<Device>,
    classes: usize,
    loader: TrainLoader,
    evaluator: Evaluator,
    schedule: FlatCosine,
    learner: Learner,
    state: State,
    resumed: bool,
    /// What a fresh run took from a file.
    pretrained: Option<Fitted>,
    /// Panics of the devices' threads that are in a record already.
    faults: u64,
}

impl<'a> Run<'a> {
    /// Builds everything and goes to the checkpoint, if there is one.
    fn open(job: &'a Job<'a>) -> Result<Self, TrainError> {
        let config = job.config;
        let Splits { train, val } = job.splits;
        let classes = train.classes().len();
        let (first, others) = job.devices.split_first().expect("at least one device");
        let (images, parts) = (config.data.batch_size, job.devices.len());
        if !images.is_multiple_of(parts) {
            return Err(TrainError::Parts { images, devices: parts });
        }
        let devices: Vec<Device> =
            job.devices.iter().map(|device| device.clone().autodiff()).collect();
        let loader = TrainLoader::new(train.clone(), config, job.seed, job.workers)?
            .as_bytes(upload::wants_bytes(&job.devices));
        let eval_loader = EvalLoader::new(val.clone(), config, job.workers)?
            .as_bytes(upload::wants_bytes(std::slice::from_ref(first)));
        let evaluator = Evaluator::new(&**val, eval_loader, config.eval.detections)?;
        let detector = Detector::new(config, classes, job.seed, &devices[0]);
        // The same seed gives the same weights on the device without gradients.
        let averaged = Detector::new(config, classes, job.seed, first);
        let rules = StageRules {
            stop_epoch: config.phases().stop,
            checkpoint_every: 0,
            reload_best: config.schedule.reload_best,
            ema_decay: config.ema.decay,
            ema_restart_decay: config.ema.restart_decay,
        };
        let mut run = Self {
            job,
            devices,
            classes,
            schedule: FlatCosine::new(config, loader.steps_per_epoch()),
            loader,
            evaluator,
            learner: Learner::new(config, classes, detector, averaged)?
                .with_devices(config, others),
            state: State {
                cell: job.cell.to_owned(),
                epoch: 0,
                step: 0,
                optimizer_steps: 0,
                ema_updates: 0,
                stages: Stages::new(rules),
                sums: EpochSums::default(),
                last: None,
                best: None,
                seen: Default::default(),
            },
            resumed: false,
            pretrained: None,
            faults: deim_ops::faults(),
        };
        let path = run.path(File::Last);
        if let Some((state, tensors)) = checkpoint::load(&path, job.cell)? {
            run.take(&path, &state, &tensors)?;
            run.state = state;
            run.set_ema_decay();
            run.resumed = true;
            job.splits.remember(&run.state.seen);
        } else {
            run.start()?;
        }
        Ok(run)
    }

    /// A fresh run's weights, where they are not random.
    fn start(&mut self) -> Result<(), TrainError> {
        let Job { config, pretrained, .. } = *self.job;
        let learner = &mut self.learner;
        let both = [learner.detector().clone(), learner.ema.detector.clone()];
        let ([detector, averaged], fitted) = pretrained::start(config, pretrained, both)?;
        learner.ema.detector = averaged;
        self.pretrained = fitted;
        learner.replace(|_| Ok(detector))
    }

    fn path(&self, file: File) -> PathBuf {
        self.job.directory.join(file.name()).with_extension("safetensors")
    }

    fn begin_epoch(&mut self) -> Result<(), TrainError> {
        self.state.sums = EpochSums::default();
        let action = self.state.stages.before(self.state.epoch);
        self.set_ema_decay();
        if action == Some(Action::Reload) {
            self.reload()?;
            self.state.sums.reloaded_best = true;
        }
        Ok(())
    }

    /// The average follows the stages; by default that changes nothing (deim-facts 3.7).
    fn set_ema_decay(&mut self) {
        let decay = self.state.stages.decay(self.job.config.ema.use_restart_decay);
        self.learner.ema.set_decay(decay);
    }

    /// The rest of an epoch's steps; none if it was asked to stop.
    fn train_epoch(
        &mut self,
        observe: &mut dyn FnMut(&Event),
    ) -> Result<Option<Seconds>, TrainError> {
        let start = Instant::now();
        let mut saved = Instant::now();
        let epoch = self.state.epoch;
        let devices = self.devices.clone();
        let mut feed = Feed::new(self.loader.batches(epoch, self.state.step), &devices);
        while let Some(fed) = feed.take() {
            let loss = self.step(fed?)?;
            feed.prepare();
            let step = self.state.step;
            let learning_rate = self.state.sums.learning_rate;
            self.state.step += 1;
            observe(&Event::Step { epoch, step, loss, learning_rate });
            let stop = self.job.stop.load(Ordering::SeqCst);
            if stop || saved.elapsed() >= SAVE_EVERY {
                self.save(File::Last)?;
                saved = Instant::now();
            }
            if stop {
                return Ok(None);
            }
        }
        let wait = feed.batches().waited().as_secs_f64();
        Ok(Some(Seconds { train: start.elapsed().as_secs_f64(), evaluate: 0.0, wait }))
    }

    /// One optimizer step; returns its loss.
    fn step(&mut self, fed: Fed) -> Result<f64, TrainError> {
        let config = self.job.config;
        let (epoch, step) = (self.state.epoch, self.state.step);
        let iteration = u64::from(epoch) * self.loader.steps_per_epoch() + step;
        let Fed { batch, images } = fed;
        let queries = self.learner.detector().queries([batch.size; 2]);
        let count = batch.targets.len() / self.devices.len();
        let parts = images.into_iter().zip(&self.devices).enumerate().map(|(rank, part)| {
            let (images, device) = part;
            let targets = batch.targets[rank * count..][..count].to_vec();
            // The first device draws what it would draw alone.
            let mut key = vec![u64::from(epoch), step];
            key.extend((rank > 0).then_some(rank as u64));
            let mut draws = Draws::new(self.job.seed, "denoising", &key);
            let config = &config.denoising;
            let denoising =
                denoising::prepare(&targets, self.classes, queries, config, &mut draws, device);
            Share { images, targets, denoising }
        });
        let mut shares: Vec<Share> = parts.collect();
        let Share { images, targets, denoising } = shares.remove(0);
        let lesson = Lesson { images, targets: &targets, denoising: denoising.as_ref() };
        let result = self.learner.step_together(lesson, shares, &self.schedule, iteration, &mut ());
        let result = result.map_err(|error| match error {
            StepError::Criterion(error) => TrainError::Criterion(error),
            StepError::NotFinite(terms) => TrainError::NotFinite { epoch, step, terms },
            source => TrainError::Step { epoch, step, source },
        })?;
        let loss = result.loss;
        let learning_rate = self.schedule.used(config.optimizer.lr, iteration);
        self.state.sums.add(result, &batch, learning_rate);
        Ok(loss)
    }

    /// Evaluates, records, and does what the two stages ask for.
    fn end_epoch(
        &mut self,
        mut seconds: Seconds,
        observe: &mut dyn FnMut(&Event),
    ) -> Result<(), TrainError> {
        let epoch = self.state.epoch;
        let config = self.job.config;
        // What is saved now is what the next epoch starts from.
        self.state.epoch += 1;
        self.state.step = 0;
        self.state.stages.trained(epoch);
        let phases = config.phases();
        let due = (epoch + 1).is_multiple_of(config.eval.every.max(1))
            || epoch + 1 == phases.stop
            || epoch + 1 == phases.end;
        let mut metrics = None;
        if due {
            observe(&Event::Evaluating { epoch });
            let start = Instant::now();
            let measured =
                self.evaluator.evaluate(&self.learner.ema.detector, &self.job.devices[0])?;
            seconds.evaluate = start.elapsed().as_secs_f64();
            self.keep_best(epoch, &measured);
            let ap = measured.ap.unwrap_or(0.0);
            let actions = self.state.stages.evaluated(epoch, ap);
            self.set_ema_decay();
            // Only stage 1's best is ever gone back to; the best of all is in the record.
            if actions.contains(&Action::Save(File::BestOfStage1)) {
                self.save(File::BestOfStage1)?;
            }
            // After the last epoch there is nothing to go back for: the weights stay those measured.
            if actions.contains(&Action::Reload) && epoch + 1 < phases.end {
                self.reload()?;
            }
            metrics = Some(measured);
        }
        let faults = deim_ops::faults();
        self.state.sums.fault(faults - self.faults);
        self.faults = faults;
        let steps = self.loader.steps_per_epoch();
        observe(&Event::Epoch(self.state.sums.record(epoch, steps, metrics, seconds)));
        self.save(File::Last)
    }

    fn keep_best(&mut self, epoch: u32, measured: &Metrics) {
        let better = match &self.state.best {
            None => true,
            Some((_, best)) => measured.ap > best.ap,
        };
        if better {
            self.state.best = Some((epoch, measured.clone()));
        }
        self.state.last = Some(measured.clone());
    }

    fn save(&mut self, file: File) -> Result<(), TrainError> {
        let learner = &self.learner;
        let (steps, moments) = learner.optimizer.state();
        self.state.optimizer_steps = steps;
        self.state.ema_updates = learner.ema.updates;
        self.state.seen = self.job.splits.seen();
        let mut tensors = Tensors::new();
        let mut add = |part: &str, entries: Vec<_>| {
            tensors
                .extend(entries.into_iter().map(|(name, data)| (format!("{part}.{name}"), data)));
        };
        add("model", weights::read(learner.detector()));
        add("ema", weights::read(&learner.ema.detector));
        add("optimizer", moments);
        Ok(checkpoint::save(&self.path(file), &self.state, &tensors)?)
    }

    /// Back to the best of stage 1: model, average and optimizer (deim-facts 3.8). The place in the
    /// schedule stays, because the learning rate follows the iteration alone.
    fn reload(&mut self) -> Result<(), TrainError> {
        let path = self.path(File::BestOfStage1);
        let Some((state, tensors)) = checkpoint::load(&path, self.job.cell)? else {
            return Err(TrainError::Checkpoint(CheckpointError::File {
                action: "read the best checkpoint of stage 1 from",
                path,
                source: std::io::ErrorKind::NotFound.into(),
            }));
        };
        self.take(&path, &state, &tensors)
    }

    /// Takes the tensors and counters of a checkpoint.
    fn take(&mut self, path: &Path, state: &State, tensors: &Tensors) -> Result<(), TrainError> {
        let part = |prefix: &str| -> Tensors {
            tensors
                .iter()
                .filter_map(|(name, data)| {
                    Some((name.strip_prefix(prefix)?.to_owned(), data.clone()))
                })
                .collect()
        };
        let failed = |source| TrainError::Weights { path: path.to_owned(), source };
        let learner = &mut self.learner;
        learner.replace(|detector| weights::load(detector, &part("model."))).map_err(failed)?;
        let averaged = learner.ema.detector.clone();
        learner.ema.detector = weights::load(averaged, &part("ema.")).map_err(failed)?;
        learner.ema.updates = state.ema_updates;
        learner.optimizer.restore(state.optimizer_steps, &part("optimizer."), &self.job.devices[0]);
        Ok(())
    }

    /// Writes the averaged weights as the official state dict and sums up.
    fn finish(&mut self) -> Result<Summary, TrainError> {
        let tensors = official::state_dict(&self.learner.ema.detector, self.job.config);
        let parameters =
            trained(self.learner.detector()).into_iter().map(|(_, size)| size as u64).sum();
        let path = self.job.directory.join("weights.safetensors");
        let weights = checkpoint::save_weights(&path, &tensors)?;
        let (best_epoch, best) = self.state.best.clone().unwrap_or_default();
        Ok(Summary {
            last: self.state.last.clone().unwrap_or_default(),
            best,
            best_epoch,
            steps: self.loader.steps_per_epoch() * u64::from(self.job.config.epochs),
            parameters,
            weights,
            kernels: None,
            notes: self.job.splits.notes(),
        })
    }
}
