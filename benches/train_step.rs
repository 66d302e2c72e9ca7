//! One training step of the default mini cell: forward, criterion, backward, optimizer, average.

use std::sync::atomic::{AtomicBool, Ordering};

use burn::tensor::Device;
use criterion::{Criterion, criterion_group, criterion_main};
use deim_spec::Options;
use deim_train::events::Event;
use deim_train::run::{Job, run};

fn train_step(criterion: &mut Criterion) {
    deim_train::threads::compute_with(1);
    let options = Options { scale: Some("mini".into()), seeds: Some(1), set: vec![] };
    let experiment = deim_spec::load("experiments".as_ref(), "gamma", &options)
        .expect("the experiment of this repository");
    let config = &experiment.rows[0].config;
    let splits = deim_data::open(&config.data, None).expect("synthetic scenes");
    let mut group = criterion.benchmark_group("train");
    group.sample_size(10);
    group.bench_function("20 steps of a fresh mini cell, one thread", |bencher| {
        bencher.iter(|| {
            let folder = tempfile::tempdir().expect("a folder for the checkpoint");
            let stop = AtomicBool::new(false);
            let job = Job {
                config,
                seed: 0,
                cell: "bench",
                devices: vec![Device::flex()],
                directory: folder.path(),
                workers: 0,
                pretrained: None,
                stop: &stop,
                splits: &splits,
            };
            let mut steps = 0;
            run(&job, &mut |event| {
                steps += u32::from(matches!(event, Event::Step { .. }));
                stop.store(steps >= 20, Ordering::SeqCst);
            })
            .expect("a run")
        });
    });
    group.finish();
}

criterion_group!(benches, train_step);
criterion_main!(benches);
