//! What a training loop relies on.

use super::*;
use crate::dataset::open;

fn config() -> Config {
    let mut config = Config { epochs: 8, ..Config::default() };
    config.schedule.augment_start = 1;
    config.data.input_size = 64;
    config.data.batch_size = 4;
    config.data.eval_batch_size = 3;
    config.data.synthetic.scene_size = 96;
    config.data.synthetic.train_images = 19;
    config.data.synthetic.val_images = 7;
    config.augment.mosaic_tile = 32;
    config.augment.multi_scale_repeat = 1;
    config
}

fn loader(seed: u64, workers: usize) -> TrainLoader {
    let config = config();
    TrainLoader::new(open(&config.data, None).unwrap().train, &config, seed, workers).unwrap()
}

fn all(batches: Batches) -> Vec<Batch> {
    batches.collect::<Result<_, _>>().unwrap()
}

#[test]
fn any_number_of_workers_gives_the_same_batches() {
    let inline = all(loader(3, 0).batches(2, 0));
    assert_eq!(inline.len(), 4);
    for workers in [1, 2, 5] {
        assert!(inline == all(loader(3, workers).batches(2, 0)), "{workers} workers");
    }
}

#[test]
fn an_epoch_goes_on_from_any_step() {
    let whole = all(loader(3, 0).batches(1, 0));
    for from in 0..=5 {
        let rest = all(loader(3, 2).batches(1, from));
        assert!(whole[whole.len().min(from as usize)..] == rest, "from step {from}");
    }
}

#[test]
fn an_epoch_shows_no_image_twice_and_another_epoch_or_seed_another_order() {
    let ids = |seed, epoch| {
        let batches = all(loader(seed, 0).batches(epoch, 0));
        batches.into_iter().flat_map(|batch| batch.image_ids).collect::<Vec<_>>()
    };
    let first = ids(0, 0);
    let mut sorted = first.clone();
    sorted.sort_unstable();
    sorted.dedup();
    assert_eq!(sorted.len(), 16);
    assert!(sorted.iter().all(|id| (1..=19).contains(id)));
    assert_ne!(first, ids(0, 1));
    assert_ne!(first, ids(1, 0));
}

#[test]
fn a_set_smaller_than_a_batch_is_an_error() {
    let mut config = config();
    config.data.synthetic.train_images = 3;
    let error =
        TrainLoader::new(open(&config.data, None).unwrap().train, &config, 0, 0).err().unwrap();
    assert!(error.to_string().contains("data.batch_size"), "{error}");
}

#[test]
fn evaluation_sees_every_image_once_in_order_and_unchanged_but_for_its_size() {
    let config = config();
    let val = open(&config.data, None).unwrap().val;
    for workers in [0, 2] {
        let loader = EvalLoader::new(Arc::clone(&val), &config, workers).unwrap();
        let batches = all(loader.batches());
        assert_eq!(batches.len() as u64, loader.steps());
        let sizes: Vec<_> = batches.iter().map(|batch| batch.targets.len()).collect();
        assert_eq!(sizes, [3, 3, 1]);
        let ids: Vec<_> = batches.iter().flat_map(|batch| batch.image_ids.clone()).collect();
        assert_eq!(ids, [1, 2, 3, 4, 5, 6, 7]);
        let source = val.sample(3).unwrap();
        let expected = resize_image(&source.image, 64, 64);
        let found: Vec<u8> = (0..64 * 64)
            .flat_map(|at| (0..3).map(move |channel| (at, channel)))
            .map(|(at, channel)| (batches[1].images[channel * 64 * 64 + at] * 255.0).round() as u8)
            .collect();
        assert!(found == expected.pixels);
        assert_eq!(batches[1].original_sizes[0], [96, 96]);
    }
}

#[test]
fn an_error_of_the_data_set_reaches_the_consumer() {
    let mut config = config();
    config.data.synthetic.scene_size = 64;
    config.data.synthetic.min_objects = 60;
    config.data.synthetic.max_objects = 60;
    let loader = TrainLoader::new(open(&config.data, None).unwrap().train, &config, 0, 2).unwrap();
    let batches: Vec<_> = loader.batches(0, 0).collect();
    assert_eq!(batches.len(), 1);
    assert!(batches[0].is_err());
}
