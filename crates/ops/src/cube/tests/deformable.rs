use burn::tensor::{DType, Device, FloatDType, Shape, Tensor};

use super::{cpu, floats, gpu, gradient_of, run, tensor};
use crate::cube::deformable::Geometry;
use crate::deformable::{composed, deformable_attention};
use crate::tests::{assert_close, values};

type Attend = fn(Tensor<4>, Tensor<5>, Tensor<4>, &[[usize; 2]], &[usize]) -> Tensor<3>;

#[derive(Clone)]
struct Sizes {
    batch: usize,
    queries: usize,
    heads: usize,
    channels: usize,
    levels: Vec<[usize; 2]>,
    points: Vec<usize>,
}

impl Sizes {
    fn tokens(&self) -> usize {
        self.levels.iter().map(|[height, width]| height * width).sum()
    }

    fn run(&self, attend: Attend, device: &Device) -> Vec<Vec<f32>> {
        let Self { batch, queries, heads, channels, .. } = *self;
        let total = self.points.iter().sum();
        let value = tensor([batch, self.tokens(), heads, channels], 1, device);
        // From well outside on one side to well outside on the other.
        let spread = tensor([batch, queries, heads, total, 2], 2, device);
        let weights = tensor([batch, queries, heads, total], 3, device);
        let locations = spread.clone() * 0.9 + 0.5;
        let output = attend(value.clone(), locations, weights.clone(), &self.levels, &self.points);
        run((output, vec![gradient_of(&value), gradient_of(&spread), gradient_of(&weights)]))
    }
}

/// Sizes that divide by no vector and by all, one query and many, one level and several.
fn cases() -> Vec<Sizes> {
    let case = |batch, queries, heads, channels, levels: &[[usize; 2]], points: &[usize]| Sizes {
        batch,
        queries,
        heads,
        channels,
        levels: levels.to_vec(),
        points: points.to_vec(),
    };
    vec![
        case(2, 7, 3, 5, &[[6, 4], [3, 2]], &[3, 2]),
        case(1, 1, 1, 6, &[[3, 4]], &[1]),
        case(2, 33, 8, 32, &[[9, 7], [5, 4], [3, 2]], &[4, 4, 4]),
        case(1, 40, 2, 8, &[[2, 3], [7, 1], [1, 1], [4, 4]], &[1, 5, 2, 3]),
    ]
}

#[test]
fn attention_and_its_gradients_equal_the_cpus() {
    for sizes in cases() {
        let expected = sizes.run(deformable_attention, &cpu());
        let found = sizes.run(deformable_attention, &gpu());
        assert_close("deformable attention", &found, &expected);
    }
}

#[test]
fn attention_and_its_gradients_equal_the_composed_path() {
    for sizes in cases() {
        let expected = sizes.run(composed, &gpu());
        let found = sizes.run(deformable_attention, &gpu());
        assert_close("deformable attention", &found, &expected);
    }
}

/// The value's gradient where the output's is `gradient`.
fn value_gradient(sizes: &Sizes, gradient: Tensor<3>, device: &Device) -> Vec<f32> {
    let Sizes { batch, queries, heads, channels, .. } = *sizes;
    let total = sizes.points.iter().sum();
    let value = tensor([batch, sizes.tokens(), heads, channels], 1, device);
    let locations = tensor([batch, queries, heads, total, 2], 2, device) * 0.9 + 0.5;
    let weights = tensor([batch, queries, heads, total], 3, device);
    let output =
        deformable_attention(value.clone(), locations, weights, &sizes.levels, &sizes.points);
    let found = (output * gradient).sum().backward();
    floats(value.grad(&found).expect("a gradient").into_data())
}

/// A gradient of the output of a case.
fn some_gradient(sizes: &Sizes, device: &Device) -> Tensor<3> {
    let Sizes { batch, queries, heads, channels, .. } = *sizes;
    tensor([batch, queries, heads * channels], 99, device).detach()
}

#[test]
fn the_values_gradient_has_the_same_bits_in_every_run() {
    let (sizes, device) = (&cases()[2], gpu());
    let first = value_gradient(sizes, some_gradient(sizes, &device), &device);
    for _ in 0..5 {
        assert_eq!(value_gradient(sizes, some_gradient(sizes, &device), &device), first);
    }
}

#[test]
fn the_values_gradient_is_as_exact_for_gradients_of_any_size() {
    for sizes in cases() {
        for scale in [1e-17, 1e-6, 1.0, 1e9, 1e24] {
            let [expected, found] = [cpu(), gpu()].map(|device| {
                let gradient = some_gradient(&sizes, &device) * scale;
                // In the tests' own size, which tolerances are made for.
                let found = value_gradient(&sizes, gradient, &device);
                vec![found.into_iter().map(|value| value / scale).collect()]
            });
            assert_close(&format!("of size {scale:e}"), &found, &expected);
        }
    }
}

#[test]
fn small_gradients_keep_their_bits_beside_large_ones() {
    // One query a million times as loud as the others, in one image of two.
    let sizes = &cases()[2];
    let [expected, found] = [cpu(), gpu()].map(|device| {
        let loud = Tensor::<3>::ones([1, 1, 1], &device) * 1e6;
        let gradient = some_gradient(sizes, &device);
        let first = gradient.clone().narrow(0, 0, 1).narrow(1, 0, 1);
        let gradient = gradient.slice_assign([0..1, 0..1], first * loud);
        let all = value_gradient(sizes, gradient, &device);
        vec![all[all.len() / 2..].to_vec()]
    });
    assert_close("the quiet image", &found, &expected);
}

#[test]
fn a_gradient_that_is_no_number_is_not_hidden() {
    let (sizes, device) = (&cases()[0], gpu());
    for strange in [f32::NAN, f32::INFINITY] {
        let gradient = some_gradient(sizes, &device);
        let one = Tensor::<3>::full([1, 1, 1], strange, &device);
        let gradient = gradient.slice_assign([0..1, 0..1, 0..1], one);
        let found = value_gradient(sizes, gradient, &device);
        assert!(found.iter().any(|value| !value.is_finite()), "{strange}");
    }
}

#[test]
fn many_queries_may_look_at_one_cell() {
    let [expected, found] = [cpu(), gpu()].map(|device| {
        let value = tensor([1, 4, 1, 4], 1, &device);
        let locations = Tensor::<5>::full([1, 3000, 1, 2, 2], 0.25, &device);
        let weights = tensor([1, 3000, 1, 2], 3, &device);
        let output = deformable_attention(value.clone(), locations, weights, &[[2, 2]], &[2]);
        run((output, vec![gradient_of(&value)]))
    });
    assert_close("one cell", &found, &expected);
}

#[test]
fn a_location_that_is_no_number_or_far_away_adds_nothing_anywhere() {
    let mut data = values(12 * 8, 1);
    // Cells that a careless kernel would multiply by zero.
    data[..8].fill(f32::NAN);
    let device = gpu();
    for strange in [f32::NAN, f32::INFINITY, -1e30, 1e30, -7.0] {
        for at in [[strange, 0.6], [0.6, strange]] {
            let value = Tensor::<1>::from_floats(data.as_slice(), &device)
                .reshape([1, 12, 1, 8])
                .detach()
                .require_grad();
            let points = [at, [0.9, 0.9]];
            let locations = Tensor::<2>::from_floats(points, &device)
                .reshape([1, 1, 1, 2, 2])
                .detach()
                .require_grad();
            let weights = Tensor::<4>::ones([1, 1, 1, 2], &device).require_grad();
            let output = deformable_attention(
                value.clone(),
                locations.clone(),
                weights.clone(),
                &[[3, 4]],
                &[2],
            );
            let found = output.sum().backward();
            let near = Tensor::<1>::from_floats(data.as_slice(), &device);
            assert!(floats(near.into_data())[8..].iter().all(|value| value.is_finite()));
            let d_value = floats(value.grad(&found).unwrap().into_data());
            assert!(d_value.iter().all(|value| value.is_finite()), "{at:?}: {d_value:?}");
            let d_locations = floats(locations.grad(&found).unwrap().into_data());
            assert_eq!(d_locations[..2], [0.0, 0.0], "{at:?}");
            assert!(d_locations[2] != 0.0 && d_locations[2].is_finite());
            let d_weights = floats(weights.grad(&found).unwrap().into_data());
            assert_eq!(d_weights[0], 0.0, "{at:?}");
        }
    }
}

#[test]
fn strided_views_are_read_as_what_they_show() {
    let both = [cpu(), gpu()].map(|device| {
        // Tokens and heads swapped in memory; locations and weights as slices of more.
        let value = tensor([2, 3, 12, 4], 1, &device);
        let offsets = tensor([2, 5, 3, 9], 2, &device);
        let locations = (offsets.clone() * 0.5 + 0.5).narrow(3, 1, 6).reshape([2, 5, 3, 3, 2]);
        let weights = offsets.clone().narrow(3, 5, 3);
        let view = value.clone().swap_dims(1, 2);
        let output = deformable_attention(view, locations, weights, &[[3, 4]], &[3]);
        run((output, vec![gradient_of(&value), gradient_of(&offsets)]))
    });
    assert_close("strided deformable attention", &both[1], &both[0]);
}

#[test]
fn the_location_gradient_is_the_slope_of_the_output() {
    let device = gpu();
    let output = |x: f32| {
        let value = tensor([1, 12, 1, 8], 1, &device).detach();
        let location = Tensor::<1>::from_floats([x, 0.4], &device).require_grad();
        let weights = Tensor::ones([1, 1, 1, 1], &device);
        let locations = location.clone().reshape([1, 1, 1, 1, 2]);
        let total = deformable_attention(value, locations, weights, &[[3, 4]], &[1]).sum();
        let gradient = floats(location.grad(&total.backward()).unwrap().into_data())[0];
        (total.into_scalar::<f32>(), gradient)
    };
    let (step, x) = (1e-3, 0.37);
    let slope = (output(x + step).0 - output(x - step).0) / (2.0 * step);
    let gradient = output(x).1;
    assert!((slope - gradient).abs() < 1e-2 * gradient.abs(), "{slope} is not {gradient}");
}

#[test]
fn half_precision_values_are_summed_in_32_bits() {
    let device = gpu();
    for (dtype, kind, epsilon) in
        [(DType::F16, FloatDType::F16, 9.8e-4), (DType::BF16, FloatDType::BF16, 7.8e-3)]
    {
        if !device.supports_dtype(dtype) {
            println!("not tested: this device has no {dtype:?}");
            continue;
        }
        let sizes = &cases()[2];
        let Sizes { batch, queries, heads, channels, .. } = *sizes;
        let total = sizes.points.iter().sum();
        let results = [false, true].map(|half| {
            // Values that half precision holds, so that only what is computed can differ.
            let round = |tensor: Tensor<4>| tensor.cast(kind).cast(FloatDType::F32);
            let value = round(tensor([batch, sizes.tokens(), heads, channels], 1, &device));
            let value = if half { value.cast(kind) } else { value };
            let value = value.detach().require_grad();
            let locations = tensor([batch, queries, heads, total, 2], 2, &device) * 0.9 + 0.5;
            let weights = tensor([batch, queries, heads, total], 3, &device);
            let output = deformable_attention(
                value.clone(),
                locations,
                weights,
                &sizes.levels,
                &sizes.points,
            );
            assert_eq!(output.dtype(), if half { dtype } else { DType::F32 });
            run((output, vec![gradient_of(&value)]))
        });
        for (part, (half, full)) in results[1].iter().zip(&results[0]).enumerate() {
            let size = full.iter().fold(0.0_f32, |most, value| most.max(value.abs()));
            for (half, full) in half.iter().zip(full) {
                // One rounding of the result, and for the gradient one of what is summed.
                let error = (half - full).abs();
                assert!(error <= 2.0 * epsilon * size, "{dtype:?} part {part}: {half}, {full}");
            }
        }
    }
}

#[test]
fn shapes_that_do_not_fit_are_named() {
    let panic = std::panic::catch_unwind(|| {
        let value = Shape::new([1, 5, 1, 1]);
        let locations = Shape::new([1, 1, 1, 1, 2]);
        Geometry::new(&value, &locations, vec![[2, 2]], vec![1]);
    });
    let message = *panic.unwrap_err().downcast::<String>().unwrap();
    assert!(message.contains("the levels' sizes must add up to the tokens"), "{message}");
}
