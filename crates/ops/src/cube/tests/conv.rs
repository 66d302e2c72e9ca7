//! Burn's own convolutions on a GPU, which every detector is made of.

use burn::tensor::Device;

use super::{cpu, gpu, gradient_of, run, tensor};
use crate::conv2d_padded;
use crate::tests::assert_close;

#[derive(Clone, Copy, Debug)]
struct Case {
    shape: [usize; 4],
    out: usize,
    kernel: usize,
    stride: usize,
    padding: [usize; 2],
}

/// Every kind of convolution that the detectors have. Sizes that divide by no vector, and as large as
/// Mesa's software device can do: a unit that goes through more than 65535 turns of its loops is stopped
/// there without a word, and Burn's gradient of a weight goes through three for each pixel.
fn cases() -> Vec<Case> {
    let kinds = [(1, 1, [0, 0]), (2, 1, [0, 1]), (3, 1, [1, 1]), (3, 2, [1, 1])];
    let shapes = [([2, 3, 33, 20], 8), ([2, 8, 12, 10], 5), ([1, 4, 120, 120], 8)];
    let of_shape = |(shape, out): ([usize; 4], usize)| {
        kinds.map(|(kernel, stride, padding)| Case { shape, out, kernel, stride, padding })
    };
    shapes.into_iter().flat_map(of_shape).collect()
}

fn convolve(case: Case, device: &Device) -> Vec<Vec<f32>> {
    let input = tensor(case.shape, 30, device);
    let weight = tensor([case.out, case.shape[1], case.kernel, case.kernel], 31, device);
    let output = conv2d_padded(input.clone(), weight.clone(), case.stride, case.padding);
    run((output, vec![gradient_of(&input), gradient_of(&weight)]))
}

#[test]
fn convolution_and_its_gradients_equal_the_cpus() {
    for case in cases() {
        assert_close(&format!("{case:?}"), &convolve(case, &gpu()), &convolve(case, &cpu()));
    }
}

#[test]
fn a_convolution_that_leaves_pixels_out_has_the_gradient_of_those_it_takes() {
    // Burn's own is zero everywhere where the kernel is smaller than the stride.
    let case = Case { shape: [2, 3, 33, 20], out: 8, kernel: 1, stride: 2, padding: [0, 0] };
    assert_close("1x1, stride 2", &convolve(case, &gpu()), &convolve(case, &cpu()));
}
