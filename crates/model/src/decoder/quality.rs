//! D-FINE's location quality estimator: how sharp the edges are raises or lowers all class scores
//! (deim-facts 3.12).

use burn::module::Module;
use burn::tensor::{Device, IndexingUpdateOp, Tensor};

use crate::layers::{Activation, Mlp};

/// How many of an edge's probabilities the estimator looks at, and their mean.
const BEST: usize = 4;

/// A small network on the largest probabilities of the four edges.
#[derive(Module, Debug)]
pub struct LocationQuality {
    reg_conf: Mlp,
}

impl LocationQuality {
    pub fn new(activation: Activation, device: &Device) -> Self {
        Self { reg_conf: Mlp::new(&[4 * (BEST + 1), 64, 1], activation, device) }
    }

    /// Class logits `[batch, queries, classes]` with the quality added; `probabilities` of the edges
    /// `[batch, queries, 4, bins]`.
    pub fn forward(&self, logits: Tensor<3>, probabilities: Tensor<4>) -> Tensor<3> {
        let [batch, queries, edges, bins] = probabilities.dims();
        let best = largest(probabilities.reshape([batch * queries * edges, bins]));
        let mean = best.clone().mean_dim(1);
        let statistics = Tensor::cat(vec![best, mean], 1);
        let statistics = statistics.reshape([batch, queries, edges * (BEST + 1)]);
        logits + self.reg_conf.forward(statistics)
    }
}

/// The largest values of each row, best first; of equal ones, the first.
///
/// Taking the maximum a few times needs no sort, and stays on the device.
fn largest(rows: Tensor<2>) -> Tensor<2> {
    let [count, columns] = rows.dims();
    let mut rest = rows.clone().no_grad();
    // Takes a probability out of the running.
    let out = Tensor::full([count, 1], -2.0, (&rest.device(), rest.dtype()));
    let mut places = Vec::with_capacity(BEST);
    for _ in 0..BEST.min(columns) {
        let (_, place) = rest.clone().max_dim_with_indices(1);
        rest = rest.scatter(1, place.clone(), out.clone(), IndexingUpdateOp::Add);
        places.push(place);
    }
    let places = Tensor::cat(places, 1);
    let places = if rows.device().is_autodiff() { Tensor::from_inner(places) } else { places };
    rows.gather(1, places)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_come_in_order_and_have_their_gradients() {
        let device = Device::flex().autodiff();
        let rows = [[0.1, 0.3, 0.05, 0.2, 0.15, 0.2], [0.0, 0.0, 1.0, 0.0, 0.0, 0.0]];
        let rows = Tensor::<2>::from_floats(rows, &device).require_grad();
        let best = largest(rows.clone());
        let values: Vec<f32> = best.clone().into_data().iter().collect();
        assert_eq!(values, [0.3, 0.2, 0.2, 0.15, 1.0, 0.0, 0.0, 0.0]);
        let weights = Tensor::<2>::from_floats([[1.0, 2.0, 3.0, 4.0]], &device);
        let gradients = (best * weights).sum().backward();
        let gradient: Vec<f32> =
            rows.grad(&gradients).expect("a gradient").into_data().iter().collect();
        assert_eq!(gradient, [0.0, 1.0, 0.0, 2.0, 4.0, 3.0, 2.0, 3.0, 1.0, 4.0, 0.0, 0.0]);
    }
}
