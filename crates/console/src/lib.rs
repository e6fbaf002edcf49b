//! What commands have in common when they talk to people: the terminal, and how a command that fails ends.
//!
//! Standard output carries results; everything else goes to standard error ([`Console`]). A failure is a [`CliError`], which
//! decides both what is printed and the exit code.

#![forbid(unsafe_code)]

mod cli_error;
mod console;
mod warnings;

pub use cli_error::{CliError, FAILED, INTERRUPTED};
pub use console::{Console, ProgressLine, UploadBar, print};
pub use warnings::WarningPrinter;
