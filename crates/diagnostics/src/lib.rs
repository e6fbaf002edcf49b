//! Diagnostics as data, and the renderer that formats them for people.
//!
//! | file | what it owns |
//! | --- | --- |
//! | `source` | [`SourceFile`], [`Span`], [`Position`]: text with a name, and places in it |
//! | `diagnostic` | [`Diagnostic`]: a message with its place in a source file, notes and hints |
//! | `hints` | [`Hinted`]: an error that carries hints through a chain of errors |
//! | `chain` | [`chain()`]: an error and its causes on one line |
//! | `render` | [`Renderer`]: diagnostics and chains of errors as text for people |
//! | `nearest` | [`nearest()`]: the known name that is most similar to a misspelt one |
//!
//! The crate does no I/O: it reads no file and prints nothing.

#![forbid(unsafe_code)]

mod chain;
mod diagnostic;
mod hints;
mod nearest;
mod render;
mod source;

pub use chain::{causes, chain};
pub use diagnostic::{Diagnostic, Diagnostics, Label, Severity};
pub use hints::{HintExt, Hinted, Hints};
pub use nearest::nearest;
pub use render::Renderer;
pub use source::{Position, SourceFile, Span};
