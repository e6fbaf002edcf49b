//! The command-line parts that all commands share: the terminal, and the error of a failed command.
//!
//! Results are printed on standard output, everything else on standard error ([`Console`]). A failure is a
//! [`CliError`], which determines the printed message and the exit code.

#![forbid(unsafe_code)]

mod cli_error;
mod console;
mod warnings;

pub use cli_error::{CliError, FAILED, INTERRUPTED};
pub use console::{Console, ProgressLine, UploadBar, print};
pub use warnings::WarningPrinter;
