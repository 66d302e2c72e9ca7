//! The criterion of one step, forward and backward, at the size of a mini run.

use burn::tensor::{Device, Distribution, Tensor};
use criterion::{Criterion as Bench, criterion_group, criterion_main};
use deim_data::{Draws, Target};
use deim_model::outputs::{DecoderOutputs, Outputs, Prediction};
use deim_spec::Config;
use deim_train::criterion::Criterion;
use deim_train::denoising::prepare;

const BATCH: usize = 8;
const QUERIES: usize = 40;
const CLASSES: usize = 8;
const LAYERS: usize = 3;

fn targets(draws: &mut Draws) -> Vec<Target> {
    (0..BATCH)
        .map(|_| {
            let objects = 5 + draws.below(10);
            let mut side = |low: f64, high: f64| draws.range(low, high) as f32;
            let boxes = (0..objects)
                .map(|_| [side(0.2, 0.8), side(0.2, 0.8), side(0.05, 0.4), side(0.05, 0.4)])
                .collect();
            Target { labels: (0..objects).map(|object| (object % CLASSES) as u32).collect(), boxes }
        })
        .collect()
}

fn prediction(queries: usize, device: &Device) -> Prediction {
    // Leaves, so that every iteration walks the criterion's graph and nothing else.
    let random = |width: usize, low: f64, high: f64| {
        let spread = Distribution::Uniform(low, high);
        Tensor::<3>::random([BATCH, queries, width], spread, device).require_grad()
    };
    Prediction { logits: random(CLASSES, -5.0, 0.0), boxes: random(4, 0.1, 0.5), corners: None }
}

fn decoder(queries: usize, device: &Device) -> DecoderOutputs {
    let layers = (0..LAYERS).map(|_| prediction(queries, device)).collect();
    DecoderOutputs { layers, pre: None, reference: None }
}

fn step(bench: &mut Bench) {
    let device = Device::flex().autodiff();
    let config = Config::default();
    let criterion = Criterion::new(&config, CLASSES);
    let mut draws = Draws::new(0, "bench", &[]);
    let targets = targets(&mut draws);
    let denoising = prepare(&targets, CLASSES, QUERIES, &config.denoising, &mut draws, &device)
        .expect("there are targets");
    let outputs = Outputs {
        matching: decoder(QUERIES, &device),
        encoder: prediction(QUERIES, &device),
        tokens: None,
        denoising: Some(decoder(denoising.queries.labels.dims()[1], &device)),
    };
    bench.bench_function("criterion/mini/forward", |bencher| {
        bencher.iter(|| criterion.forward(&outputs, &targets, Some(&denoising)));
    });
    bench.bench_function("criterion/mini/forward and backward", |bencher| {
        bencher.iter(|| {
            let losses = criterion.forward(&outputs, &targets, Some(&denoising));
            losses.expect("valid outputs").total.backward()
        });
    });
}

criterion_group!(benches, step);
criterion_main!(benches);
