use burn::tensor::{Tensor, TensorData};

use super::{cpu, gpu};
use crate::tests::values;
use crate::{best_of_rows, readings};

/// The best of the same rows on both devices.
fn both(scores: Vec<f32>, rows: usize, count: usize) -> [Vec<i64>; 2] {
    let width = scores.len() / rows;
    [cpu(), gpu()].map(|device| {
        let scores = TensorData::new(scores.clone(), [rows, width]);
        let scores = Tensor::<2>::from_data(scores, &device);
        best_of_rows(scores, count).into_data().iter().collect()
    })
}

#[test]
fn the_best_of_rows_equal_the_cpus() {
    // One cube and many, a width that divides by no cube's, all of a row and a few.
    for (rows, width, count) in [(1, 1, 1), (3, 40, 40), (2, 257, 7), (3, 2100, 300)] {
        let [expected, found] = both(values(rows * width, 5), rows, count);
        assert_eq!(found, expected, "{count} of {width}");
    }
}

#[test]
fn equals_zeros_and_what_is_no_number_are_ordered_as_on_the_cpu() {
    let mut scores: Vec<f32> = values(600, 6).iter().map(|value| value.signum()).collect();
    scores[7] = f32::NAN;
    scores[400] = f32::INFINITY;
    scores[401] = f32::NEG_INFINITY;
    scores[500] = 0.0;
    scores[10] = -0.0;
    let [expected, found] = both(scores, 1, 600);
    assert_eq!(found, expected);
}

#[test]
fn nothing_is_read_to_find_the_best() {
    let scores = Tensor::<2>::from_floats([[0.3, 0.1, 0.2]], &gpu());
    let before = readings();
    let best = best_of_rows(scores.clone(), 2);
    let chosen = scores.gather(1, best);
    assert_eq!(readings(), before);
    let chosen: Vec<f32> = chosen.into_data().iter().collect();
    assert_eq!(chosen, [0.3, 0.2]);
}
