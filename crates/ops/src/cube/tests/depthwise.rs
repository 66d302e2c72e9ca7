use burn::tensor::{Device, Tensor};

use super::{cpu, gpu, gradient_of, run, tensor};
use crate::depthwise::{composed, depthwise_conv2d};
use crate::tests::assert_close;

type Convolve = fn(Tensor<4>, Tensor<4>, usize) -> Tensor<4>;

#[derive(Clone, Copy, Debug)]
struct Case {
    kernel: usize,
    stride: usize,
    shape: [usize; 4],
}

/// Odd sizes leave a rest at stride 2; channels that fill no vector, one, and more than a cube is wide.
fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for kernel in [1, 3, 5] {
        for stride in [1, 2] {
            for shape in [[2, 3, 7, 6], [1, 4, 2, 2], [2, 136, 5, 4]] {
                cases.push(Case { kernel, stride, shape });
            }
        }
    }
    cases.push(Case { kernel: 5, stride: 1, shape: [2, 2, 70, 65] });
    cases
}

/// `pixels`: the channels lie side by side in memory.
fn convolve(convolve: Convolve, case: Case, pixels: bool, device: &Device) -> Vec<Vec<f32>> {
    let [batch, channels, height, width] = case.shape;
    let stored = if pixels { [batch, height, width, channels] } else { case.shape };
    let leaf = tensor(stored, 20, device);
    let input = if pixels { leaf.clone().permute([0, 3, 1, 2]) } else { leaf.clone() };
    let weight = tensor([channels, 1, case.kernel, case.kernel], 21, device);
    let output = convolve(input, weight.clone(), case.stride);
    run((output, vec![gradient_of(&leaf), gradient_of(&weight)]))
}

#[test]
fn convolution_and_its_gradients_equal_the_cpus_in_both_orders_of_memory() {
    for case in cases() {
        for pixels in [false, true] {
            let expected = convolve(depthwise_conv2d, case, pixels, &cpu());
            let found = convolve(depthwise_conv2d, case, pixels, &gpu());
            assert_close(&format!("{case:?}, pixels {pixels}"), &found, &expected);
        }
    }
}

#[test]
fn convolution_and_its_gradients_equal_the_composed_path() {
    for case in [(3, 1, [2, 3, 7, 6]), (5, 2, [1, 4, 9, 8])] {
        let (kernel, stride, shape) = case;
        let case = Case { kernel, stride, shape };
        let expected = convolve(composed, case, false, &gpu());
        let found = convolve(depthwise_conv2d, case, false, &gpu());
        assert_close(&format!("{case:?}"), &found, &expected);
    }
}
