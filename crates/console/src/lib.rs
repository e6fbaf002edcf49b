//! What commands have in common when they talk to people: the terminal, and how a command that fails ends.
//!
//! Standard output carries results; everything else goes to standard error ([`Console`]). A failure is a [`CommandError`], which
//! decides both what is printed and the exit code.

#![forbid(unsafe_code)]

mod command_error;
mod console;
mod warnings;

pub use command_error::{CommandError, FAILED, INTERRUPTED};
pub use console::{Console, Progress, Upload, print};
pub use warnings::WarningPrinter;
