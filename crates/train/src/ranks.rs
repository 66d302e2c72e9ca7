//! Several devices for one cell, as in PyTorch's data-parallel training: each sees its part of every
//! batch, all divide their losses by the mean number of boxes of a part, their batch norms take the
//! statistics of the whole batch, and the mean of their gradients makes the one step.
//!
//! The first device trains and holds the optimizer. Every other has a thread of its own with a copy of
//! the detector, which takes the first one's values before each step, batch norms' statistics included.

use std::collections::BTreeMap;
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::{Device, Tensor};
use deim_data::Target;
use deim_model::Detector;
use deim_ops::{Attendee, meet};
use deim_spec::Config;

use crate::criterion::Criterion;
use crate::denoising::Denoising;
use crate::ema::Values;
use crate::pass::{Learnt, learn, look};
use crate::plan::Counts;
use crate::step::{Lesson, StepError};

/// What another device than the first learns from.
#[derive(Debug)]
pub(crate) struct Share {
    /// `[part of the batch, 3, h, w]` on the device, with gradients.
    pub images: Tensor<4>,
    pub targets: Vec<Target>,
    pub denoising: Option<Denoising>,
}

/// The devices beside the first.
#[derive(Default)]
pub(crate) struct Ranks(Vec<Rank>);

struct Rank {
    /// None once the rank is asked to end.
    asks: Option<Sender<Ask>>,
    answers: Receiver<Answer>,
    thread: Option<JoinHandle<()>>,
}

enum Ask {
    /// The first device's detector, tensor by tensor, and what to look at.
    Look(Vec<Tensor<1>>, Share, Attendee),
    Learn(Counts),
}

enum Answer {
    Seen(Result<Counts, StepError>),
    Learnt(Result<Learnt, StepError>),
}

/// How long the first device's thread sleeps between two looks for an answer.
const NAP: Duration = Duration::from_micros(50);

/// As large as that of the first device's thread.
const STACK: usize = 8 << 20;

impl Ranks {
    /// A thread for each of these devices, which are without gradients; `first` holds the optimizer.
    pub fn start(config: &Config, classes: usize, first: &Device, devices: &[Device]) -> Self {
        let ranks = devices.iter().map(|device| {
            let (asks, asked) = channel();
            let (answer, answers) = channel();
            let (config, first, device) = (config.clone(), first.clone(), device.clone());
            let work = move || serve(&config, classes, [&first, &device], &asked, &answer);
            let thread = std::thread::Builder::new().name("rank".into()).stack_size(STACK);
            let thread = thread.spawn(work).expect("the system starts a thread");
            Rank { asks: Some(asks), answers, thread: Some(thread) }
        });
        Self(ranks.collect())
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Gives every rank its share of a step.
    /// The first device's place in the meeting of all is what returns.
    pub fn look(&self, detector: &Detector, shares: Vec<Share>) -> Result<Attendee, StepError> {
        let mut attendees = meet(1 + self.len()).into_iter();
        let own = attendees.next().expect("one for each device");
        if self.0.is_empty() {
            return Ok(own);
        }
        let mut values = Values::default();
        detector.visit(&mut values);
        for (rank, (share, attendee)) in self.0.iter().zip(shares.into_iter().zip(attendees)) {
            rank.ask(Ask::Look(values.0.clone(), share, attendee))?;
        }
        Ok(own)
    }

    /// What each rank alone would divide its losses by.
    pub fn counts(&self) -> Result<Vec<Counts>, StepError> {
        let answers = self.0.iter().map(|rank| match rank.answer()? {
            Answer::Seen(counts) => counts,
            Answer::Learnt(_) => Err(StepError::RankLost),
        });
        answers.collect()
    }

    /// Tells every rank what to divide its losses by.
    pub fn learn(&self, counts: Counts) -> Result<(), StepError> {
        self.0.iter().try_for_each(|rank| rank.ask(Ask::Learn(counts)))
    }

    /// What the ranks learnt, with gradients on the first device.
    pub fn learnt(&self) -> Result<Vec<Learnt>, StepError> {
        let answers = self.0.iter().map(|rank| match rank.answer()? {
            Answer::Learnt(learnt) => learnt,
            Answer::Seen(_) => Err(StepError::RankLost),
        });
        answers.collect()
    }
}

impl Rank {
    fn ask(&self, ask: Ask) -> Result<(), StepError> {
        let sent = self.asks.as_ref().is_some_and(|asks| asks.send(ask).is_ok());
        if sent { Ok(()) } else { Err(StepError::RankLost) }
    }

    /// Waits for the rank. This thread may be the only one that computes for all, so it goes on
    /// taking work meanwhile.
    fn answer(&self) -> Result<Answer, StepError> {
        loop {
            match self.answers.try_recv() {
                Ok(answer) => return Ok(answer),
                Err(TryRecvError::Disconnected) => return Err(StepError::RankLost),
                Err(TryRecvError::Empty) => {}
            }
            if rayon::yield_now() != Some(rayon::Yield::Executed) {
                std::thread::sleep(NAP);
            }
        }
    }
}

impl Drop for Ranks {
    fn drop(&mut self) {
        for rank in &mut self.0 {
            rank.asks = None;
        }
        for thread in self.0.iter_mut().filter_map(|rank| rank.thread.take()) {
            while !thread.is_finished() {
                if rayon::yield_now() != Some(rayon::Yield::Executed) {
                    std::thread::sleep(NAP);
                }
            }
            // Its panic, if any, was told when it happened, and has ended the step.
            let _ = thread.join();
        }
    }
}

/// A rank's thread: step after step, until nobody asks any more.
fn serve(
    config: &Config,
    classes: usize,
    [first, device]: [&Device; 2],
    asked: &Receiver<Ask>,
    answer: &Sender<Answer>,
) {
    let criterion = Criterion::new(config, classes);
    let mut detector = Detector::new(config, classes, 0, &device.clone().autodiff());
    while let Ok(Ask::Look(values, share, attendee)) = asked.recv() {
        detector = detector.map(&mut Follower { values: values.into_iter(), device });
        let Share { images, targets, denoising } = share;
        let lesson = Lesson { images, targets: &targets, denoising: denoising.as_ref() };
        let precision = config.model.precision;
        let seen = attendee.attend(|| look(&detector, &criterion, precision, lesson, &mut ()));
        let (counts, seen) = match seen {
            Ok(seen) => (Ok(seen.counts), Some(seen)),
            Err(error) => (Err(error), None),
        };
        if answer.send(Answer::Seen(counts)).is_err() {
            return;
        }
        let (Some(seen), Ok(Ask::Learn(counts))) = (seen, asked.recv()) else { return };
        let learnt = learn(&detector, &criterion, seen, counts, &mut ());
        let learnt = learnt.map(|mut learnt| {
            for gradient in learnt.gradients.values_mut() {
                *gradient = gradient.clone().to_device(first);
            }
            learnt
        });
        if answer.send(Answer::Learnt(learnt)).is_err() {
            return;
        }
    }
}

/// Gives a detector another one's values. The modules are alike, so both walks meet the same tensors
/// in the same order.
struct Follower<'a> {
    values: std::vec::IntoIter<Tensor<1>>,
    /// Without gradients.
    device: &'a Device,
}

impl ModuleMapper for Follower<'_> {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let value = self.values.next().expect("two detectors of one configuration");
        let (id, own, mapper) = param.consume();
        let shape: [usize; D] = own.dims();
        let value = value.to_device(self.device).reshape(shape);
        let value = match own.device().is_autodiff() {
            true => Tensor::from_inner(value).set_require_grad(own.is_require_grad()),
            false => value,
        };
        Param::from_mapped_value(id, value, mapper)
    }
}

/// What all devices learnt together: means of the losses and gradients, sums of what is counted.
pub(crate) fn together(own: Learnt, others: Vec<Learnt>) -> Learnt {
    if others.is_empty() {
        return own;
    }
    let share = 1.0 / (1 + others.len()) as f64;
    let mut names: Vec<String> = own.terms.iter().map(|(name, _)| name.clone()).collect();
    let mut sums: BTreeMap<String, f64> = own.terms.into_iter().collect();
    let mut all = Learnt { terms: Vec::new(), ..own };
    for other in others {
        for (name, value) in other.terms {
            // A part without a target has no denoising terms.
            if !names.contains(&name) {
                names.push(name.clone());
            }
            *sums.entry(name).or_default() += value;
        }
        for (name, gradient) in other.gradients {
            let sum = match all.gradients.remove(&name) {
                Some(sum) => sum + gradient,
                None => gradient,
            };
            all.gradients.insert(name, sum);
        }
        all.positives += other.positives;
        for (note, count) in other.notes {
            *all.notes.entry(note).or_default() += count;
        }
    }
    for gradient in all.gradients.values_mut() {
        *gradient = gradient.clone().mul_scalar(share);
    }
    let mean = |name: String| (sums[&name] * share, name);
    all.terms = names.into_iter().map(mean).map(|(value, name)| (name, value)).collect();
    all
}

#[cfg(test)]
mod tests {
    use burn::tensor::Distribution;
    use deim_model::weights;
    use deim_spec::Options;

    use super::*;
    use crate::optimizer::NamedGradients;
    use crate::schedule::FlatCosine;
    use crate::step::{Learner, StepResult, Watch};

    const CLASSES: usize = 3;

    type Named = BTreeMap<String, Vec<f32>>;

    #[derive(Default)]
    struct Seen(Named);

    impl Watch for Seen {
        fn gradients(&mut self, gradients: &NamedGradients) {
            let values = |tensor: &Tensor<1>| tensor.clone().into_data().iter().collect();
            self.0 =
                gradients.iter().map(|(name, tensor)| (name.clone(), values(tensor))).collect();
        }
    }

    fn target(boxes: usize) -> Target {
        let boxes = (0..boxes).map(|i| [0.3 + 0.1 * i as f32, 0.5, 0.2 + 0.05 * i as f32, 0.3]);
        let boxes: Vec<[f32; 4]> = boxes.collect();
        Target { labels: (0..boxes.len()).map(|i| (i % CLASSES) as u32).collect(), boxes }
    }

    /// A step on so many devices: its result, its gradients, and the parameters after it.
    fn step(devices: usize) -> (StepResult, Named, Named) {
        let experiments = concat!(env!("CARGO_MANIFEST_DIR"), "/../../experiments");
        let experiment =
            deim_spec::load(experiments.as_ref(), "gamma", &Options::default()).unwrap();
        let mut config = experiment.rows[0].config.clone();
        // A large epsilon: AdamW's first step then follows the gradients, not only their signs.
        config.optimizer.eps = 0.1;
        let plain = Device::flex();
        let device = plain.clone().autodiff();
        let detector = |device| Detector::new(&config, CLASSES, 0, device);
        let mut learner = Learner::new(&config, CLASSES, detector(&device), detector(&plain))
            .unwrap()
            .with_devices(&config, &vec![plain.clone(); devices - 1]);
        plain.seed(1);
        let images = Tensor::<4>::random([4, 3, 64, 64], Distribution::Uniform(0.0, 1.0), &device);
        let half = |first| images.clone().narrow(0, first, 2);
        let targets = [target(2), target(3), target(1), target(0)];
        let share = |images: Tensor<4>, targets: &[Target]| Share {
            images,
            targets: targets.to_vec(),
            denoising: None,
        };
        let mut shares = match devices {
            1 => vec![share(images.clone(), &targets)],
            _ => vec![share(half(0), &targets[..2]), share(half(2), &targets[2..])],
        };
        let own = shares.remove(0);
        let lesson = Lesson { images: own.images, targets: &own.targets, denoising: None };
        let schedule = FlatCosine::new(&config, 1000);
        let mut seen = Seen::default();
        let result = learner.step_together(lesson, shares, &schedule, 3000, &mut seen).unwrap();
        let parameters = weights::read(learner.detector()).into_iter();
        let trained = parameters.filter(|(name, _)| seen.0.contains_key(name));
        let after = trained.map(|(name, data)| (name, data.iter().collect())).collect();
        (result, seen.0, after)
    }

    /// The length of the difference over that of the first.
    fn apart(one: &Named, other: &Named) -> f64 {
        assert_eq!(one.keys().collect::<Vec<_>>(), other.keys().collect::<Vec<_>>());
        let (mut difference, mut length) = (0.0, 0.0);
        for (a, b) in one.values().flatten().zip(other.values().flatten()) {
            difference += f64::from(a - b).powi(2);
            length += f64::from(*a).powi(2);
        }
        (difference / length).sqrt()
    }

    #[test]
    fn two_devices_with_half_the_batch_learn_what_one_learns_from_all_of_it() {
        let (one, gradients, after) = step(1);
        let (two, gradients_of_two, after_two) = step(2);
        assert_eq!(one.positives, two.positives);
        assert!((one.loss - two.loss).abs() < 1e-5 * one.loss, "{} {}", one.loss, two.loss);
        for ((name, one), (other, two)) in one.terms.iter().zip(&two.terms) {
            assert_eq!(name, other);
            assert!((one - two).abs() < 1e-5 * one.abs().max(1.0), "{name}: {one} {two}");
        }
        let apart_by = apart(&gradients, &gradients_of_two);
        assert!(apart_by < 1e-5, "gradients are {apart_by} apart");
        let apart_by = apart(&after, &after_two);
        assert!(apart_by < 1e-5, "parameters are {apart_by} apart");
        assert!(one.notes.is_empty() && two.notes.is_empty());
    }
}
