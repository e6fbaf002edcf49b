//! The guest toolchain, and building an app's components with it.
//!
//! Owns: finding or installing a Rust compiler for [`TARGET`] ([`GuestToolchain`]), and turning each component's source of
//! a manifest into a file of bytes ([`build_app`]) without doing again what has not changed. Used by the command line and by
//! the project's own tasks. It knows nothing of what the bytes mean: no component is parsed here.
//!
//! Invariant: whatever is installed or built here is put in its place by one rename, so an interruption leaves either the
//! old state or the new one.
#![forbid(unsafe_code)]

mod error;
mod guest;

pub use error::{PathError, ToolchainError};
pub use guest::{GuestToolchain, TARGET};

/// What goes on while something is installed or built, for the caller to show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress<'a> {
    /// A step begins: one line for a person, or the command that is run.
    Step(&'a str),
    /// A line that a program printed while it ran.
    Output(&'a str),
}

/// Takes progress as it happens.
pub type Reporter<'a> = &'a mut dyn FnMut(Progress<'_>);
