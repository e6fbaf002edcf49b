//! How messages show values to people: sizes, times, how a process ended, and text from outside.
//!
//! All messages of the platform use these. Pure: the crate knows no other crate of the project. What is shown is never
//! parsed again; sizes in a manifest are written by `isomer_manifest::show_size`.
#![forbid(unsafe_code)]

mod elapsed;
pub mod excerpt;
mod process_exit;
mod size;
mod text;
mod time;

pub use elapsed::{Elapsed, elapsed};
pub use process_exit::{ProcessExit, signal_of_shell};
pub use size::{Size, size};
pub use text::{escaped, escaped_json, is_deceptive};
pub use time::{instant, minute, time_of_day};
