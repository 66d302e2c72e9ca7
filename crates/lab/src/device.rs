//! What a cell is trained on: chosen by name, never by falling back.

use std::fmt;
use std::str::FromStr;

use burn::tensor::Device;

use crate::error::LabError;

/// One device as the command line names it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DeviceChoice {
    /// The processor, through Burn's `flex` backend.
    #[default]
    Cpu,
    /// A GPU, by CUDA's number.
    Cuda(usize),
    /// What Vulkan thinks best, or a discrete GPU by its number.
    Vulkan(Option<usize>),
}

impl DeviceChoice {
    /// `cpu`, `cuda` or `vulkan`: the part of the choice that can change a number.
    pub fn class(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Cuda(_) => "cuda",
            Self::Vulkan(_) => "vulkan",
        }
    }

    /// An error when this program cannot use the device.
    pub fn check(self) -> Result<(), LabError> {
        self.open().map(drop)
    }

    /// The device, without automatic differentiation, after a first small computation on it.
    pub fn open(self) -> Result<Device, LabError> {
        match self {
            Self::Cpu => return Ok(Device::flex()),
            Self::Cuda(index) => cuda(index),
            Self::Vulkan(index) => vulkan(index),
        }
        .inspect(|_| deim_ops::watch_faults())
    }

    /// What the device calls itself, for the reader of a record.
    pub fn describe(self) -> String {
        match self {
            Self::Cpu => processor().unwrap_or_else(|| std::env::consts::ARCH.to_owned()),
            Self::Vulkan(_) => self.to_string(),
            Self::Cuda(_) => match graphics() {
                Some(model) => format!("{self}, {model}"),
                None => self.to_string(),
            },
        }
    }
}

/// What one cell is trained on: a device, or several of one kind that share every batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Devices(Vec<DeviceChoice>);

impl Devices {
    /// The part of the choice that can change a number, hence part of a cell's id: the kind, and how
    /// many where there are several (`2xcuda`), since each part of a batch has its own denoising queries.
    pub fn class(&self) -> String {
        let class = self.first().class();
        match self.0.len() {
            1 => class.to_owned(),
            count => format!("{count}x{class}"),
        }
    }

    /// The device that holds the optimizer, and evaluates.
    pub fn first(&self) -> DeviceChoice {
        self.0[0]
    }

    pub fn is_cpu(&self) -> bool {
        self.first() == DeviceChoice::Cpu
    }

    /// An error when this program cannot use one of the devices.
    pub fn check(&self) -> Result<(), LabError> {
        self.0.iter().try_for_each(|device| device.check())
    }

    /// The devices in order, without automatic differentiation.
    pub fn open(&self) -> Result<Vec<Device>, LabError> {
        self.0.iter().map(|device| device.open()).collect()
    }

    /// What the devices call themselves, for the reader of a record.
    pub fn describe(&self) -> String {
        match self.0.len() {
            1 => self.first().describe(),
            count => format!("{count} x {}", self.first().describe()),
        }
    }
}

impl Default for Devices {
    fn default() -> Self {
        Self::from(DeviceChoice::default())
    }
}

impl From<DeviceChoice> for Devices {
    fn from(device: DeviceChoice) -> Self {
        Self(vec![device])
    }
}

/// Work that may fail in the driver's own way, by panicking, perhaps in another thread: the first panic's
/// message comes back in place of its noise.
#[cfg(any(feature = "cuda", feature = "vulkan"))]
fn attempt<T>(work: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    use std::panic::{self, AssertUnwindSafe};
    use std::sync::{Arc, Mutex, PoisonError};

    let first: Arc<Mutex<Option<String>>> = Arc::default();
    let heard = Arc::clone(&first);
    let usual = panic::take_hook();
    panic::set_hook(Box::new(move |panic| {
        let message = panic.payload_as_str().unwrap_or("a panic without a message").to_owned();
        heard.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(message);
    }));
    let done = panic::catch_unwind(AssertUnwindSafe(work));
    panic::set_hook(usual);
    let message = first.lock().unwrap_or_else(PoisonError::into_inner).take();
    match done {
        Ok(done) => done.map_err(|error| message.unwrap_or(error)),
        Err(_) => Err(message.unwrap_or_else(|| "a panic without a message".to_owned())),
    }
}

/// Adds two numbers on the device: opens it, compiles a kernel, and reads the result back.
#[cfg(any(feature = "cuda", feature = "vulkan"))]
fn probe(device: &Device) -> Result<(), String> {
    let two = attempt(|| {
        let one = burn::tensor::Tensor::<1>::from_floats([1.0], device);
        let data = (one + 1.0).try_into_data().map_err(|error| format!("{error:?}"))?;
        Ok(data.iter::<f32>().next())
    })?;
    match two {
        Some(2.0) => Ok(()),
        other => Err(format!("1 + 1 came out as {other:?}")),
    }
}

#[cfg(feature = "cuda")]
fn cuda(index: usize) -> Result<Device, LabError> {
    let failed = |message: String| LabError::Device(without_cuda(index, &message));
    let found =
        attempt(|| Ok(Device::enumerate(burn::tensor::DeviceType::Cuda).len())).map_err(failed)?;
    if index >= found {
        return Err(LabError::Device(format!(
            "there is no device cuda:{index}: CUDA finds {found} on this machine"
        )));
    }
    let device = Device::cuda(index);
    probe(&device).map_err(failed)?;
    Ok(device)
}

#[cfg(not(feature = "cuda"))]
fn cuda(index: usize) -> Result<Device, LabError> {
    Err(not_built("CUDA", &DeviceChoice::Cuda(index).to_string(), "cuda"))
}

#[cfg(feature = "vulkan")]
fn vulkan(index: Option<usize>) -> Result<Device, LabError> {
    use burn::tensor::DeviceKind;

    // Burn's `webgpu` on the Vulkan API; crates/ops/Cargo.toml says why not its `vulkan`.
    let device = Device::webgpu(match index {
        Some(index) => DeviceKind::DiscreteGpu(index),
        None => DeviceKind::DefaultDevice,
    });
    let name = DeviceChoice::Vulkan(index);
    match probe(&device) {
        Ok(()) => Ok(device),
        Err(message) => Err(LabError::Device(format!(
            "no Vulkan driver serves {name}; install one that `vulkaninfo` lists (without a GPU: \
             Mesa's software device, Debian's mesa-vulkan-drivers): {}",
            first_line(&message)
        ))),
    }
}

#[cfg(not(feature = "vulkan"))]
fn vulkan(index: Option<usize>) -> Result<Device, LabError> {
    Err(not_built("Vulkan", &DeviceChoice::Vulkan(index).to_string(), "vulkan"))
}

#[cfg(not(all(feature = "cuda", feature = "vulkan")))]
fn not_built(what: &str, device: &str, feature: &str) -> LabError {
    LabError::Device(format!(
        "this program was built without {what}, so there is no device {device}: build it with \
         `cargo build --release --features {feature}`, or leave `--device` away to train on the CPU"
    ))
}

/// What a user can do about a failure of CUDA, from its message.
#[cfg(any(feature = "cuda", test))]
fn without_cuda(index: usize, message: &str) -> String {
    let lacks = |library: &str| message.contains(&format!("\"{library}\" shared library"));
    let reason = if lacks("cuda") {
        "the NVIDIA driver's library libcuda.so.1 is not on this machine: install the driver \
         (`nvidia-smi` has to work), and start a container with its GPUs"
    } else if lacks("nvrtc") {
        "CUDA's compiler libnvrtc.so is not found: install NVRTC 12 or 13 with the CUDA toolkit, and \
         put its folder into LD_LIBRARY_PATH"
    } else if message.contains("CUDA installation not found") {
        "CUDA's header files are not found: install the CUDA toolkit, and say where with CUDA_PATH \
         (its folder `include` has to hold cuda_fp16.h)"
    } else if message.contains("NO_DEVICE") {
        "the NVIDIA driver is here, but finds no GPU"
    } else if message.contains("INSUFFICIENT_DRIVER") || message.contains("Missing symbol") {
        "the NVIDIA driver is older than the CUDA that this program asks for: install a newer one"
    } else {
        return format!("cuda:{index} cannot be used: {}", first_line(message));
    };
    format!("cuda:{index} cannot be used: {reason}")
}

#[cfg(any(feature = "cuda", feature = "vulkan", test))]
fn first_line(message: &str) -> &str {
    message.trim().lines().next().unwrap_or_default()
}

impl FromStr for DeviceChoice {
    type Err = LabError;

    fn from_str(text: &str) -> Result<Self, LabError> {
        let (kind, index) = match text.split_once(':') {
            Some((kind, index)) => {
                (kind, Some(index.parse::<usize>().map_err(|_| expected(text))?))
            }
            None => (text, None),
        };
        match (kind, index) {
            ("cpu", None) => Ok(Self::Cpu),
            ("cuda", index) => Ok(Self::Cuda(index.unwrap_or(0))),
            ("vulkan", index) => Ok(Self::Vulkan(index)),
            _ => Err(expected(text)),
        }
    }
}

fn expected(text: &str) -> LabError {
    LabError::Device(format!(
        "expected a device cpu, cuda, cuda:N, vulkan or vulkan:N, or several of one kind \
         (cuda:0,1), found {text:?}"
    ))
}

impl FromStr for Devices {
    type Err = LabError;

    /// `cuda:0,1` is `cuda:0,cuda:1`, and so is their class, `2xcuda`.
    fn from_str(text: &str) -> Result<Self, LabError> {
        if let Some((count, class)) = text.split_once('x')
            && let Ok(count @ 1..=64) = count.parse::<usize>()
        {
            let device = |index| match class {
                "cpu" => Ok(DeviceChoice::Cpu),
                class => format!("{class}:{index}").parse(),
            };
            return (0..count).map(device).collect::<Result<_, _>>().map(Self);
        }
        let mut devices: Vec<DeviceChoice> = Vec::new();
        for part in text.split(',') {
            let device = match (part.parse(), devices.last()) {
                (Ok(index), Some(DeviceChoice::Cuda(_))) => DeviceChoice::Cuda(index),
                (Ok(index), Some(DeviceChoice::Vulkan(_))) => DeviceChoice::Vulkan(Some(index)),
                _ => part.parse()?,
            };
            if devices.first().is_some_and(|first| first.class() != device.class()) {
                return Err(LabError::Device(format!("{text}: devices of one kind, please")));
            }
            // Without several, the processor or what Vulkan thinks best stands for them: that is how
            // the sharing is tested.
            let any = matches!(device, DeviceChoice::Cpu | DeviceChoice::Vulkan(None));
            if !any && devices.contains(&device) {
                return Err(LabError::Device(format!("{text}: {device} is named twice")));
            }
            devices.push(device);
        }
        Ok(Self(devices))
    }
}

impl fmt::Display for DeviceChoice {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cuda(index) | Self::Vulkan(Some(index)) => {
                write!(formatter, "{}:{index}", self.class())
            }
            Self::Cpu | Self::Vulkan(None) => formatter.write_str(self.class()),
        }
    }
}

impl fmt::Display for Devices {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<String> = self.0.iter().map(ToString::to_string).collect();
        formatter.write_str(&names.join(","))
    }
}

/// The processor's name where Linux tells it.
fn processor() -> Option<String> {
    let text = std::fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = text.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

/// The names of the machine's NVIDIA GPUs where the driver tells them.
fn graphics() -> Option<String> {
    let mut models: Vec<String> = std::fs::read_dir("/proc/driver/nvidia/gpus")
        .ok()?
        .flatten()
        .filter_map(|gpu| std::fs::read_to_string(gpu.path().join("information")).ok())
        .filter_map(|text| {
            Some(text.lines().find_map(|line| line.strip_prefix("Model:"))?.trim().to_owned())
        })
        .collect();
    models.sort();
    models.dedup();
    (!models.is_empty()).then(|| models.join(" or "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_they_are_written() {
        for (text, choice) in [
            ("cpu", DeviceChoice::Cpu),
            ("cuda", DeviceChoice::Cuda(0)),
            ("cuda:3", DeviceChoice::Cuda(3)),
            ("vulkan", DeviceChoice::Vulkan(None)),
            ("vulkan:1", DeviceChoice::Vulkan(Some(1))),
        ] {
            assert_eq!(text.parse::<DeviceChoice>().unwrap(), choice);
            assert_eq!(choice.to_string().parse::<DeviceChoice>().unwrap(), choice);
        }
        for text in ["", "gpu", "cuda:", "cuda:-1", "CPU", "cpu:0"] {
            assert!(text.parse::<DeviceChoice>().is_err(), "{text} was accepted");
        }
    }

    #[test]
    fn several_devices_are_of_one_kind_and_count_in_the_class() {
        let read = |text: &str| text.parse::<Devices>();
        let two = read("cuda:0,1").unwrap();
        assert_eq!(two, read("cuda:0,cuda:1").unwrap());
        assert_eq!(two, read(&two.class()).unwrap());
        assert_eq!((two.class(), two.to_string()), ("2xcuda".into(), "cuda:0,cuda:1".into()));
        // Cells that were trained on one device keep their ids.
        assert_eq!(read("cuda:3").unwrap().class(), "cuda");
        assert_eq!(Devices::default().class(), "cpu");
        assert_eq!(read("cpu,cpu").unwrap().class(), "2xcpu");
        for text in ["cuda:0,0", "cpu,cuda", "cpu,1", "cuda:0,", "vulkan:0,0", ","] {
            assert!(read(text).is_err(), "{text} was accepted");
        }
    }

    #[cfg(not(feature = "cuda"))]
    #[test]
    fn a_device_the_program_was_not_built_for_is_refused() {
        let error = Devices::from(DeviceChoice::Cuda(1)).check().unwrap_err().to_string();
        assert!(error.contains("built without CUDA") && error.contains("cuda:1"), "{error}");
    }

    #[test]
    fn what_is_missing_for_cuda_is_said_in_one_sentence() {
        for (message, said) in [
            ("Unable to dynamically load the \"cuda\" shared library - searched", "libcuda.so.1"),
            ("Unable to dynamically load the \"nvrtc\" shared library", "LD_LIBRARY_PATH"),
            ("\n  CUDA installation not found.\n Please ensure", "CUDA_PATH"),
            ("DriverError(CUDA_ERROR_NO_DEVICE, \"no device\")", "finds no GPU"),
            ("another thing\nwith details", "another thing"),
        ] {
            let sentence = without_cuda(0, message);
            assert!(sentence.contains(said) && !sentence.contains('\n'), "{sentence}");
        }
    }
}
