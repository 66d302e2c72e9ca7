//! A first step at every size that training images may have, made on a detector that is then forgotten:
//! a GPU compiles and tries out kernels for each, which is neither to be timed nor to stall an epoch.

use burn::tensor::Device;
use deim_spec::Config;

use crate::bench::{Training, batch_of};
use crate::events::Event;
use crate::run::{Job, TrainError};

/// Warms the GPUs of a job; the CPU has nothing to prepare.
pub(crate) fn up(
    job: &Job,
    classes: usize,
    sizes: &[usize],
    observe: &mut dyn FnMut(&Event),
) -> Result<(), TrainError> {
    let gpus: Vec<&Device> =
        job.devices.iter().filter(|device| **device != Device::flex()).collect();
    let images = job.config.data.batch_size / job.devices.len();
    let of = gpus.len() * sizes.len();
    for (index, device) in gpus.into_iter().enumerate() {
        let before = index * sizes.len();
        go_through(job.config, classes, device, sizes, images, &mut |size, done| {
            observe(&Event::Warming { size, done: before + done, of });
        })?;
    }
    Ok(())
}

/// Makes a step at each size; tells the size and how many are done before each, and the end.
fn go_through(
    config: &Config,
    classes: usize,
    device: &Device,
    sizes: &[usize],
    images: usize,
    tell: &mut dyn FnMut(usize, usize),
) -> Result<(), TrainError> {
    let mut training = Training::new(config, classes, device)?;
    // The largest first: what smaller ones need then fits into its memory.
    for (done, &size) in sizes.iter().rev().enumerate() {
        tell(size, done);
        training.step(&batch_of(size, images, classes))?;
    }
    drop(training);
    device.sync().map_err(|error| TrainError::Device(error.to_string()))?;
    device.memory_cleanup();
    tell(0, sizes.len());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_size_is_met_once_largest_first() {
        let experiments = concat!(env!("CARGO_MANIFEST_DIR"), "/../../experiments");
        let experiment =
            deim_spec::load(experiments.as_ref(), "gamma", &deim_spec::Options::default()).unwrap();
        let mut met = Vec::new();
        let mut tell = |size, done| met.push((size, done));
        go_through(&experiment.rows[0].config, 3, &Device::flex(), &[32, 64], 1, &mut tell)
            .unwrap();
        assert_eq!(met, [(64, 0), (32, 1), (0, 2)]);
    }
}
