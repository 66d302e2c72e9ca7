//! Matching one step's heads: the size of a mini run, and that of the paper's recipe.

use criterion::{Criterion, criterion_group, criterion_main};
use deim_data::{Draws, Target};
use deim_train::assignment::Assigner;
use deim_train::matcher::{Matcher, Predictions};

struct Step {
    logits: Vec<f32>,
    boxes: Vec<f32>,
    targets: Vec<Target>,
    heads: usize,
    queries: usize,
    classes: usize,
}

impl Step {
    fn new(heads: usize, batch: usize, queries: usize, classes: usize, objects: usize) -> Self {
        let mut draws = Draws::new(0, "bench", &[]);
        let rows = heads * batch * queries;
        let mut boxes = |count: usize| -> Vec<f32> {
            (0..4 * count).map(|_| draws.range(0.05, 0.5) as f32).collect()
        };
        let all = boxes(rows);
        let targets = (0..batch)
            .map(|_| Target {
                labels: (0..objects).map(|object| (object % classes) as u32).collect(),
                boxes: boxes(objects).as_chunks::<4>().0.to_vec(),
            })
            .collect();
        let logits = (0..rows * classes).map(|_| draws.range(-6.0, 1.0) as f32).collect();
        Self { logits, boxes: all, targets, heads, queries, classes }
    }

    fn problems(&self) -> Vec<(Predictions<'_>, &Target)> {
        let logits = self.logits.chunks(self.queries * self.classes);
        let boxes = self.boxes.chunks(self.queries * 4);
        let targets = (0..self.heads).flat_map(|_| &self.targets);
        logits
            .zip(boxes)
            .zip(targets)
            .map(|((logits, boxes), target)| {
                (Predictions { logits, boxes, classes: self.classes }, target)
            })
            .collect()
    }
}

fn matching(bench: &mut Criterion) {
    let matcher = Matcher::new(&deim_spec::config::Matcher::default());
    for (name, step) in [
        ("matcher/mini", Step::new(4, 8, 40, 8, 15)),
        ("matcher/paper", Step::new(7, 16, 300, 80, 25)),
    ] {
        let problems = step.problems();
        bench.bench_function(name, |bencher| bencher.iter(|| matcher.match_all(&problems)));
    }
}

fn assignment(bench: &mut Criterion) {
    let mut draws = Draws::new(0, "bench", &[]);
    for (queries, objects) in [(40, 15), (300, 20), (300, 100)] {
        let costs: Vec<f32> =
            (0..queries * objects).map(|_| draws.range(-2.0, 8.0) as f32).collect();
        let mut assigner = Assigner::default();
        bench.bench_function(&format!("assignment/{queries}x{objects}"), |bencher| {
            bencher.iter(|| assigner.solve(&costs, queries, objects));
        });
    }
}

criterion_group!(benches, matching, assignment);
criterion_main!(benches);
