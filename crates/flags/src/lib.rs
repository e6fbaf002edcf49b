//! The flags that several programs have: `isomer`, and the programs that `isomer ship exe` writes.

#![forbid(unsafe_code)]

mod address;
mod log;
mod telemetry;
mod values;

pub use address::{AdminFlag, admin, admin_or_off, listen, with_hint};
pub use log::{LogFlag, start_command_log};
pub use telemetry::TelemetryFlag;
pub use values::ValueFlags;
