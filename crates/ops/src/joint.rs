//! Batch normalisation over a batch of which several devices hold a part each.

use std::sync::Arc;

#[cfg(feature = "cuda")]
use burn::backend::Cuda;
#[cfg(feature = "vulkan")]
use burn::backend::WebGpu;
use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, Flex, TensorMetadata, backend_extension};
use burn::tensor::{Tensor, TensorData, try_read_sync};

use crate::Activation;
use crate::batch_norm::{BatchNormOutput, composed_jointly};
use crate::meeting::Seat;
use crate::precision::widened;

/// See [`crate::batch_norm_train`]. Only means of whole channels pass between the devices; they pass
/// through the host, for Burn has no other way that every device takes.
pub(crate) fn batch_norm(
    input: Tensor<4>,
    weight: Tensor<1>,
    bias: Tensor<1>,
    epsilon: f64,
    activation: Activation,
    seat: &Arc<Seat>,
) -> BatchNormOutput {
    let precision = input.dtype();
    let mean = |means: Tensor<4>| {
        Tensor::from_dispatch(<Dispatch as Joint>::mean(means.into_dispatch(), seat.clone()))
    };
    let wide = composed_jointly(widened(input), weight, bias, epsilon, activation, mean);
    BatchNormOutput {
        output: wide.output.cast(precision),
        count: wide.count * seat.devices(),
        ..wide
    }
}

#[backend_extension(Flex, Cuda: cfg(feature = "cuda"), WebGpu: cfg(feature = "vulkan"), Autodiff)]
trait Joint: Backend {
    /// The mean of all devices' values. Each device's loss follows from it, and all their losses count
    /// alike: so the gradient of a device's values is the mean of all gradients of the mean.
    fn mean(values: FloatTensor<Self>, seat: Arc<Seat>) -> FloatTensor<Self>;
}

fn mean_of<B: Backend>(values: FloatTensor<B>, seat: &Seat) -> FloatTensor<B> {
    let (device, dtype, shape) = (values.device(), values.dtype(), values.shape());
    let data = try_read_sync(B::float_into_data(values)).and_then(Result::ok);
    let data = data.expect("a device that works");
    let mean = seat.mean(data.iter::<f64>().collect());
    B::float_from_data(TensorData::new(mean, shape).convert_dtype(dtype), &device)
}

impl Joint for Flex {
    fn mean(values: FloatTensor<Self>, seat: Arc<Seat>) -> FloatTensor<Self> {
        mean_of::<Self>(values, &seat)
    }
}

#[cfg(any(feature = "cuda", feature = "vulkan"))]
impl<B: crate::cube::Launch> Joint for B {
    fn mean(values: FloatTensor<B>, seat: Arc<Seat>) -> FloatTensor<B> {
        mean_of::<B>(values, &seat)
    }
}

#[derive(Debug)]
struct MeanBackward;

impl<B: Joint> Backward<B, 1> for MeanBackward {
    type State = Arc<Seat>;

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        // Also where this device needs no gradient: the others wait for its part.
        let gradient = mean_of::<B>(grads.consume::<B>(&ops.node), &ops.state);
        let [node] = ops.parents;
        if let Some(node) = node {
            grads.register::<B>(node.id, gradient);
        }
    }
}

impl<B: Joint, C: CheckpointStrategy> Joint for Autodiff<B, C> {
    fn mean(values: FloatTensor<Self>, seat: Arc<Seat>) -> FloatTensor<Self> {
        let output = B::mean(values.primitive, seat.clone());
        match MeanBackward.prepare::<C>([values.node]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish(seat, output),
            OpsKind::UnTracked(prep) => prep.finish(output),
        }
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, Distribution};

    use crate::meeting::meet;
    use crate::tests::assert_close;
    use crate::{Activation, batch_norm_train};

    use super::*;

    /// Output, statistics, and gradients of input, weight and bias, of part of a batch.
    fn normed(images: Tensor<4>, slopes: Tensor<4>) -> (Vec<Vec<f32>>, usize) {
        let device = images.device();
        let read = |tensor: Tensor<1>| tensor.into_data().iter::<f32>().collect::<Vec<f32>>();
        let images = images.require_grad();
        let weight = Tensor::<1>::from_floats([1.5, -0.7, 0.3], &device).require_grad();
        let bias = Tensor::<1>::from_floats([0.1, 0.2, -0.3], &device).require_grad();
        let (of_weight, of_bias) = (weight.clone(), bias.clone());
        let normed = batch_norm_train(images.clone(), of_weight, of_bias, 1e-5, Activation::Silu);
        let found = (normed.output.clone() * slopes).sum().backward();
        let flat = |tensor: Tensor<4>| tensor.flatten::<1>(0, 3);
        let results = vec![
            read(flat(normed.output)),
            read(flat(images.grad(&found).unwrap())),
            read(normed.mean),
            read(normed.variance),
            read(weight.grad(&found).unwrap()),
            read(bias.grad(&found).unwrap()),
        ];
        (results, normed.count)
    }

    #[test]
    fn parts_that_meet_are_normed_as_the_whole_batch_is() {
        let device = Device::flex().autodiff();
        device.seed(3);
        let random =
            || Tensor::<4>::random([4, 3, 5, 2], Distribution::Normal(0.4, 2.0), &device).detach();
        let (images, slopes) = (random(), random());
        let (whole, count) = normed(images.clone(), slopes.clone());
        let attendees = meet(2);
        let parts: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = attendees
                .iter()
                .enumerate()
                .map(|(index, attendee)| {
                    let part = |tensor: &Tensor<4>| tensor.clone().narrow(0, 2 * index, 2).detach();
                    let (images, slopes) = (part(&images), part(&slopes));
                    scope.spawn(move || attendee.attend(|| normed(images, slopes)))
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert!(!attendees[0].failed());
        let [(first, first_count), (second, second_count)] = &parts[..] else { unreachable!() };
        assert_eq!((*first_count, *second_count), (count, count));
        let joined = |at: usize| [first[at].as_slice(), second[at].as_slice()].concat();
        let summed =
            |at: usize| first[at].iter().zip(&second[at]).map(|(a, b)| a + b).collect::<Vec<f32>>();
        assert_close("output and input", &[joined(0), joined(1)], &whole[..2]);
        for part in [first, second] {
            assert_close("statistics", &part[2..4], &whole[2..4]);
        }
        assert_close("parameters", &[summed(4), summed(5)], &whole[4..]);
    }
}
