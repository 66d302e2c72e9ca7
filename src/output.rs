//! Exit codes, and how an error reaches the user: once, on standard error.

use std::process::ExitCode;

/// Everything asked for was done.
pub const DONE: u8 = 0;
/// A check failed or some cells failed.
pub const FAILED: u8 = 1;
/// The input or the command line is wrong.
pub const WRONG_INPUT: u8 = 2;
/// Stopped by a signal; the same command goes on where it was.
pub const INTERRUPTED: u8 = 130;

/// What a subcommand returns: an exit code, or an error in its input.
pub type Outcome = anyhow::Result<ExitCode>;

/// Prints the error with its causes and gives the exit code for wrong input.
pub fn fail(error: &anyhow::Error) -> ExitCode {
    eprintln!("error: {error:#}");
    ExitCode::from(WRONG_INPUT)
}
