//! Every fused operation against the same from Burn's own operations: values and all gradients.

mod precision;
mod tf32;

use burn::tensor::{Bool, Device, Gradients, Tensor, TensorData};

use crate::{
    Activation, attention, batch_norm, conv, deformable, depthwise, layer_norm, linear, max_pool,
};

/// Distinct, reproducible values in `[-1, 1)` that no operation sees twice.
pub(crate) fn values(count: usize, salt: u64) -> Vec<f32> {
    let mut state = salt.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    (0..count)
        .map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(salt | 1);
            (state >> 40) as f32 / (1 << 23) as f32 - 1.0
        })
        .collect()
}

fn tensor<const D: usize>(shape: [usize; D], salt: u64) -> Tensor<D> {
    let data = TensorData::new(values(shape.iter().product(), salt), shape);
    Tensor::from_data(data, &Device::flex().autodiff()).require_grad()
}

/// The output of an operation and the gradients of `sum(output * fixed weights)`.
fn run<const D: usize>(operation: impl Fn() -> (Tensor<D>, Vec<Reader>)) -> Vec<Vec<f32>> {
    run_weighted(operation, |weight| weight)
}

/// The same with the fixed weights, which are the gradient of the output, changed.
fn run_weighted<const D: usize>(
    operation: impl Fn() -> (Tensor<D>, Vec<Reader>),
    change: fn(f32) -> f32,
) -> Vec<Vec<f32>> {
    let (output, gradients) = operation();
    let weights = values(output.shape().num_elements(), 99).into_iter().map(change);
    let weights: Vec<f32> = weights.collect();
    let weights = Tensor::<1>::from_floats(weights.as_slice(), &output.device());
    let shape: [usize; D] = output.dims();
    let loss = (output.clone() * weights.reshape(shape)).sum();
    let found = loss.backward();
    let mut results = vec![output.into_data().iter().collect()];
    results.extend(gradients.iter().map(|gradient| gradient(&found)));
    results
}

/// Reads the gradient of one input.
type Reader = Box<dyn Fn(&Gradients) -> Vec<f32>>;

fn gradient_of<const D: usize>(tensor: &Tensor<D>) -> Reader {
    let tensor = tensor.clone();
    Box::new(move |found| {
        tensor.grad(found).expect("a gradient for every input").into_data().iter().collect()
    })
}

/// Whether the device compiles kernels and computes nothing: that of `tools/cuda-stub`.
pub(crate) fn only_compiles() -> bool {
    std::env::var_os("DEIM_ONLY_COMPILES").is_some()
}

/// Asserts that two runs agree to float32 rounding.
pub(crate) fn assert_close(what: &str, fused: &[Vec<f32>], composed: &[Vec<f32>]) {
    if only_compiles() {
        return;
    }
    assert_eq!(fused.len(), composed.len());
    for (part, (a, b)) in fused.iter().zip(composed).enumerate() {
        assert_eq!(a.len(), b.len(), "{what}: part {part}");
        let size = b.iter().fold(0.0_f32, |most, value| most.max(value.abs()));
        assert!(size > 1e-3, "{what}: part {part} is all but zero, so it would prove nothing");
        for (index, (a, b)) in a.iter().zip(b).enumerate() {
            let error = (a - b).abs();
            assert!(
                error <= 2e-5 * size.max(1.0),
                "{what}: part {part}[{index}]: {a}, expected {b}"
            );
        }
    }
}

#[test]
fn deformable_attention_and_its_gradients_equal_the_composed_path() {
    let (levels, points) = ([[6, 4], [3, 2]], [3, 2]);
    let both = [deformable::deformable_attention, deformable::composed].map(|attend| {
        run(|| {
            let value = tensor([2, 30, 3, 5], 1);
            // From well outside on one side to well outside on the other.
            let spread = tensor([2, 7, 3, 5, 2], 2);
            let locations = spread.clone() * 0.9 + 0.5;
            let weights = tensor([2, 7, 3, 5], 3);
            let output = attend(value.clone(), locations, weights.clone(), &levels, &points);
            (output, vec![gradient_of(&value), gradient_of(&spread), gradient_of(&weights)])
        })
    });
    assert_close("deformable attention", &both[0], &both[1]);
}

#[test]
fn the_location_gradient_of_deformable_attention_is_the_slope_of_its_output() {
    let output = |x: f32| {
        let value = tensor([1, 12, 1, 8], 1).detach();
        let location = Tensor::<1>::from_floats([x, 0.4], &value.device()).require_grad();
        let weights = Tensor::ones([1, 1, 1, 1], &value.device());
        let locations = location.clone().reshape([1, 1, 1, 1, 2]);
        let attended = deformable::deformable_attention(value, locations, weights, &[[3, 4]], &[1]);
        let total = attended.sum();
        let gradient = location.grad(&total.backward()).unwrap().into_data().iter::<f32>().next();
        (total.into_scalar::<f32>(), gradient.unwrap())
    };
    let (step, x) = (1e-3, 0.37);
    let slope = (output(x + step).0 - output(x - step).0) / (2.0 * step);
    let gradient = output(x).1;
    assert!((slope - gradient).abs() < 1e-2 * gradient.abs(), "{slope} is not {gradient}");
}

#[test]
fn convolution_and_its_gradients_equal_burns_for_every_kernel_stride_and_size() {
    // Small planes are put together, large ones are not; odd sizes leave a rest at stride 2.
    for (kernel, stride, side, batch) in [
        (3, 1, 5, 3),
        (3, 2, 7, 3),
        (3, 2, 8, 2),
        (1, 1, 6, 2),
        (1, 2, 6, 3),
        (3, 1, 33, 2),
        (1, 1, 40, 2),
    ] {
        let padding = [(kernel - 1) / 2; 2];
        let both = [conv::conv2d_padded, conv::composed].map(|convolve| {
            run(|| {
                let input = tensor([batch, 3, side, side + 1], 4);
                let weight = tensor([5, 3, kernel, kernel], 5);
                let output = convolve(input.clone(), weight.clone(), stride, padding);
                (output, vec![gradient_of(&input), gradient_of(&weight)])
            })
        });
        assert_close(&format!("conv {kernel}/{stride} at {side}"), &both[0], &both[1]);
    }
}

#[test]
fn convolution_and_its_gradients_equal_burns_for_uneven_padding() {
    for (kernel, stride, side, padding) in [
        (2, 1, 9, [0, 1]),
        (2, 1, 9, [0, 0]),
        (2, 1, 30, [0, 1]),
        (3, 2, 9, [0, 2]),
        (1, 1, 4, [1, 1]),
    ] {
        let both = [conv::conv2d_padded, conv::composed].map(|convolve| {
            run(|| {
                let input = tensor([2, 3, side, side + 1], 4);
                let weight = tensor([5, 3, kernel, kernel], 5);
                let output = convolve(input.clone(), weight.clone(), stride, padding);
                (output, vec![gradient_of(&input), gradient_of(&weight)])
            })
        });
        assert_close(&format!("conv {kernel}/{stride} padded by {padding:?}"), &both[0], &both[1]);
    }
}

#[test]
fn large_convolutions_and_their_gradients_equal_burns_for_every_kernel_stride_and_size() {
    // More than six million multiplications an image: these are not unrolled.
    for (kernel, stride, [from, to], [height, width], padding) in [
        (3, 1, [37, 43], [24, 25], [1, 1]),
        (3, 1, [16, 16], [61, 47], [1, 1]),
        (3, 1, [150, 130], [5, 7], [1, 1]),
        (3, 2, [37, 43], [41, 43], [1, 1]),
        (3, 2, [40, 41], [44, 46], [1, 1]),
        (3, 2, [3, 35], [160, 162], [1, 1]),
        (2, 1, [33, 34], [40, 40], [0, 1]),
        (1, 1, [120, 75], [29, 31], [0, 0]),
        (1, 2, [120, 75], [55, 60], [0, 0]),
    ] {
        let both = [conv::conv2d_padded, conv::composed].map(|convolve| {
            run(|| {
                let input = tensor([2, from, height, width], 29);
                let weight = tensor([to, from, kernel, kernel], 30);
                let small = weight.clone() * 0.1;
                let output = convolve(input.clone(), small, stride, padding);
                (output * 0.1, vec![gradient_of(&input), gradient_of(&weight)])
            })
        });
        let what = format!("conv {kernel}/{stride}, {from} to {to} at {height}x{width}");
        assert_close(&what, &both[0], &both[1]);
    }
}

#[test]
fn depthwise_convolution_and_its_gradients_equal_burns_for_every_kernel_stride_and_size() {
    // More planes than one thread takes at a time; rows shorter and longer than the vectors.
    for (kernel, stride, [height, width]) in [
        (3, 1, [5, 6]),
        (5, 1, [20, 20]),
        (5, 1, [3, 40]),
        (3, 2, [8, 8]),
        (3, 2, [9, 7]),
        (3, 2, [6, 41]),
        (5, 2, [10, 11]),
        (1, 1, [4, 5]),
        (1, 2, [5, 4]),
    ] {
        let both = [depthwise::depthwise_conv2d, depthwise::composed].map(|convolve| {
            run(|| {
                let input = tensor([3, 7, height, width], 24);
                let weight = tensor([7, 1, kernel, kernel], 25);
                let output = convolve(input.clone(), weight.clone(), stride);
                (output, vec![gradient_of(&input), gradient_of(&weight)])
            })
        });
        let what = format!("depthwise {kernel}/{stride} at {height}x{width}");
        assert_close(&what, &both[0], &both[1]);
    }
}

#[test]
fn batch_norm_and_its_gradients_equal_the_composed_path_for_every_activation() {
    for activation in [Activation::Identity, Activation::Relu, Activation::Silu] {
        let both = [batch_norm::batch_norm_train, batch_norm::composed].map(|normalize| {
            run(|| {
                let input = tensor([3, 4, 5, 7], 6);
                let (weight, bias) = (tensor([4], 7), tensor([4], 8));
                let output = normalize(
                    input.clone() * 3.0 + 1.0,
                    weight.clone(),
                    bias.clone(),
                    1e-5,
                    activation,
                );
                (output.output, vec![gradient_of(&input), gradient_of(&weight), gradient_of(&bias)])
            })
        });
        assert_close(&format!("batch norm, {activation:?}"), &both[0], &both[1]);
    }
}

#[test]
fn batch_norm_returns_the_statistics_of_its_input() {
    let input = tensor([2, 3, 4, 4], 9);
    let (weight, bias) = (tensor([3], 1), tensor([3], 2));
    let [a, b] = [batch_norm::batch_norm_train, batch_norm::composed].map(|normalize| {
        let found = normalize(input.clone(), weight.clone(), bias.clone(), 1e-5, Activation::Relu);
        vec![found.mean, found.variance].map_data()
    });
    for (a, b) in a.iter().zip(&b) {
        assert!((a - b).abs() < 1e-6, "{a}, expected {b}");
    }
}

trait MapData {
    fn map_data(self) -> Vec<f32>;
}

impl MapData for Vec<Tensor<1>> {
    fn map_data(self) -> Vec<f32> {
        self.into_iter()
            .flat_map(|tensor| tensor.into_data().iter().collect::<Vec<f32>>())
            .collect()
    }
}

#[test]
fn attention_and_its_gradients_equal_the_composed_path_with_and_without_a_mask() {
    let mask: Vec<bool> = (0..81).map(|index| index / 9 != index % 9 && index % 4 == 0).collect();
    let mask: Tensor<2, Bool> =
        Tensor::from_data(TensorData::new(mask, [9, 9]), &Device::flex().autodiff());
    for blocked in [None, Some(&mask)] {
        let both = [attention::attention, attention::composed].map(|attend| {
            run(|| {
                let [q, k, v] = [10, 11, 12].map(|salt| tensor([2, 3, 9, 4], salt));
                let output = attend(q.clone() * 3.0, k.clone() * 3.0, v.clone(), blocked);
                (output, vec![gradient_of(&q), gradient_of(&k), gradient_of(&v)])
            })
        });
        assert_close("attention", &both[0], &both[1]);
    }
}

#[test]
fn a_linear_map_and_its_gradients_equal_burns_for_every_activation() {
    for activation in [Activation::Identity, Activation::Relu, Activation::Silu] {
        let both = [linear::linear::<3>, linear::composed::<3>].map(|map| {
            run(|| {
                // More rows than one thread takes at a time.
                let input = tensor([2, 150, 6], 13);
                let (weight, bias) = (tensor([5, 6], 14), tensor([5], 15));
                let output = map(input.clone(), weight.clone(), bias.clone(), activation);
                (output, vec![gradient_of(&input), gradient_of(&weight), gradient_of(&bias)])
            })
        });
        assert_close(&format!("linear, {activation:?}"), &both[0], &both[1]);
    }
}

#[test]
fn layer_norm_and_its_gradients_equal_burns() {
    let both = [layer_norm::layer_norm::<3>, layer_norm::composed::<3>].map(|normalize| {
        run(|| {
            let input = tensor([2, 5, 19], 16);
            let (weight, bias) = (tensor([19], 17), tensor([19], 18));
            let output = normalize(input.clone() * 2.0 + 1.0, weight.clone(), bias.clone(), 1e-5);
            (output, vec![gradient_of(&input), gradient_of(&weight), gradient_of(&bias)])
        })
    });
    assert_close("layer norm", &both[0], &both[1]);
}

#[test]
fn max_pooling_and_its_gradient_equal_burns_on_even_and_odd_sides() {
    for side in [6, 7] {
        let both = [max_pool::max_pool, max_pool::composed].map(|pool| {
            run(|| {
                let input = tensor([2, 3, side, side + 1], 19);
                (pool(input.clone()), vec![gradient_of(&input)])
            })
        });
        assert_close("max pool", &both[0], &both[1]);
    }
}

#[test]
fn pooling_two_by_two_and_its_gradient_equal_burns_with_zeros_beyond_the_border() {
    let both = [max_pool::max_pool_2x2, max_pool::composed_2x2].map(|pool| {
        run(|| {
            let input = tensor([2, 3, 6, 5], 26);
            (pool(input.clone()), vec![gradient_of(&input)])
        })
    });
    assert_close("max pool 2x2", &both[0], &both[1]);
}

#[test]
fn a_large_convolution_does_not_depend_on_the_number_of_threads() {
    let results = [1, 2, 5].map(|threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            run(|| {
                let input = tensor([3, 40, 30, 30], 31);
                let weight = tensor([50, 40, 3, 3], 32);
                let output = conv::conv2d(input.clone(), weight.clone(), 1);
                (output, vec![gradient_of(&input), gradient_of(&weight)])
            })
        })
    });
    assert_eq!(results[0], results[1]);
    assert_eq!(results[0], results[2]);
}

#[test]
fn a_depthwise_convolution_does_not_depend_on_the_number_of_threads() {
    let results = [1, 2, 5].map(|threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            run(|| {
                let input = tensor([4, 19, 24, 24], 27);
                let weight = tensor([19, 1, 5, 5], 28);
                let output = depthwise::depthwise_conv2d(input.clone(), weight.clone(), 1);
                (output, vec![gradient_of(&input), gradient_of(&weight)])
            })
        })
    });
    assert_eq!(results[0], results[1]);
    assert_eq!(results[0], results[2]);
}

#[test]
fn a_fused_step_does_not_depend_on_the_number_of_threads() {
    let results = [1, 2, 5].map(|threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            run(|| {
                let input = tensor([4, 8, 24, 24], 20);
                let weight = tensor([16, 8, 3, 3], 21);
                let (scale, shift) = (tensor([16], 22), tensor([16], 23));
                let output = conv::conv2d(input.clone(), weight.clone(), 1);
                let output = batch_norm::batch_norm_train(
                    output,
                    scale.clone(),
                    shift.clone(),
                    1e-5,
                    Activation::Silu,
                );
                (
                    output.output,
                    vec![gradient_of(&input), gradient_of(&weight), gradient_of(&scale)],
                )
            })
        })
    });
    assert_eq!(results[0], results[1]);
    assert_eq!(results[0], results[2]);
}
