//! The loss of the first twenty steps of a mini run, as a snapshot: a change of mathematics cannot
//! pass unseen. A change that is meant raises `deim_train::NUMERICS` and accepts the new values.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fmt::Write as _;
use std::sync::atomic::{AtomicBool, Ordering};

use burn::tensor::Device;
use deim_spec::Options;
use deim_train::events::Event;
use deim_train::run::{Ending, Job, run};

const STEPS: usize = 20;

/// Trains the mini cell of this gamma with these changes and returns a line a step.
fn losses(gamma: &str, changes: &[&str]) -> String {
    // From the first step on, so that twenty steps see the augmentation.
    let mut set = vec!["schedule.augment_start=0".to_owned()];
    set.extend(changes.iter().map(ToString::to_string));
    let options = Options { scale: Some("mini".into()), seeds: Some(1), set };
    let experiment = deim_spec::load("experiments".as_ref(), "gamma", &options).unwrap();
    let row = experiment.rows.iter().find(|row| row.settings[0].1 == gamma).unwrap();
    let config = &row.config;
    let splits = deim_data::open(&config.data, None).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let stop = AtomicBool::new(false);
    let job = Job {
        config,
        seed: 0,
        cell: "snapshot",
        devices: vec![Device::flex()],
        directory: folder.path(),
        workers: 1,
        pretrained: None,
        stop: &stop,
        splits: &splits,
    };
    let mut lines = String::new();
    let mut steps = 0;
    let ending = run(&job, &mut |event| {
        if let Event::Step { step, loss, learning_rate, .. } = event {
            // Rounded to what does not depend on a processor's vector width.
            writeln!(lines, "{step:2}  loss {loss:.2}  learning rate {learning_rate:.3e}").unwrap();
            steps += 1;
            if steps == STEPS {
                stop.store(true, Ordering::SeqCst);
            }
        }
    });
    assert_eq!(ending.unwrap(), Ending::Stopped);
    lines
}

#[test]
fn the_first_losses_with_mal_and_dense_o2o_are_unchanged() {
    insta::assert_snapshot!(losses("1.5", &["augment.mosaic=0.5", "augment.mixup=0.5"]));
}

#[test]
fn the_first_losses_with_vfl_and_without_dense_o2o_are_unchanged() {
    let changes = ["loss.class=vfl", "augment.mosaic=0.0", "augment.mixup=0.0"];
    insta::assert_snapshot!(losses("2.0", &changes));
}
