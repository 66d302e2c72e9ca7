//! The two stages of a run: what is saved and when the run goes back (deim-facts 3.8).
//!
//! Stage 1 ends at `stop_epoch` by going back to its best checkpoint. In stage 2 every epoch that is
//! not better than the last since the previous reset goes back to it again, and the epoch after such
//! a reset never does. This machine only decides; the loop acts.

use serde::{Deserialize, Serialize};

/// A file of the official loop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum File {
    /// The latest epoch of stage 1 (`last.pth`).
    Last,
    /// Every few epochs of stage 1 (`checkpoint0003.pth`).
    Periodic(u32),
    /// `best_stg1.pth`, what stage 2 starts from.
    BestOfStage1,
    /// `best_stg2.pth`, better than everything before it.
    BestOfStage2,
}

impl File {
    /// The official file name.
    pub fn name(self) -> String {
        match self {
            Self::Last => "last.pth".into(),
            Self::Periodic(epoch) => format!("checkpoint{epoch:04}.pth"),
            Self::BestOfStage1 => "best_stg1.pth".into(),
            Self::BestOfStage2 => "best_stg2.pth".into(),
        }
    }
}

/// What the loop has to do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Write the whole state: model, average, optimizer.
    Save(File),
    /// Take all of it back from the best checkpoint of stage 1.
    Reload,
}

/// The rules of a run.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct StageRules {
    /// First epoch of stage 2.
    pub stop_epoch: u32,
    /// Stage 1 keeps a checkpoint every so many epochs; 0 keeps none.
    pub checkpoint_every: u32,
    /// Whether stage 2 goes back to the best of stage 1, at its start and after bad epochs.
    pub reload_best: bool,
    /// Decay of the moving average, and the one announced for stage 2. The official code stores the
    /// second but never uses it (deim-facts 0.8): it is kept only to be shown.
    pub ema_decay: f64,
    pub ema_restart_decay: f64,
}

/// Best AP since the last reset, and its epoch.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Best {
    epoch: u32,
    ap: f64,
}

/// Where a run stands between its stages; part of its checkpoint.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Stages {
    rules: StageRules,
    best: Option<Best>,
    /// Best AP of the whole run.
    top: f64,
    /// The epoch number inside the state. A reload sets it back, so in stage 2 it lags (deim-facts 3.8).
    stored_epoch: i64,
    /// The number inside the best checkpoint of stage 1; none before one was written.
    best_of_stage1: Option<i64>,
    announced_decay: f64,
}

impl Stages {
    /// Before the first epoch of a run.
    pub fn new(rules: StageRules) -> Self {
        Self {
            rules,
            best: None,
            top: 0.0,
            stored_epoch: -1,
            best_of_stage1: None,
            announced_decay: rules.ema_decay,
        }
    }

    /// As the official `--resume` starts: from the epoch number inside a checkpoint and, where that
    /// number is above 0, the AP of an evaluation before the first epoch.
    pub fn resumed(rules: StageRules, stored_epoch: i64, ap: Option<f64>) -> Self {
        let mut stages = Self { stored_epoch, ..Self::new(rules) };
        if let (Some(ap), Ok(epoch)) = (ap, u32::try_from(stored_epoch)) {
            stages.best = Some(Best { epoch, ap });
            stages.top = ap;
        }
        stages
    }

    /// Whether a resumed run evaluates before its first epoch.
    pub fn evaluates_on_resume(stored_epoch: i64) -> bool {
        stored_epoch > 0
    }

    /// Whether an epoch belongs to stage 2.
    pub fn in_stage2(&self, epoch: u32) -> bool {
        epoch >= self.rules.stop_epoch
    }

    /// Best AP of the whole run so far.
    pub fn top(&self) -> f64 {
        self.top
    }

    /// The epoch number a checkpoint written now would hold.
    pub fn stored_epoch(&self) -> i64 {
        self.stored_epoch
    }

    /// The decay the official average announces, though it goes on with its first one.
    pub fn announced_decay(&self) -> f64 {
        self.announced_decay
    }

    /// The decay that the average goes on with: officially the first one for ever, and the announced
    /// one where that is meant to have an effect (`ema.use_restart_decay`).
    pub fn decay(&self, use_announced: bool) -> f64 {
        if use_announced { self.announced_decay } else { self.rules.ema_decay }
    }

    /// What happens before an epoch is trained.
    pub fn before(&mut self, epoch: u32) -> Option<Action> {
        if epoch != self.rules.stop_epoch {
            return None;
        }
        self.announced_decay = self.rules.ema_restart_decay;
        self.reload()
    }

    /// What happens after an epoch is trained, before it is evaluated.
    pub fn trained(&mut self, epoch: u32) -> Vec<Action> {
        self.stored_epoch += 1;
        if self.in_stage2(epoch) {
            return Vec::new();
        }
        let mut actions = vec![Action::Save(File::Last)];
        let every = self.rules.checkpoint_every;
        if every > 0 && (epoch + 1).is_multiple_of(every) {
            actions.push(Action::Save(File::Periodic(epoch)));
        }
        actions
    }

    /// What happens after the averaged model of an epoch was evaluated.
    ///
    /// Like the official loop, a best epoch of stage 1 is saved twice.
    pub fn evaluated(&mut self, epoch: u32, ap: f64) -> Vec<Action> {
        let stage2 = self.in_stage2(epoch);
        let best = match self.best {
            Some(best) if ap <= best.ap || ap.is_nan() => best,
            _ => Best { epoch, ap },
        };
        self.best = Some(best);

        let mut actions = Vec::new();
        let file = if stage2 { File::BestOfStage2 } else { File::BestOfStage1 };
        if best.ap > self.top {
            self.top = best.ap;
            self.save_best(file, &mut actions);
        }
        if best.epoch == epoch {
            if !stage2 {
                self.top = self.top.max(ap);
                self.save_best(file, &mut actions);
            }
        } else if stage2 && self.rules.reload_best {
            self.best = None;
            self.announced_decay -= 1e-4;
            actions.extend(self.reload());
        }
        actions
    }

    fn save_best(&mut self, file: File, actions: &mut Vec<Action>) {
        if file == File::BestOfStage1 {
            self.best_of_stage1 = Some(self.stored_epoch);
        }
        actions.push(Action::Save(file));
    }

    /// Nothing to go back to means going on: the official loop would crash there.
    fn reload(&mut self) -> Option<Action> {
        let stored = self.best_of_stage1.filter(|_| self.rules.reload_best)?;
        self.stored_epoch = stored;
        Some(Action::Reload)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: StageRules = StageRules {
        stop_epoch: 2,
        checkpoint_every: 0,
        reload_best: true,
        ema_decay: 0.9999,
        ema_restart_decay: 0.9999,
    };

    /// The epochs before or after which a run with these APs goes back.
    fn reloads(rules: StageRules, aps: &[f64]) -> Vec<u32> {
        let mut stages = Stages::new(rules);
        let mut epochs = Vec::new();
        for (epoch, &ap) in (0..).zip(aps) {
            if stages.before(epoch).is_some() {
                epochs.push(epoch);
            }
            stages.trained(epoch);
            if stages.evaluated(epoch, ap).contains(&Action::Reload) {
                epochs.push(epoch);
            }
        }
        epochs
    }

    #[test]
    fn bad_epochs_of_stage_two_reload_every_other_time() {
        assert_eq!(reloads(RULES, &[0.1, 0.2, 0.1, 0.1, 0.1, 0.1]), vec![2, 2, 4]);
        assert_eq!(
            reloads(StageRules { reload_best: false, ..RULES }, &[0.1, 0.2, 0.1, 0.1]).len(),
            0
        );
    }

    #[test]
    fn the_restart_decay_has_an_effect_only_where_it_is_asked_for() {
        let rules = StageRules { ema_restart_decay: 0.9998, ..RULES };
        let mut stages = Stages::new(rules);
        let mut decays = Vec::new();
        for (epoch, ap) in (0..).zip([0.1, 0.2, 0.1, 0.1, 0.1, 0.1]) {
            stages.before(epoch);
            stages.trained(epoch);
            decays.push((stages.decay(false), stages.decay(true)));
            stages.evaluated(epoch, ap);
        }
        assert!(decays.iter().all(|&(official, _)| official == 0.9999));
        // From stage 2 on, and a little less after each of its ways back (after epochs 2 and 4).
        for (&(_, decay), expected) in
            decays.iter().zip([0.9999, 0.9999, 0.9998, 0.9997, 0.9997, 0.9996])
        {
            assert!((decay - expected).abs() < 1e-12, "{decays:?}");
        }
    }

    #[test]
    fn without_a_best_checkpoint_nothing_is_reloaded() {
        assert_eq!(reloads(StageRules { stop_epoch: 0, ..RULES }, &[0.2, 0.1]).len(), 0);
    }

    #[test]
    fn an_undefined_ap_is_never_the_best() {
        let mut stages = Stages::new(RULES);
        stages.trained(0);
        stages.evaluated(0, 0.3);
        stages.trained(1);
        assert_eq!(stages.evaluated(1, f64::NAN), []);
        assert_eq!(stages.top(), 0.3);
    }
}
