//! The updates of a training step over all parameters at once.
//!
//! A detector has some 400 parameters, most of them small: one kernel each costs more in launches than
//! in memory. Here a launch takes as many tensors as a device lets a kernel see, every cube a piece of
//! one of them, and no tensor is copied into a common buffer first.

mod kernels;

use burn::tensor::{DType, Tensor};
use burn_cubecl::CubeRuntime;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use self::kernels::{
    PIECE, Part, PartLaunch, RatesLaunch, blend_kernel, norm_kernel, squares_kernel, update_kernel,
};
use super::call::{self, Call, Meta, UNITS, on_device};
use crate::optimizer::{AdamW, Factors};

/// Tensors of each kind in one launch. A kernel is compiled for every number of them, so more would
/// take long to compile for little.
const MOST: usize = 32;

/// How many tensors one launch may take that needs so many buffers for each, and two more.
fn most<R: CubeRuntime>(client: &ComputeClient<R>, buffers: usize) -> usize {
    let bindings = client.properties().hardware.max_bindings as usize;
    (bindings.saturating_sub(3) / buffers).clamp(1, MOST)
}

/// The tensors' places among the cubes of a launch, and the number of these.
fn parts<R: CubeRuntime>(lens: impl Iterator<Item = usize>) -> (SequenceArg<R, Part>, usize) {
    let mut parts = SequenceArg::new();
    let mut cubes = 0;
    for len in lens {
        parts.push(PartLaunch::new(cubes, len));
        cubes += len.div_ceil(PIECE);
    }
    (parts, cubes)
}

/// A row of cubes; at most so many that every device has room for them in one dimension.
fn row(cubes: usize) -> CubeCount {
    assert!(cubes <= 65_535, "{cubes} cubes in one launch");
    CubeCount::Static(cubes as u32, 1, 1)
}

fn buffers<R: CubeRuntime>(tensors: &[CubeTensor<R>]) -> SequenceArg<R, Box<[f32]>> {
    let mut buffers = SequenceArg::new();
    tensors.iter().for_each(|tensor| buffers.push(tensor.clone().into_buffer_arg()));
    buffers
}

fn widest<R: CubeRuntime>(tensors: &[CubeTensor<R>]) -> AddressType {
    call::address(&tensors.iter().collect::<Vec<_>>())
}

fn len<R: CubeRuntime>(tensor: &CubeTensor<R>) -> usize {
    tensor.meta.num_elements()
}

/// All parameters, all gradients, all means, all squares and the clipping factor, to the first, third
/// and fourth anew: in place, where nothing else holds a tensor.
#[derive(Clone, Debug)]
struct Update(Vec<Factors>);

impl Call for Update {
    const NAME: &'static str = "adamw";

    fn outputs(&self, inputs: &[Meta]) -> Vec<Meta> {
        let count = self.0.len();
        [&inputs[..count], &inputs[2 * count..4 * count]].concat()
    }

    fn run<R: CubeRuntime>(&self, mut inputs: Vec<CubeTensor<R>>) -> Vec<CubeTensor<R>> {
        let count = self.0.len();
        let clip = inputs.pop().expect("a clipping factor");
        let mut inputs = inputs.into_iter();
        let own = |tensor: CubeTensor<R>| {
            let tensor = call::dense(tensor);
            if tensor.can_mut() { tensor } else { tensor.copy() }
        };
        let parameters: Vec<_> = inputs.by_ref().take(count).map(own).collect();
        let gradients: Vec<_> = inputs.by_ref().take(count).map(call::dense32).collect();
        let means: Vec<_> = inputs.by_ref().take(count).map(own).collect();
        let squares: Vec<_> = inputs.map(own).collect();
        let client = clip.client.clone();
        let size = most(&client, 4);
        for start in (0..count).step_by(size) {
            let range = start..(start + size).min(count);
            let (parts, cubes) = parts(parameters[range.clone()].iter().map(len));
            let mut rates = SequenceArg::new();
            for factors in &self.0[range.clone()] {
                let &Factors { beta1, beta2, new1, new2, eps, keep, rate, root } = factors;
                rates.push(RatesLaunch::new(beta1, beta2, new1, new2, eps, keep, rate, root));
            }
            // SAFETY: no index is past the length of its tensor, and no other tensor shares its
            // memory: `own` saw to that.
            unsafe {
                update_kernel::launch_unchecked(
                    &client,
                    row(cubes),
                    CubeDim::new_1d(UNITS),
                    widest(&parameters[range.clone()]),
                    buffers(&parameters[range.clone()]),
                    buffers(&gradients[range.clone()]),
                    buffers(&means[range.clone()]),
                    buffers(&squares[range.clone()]),
                    clip.clone().into_buffer_arg(),
                    parts,
                    rates,
                );
            }
        }
        parameters.into_iter().chain(means).chain(squares).collect()
    }
}

/// All averages and all current values to the averages anew.
#[derive(Clone, Debug)]
struct Blend {
    old: f32,
    new: f32,
}

impl Call for Blend {
    const NAME: &'static str = "blend";

    fn outputs(&self, inputs: &[Meta]) -> Vec<Meta> {
        inputs[..inputs.len() / 2].to_vec()
    }

    fn run<R: CubeRuntime>(&self, inputs: Vec<CubeTensor<R>>) -> Vec<CubeTensor<R>> {
        let inputs: Vec<_> = inputs.into_iter().map(call::dense).collect();
        let (averages, currents) = inputs.split_at(inputs.len() / 2);
        let client = averages[0].client.clone();
        let like =
            |tensor: &CubeTensor<R>| call::empty(tensor, Meta::new([len(tensor)], DType::F32));
        let blended: Vec<_> = averages.iter().map(like).collect();
        let size = most(&client, 3);
        for start in (0..averages.len()).step_by(size) {
            let range = start..(start + size).min(averages.len());
            let (parts, cubes) = parts(averages[range.clone()].iter().map(len));
            // SAFETY: no index is past the length of its tensor.
            unsafe {
                blend_kernel::launch_unchecked(
                    &client,
                    row(cubes),
                    CubeDim::new_1d(UNITS),
                    widest(&averages[range.clone()]),
                    buffers(&averages[range.clone()]),
                    buffers(&currents[range.clone()]),
                    buffers(&blended[range.clone()]),
                    parts,
                    self.old,
                    self.new,
                );
            }
        }
        blended
    }
}

/// Tensors to their common norm, `[1]`.
#[derive(Clone, Debug)]
struct Norm;

impl Call for Norm {
    const NAME: &'static str = "global_norm";

    fn outputs(&self, _: &[Meta]) -> Vec<Meta> {
        vec![Meta::new([1], DType::F32)]
    }

    fn run<R: CubeRuntime>(&self, inputs: Vec<CubeTensor<R>>) -> Vec<CubeTensor<R>> {
        let tensors: Vec<_> = inputs.into_iter().map(call::dense32).collect();
        let client = tensors[0].client.clone();
        let all: usize = tensors.iter().map(|tensor| len(tensor).div_ceil(PIECE)).sum();
        let partial = call::empty(&tensors[0], Meta::new([all.max(1)], DType::F32));
        let mut before = 0;
        for tensors in tensors.chunks(most(&client, 1)) {
            let (parts, cubes) = parts(tensors.iter().map(len));
            // SAFETY: no index is past the length of its tensor, and every cube has its own sum.
            unsafe {
                squares_kernel::launch_unchecked(
                    &client,
                    row(cubes),
                    CubeDim::new_1d(UNITS),
                    widest(tensors),
                    buffers(tensors),
                    partial.clone().into_buffer_arg(),
                    parts,
                    before,
                );
            }
            before += cubes;
        }
        let norm = call::empty(&tensors[0], Meta::new([1], DType::F32));
        // SAFETY: the loop ends at the number of partial sums.
        unsafe {
            norm_kernel::launch_unchecked(
                &client,
                CubeCount::Static(1, 1, 1),
                CubeDim::new_1d(UNITS),
                call::address(&[&partial]),
                partial.into_buffer_arg(),
                norm.clone().into_buffer_arg(),
                before,
            );
        }
        vec![norm]
    }
}

fn run<K: Call>(call: K, inputs: Vec<Tensor<1>>) -> Vec<Tensor<1>> {
    let inputs = inputs.into_iter().map(Tensor::into_dispatch).collect();
    on_device(call, inputs).into_iter().map(Tensor::from_dispatch).collect()
}

/// See [`crate::update_all`].
pub(crate) fn update_all(
    steps: Vec<(AdamW, [Tensor<1>; 4])>,
    clip: Tensor<1>,
) -> Vec<[Tensor<1>; 3]> {
    let factors: Vec<_> = steps.iter().map(|(step, _)| step.factors()).collect();
    let mut kinds = [(); 4].map(|()| Vec::with_capacity(factors.len()));
    for (_, tensors) in steps {
        kinds.iter_mut().zip(tensors).for_each(|(kind, tensor)| kind.push(tensor));
    }
    // Nothing may hold on to a tensor that is to be updated in place.
    let mut inputs: Vec<_> = kinds.into_iter().flatten().collect();
    inputs.push(clip);
    let count = factors.len();
    let mut outputs = run(Update(factors), inputs);
    let squares = outputs.split_off(2 * count);
    let means = outputs.split_off(count);
    let both = means.into_iter().zip(squares);
    outputs.into_iter().zip(both).map(|(value, (mean, square))| [value, mean, square]).collect()
}

/// See [`crate::blend_all`].
pub(crate) fn blend_all(
    averages: Vec<Tensor<1>>,
    currents: Vec<Tensor<1>>,
    decay: f64,
) -> Vec<Tensor<1>> {
    let inputs = averages.into_iter().chain(currents).collect();
    run(Blend { old: decay as f32, new: (1.0 - decay) as f32 }, inputs)
}

/// See [`crate::global_norm`].
pub(crate) fn global_norm(tensors: Vec<Tensor<1>>) -> Tensor<1> {
    let [norm] = call::exactly(run(Norm, tensors));
    norm
}
