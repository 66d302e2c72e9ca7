use burn::tensor::{Device, Tensor, TensorData};

use super::{cpu, floats, gpu};
use crate::tests::values;
use crate::{AdamW, blend_all, global_norm, update_all};

/// More tensors than a launch takes, of sizes below a piece, of just one, and above.
fn sizes() -> Vec<usize> {
    let mut sizes: Vec<usize> = (0..70).map(|index| 1 + index * 37 % 300).collect();
    sizes.extend([4096, 4097, 10_000]);
    sizes
}

fn tensors(salt: u64, device: &Device) -> Vec<Tensor<1>> {
    let tensor = |(index, size)| {
        let data = TensorData::new(values(size, salt + index as u64), [size]);
        Tensor::from_data(data, device)
    };
    sizes().into_iter().enumerate().map(tensor).collect()
}

fn close(what: &str, found: &[f32], expected: &[f32]) {
    assert_eq!(found.len(), expected.len());
    for (index, (a, b)) in found.iter().zip(expected).enumerate() {
        assert!((a - b).abs() <= 1e-6 * b.abs().max(1.0), "{what}[{index}]: {a}, expected {b}");
    }
}

/// Three steps with rates of their own for every parameter.
fn train(device: &Device) -> Vec<[Vec<f32>; 3]> {
    let mut states: Vec<[Tensor<1>; 3]> = tensors(100, device)
        .into_iter()
        .map(|value| [value.clone(), value.zeros_like(), value.zeros_like()])
        .collect();
    for step in 1..=3 {
        let gradients = tensors(1000 * step, device);
        let steps = states.into_iter().zip(gradients).enumerate();
        let steps = steps.map(|(index, ([value, mean, square], gradient))| {
            let adam = AdamW {
                learning_rate: 1e-3 * (1 + index % 3) as f64,
                weight_decay: 0.1 * (index % 2) as f64,
                beta1: 0.9,
                beta2: 0.999,
                eps: 1e-8,
                step,
            };
            (adam, [value, gradient, mean, square])
        });
        states = update_all(steps.collect(), Tensor::from_floats([0.3], device));
    }
    states.into_iter().map(|state| state.map(|tensor| floats(tensor.into_data()))).collect()
}

#[test]
fn updates_of_all_parameters_at_once_equal_the_cpus_of_each() {
    let [expected, found] = [cpu(), gpu()].map(|device| train(&device.inner()));
    for (index, (found, expected)) in found.iter().zip(&expected).enumerate() {
        for part in 0..3 {
            close(&format!("parameter {index}, part {part}"), &found[part], &expected[part]);
        }
    }
}

#[test]
fn an_update_leaves_alone_what_else_holds_a_parameter() {
    let device = gpu().inner();
    let value = Tensor::<1>::from_floats([1.0, 2.0], &device);
    let held = value.clone();
    let zeros = || Tensor::<1>::zeros([2], &device);
    let gradient = Tensor::from_floats([1.0, -1.0], &device);
    let adam = AdamW {
        learning_rate: 0.5,
        weight_decay: 0.0,
        beta1: 0.9,
        beta2: 0.999,
        eps: 1e-8,
        step: 1,
    };
    let clip = Tensor::ones([1], &device);
    let updated = update_all(vec![(adam, [value, gradient, zeros(), zeros()])], clip);
    assert_eq!(floats(held.into_data()), [1.0, 2.0]);
    close("the parameter", &floats(updated[0][0].clone().into_data()), &[0.5, 2.5]);
}

#[test]
fn averages_of_all_tensors_at_once_equal_the_cpus_of_each() {
    let [expected, found] = [cpu(), gpu()].map(|device| {
        let device = device.inner();
        blend_all(tensors(1, &device), tensors(2, &device), 0.75)
    });
    for (found, expected) in found.into_iter().zip(expected) {
        close("average", &floats(found.into_data()), &floats(expected.into_data()));
    }
}

#[test]
fn the_norm_of_all_tensors_equals_the_cpus() {
    let [expected, found] = [cpu(), gpu()].map(|device| {
        let norm = global_norm(tensors(5, &device.inner())).expect("tensors");
        floats(norm.into_data())[0]
    });
    assert!((found - expected).abs() < 1e-5 * expected, "{found}, expected {expected}");
    assert!(global_norm(Vec::new()).is_none());
}
