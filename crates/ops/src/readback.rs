//! The one way from a device to the host within a step.
//!
//! A reading waits until the device has done all it was given, and the device then waits for what the
//! host gives it next. So a step reads as rarely as it can, and a test counts how often it does.

use std::cell::Cell;

use burn::tensor::{Tensor, TensorData, Transaction};

thread_local! {
    static READINGS: Cell<u64> = const { Cell::new(0) };
}

/// How often this thread has read from a device.
pub fn readings() -> u64 {
    READINGS.get()
}

/// Reads a tensor.
pub fn read<const D: usize>(tensor: Tensor<D>) -> Result<TensorData, String> {
    READINGS.set(readings() + 1);
    tensor.try_into_data().map_err(|error| error.to_string())
}

/// Reads two tensors in one transfer.
pub fn read_both<const A: usize, const B: usize>(
    first: Tensor<A>,
    second: Tensor<B>,
) -> Result<[TensorData; 2], String> {
    READINGS.set(readings() + 1);
    let both = Transaction::default().register(first).register(second);
    let mut read = both.try_execute().map_err(|error| error.to_string())?;
    let second = read.pop().expect("one entry for each tensor");
    let first = read.pop().expect("one entry for each tensor");
    Ok([first, second])
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;

    #[test]
    fn two_tensors_come_in_their_order_and_count_once() {
        let before = readings();
        let first = Tensor::<1>::from_floats([1.0, 2.0], &Device::flex());
        let second = Tensor::<2>::from_floats([[3.0]], &Device::flex());
        let values: [Vec<f32>; 2] =
            read_both(first, second).unwrap().map(|data| data.iter().collect());
        assert_eq!(values, [vec![1.0, 2.0], vec![3.0]]);
        assert_eq!(readings() - before, 1);
    }
}
