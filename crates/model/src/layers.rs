//! The building blocks that every part of a detector shares.
//!
//! Field names are the official module names and weights have PyTorch's shapes, so a parameter's path
//! here is its name in an official checkpoint. Values come later, from `init` or from a file.
//!
//! Every block computes in the precision of its input, whatever that of its weights (docs/precision.md).

use burn::module::{Module, Param, RunningState};
use burn::tensor::{Device, Tensor};
pub use deim_ops::Activation;
use deim_ops::{
    batch_norm_frozen, batch_norm_inference, batch_norm_train, conv2d_padded, depthwise_conv2d,
    layer_norm, linear,
};

/// The momentum and epsilon of every official batch norm.
const MOMENTUM: f64 = 0.1;
const EPSILON: f64 = 1e-5;

fn zeros<const D: usize>(shape: [usize; D], device: &Device) -> Param<Tensor<D>> {
    Param::from_tensor(Tensor::zeros(shape, device))
}

fn ones<const D: usize>(shape: [usize; D], device: &Device) -> Param<Tensor<D>> {
    Param::from_tensor(Tensor::ones(shape, device))
}

/// A convolution without bias.
#[derive(Module, Debug)]
pub struct Conv {
    /// `[out, in, kernel, kernel]`; `in` is 1 if depthwise.
    weight: Param<Tensor<4>>,
    stride: usize,
    /// Zeros before and after each row and column; a depthwise kernel lies in the middle.
    #[module(skip)]
    padding: [usize; 2],
    depthwise: bool,
}

impl Conv {
    pub fn new(from: usize, to: usize, kernel: usize, stride: usize, device: &Device) -> Self {
        let weight = zeros([to, from, kernel, kernel], device);
        Self { weight, stride, padding: [(kernel - 1) / 2; 2], depthwise: false }
    }

    /// One kernel a channel.
    pub fn depthwise(channels: usize, kernel: usize, stride: usize, device: &Device) -> Self {
        Self { depthwise: true, ..Self::new(1, channels, kernel, stride, device) }
    }

    /// The same with other numbers of zeros before and after.
    pub fn with_padding(self, padding: [usize; 2]) -> Self {
        Self { padding, ..self }
    }

    /// Output channels.
    pub fn channels(&self) -> usize {
        self.weight.dims()[0]
    }

    /// `[batch, in, h, w] -> [batch, out, h / stride, w / stride]`
    pub fn forward(&self, input: Tensor<4>) -> Tensor<4> {
        if self.depthwise {
            depthwise_conv2d(input, self.weight.val(), self.stride)
        } else {
            conv2d_padded(input, self.weight.val(), self.stride, self.padding)
        }
    }
}

/// Batch normalisation with PyTorch's running statistics.
#[derive(Module, Debug)]
pub struct BatchNorm {
    weight: Param<Tensor<1>>,
    bias: Param<Tensor<1>>,
    running_mean: RunningState<Tensor<1>>,
    running_var: RunningState<Tensor<1>>,
    /// Neither its weights nor its statistics change, and training uses the latter too.
    frozen: bool,
}

impl BatchNorm {
    pub fn new(channels: usize, device: &Device) -> Self {
        let plain = device.clone().inner();
        Self {
            weight: ones([channels], device),
            bias: zeros([channels], device),
            running_mean: RunningState::new(Tensor::zeros([channels], &plain)),
            running_var: RunningState::new(Tensor::ones([channels], &plain)),
            frozen: false,
        }
    }

    /// The same, frozen or not.
    pub fn with_frozen(self, frozen: bool) -> Self {
        if frozen { Self { frozen, ..self.no_grad() } } else { self }
    }

    /// Trains on an autodiff device and uses the running statistics elsewhere.
    pub fn forward(&self, input: Tensor<4>, activation: Activation) -> Tensor<4> {
        let (weight, bias) = (self.weight.val(), self.bias.val());
        if !input.device().is_autodiff() {
            let (mean, variance) = (self.running_mean.value(), self.running_var.value());
            return batch_norm_inference(input, weight, bias, mean, variance, EPSILON, activation);
        }
        if self.frozen {
            let (mean, variance) = (self.running_mean.value(), self.running_var.value());
            let (weight, bias) = (weight.inner(), bias.inner());
            return batch_norm_frozen(input, weight, bias, mean, variance, EPSILON, activation);
        }
        let batch = batch_norm_train(input, weight, bias, EPSILON, activation);
        let count = batch.count as f64;
        track(&self.running_mean, batch.mean);
        // PyTorch keeps the unbiased variance, Burn the biased one.
        track(&self.running_var, batch.variance.mul_scalar(count / (count - 1.0).max(1.0)));
        batch.output
    }
}

/// One step of a running statistic.
fn track(running: &RunningState<Tensor<1>>, batch: Tensor<1>) {
    let old = running.value_sync();
    running.update(old.mul_scalar(1.0 - MOMENTUM) + batch.mul_scalar(MOMENTUM));
    // An update only shows after a synchronisation; visitors must see it at once.
    running.value_sync();
}

/// Convolution, batch norm, activation: the official `ConvNormLayer`.
#[derive(Module, Debug)]
pub struct ConvNorm {
    conv: Conv,
    norm: BatchNorm,
    #[module(skip)]
    activation: Activation,
}

impl ConvNorm {
    pub fn new(
        [from, to]: [usize; 2],
        kernel: usize,
        stride: usize,
        activation: Activation,
        device: &Device,
    ) -> Self {
        let conv = Conv::new(from, to, kernel, stride, device);
        Self { conv, norm: BatchNorm::new(to, device), activation }
    }

    /// The same with a norm that is frozen or not.
    pub fn with_frozen_norm(self, frozen: bool) -> Self {
        Self { norm: self.norm.with_frozen(frozen), ..self }
    }

    /// A convolution with one kernel a channel, then the same.
    pub fn depthwise(
        channels: usize,
        kernel: usize,
        stride: usize,
        activation: Activation,
        device: &Device,
    ) -> Self {
        let conv = Conv::depthwise(channels, kernel, stride, device);
        Self { conv, norm: BatchNorm::new(channels, device), activation }
    }

    pub fn forward(&self, input: Tensor<4>) -> Tensor<4> {
        self.norm.forward(self.conv.forward(input), self.activation)
    }
}

/// A linear map with bias.
#[derive(Module, Debug)]
pub struct Linear {
    /// `[out, in]`, as PyTorch stores it.
    weight: Param<Tensor<2>>,
    bias: Param<Tensor<1>>,
}

impl Linear {
    pub fn new(from: usize, to: usize, device: &Device) -> Self {
        Self { weight: zeros([to, from], device), bias: zeros([to], device) }
    }

    /// `[.., in] -> [.., out]`
    pub fn forward<const D: usize>(&self, input: Tensor<D>) -> Tensor<D> {
        self.activated(input, Activation::Identity)
    }

    /// The same, then an activation.
    pub fn activated<const D: usize>(&self, input: Tensor<D>, activation: Activation) -> Tensor<D> {
        linear(input, self.weight.val(), self.bias.val(), activation)
    }
}

/// Layer normalisation over the last axis.
#[derive(Module, Debug)]
pub struct LayerNorm {
    weight: Param<Tensor<1>>,
    bias: Param<Tensor<1>>,
}

impl LayerNorm {
    pub fn new(channels: usize, device: &Device) -> Self {
        Self { weight: ones([channels], device), bias: zeros([channels], device) }
    }

    pub fn forward<const D: usize>(&self, input: Tensor<D>) -> Tensor<D> {
        layer_norm(input, self.weight.val(), self.bias.val(), EPSILON)
    }
}

/// Linear layers with an activation between them.
#[derive(Module, Debug)]
pub struct Mlp {
    layers: Vec<Linear>,
    #[module(skip)]
    activation: Activation,
}

impl Mlp {
    /// `widths`: of the input, of every hidden layer, of the output.
    pub fn new(widths: &[usize], activation: Activation, device: &Device) -> Self {
        let layers = widths.windows(2).map(|pair| Linear::new(pair[0], pair[1], device)).collect();
        Self { layers, activation }
    }

    pub fn forward<const D: usize>(&self, input: Tensor<D>) -> Tensor<D> {
        let last = self.layers.len() - 1;
        self.layers.iter().enumerate().fold(input, |hidden, (index, layer)| {
            if index < last {
                layer.activated(hidden, self.activation)
            } else {
                layer.forward(hidden)
            }
        })
    }
}
