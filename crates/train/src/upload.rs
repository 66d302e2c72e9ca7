//! From batches on the host to images on devices.

use burn::tensor::{DType, Device, Int, Tensor, TensorData};
use deim_data::transforms::multi_scale::nearest_indices;
use deim_data::{Batch, Batches, Bytes, DataError};

/// Whether a loader should give images as bytes. The CPU has nothing to carry them over, and several
/// devices blend images that lie on different ones.
pub fn wants_bytes(devices: &[Device]) -> bool {
    match devices {
        [device] => *device != Device::flex() && device.supports_dtype(DType::U8),
        _ => false,
    }
}

/// A batch's images `[batch, 3, size, size]` on a device.
pub fn images(batch: &Batch, device: &Device) -> Tensor<4> {
    let count = batch.targets.len();
    match &batch.bytes {
        Some(bytes) => from_bytes(bytes, count, batch.size, device),
        None => {
            let shape = [count, 3, batch.size, batch.size];
            Tensor::from_data(TensorData::new(batch.images.to_vec(), shape), device)
        }
    }
}

/// What the host does with numbers, on the device: shares of 255, mixup, the nearest-pixel resize.
fn from_bytes(bytes: &Bytes, count: usize, size: usize, device: &Device) -> Tensor<4> {
    let shape = [count, 3, bytes.side, bytes.side];
    let data = TensorData::new(bytes.planes.clone(), shape);
    let pixels: Tensor<4, Int> = Tensor::from_data(data, (device, DType::U8));
    let mut images = pixels.float().div_scalar(255.0);
    if let Some(own) = bytes.own_share {
        let last = images.clone().narrow(0, count - 1, 1);
        let previous = match count {
            1 => last,
            _ => Tensor::cat(vec![last, images.clone().narrow(0, 0, count - 1)], 0),
        };
        images = previous.mul_scalar(1.0 - own) + images.mul_scalar(own);
    }
    if size != bytes.side {
        let indices: Vec<i64> =
            nearest_indices(bytes.side, size).into_iter().map(|index| index as i64).collect();
        let indices: Tensor<1, Int> = Tensor::from_data(TensorData::new(indices, [size]), device);
        images = images.select(2, indices.clone()).select(3, indices);
    }
    images
}

/// A batch, and its images on every device that shares it.
pub(crate) struct Fed {
    pub batch: Batch,
    pub images: Vec<Tensor<4>>,
}

/// Batches with their images on the devices. On a GPU the next batch's copy is asked for as soon as
/// the host has a step behind it, and so while the device is still at that step.
pub(crate) struct Feed<'a> {
    batches: Batches,
    /// Those that train.
    devices: &'a [Device],
    ahead: bool,
    next: Option<Result<Fed, DataError>>,
}

impl<'a> Feed<'a> {
    pub fn new(batches: Batches, devices: &'a [Device]) -> Self {
        // Without a device there is nothing to overlap with, only memory to lose.
        let ahead = devices.iter().any(|device| *device != Device::flex());
        Self { batches, devices, ahead, next: None }
    }

    /// The next batch; none after the last.
    pub fn take(&mut self) -> Option<Result<Fed, DataError>> {
        self.next.take().or_else(|| self.make())
    }

    /// Makes the next batch ahead of its step, where that pays.
    pub fn prepare(&mut self) {
        if self.ahead && self.next.is_none() {
            self.next = self.make();
        }
    }

    /// The batches, for what they have counted.
    pub fn batches(&self) -> &Batches {
        &self.batches
    }

    fn make(&mut self) -> Option<Result<Fed, DataError>> {
        let batch = match self.batches.next()? {
            Ok(batch) => batch,
            Err(error) => return Some(Err(error)),
        };
        let images = match self.devices {
            [device] => vec![images(&batch, device)],
            several => several
                .iter()
                .enumerate()
                .map(|(part, device)| {
                    let planes = batch.part(part, several.len());
                    let count = batch.targets.len() / several.len();
                    let shape = [count, 3, batch.size, batch.size];
                    Tensor::from_data(TensorData::new(planes.to_vec(), shape), device)
                })
                .collect(),
        };
        Some(Ok(Fed { batch, images }))
    }
}

#[cfg(test)]
mod tests {
    use deim_data::{EvalLoader, TrainLoader};
    use deim_spec::{Config, Options};

    use super::*;

    fn config(mixup: f64) -> Config {
        let set = ["schedule.augment_start=0".to_owned(), format!("augment.mixup={mixup}")].into();
        let experiments = concat!(env!("CARGO_MANIFEST_DIR"), "/../../experiments");
        let options = Options { scale: Some("mini".into()), seeds: Some(1), set };
        let experiment = deim_spec::load(experiments.as_ref(), "gamma", &options).unwrap();
        experiment.rows[0].config.clone()
    }

    /// The largest difference of the two ways over some batches, and the sizes that these had.
    fn difference(mixup: f64) -> (f32, Vec<usize>) {
        let config = config(mixup);
        let train = deim_data::open(&config.data, None).unwrap().train;
        let loader =
            |bytes| TrainLoader::new(train.clone(), &config, 1, 0).unwrap().as_bytes(bytes);
        let (numbers, bytes) = (loader(false), loader(true));
        let mut largest = 0.0_f32;
        let mut sizes = Vec::new();
        for (numbers, bytes) in numbers.batches(0, 0).zip(bytes.batches(0, 0)).take(6) {
            let (numbers, bytes) = (numbers.unwrap(), bytes.unwrap());
            assert!(bytes.images.is_empty() && bytes.bytes.is_some());
            assert_eq!((numbers.size, &numbers.targets), (bytes.size, &bytes.targets));
            let [numbers, bytes] = [numbers, bytes].map(|batch| {
                sizes.push(batch.size);
                images(&batch, &Device::flex())
            });
            largest = largest.max((numbers - bytes).abs().max().into_scalar());
        }
        sizes.sort_unstable();
        sizes.dedup();
        (largest, sizes)
    }

    #[test]
    fn bytes_become_the_same_images_on_the_device_as_numbers_on_the_host() {
        let (largest, sizes) = difference(0.0);
        assert_eq!(largest, 0.0);
        assert!(sizes.len() > 1, "every batch had one size: {sizes:?}");
        let (largest, _) = difference(1.0);
        assert!(largest < 1e-6, "{largest}");
    }

    #[test]
    fn evaluation_sees_the_same_images_as_bytes() {
        let config = config(0.0);
        let val = deim_data::open(&config.data, None).unwrap().val;
        let first = |bytes| {
            let loader = EvalLoader::new(val.clone(), &config, 0).unwrap().as_bytes(bytes);
            images(&loader.batches().next().unwrap().unwrap(), &Device::flex()).into_data()
        };
        assert_eq!(first(false), first(true));
    }
}
