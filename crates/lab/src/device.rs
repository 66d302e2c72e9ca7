//! What a cell is trained on: chosen by name, never by falling back.

use std::fmt;
use std::str::FromStr;

use burn::tensor::Device;

use crate::error::LabError;

/// A device as the command line names it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DeviceChoice {
    /// The processor, through Burn's `flex` backend.
    #[default]
    Cpu,
    /// A GPU, by CUDA's number.
    Cuda(usize),
}

impl DeviceChoice {
    /// `cpu` or `cuda`: the part of the choice that can change a number, hence part of a cell's id.
    pub fn class(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Cuda(_) => "cuda",
        }
    }

    /// An error when this program cannot use the device.
    pub fn check(self) -> Result<(), LabError> {
        self.open().map(drop)
    }

    /// The device, without automatic differentiation.
    pub fn open(self) -> Result<Device, LabError> {
        match self {
            Self::Cpu => Ok(Device::flex()),
            Self::Cuda(index) => cuda(index),
        }
    }

    /// What the device calls itself, for the reader of a record.
    pub fn describe(self) -> String {
        match self {
            Self::Cpu => processor().unwrap_or_else(|| std::env::consts::ARCH.to_owned()),
            Self::Cuda(_) => match graphics() {
                Some(model) => format!("{self}, {model}"),
                None => self.to_string(),
            },
        }
    }
}

#[cfg(feature = "cuda")]
fn cuda(index: usize) -> Result<Device, LabError> {
    let found = Device::enumerate(burn::tensor::DeviceType::Cuda).len();
    if index >= found {
        return Err(LabError::Device(format!(
            "there is no device cuda:{index}: CUDA finds {found} on this machine"
        )));
    }
    Ok(Device::cuda(index))
}

#[cfg(not(feature = "cuda"))]
fn cuda(index: usize) -> Result<Device, LabError> {
    Err(LabError::Device(format!(
        "this program was built without CUDA, so there is no device cuda:{index}: build it with \
         `cargo build --release --features cuda`, or leave `--device` away to train on the CPU"
    )))
}

impl FromStr for DeviceChoice {
    type Err = LabError;

    fn from_str(text: &str) -> Result<Self, LabError> {
        let index = match text {
            "cpu" => return Ok(Self::Cpu),
            "cuda" => Some(0),
            _ => text.strip_prefix("cuda:").and_then(|number| number.parse().ok()),
        };
        index.map(Self::Cuda).ok_or_else(|| {
            LabError::Device(format!("expected a device cpu, cuda or cuda:N, found {text:?}"))
        })
    }
}

impl fmt::Display for DeviceChoice {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpu => formatter.write_str("cpu"),
            Self::Cuda(index) => write!(formatter, "cuda:{index}"),
        }
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
        ] {
            assert_eq!(text.parse::<DeviceChoice>().unwrap(), choice);
        }
        assert_eq!(DeviceChoice::Cuda(3).to_string(), "cuda:3");
        for text in ["", "gpu", "cuda:", "cuda:-1", "CPU"] {
            assert!(text.parse::<DeviceChoice>().is_err(), "{text} was accepted");
        }
    }

    #[cfg(not(feature = "cuda"))]
    #[test]
    fn a_device_the_program_was_not_built_for_is_refused() {
        let error = DeviceChoice::Cuda(1).check().unwrap_err().to_string();
        assert!(error.contains("built without CUDA") && error.contains("cuda:1"), "{error}");
    }
}
