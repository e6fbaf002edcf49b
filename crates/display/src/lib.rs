//! Values as messages show them to people: sizes, how a process ended, and text from outside.
//!
//! The one place that decides these words, so that every message of the platform says the same. Pure: it knows no other crate, and
//! what is shown here is never parsed (sizes in a manifest are written by `isomer_manifest::show_size`).
#![forbid(unsafe_code)]

mod elapsed;
mod ended;
pub mod excerpt;
mod size;
mod text;
mod time;

pub use elapsed::{Elapsed, elapsed};
pub use ended::{Ended, signal_of_shell};
pub use size::{Size, size};
pub use text::{escaped, escaped_json, is_deceptive};
pub use time::{instant, minute, time_of_day};
