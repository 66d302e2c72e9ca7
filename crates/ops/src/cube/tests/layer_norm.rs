use burn::tensor::{Device, Tensor};

use super::{cpu, gpu, gradient_of, run, tensor};
use crate::layer_norm::{composed, layer_norm};
use crate::tests::assert_close;

type Normalize = fn(Tensor<3>, Tensor<1>, Tensor<1>, f64) -> Tensor<3>;

fn normalize(
    normalize: Normalize,
    shape: [usize; 3],
    swapped: bool,
    device: &Device,
) -> Vec<Vec<f32>> {
    let [batch, rows, channels] = shape;
    let stored = if swapped { [rows, batch, channels] } else { shape };
    let leaf = tensor(stored, 30, device);
    // Values far from zero, whose variance a sum of squares would lose.
    let input = leaf.clone() * 2.0 + 20.0;
    let input = if swapped { input.swap_dims(0, 1) } else { input };
    let weight = tensor([channels], 31, device);
    let bias = tensor([channels], 32, device);
    let output = normalize(input, weight.clone(), bias.clone(), 1e-5);
    run((output, vec![gradient_of(&leaf), gradient_of(&weight), gradient_of(&bias)]))
}

/// Rows below a cube's and above, channels that fill no vector, one, and several a unit.
const SHAPES: [[usize; 3]; 4] = [[2, 3, 5], [1, 1, 8], [3, 50, 36], [2, 9, 256]];

#[test]
fn normalisation_of_rows_and_its_gradients_equal_the_cpus() {
    for shape in SHAPES {
        for swapped in [false, true] {
            let expected = normalize(layer_norm, shape, swapped, &cpu());
            let found = normalize(layer_norm, shape, swapped, &gpu());
            assert_close(&format!("{shape:?}, swapped {swapped}"), &found, &expected);
        }
    }
}

#[test]
fn normalisation_of_rows_and_its_gradients_equal_the_composed_path() {
    for shape in SHAPES {
        let expected = normalize(composed, shape, false, &gpu());
        let found = normalize(layer_norm, shape, false, &gpu());
        assert_close(&format!("{shape:?}"), &found, &expected);
    }
}
