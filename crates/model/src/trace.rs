//! What the modules inside a detector give, for those who compare it with the official modules.
//!
//! A forward pass says here what a module gave, under the module's official path. Nobody listens unless
//! the pass runs inside [`recorded`] on the same thread: then nothing is cloned, formatted or computed.

use std::cell::RefCell;
use std::fmt::Display;

use burn::tensor::Tensor;

/// The output of a module.
#[derive(Clone, Debug)]
pub struct Output {
    /// The module's official path, such as `encoder.fpn_blocks.0`; a second output of the same module
    /// has `#1` behind it, and so on.
    pub name: String,
    pub shape: Vec<usize>,
    /// Row by row, detached.
    pub values: Tensor<1>,
}

#[derive(Default)]
struct Recording {
    /// The modules that are running, each with a dot behind it.
    path: String,
    outputs: Vec<Output>,
}

thread_local! {
    static RECORDING: RefCell<Option<Recording>> = const { RefCell::new(None) };
}

/// What `compute` returns, and the outputs of all modules that ran in it on this thread.
pub fn recorded<T>(compute: impl FnOnce() -> T) -> (T, Vec<Output>) {
    /// Ends the recording also when `compute` panics.
    struct Open(Option<Recording>);
    impl Drop for Open {
        fn drop(&mut self) {
            RECORDING.replace(self.0.take());
        }
    }
    let _open = Open(RECORDING.replace(Some(Recording::default())));
    let result = compute();
    (result, RECORDING.take().unwrap_or_default().outputs)
}

/// Whether somebody listens: for what is computed only to be recorded.
pub(crate) fn is_on() -> bool {
    RECORDING.with_borrow(Option::is_some)
}

/// The output of the module of this name inside the modules that run.
pub(crate) fn record<const D: usize>(name: impl Display, output: &Tensor<D>) {
    RECORDING.with_borrow_mut(|recording| {
        let Some(Recording { path, outputs }) = recording else { return };
        let mut name = format!("{path}{name}");
        let calls = outputs.iter().filter(|output| is_of(&output.name, &name)).count();
        if calls > 0 {
            name = format!("{name}#{calls}");
        }
        let values = output.clone().detach().reshape([output.shape().num_elements()]);
        outputs.push(Output { name, shape: output.dims().to_vec(), values });
    });
}

/// Runs a module: what is recorded in it has its name before its own.
pub(crate) fn within<T>(module: impl Display, run: impl FnOnce() -> T) -> T {
    let enter = |recording: &mut Option<Recording>| {
        let path = &mut recording.as_mut()?.path;
        let before = path.len();
        *path = format!("{path}{module}.");
        Some(before)
    };
    let before = RECORDING.with_borrow_mut(enter);
    let result = run();
    if let Some(before) = before {
        RECORDING.with_borrow_mut(|recording| {
            recording.iter_mut().for_each(|recording| recording.path.truncate(before));
        });
    }
    result
}

/// Whether a recorded name is this module's, from whichever call.
fn is_of(recorded: &str, module: &str) -> bool {
    recorded.split('#').next() == Some(module)
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;

    #[test]
    fn outputs_have_the_path_of_their_module_and_the_number_of_their_call() {
        let output = Tensor::<2>::from_floats([[1.0, 2.0], [3.0, 4.0]], &Device::flex());
        let (result, outputs) = recorded(|| {
            record("stem", &output);
            within(format_args!("layers.{}", 2), || {
                record("norm", &output.clone().transpose());
                record("norm", &output);
            });
            record("stem", &output);
            7
        });
        let names: Vec<&str> = outputs.iter().map(|output| output.name.as_str()).collect();
        assert_eq!(
            (result, names),
            (7, vec!["stem", "layers.2.norm", "layers.2.norm#1", "stem#1"])
        );
        assert_eq!(outputs[1].shape, [2, 2]);
        let values: Vec<f32> = outputs[1].values.clone().into_data().iter().collect();
        assert_eq!(values, [1.0, 3.0, 2.0, 4.0]);
    }

    #[test]
    fn nobody_listens_outside_on_another_thread_or_after_a_panic() {
        let output = Tensor::<1>::from_floats([1.0], &Device::flex());
        record("lost", &output);
        let (elsewhere, outputs) = recorded(|| {
            let other = std::thread::spawn(is_on).join();
            other.expect("no panic")
        });
        assert!(!elsewhere && outputs.is_empty() && !is_on());
        let panicked = std::panic::catch_unwind(|| recorded(|| panic!("on purpose")));
        assert!(panicked.is_err() && !is_on());
    }
}
