//! The planner, the ledger and the executor of this machine.
//!
//! [`plan::make`] says what is done and what is missing, [`execute::execute`] trains what is
//! missing in worker processes, [`work`] is what such a process does, and everything that happened
//! is a line of a [`ledger`]. A run may be killed at any moment; the same command goes on.

pub mod benches;
pub mod clock;
pub mod cost;
pub mod device;
pub mod differences;
pub mod error;
pub mod execute;
pub mod finished;
pub mod history;
pub mod identity;
pub mod inputs;
pub mod kernels;
pub mod ledger;
pub mod lock;
pub mod outlook;
pub mod plan;
pub mod protocol;
pub mod record;
#[cfg(test)]
mod samples;
pub mod shelf;
pub mod trainer;
pub mod why;
pub mod work;
pub mod worker;

pub use deim_ops::faults;
pub use device::{DeviceChoice, Devices};
pub use error::LabError;
pub use finished::FinishedCell;
pub use inputs::{Inputs, WeightsFile};
pub use ledger::Ledger;
pub use outlook::Outlook;
pub use plan::{Cell, Plan, Setting, State};
