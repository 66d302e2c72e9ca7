//! The running sums, and what each kind of layer adds to them.

use super::Cost;

/// Which networks a layer is part of, and whether an image passes it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Presence {
    /// Both, and an image passes it.
    Runs,
    /// Both, but only training uses it.
    Idle,
    /// Only training uses it, and deploying leaves it out.
    Dropped,
}

/// A convolution without a bias, followed by a batch norm.
#[derive(Clone, Copy)]
pub struct Conv {
    pub inside: u64,
    pub outside: u64,
    pub kernel: u64,
    pub groups: u64,
}

impl Conv {
    pub fn new(inside: u64, outside: u64, kernel: u64) -> Self {
        Self { inside, outside, kernel, groups: 1 }
    }

    pub fn depthwise(channels: u64, kernel: u64) -> Self {
        Self { inside: channels, outside: channels, kernel, groups: channels }
    }

    fn weights(self) -> u64 {
        self.inside / self.groups * self.outside * self.kernel * self.kernel
    }
}

/// The sums over all layers so far.
#[derive(Default)]
pub struct Tally {
    parameters: u64,
    parameters_deployed: u64,
    multiply_adds: u64,
    multiply_adds_deployed: u64,
    /// Multiply-adds that calflops does not see.
    unseen: u64,
    /// Multiply-adds that calflops counts and nobody computes.
    imagined: u64,
    /// What else calflops counts, once deployed.
    elementwise: u64,
}

impl Tally {
    /// A convolution and its batch norm, on an output of `side` squared positions.
    pub fn conv_norm(&mut self, conv: Conv, side: u64) {
        self.conv(conv, side);
        self.parameters += 2 * conv.outside;
        self.parameters_deployed += 2 * conv.outside;
        self.elementwise += 2 * conv.outside * side * side;
    }

    /// A convolution whose batch norm becomes its bias when deployed.
    pub fn conv_folded(&mut self, conv: Conv, side: u64) {
        self.conv(conv, side);
        self.parameters += 2 * conv.outside;
        self.parameters_deployed += conv.outside;
        self.elementwise += conv.outside * side * side;
    }

    /// A 3x3 and a 1x1 convolution side by side, which become one 3x3 when deployed.
    pub fn vgg(&mut self, channels: u64, side: u64) {
        self.conv_folded(Conv::new(channels, channels, 3), side);
        let one = Conv::new(channels, channels, 1);
        self.parameters += one.weights() + 2 * channels;
        self.multiply_adds += one.weights() * side * side;
    }

    fn conv(&mut self, conv: Conv, side: u64) {
        let multiply_adds = conv.weights() * side * side;
        self.parameters += conv.weights();
        self.parameters_deployed += conv.weights();
        self.multiply_adds += multiply_adds;
        self.multiply_adds_deployed += multiply_adds;
    }

    /// A linear layer with a bias, applied to each of `tokens`.
    pub fn linear(&mut self, tokens: u64, inside: u64, outside: u64, presence: Presence) {
        let parameters = inside * outside + outside;
        self.parameters += parameters;
        if presence != Presence::Dropped {
            self.parameters_deployed += parameters;
        }
        if presence == Presence::Runs {
            self.multiply_adds += tokens * inside * outside;
            self.multiply_adds_deployed += tokens * inside * outside;
        }
    }

    /// A chain of linear layers with an activation between two of them.
    pub fn mlp(&mut self, tokens: u64, widths: &[u64], presence: Presence) {
        for pair in widths.windows(2) {
            self.linear(tokens, pair[0], pair[1], presence);
        }
        if presence == Presence::Runs {
            for width in &widths[1..widths.len() - 1] {
                self.pointwise(tokens * width);
            }
        }
    }

    /// The same for a chain that runs several times with the same weights.
    pub fn shared_mlp(&mut self, tokens: u64, widths: &[u64], runs: u64) {
        let weights = |pair: &[u64]| pair[0] * pair[1];
        let parameters: u64 = widths.windows(2).map(|pair| weights(pair) + pair[1]).sum();
        let multiply_adds: u64 = widths.windows(2).map(weights).sum::<u64>() * tokens * runs;
        self.parameters += parameters;
        self.parameters_deployed += parameters;
        self.multiply_adds += multiply_adds;
        self.multiply_adds_deployed += multiply_adds;
        self.pointwise(runs * tokens * widths[1..widths.len() - 1].iter().sum::<u64>());
    }

    /// A linear layer that training owns elsewhere, run once more until deployed.
    pub fn linear_again(&mut self, tokens: u64, inside: u64, outside: u64) {
        self.multiply_adds += tokens * inside * outside;
    }

    pub fn layer_norm(&mut self, tokens: u64, width: u64, presence: Presence) {
        self.parameters += 2 * width;
        if presence != Presence::Dropped {
            self.parameters_deployed += 2 * width;
        }
        if presence == Presence::Runs {
            // The mean, the deviation, the division and the affine map.
            self.elementwise += 5 * tokens * width;
        }
    }

    /// Multi-head attention of tokens among themselves.
    pub fn self_attention(&mut self, tokens: u64, width: u64, heads: u64, presence: Presence) {
        self.linear(tokens, width, 3 * width, presence);
        self.linear(tokens, width, width, presence);
        if presence == Presence::Runs {
            let products = 2 * tokens * tokens * width;
            self.multiply_adds += products;
            self.multiply_adds_deployed += products;
            self.unseen += products;
            self.softmax(heads * tokens * tokens);
        }
    }

    /// A table of numbers that an image never passes.
    pub fn embedding(&mut self, rows: u64, width: u64) {
        self.parameters += rows * width;
        self.parameters_deployed += rows * width;
    }

    /// Something that calflops counts once for each number: an activation, a pooling, an upsampling.
    pub fn pointwise(&mut self, numbers: u64) {
        self.elementwise += numbers;
    }

    pub fn softmax(&mut self, numbers: u64) {
        self.elementwise += numbers;
    }

    /// The mean of D-FINE's distributions of `bins` each: PyTorch's counter sees no product of a
    /// matrix and a vector, and calflops takes the vector for a matrix of `bins` columns.
    pub fn mean_of_bins(&mut self, distributions: u64, bins: u64) {
        self.imagined += distributions * bins * bins;
    }

    pub fn cost(&self) -> Cost {
        let seen = self.multiply_adds_deployed - self.unseen + self.imagined;
        Cost {
            parameters: self.parameters,
            parameters_deployed: self.parameters_deployed,
            flops: 2 * self.multiply_adds,
            flops_deployed: 2 * self.multiply_adds_deployed,
            flops_calflops: 2 * seen + self.elementwise,
        }
    }
}
