//! Formats values for people: sizes, times, how a process exited, and text from outside the platform.
//!
//! All messages of the platform use these functions. The crate does no I/O and depends on no other crate of the
//! project. The platform never parses the formatted text. Sizes in a manifest are written by
//! `isomer_manifest::show_size` instead.
#![forbid(unsafe_code)]

mod count;
mod elapsed;
pub mod excerpt;
mod fields;
mod process_exit;
mod size;
mod text;
mod time;

pub use count::{count, plural};
pub use elapsed::{Elapsed, elapsed};
pub use fields::fields;
pub use process_exit::{ProcessExit, signal_of_shell};
pub use size::{Size, size};
pub use text::{escaped, escaped_json, is_deceptive};
pub use time::{instant, minute, parse_instant, time_of_day};
