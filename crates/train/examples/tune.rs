//! Trains the first cell of an experiment and prints its epochs.
use std::sync::atomic::AtomicBool;
use deim_train::events::Event;
use deim_train::run::{Job, run};
fn main() {
    let args: Vec<String> = std::env::args().collect();
    let threads: usize = std::env::var("RAYON_NUM_THREADS").ok().and_then(|t| t.parse().ok()).unwrap_or(1);
    let _ = rayon::ThreadPoolBuilder::new().num_threads(threads).use_current_thread().build_global();
    let dir = std::path::PathBuf::from(&args[1]);
    std::fs::create_dir_all(&dir).unwrap();
    let options = deim_spec::Options { scale: None, seeds: Some(1), set: args[2..].to_vec() };
    let experiment = match deim_spec::load("experiments".as_ref(), "gamma", &options) { Ok(e) => e, Err(e) => { eprintln!("{e}"); std::process::exit(2) } };
    let mut config = experiment.rows[0].config.clone();
    config.loss.gamma = 1.5;
    let splits = deim_data::open(&config.data).unwrap();
    let stop = AtomicBool::new(false);
    let job = Job { config: &config, seed: 0, cell: "tune", device: burn::tensor::Device::flex(), directory: &dir, workers: 0, stop: &stop, splits: &splits };
    let start = std::time::Instant::now();
    let ending = run(&job, &mut |event| match event {
        Event::Epoch(e) => {
            let m = e.metrics.clone().unwrap_or_default();
            println!("{:6.1}s epoch {:2} loss {:.3} lr {:.2e} tgt {:.1} ap {:.4} ap50 {:.4} s {:.3} m {:.3} l {:.3} train {:.2}s wait {:.2}s eval {:.2}s {:?}", start.elapsed().as_secs_f64(), e.epoch, e.loss, e.learning_rate, e.targets_per_image,
                m.ap.unwrap_or(-1.0), m.ap50.unwrap_or(-1.0), m.ap_small.unwrap_or(-1.0), m.ap_medium.unwrap_or(-1.0), m.ap_large.unwrap_or(-1.0), e.seconds.train, e.seconds.wait, e.seconds.evaluate, e.notes); println!("     {}", e.losses.iter().map(|(k, v)| format!("{}={v:.2}", k.trim_start_matches("loss_"))).collect::<Vec<_>>().join(" "));
        }
        Event::Step { step, loss, .. } if std::env::var("STEPS").is_ok() => println!("step {step} loss {loss}"),
        _ => {}
    });
    match ending { Ok(e) => println!("{e:?}"), Err(e) => println!("error: {e}") }
}
