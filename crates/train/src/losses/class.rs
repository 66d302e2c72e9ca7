//! Classification losses: MAL, VFL and focal (deim-facts 3.11).

use burn::tensor::activation::{log_sigmoid, sigmoid};
use burn::tensor::{IndexingUpdateOp, Tensor, TensorCreationOptions};
use deim_spec::config;

use super::{like, upload, upload_indices};

pub use deim_spec::config::ClassLoss as Kind;

/// Which classification loss, and its shape.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ClassLoss {
    pub kind: Kind,
    pub gamma: f64,
    pub alpha: f64,
    pub mal_alpha: Option<f64>,
}

impl ClassLoss {
    pub fn new(config: &config::Loss) -> Self {
        Self {
            kind: config.class,
            gamma: config.gamma,
            alpha: config.alpha,
            mal_alpha: config.mal_alpha,
        }
    }

    /// The official name of the loss.
    pub fn name(&self) -> &'static str {
        match self.kind {
            Kind::Mal => "loss_mal",
            Kind::Vfl => "loss_vfl",
            Kind::Focal => "loss_focal",
        }
    }
}

/// The positives of a stack of predictions: places in its flat logits, and their qualities.
#[derive(Clone, Debug, Default)]
pub struct Positives {
    /// Index of `(row, label)` in the flat logits; each at most once.
    pub places: Vec<usize>,
    /// IoU (or GIoU) of the matched box.
    pub qualities: Vec<f64>,
}

/// The loss of each logit, and its derivative by that logit, both of the input's shape.
pub struct Elementwise {
    pub loss: Tensor<1>,
    pub gradient: Tensor<1>,
}

impl ClassLoss {
    /// The loss of flat logits, which must not be tracked by autodiff; no weight, no normaliser.
    pub fn elementwise(&self, logits: Tensor<1>, positives: &Positives) -> Elementwise {
        match self.kind {
            Kind::Mal => self.weighted(logits, positives),
            Kind::Vfl => self.weighted(logits, positives),
            Kind::Focal => self.focal(logits, positives),
        }
    }

    /// MAL and VFL: cross entropy with a soft target and a constant weight, so that the derivative
    /// is `weight * (probability - target)`.
    fn weighted(&self, logits: Tensor<1>, positives: &Positives) -> Elementwise {
        let probability = sigmoid(logits.clone());
        let negative = power(probability.clone(), self.gamma);
        // ln(1 + e^x), precise where it is small: almost every logit is a confident negative.
        let softplus = log_sigmoid(logits.clone().neg()).neg();
        let (targets, weights) = match self.kind {
            // Weight 1 where the class is matched, even at quality 0.
            Kind::Mal => {
                let targets = powers(&positives.qualities, self.gamma);
                let weights = vec![1.0; targets.len()];
                (targets, weights)
            }
            _ => (positives.qualities.clone(), positives.qualities.clone()),
        };
        let negative = match (self.kind, self.mal_alpha) {
            (Kind::Mal, None) => negative,
            (Kind::Mal, Some(alpha)) => negative * alpha,
            _ => negative * self.alpha,
        };
        let count = logits.dims()[0];
        let (weight, error, entropy) = if positives.places.is_empty() {
            (negative, probability, softplus)
        } else {
            let scatter = Scatter::new(&positives.places, count, &logits);
            let unmatched = scatter.ones_but(-1.0);
            let target = scatter.zeros_but(targets);
            let weight = negative * unmatched + scatter.zeros_but(weights);
            // -t ln p - (1 - t) ln(1 - p) = ln(1 + e^x) - t x, with p the sigmoid of x.
            let entropy = softplus - logits * target.clone();
            (weight, probability - target, entropy)
        };
        Elementwise { loss: weight.clone() * entropy, gradient: weight * error }
    }

    /// The sigmoid focal loss. With `z` the logit of the right answer (`x` or `-x`),
    /// `n = sigmoid(-z)` and `ce = -ln sigmoid(z)`: `loss = a n^g ce`,
    /// `dloss/dz = -a n^g (g (1 - n) ce + n)`.
    fn focal(&self, logits: Tensor<1>, positives: &Positives) -> Elementwise {
        let count = logits.dims()[0];
        let (sign, balance) = if positives.places.is_empty() {
            let all = |value: f64| Tensor::full([count], value, like(&logits));
            (all(-1.0), all(1.0 - self.alpha))
        } else {
            let scatter = Scatter::new(&positives.places, count, &logits);
            let positive = scatter.zeros_but(vec![1.0; positives.places.len()]);
            let sign = positive.clone() * 2.0 - 1.0;
            (sign, positive * (2.0 * self.alpha - 1.0) + (1.0 - self.alpha))
        };
        let right = logits * sign.clone();
        let wrong = sigmoid(right.clone().neg());
        let entropy = log_sigmoid(right).neg();
        let scale = balance * power(wrong.clone(), self.gamma);
        let slope = (wrong.clone().neg() + 1.0) * self.gamma * entropy.clone() + wrong;
        Elementwise { loss: scale.clone() * entropy, gradient: (scale * slope * sign).neg() }
    }
}

/// Puts values at the positives' places of an otherwise constant vector.
struct Scatter {
    indices: Tensor<1, burn::tensor::Int>,
    positives: usize,
    count: usize,
    options: TensorCreationOptions,
}

impl Scatter {
    fn new(places: &[usize], count: usize, logits: &Tensor<1>) -> Self {
        let options = like(logits);
        let indices = upload_indices(places, &options.device);
        Self { indices, positives: places.len(), count, options }
    }

    fn zeros_but(&self, values: Vec<f64>) -> Tensor<1> {
        let zeros = Tensor::zeros([self.count], self.options.clone());
        self.add(zeros, upload(values, &self.options))
    }

    fn ones_but(&self, difference: f64) -> Tensor<1> {
        let ones = Tensor::ones([self.count], self.options.clone());
        self.add(ones, Tensor::full([self.positives], difference, self.options.clone()))
    }

    fn add(&self, base: Tensor<1>, values: Tensor<1>) -> Tensor<1> {
        base.select_assign(0, self.indices.clone(), values, IndexingUpdateOp::Add)
    }
}

/// `base^exponent`, without the slow general power for the exponents in use.
fn power(base: Tensor<1>, exponent: f64) -> Tensor<1> {
    if exponent == 1.0 {
        base
    } else if exponent == 1.5 {
        base.clone() * base.sqrt()
    } else if exponent == 2.0 {
        base.clone() * base
    } else {
        base.powf_scalar(exponent)
    }
}

fn powers(values: &[f64], exponent: f64) -> Vec<f64> {
    values.iter().map(|value| value.powf(exponent)).collect()
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;

    fn single(loss: ClassLoss, probability: f64, quality: Option<f64>) -> (f32, f32) {
        let logit = (probability / (1.0 - probability)).ln() as f32;
        let positives = quality.map_or_else(Positives::default, |quality| Positives {
            places: vec![0],
            qualities: vec![quality],
        });
        let result = loss.elementwise(Tensor::from_floats([logit], &Device::flex()), &positives);
        (result.loss.into_scalar(), result.gradient.into_scalar())
    }

    const MAL: ClassLoss = ClassLoss { kind: Kind::Mal, gamma: 1.5, alpha: 0.75, mal_alpha: None };
    const VFL: ClassLoss = ClassLoss { kind: Kind::Vfl, gamma: 2.0, alpha: 0.75, mal_alpha: None };
    const FOCAL: ClassLoss =
        ClassLoss { kind: Kind::Focal, gamma: 2.0, alpha: 0.25, mal_alpha: None };

    #[test]
    #[expect(clippy::approx_constant, reason = "as the facts print them")]
    fn single_logits_give_the_golden_values() {
        // deim-facts 3.11, "Golden (single logit)".
        for (p, q, expected_vfl, expected_mal) in [
            (0.1, Some(0.05), 0.010761, 0.129926),
            (0.5, Some(0.05), 0.034657, 0.693147),
            (0.9, Some(0.05), 0.109636, 2.278019),
            (0.9, Some(0.5), 0.601986, 1.525749),
            (0.1, Some(0.95), 2.083088, 2.139871),
            (0.9, Some(0.95), 0.204461, 0.268075),
            (0.1, None, 0.000790, 0.003332),
            (0.5, None, 0.129965, 0.245065),
            (0.9, None, 1.398820, 1.965982),
        ] {
            assert!((single(MAL, p, q).0 - expected_mal).abs() < 2e-6, "MAL at {p}, {q:?}");
            assert!((single(VFL, p, q).0 - expected_vfl).abs() < 2e-6, "VFL at {p}, {q:?}");
        }
    }

    #[test]
    fn a_worthless_match_counts_for_mal_and_not_for_vfl() {
        assert!(single(MAL, 0.5, Some(0.0)).0 > 0.6);
        assert_eq!(single(VFL, 0.5, Some(0.0)), (0.0, 0.0));
    }

    #[test]
    fn the_gradient_of_focal_is_its_slope() {
        for quality in [None, Some(1.0)] {
            for p in [0.02, 0.3, 0.5, 0.8, 0.97] {
                let logit = |p: f64| (p / (1.0 - p)).ln();
                let shifted = |by: f64| {
                    let x = logit(p) + by;
                    f64::from(single(FOCAL, 1.0 / (1.0 + (-x).exp()), quality).0)
                };
                let slope = (shifted(1e-2) - shifted(-1e-2)) / 2e-2;
                let gradient = f64::from(single(FOCAL, p, quality).1);
                assert!((slope - gradient).abs() < 1e-3 * gradient.abs() + 1e-5, "{p} {quality:?}");
            }
        }
    }

    #[test]
    fn losses_and_gradients_stay_finite_at_extreme_logits() {
        let logits = [-200.0, -100.0, 100.0, 200.0, 100.0, -100.0];
        let positives = Positives { places: vec![2, 5], qualities: vec![0.3, 0.9] };
        for loss in [MAL, VFL, FOCAL] {
            let result = loss.elementwise(Tensor::from_floats(logits, &Device::flex()), &positives);
            for values in [result.loss, result.gradient] {
                let values: Vec<f32> = values.try_into_vec_as().expect("floats");
                assert!(values.iter().all(|value| value.is_finite()), "{loss:?}: {values:?}");
            }
        }
    }
}
