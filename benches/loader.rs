//! What a training image costs on one core: drawing a scene, and each phase's transforms and batches.
//!
//! `cargo bench --bench loader`. Sizes are those of the mini scale: scenes of 256, inputs of 128.

use std::hint::black_box;
use std::sync::Arc;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use deim_data::synthetic::{Split, SyntheticScenes};
use deim_data::{Dataset, Policy, TrainLoader, open};
use deim_spec::config::Config;

const SCENES: usize = 256;

fn config() -> Config {
    let mut config = Config { epochs: 12, ..Config::default() };
    config.data.input_size = 128;
    config.data.batch_size = 16;
    config.data.synthetic.train_images = SCENES;
    config.augment.mosaic_tile = 64;
    config
}

/// A data set whose scenes are all in memory, as after the first epoch.
fn drawn(config: &Config) -> Arc<dyn Dataset> {
    let set = open(&config.data, None).expect("the configuration is valid").train;
    for index in 0..set.len() {
        set.sample(index).expect("every scene can be drawn");
    }
    set
}

fn scenes(criterion: &mut Criterion) {
    let config = config().data.synthetic;
    criterion.bench_function("scene/draw", |bencher| {
        let mut index = SCENES;
        let mut scenes = None;
        bencher.iter(|| {
            // A fresh set once all its scenes are kept, so that each is drawn.
            if index == SCENES {
                index = 0;
                scenes = SyntheticScenes::new(&config, Split::Train).ok();
            }
            index += 1;
            scenes.as_ref().map(|scenes| scenes.sample(index - 1).map(black_box).is_ok())
        });
    });
}

fn samples(criterion: &mut Criterion) {
    let config = config();
    let set = drawn(&config);
    let phases = config.phases();
    let policy = Policy::new(&config, 0).expect("the configuration is valid");
    for (name, epoch) in [("plain", 0), ("dense", phases.augment_start), ("strong", phases.flat)] {
        let mut index = 0;
        criterion.bench_function(&format!("sample/{name}"), |bencher| {
            bencher.iter(|| {
                index = (index + 1) % SCENES;
                black_box(policy.sample(&*set, epoch, index).is_ok())
            });
        });
    }
}

fn batches(criterion: &mut Criterion) {
    let config = config();
    let set = drawn(&config);
    let mut group = criterion.benchmark_group("epoch/dense");
    group.throughput(Throughput::Elements(SCENES as u64)).sample_size(10);
    for workers in [0, 1, 2] {
        let loader = TrainLoader::new(Arc::clone(&set), &config, 0, workers)
            .expect("the configuration is valid");
        group.bench_function(format!("{workers} workers"), |bencher| {
            bencher.iter(|| loader.batches(config.phases().augment_start, 0).flatten().count());
        });
    }
}

criterion_group!(benches, scenes, samples, batches);
criterion_main!(benches);
