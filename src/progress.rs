//! What a user sees while cells train: bars on a terminal, plain lines elsewhere.

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::time::{Duration, Instant};

use deim_lab::execute::{Crew, Notice};
use deim_lab::protocol::End;
use deim_lab::{Cell, Plan, State};
pub use deim_report::data::count;
use deim_train::events::Event;
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

/// Follows the work on some cells and shows it on standard error.
pub struct Progress {
    display: Display,
    /// The running cells, by slot.
    tracks: BTreeMap<usize, Track>,
    began: Instant,
    cells: usize,
    ended: usize,
    /// Epochs of all cells together, and those that ended cells had.
    epochs_total: f64,
    epochs_ended: f64,
    /// Epochs that were done before this process began, which say nothing about its speed: of
    /// ended cells, and of cells not begun.
    given_ended: f64,
    given_open: f64,
    /// Seconds that the plan expects, until there is something better.
    expected: Option<f64>,
}

enum Display {
    Bars { bars: MultiProgress, slots: BTreeMap<usize, ProgressBar>, total: ProgressBar },
    Lines,
}

/// One running cell.
struct Track {
    title: String,
    epochs: f64,
    steps_per_epoch: f64,
    /// Epochs done, with the share of the present one.
    done: f64,
    /// The same when its process began.
    given: f64,
    began: Instant,
    loss: Option<f64>,
    ap: Option<f64>,
    evaluating: bool,
    /// What the device is being prepared for.
    warming: Option<String>,
}

impl Track {
    fn new(cell: &Cell) -> Self {
        let given = epochs_done(cell);
        Self {
            title: title(cell),
            epochs: f64::from(cell.config.epochs),
            steps_per_epoch: 1.0,
            done: given,
            given,
            began: Instant::now(),
            loss: None,
            ap: None,
            evaluating: false,
            warming: None,
        }
    }

    fn take(&mut self, event: &Event) {
        self.evaluating = false;
        self.warming = None;
        match event {
            Event::Started { epochs, steps_per_epoch, resumed_at, .. } => {
                self.epochs = f64::from(*epochs);
                self.steps_per_epoch = (*steps_per_epoch).max(1) as f64;
                let [epoch, step] = resumed_at.unwrap_or_default();
                self.done = epoch as f64 + step as f64 / self.steps_per_epoch;
                self.given = self.done;
                self.began = Instant::now();
            }
            Event::Warming { size, done, of } if done < of => {
                self.warming = Some(format!("warming sizes {}/{of} ({size} px)", done + 1));
            }
            // Its time is no part of any epoch's.
            Event::Warming { .. } => self.began = Instant::now(),
            Event::Step { epoch, step, loss, .. } => {
                self.done = f64::from(*epoch) + (*step + 1) as f64 / self.steps_per_epoch;
                self.loss = Some(*loss);
            }
            Event::Evaluating { .. } => self.evaluating = true,
            Event::Epoch(record) => {
                self.done = f64::from(record.epoch + 1);
                self.loss = Some(record.loss);
                self.ap = record.metrics.as_ref().map_or(self.ap, |metrics| metrics.ap);
            }
        }
    }

    /// Seconds this cell still needs, from its own speed.
    fn left(&self) -> Option<f64> {
        let made = self.done - self.given;
        let spent = self.began.elapsed().as_secs_f64();
        (made > 0.0).then(|| spent / made * (self.epochs - self.done).max(0.0))
    }

    /// `epoch 3/12, loss 12.34, AP 10.2, 40 s left`
    fn state(&self) -> String {
        let epoch = (self.done.ceil().max(1.0)).min(self.epochs);
        let mut parts = vec![format!("epoch {epoch}/{}", self.epochs)];
        parts.extend(self.loss.map(|loss| format!("loss {loss:.3}")));
        parts.extend(self.ap.map(|ap| format!("AP {}", percent(Some(ap)))));
        parts.extend(self.warming.clone());
        if self.evaluating {
            parts.push("evaluating".to_owned());
        }
        parts.extend(self.left().map(|left| format!("{} left", duration(left))));
        parts.join(", ")
    }
}

impl Progress {
    /// Begins, and says at once what is about to happen.
    pub fn start(plan: &Plan, cells: &[Cell], crew: &Crew) -> Self {
        let totals = plan.totals();
        let known = totals.unknown == 0;
        let mut progress = Self {
            display: Display::Lines,
            tracks: BTreeMap::new(),
            began: Instant::now(),
            cells: cells.len(),
            ended: 0,
            epochs_total: cells.iter().map(|cell| f64::from(cell.config.epochs)).sum(),
            epochs_ended: 0.0,
            given_ended: 0.0,
            given_open: cells.iter().map(epochs_done).sum(),
            expected: known.then(|| totals.seconds_left / crew.jobs as f64),
        };
        eprintln!(
            "training {} in {} with {} each{}",
            count(cells.len(), "cell"),
            count(crew.jobs, "process"),
            count(crew.threads, "thread"),
            progress.expected.map_or(String::new(), |left| format!(", about {}", duration(left)))
        );
        if std::io::stderr().is_terminal() {
            progress.display = bars();
        }
        progress.draw();
        progress
    }

    pub fn watch(&mut self, notice: &Notice<'_>) {
        match notice {
            Notice::Began { slot, cell } => {
                self.given_open -= epochs_done(cell);
                self.tracks.insert(*slot, Track::new(cell));
                if let Display::Lines = self.display {
                    self.say(&format!("{}: begins", title(cell)));
                }
            }
            Notice::Event { slot, event, .. } => {
                let Some(track) = self.tracks.get_mut(slot) else { return };
                track.take(event);
                if let (Display::Lines, Event::Epoch(_) | Event::Warming { .. }) =
                    (&self.display, event)
                {
                    let state = format!("{}: {}", track.title, track.state());
                    let line = format!("{state}; {}", self.overall());
                    self.say(&line);
                }
            }
            Notice::Line { cell, line, .. } => self.say(&format!("{} | {line}", title(cell))),
            Notice::Ended { slot, cell, end, .. } => self.ended(*slot, cell, end),
            Notice::Waiting { cell, holder } => {
                let who = holder.map_or("another process".to_owned(), ToString::to_string);
                self.say(&format!("waiting for {}, which {who} trains", title(cell)));
            }
            Notice::Stopping => self.say("stopping: every worker saves a checkpoint first"),
        }
        self.draw();
    }

    /// Clears what was drawn.
    pub fn close(&mut self) {
        if let Display::Bars { bars, .. } = &self.display {
            // Nothing but the looks depends on it.
            let _ = bars.clear();
        }
    }

    fn ended(&mut self, slot: usize, cell: &Cell, end: &End) {
        let track = self.tracks.remove(&slot);
        let given = track.as_ref().map_or(0.0, |track| track.given);
        if let Display::Bars { bars, slots, .. } = &mut self.display
            && let Some(bar) = slots.remove(&slot)
        {
            bars.remove(&bar);
        }
        let title = title(cell);
        let line = match end {
            End::Finished { reused: true } => format!("{title}: was finished by another process"),
            End::Finished { reused: false } => {
                let ap = percent(track.as_ref().and_then(|track| track.ap));
                let time = track.map_or(String::new(), |track| {
                    format!(" after {}", duration(track.began.elapsed().as_secs_f64()))
                });
                format!("{title}: finished{time}, AP {ap}")
            }
            End::Stopped => format!("{title}: stopped, saved"),
            End::Failed { reason } | End::Killed { reason } => format!("{title}: {reason}"),
            End::Busy { .. } => {
                self.given_open += epochs_done(cell);
                self.say(&format!("{title}: another process trains it"));
                return;
            }
        };
        self.ended += 1;
        self.given_ended += given;
        self.epochs_ended += f64::from(cell.config.epochs);
        self.say(&format!("{line}; {}", self.overall()));
    }

    /// `5/12 cells, about 14 min left`
    fn overall(&self) -> String {
        let left = match self.left() {
            Some(left) if self.ended < self.cells => format!(", about {} left", duration(left)),
            _ => String::new(),
        };
        format!("{}/{} cells{left}", self.ended, self.cells)
    }

    fn epochs_done(&self) -> f64 {
        self.epochs_ended + self.tracks.values().map(|track| track.done).sum::<f64>()
    }

    /// Seconds until all cells are done, from the speed so far, else from the plan.
    fn left(&self) -> Option<f64> {
        let spent = self.began.elapsed().as_secs_f64();
        let given = self.given_ended + self.tracks.values().map(|track| track.given).sum::<f64>();
        let made = self.epochs_done() - given;
        let open = (self.epochs_total - self.epochs_done() - self.given_open).max(0.0);
        // The first steps are slower than the rest: wait for a tenth of an epoch.
        if made > 0.1 { Some(spent / made * open) } else { self.expected }
    }

    fn say(&self, line: &str) {
        match &self.display {
            // Above the bars.
            Display::Bars { bars, .. } => drop(bars.println(line)),
            Display::Lines => eprintln!("{line}"),
        }
    }

    fn draw(&mut self) {
        let overall = self.overall();
        let (done, all) = (self.epochs_done(), self.epochs_total);
        let Display::Bars { bars, slots, total } = &mut self.display else { return };
        for (slot, track) in &self.tracks {
            let bar = slots.entry(*slot).or_insert_with(|| {
                bars.insert_before(total, ProgressBar::new(1).with_style(style(14)))
            });
            show(bar, track.done, track.epochs);
            bar.set_message(format!("{}: {}", track.title, track.state()));
        }
        show(total, done, all);
        total.set_message(overall);
    }
}

fn bars() -> Display {
    let bars = MultiProgress::new();
    let total = bars.add(ProgressBar::new(1).with_style(style(30)));
    // The time left falls also while nothing is heard.
    total.enable_steady_tick(Duration::from_millis(500));
    Display::Bars { bars, slots: BTreeMap::new(), total }
}

fn style(width: usize) -> ProgressStyle {
    let template = format!("{{bar:{width}.cyan/dim}} {{wide_msg}}");
    ProgressStyle::with_template(&template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

fn show(bar: &ProgressBar, done: f64, all: f64) {
    bar.set_length((all * 1000.0) as u64);
    bar.set_position((done * 1000.0) as u64);
}

fn epochs_done(cell: &Cell) -> f64 {
    match cell.state {
        State::Missing { epochs_done } | State::Running { epochs_done, .. } => {
            f64::from(epochs_done)
        }
        State::Done { .. } | State::Failed { .. } | State::Stale { .. } => 0.0,
    }
}

fn title(cell: &Cell) -> String {
    format!("{}, seed {}", cell.title, cell.seed)
}

/// Seconds as people say them: `42 s`, `14 min`, `2 h 05 min`.
pub fn duration(seconds: f64) -> String {
    let whole = seconds.max(0.0).round() as u64;
    match whole {
        0..=89 => format!("{whole} s"),
        90..=5399 => format!("{} min", (whole + 30) / 60),
        _ => format!("{} h {:02} min", whole / 3600, whole % 3600 / 60),
    }
}

/// A metric in percent, `-` where there is none.
pub fn percent(value: Option<f64>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| format!("{:.1}", value * 100.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_as_precise_as_they_are_useful() {
        for (seconds, text) in [
            (0.4, "0 s"),
            (89.0, "89 s"),
            (90.0, "2 min"),
            (840.0, "14 min"),
            (5400.0, "1 h 30 min"),
            (7500.0, "2 h 05 min"),
        ] {
            assert_eq!(duration(seconds), text);
        }
    }

    #[test]
    fn counts_agree_with_their_nouns() {
        assert_eq!(count(1, "cell"), "1 cell");
        assert_eq!(count(0, "cell"), "0 cells");
        assert_eq!(count(2, "process"), "2 processes");
    }
}
