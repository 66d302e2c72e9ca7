//! The way from an order to the training loop.

use std::path::Path;
use std::sync::atomic::AtomicBool;

use deim_train::events::Event;
use deim_train::run::{Ending, Job};

use crate::device::Devices;
use crate::kernels;
use crate::protocol::Order;
use crate::work::Trained;

/// Trains the cell of an order; see [`crate::work::Train`].
pub fn train(
    order: &Order,
    folder: &Path,
    stop: &AtomicBool,
    observe: &mut dyn FnMut(&Event),
) -> Result<Trained, String> {
    deim_train::threads::compute_with(order.threads);
    let devices: Devices = order.device.parse().map_err(|error| format!("{error}"))?;
    let on_gpu = !devices.is_cpu();
    let kernels = order.runs.join(kernels::FOLDER);
    if on_gpu {
        kernels::keep_in(&kernels);
    }
    let devices = devices.open().map_err(|error| error.to_string())?;
    let splits = deim_data::open(&order.config.data, order.data.as_ref())
        .map_err(|error| error.to_string())?;
    let manifest = splits.manifest();
    if manifest != order.manifest {
        return Err(format!(
            "the data set changed since the plan was made: expected manifest {}, found {manifest}",
            order.manifest
        ));
    }
    // Scenes are kept where they are drawn.
    let splits = match order.data {
        Some(_) => splits.cached(order.cache_mb << 20),
        None => splits,
    };
    let job = Job {
        config: &order.config,
        seed: order.seed,
        cell: &order.cell,
        devices,
        directory: folder,
        // A process with one core to itself makes its batches between its steps.
        workers: order.threads / 2,
        pretrained: order.pretrained.as_deref(),
        stop,
        splits: &splits,
    };
    match deim_train::run::run(&job, observe) {
        Ok(Ending::Finished(mut summary)) => {
            if on_gpu {
                summary.kernels = kernels::fingerprint(&kernels);
            }
            Ok(Trained::Finished(Box::new(summary)))
        }
        Ok(Ending::Stopped) => Ok(Trained::Stopped),
        Err(error) => Err(error.to_string()),
    }
}
