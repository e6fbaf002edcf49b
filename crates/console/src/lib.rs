//! The parts of all commands that talk to people: the terminal, and the error of a failed command.
//!
//! Standard output carries results; everything else goes to standard error ([`Console`]). A failure is a [`CliError`],
//! which determines both the printed message and the exit code.

#![forbid(unsafe_code)]

mod cli_error;
mod console;
mod warnings;

pub use cli_error::{CliError, FAILED, INTERRUPTED};
pub use console::{Console, ProgressLine, UploadBar, print};
pub use warnings::WarningPrinter;
