//! `isomer.toml`, read and checked: text in, a typed [`App`] or [`Diagnostic`]s out; node files ([`NodeFile`]) likewise.
//!
//! The crate is pure. It reads no file, no environment variable and no clock; it prints nothing. It also owns what every
//! other part says problems with: [`Diagnostic`], [`Hinted`] errors, and [`Renderer`], the one renderer for people.
//!
//! Keys exist in one place, the types of `raw.rs`. Their schema (made by `schemars`) drives the structural check of a
//! manifest (`structure.rs`), is the JSON Schema for editors ([`schema_json`]) and is printed as the reference of all keys
//! ([`reference_markdown`]), so that none of these can know a key that another does not.

#![forbid(unsafe_code)]

mod bounds;
mod diagnostic;
mod directory;
mod invalid;
mod listen;
mod lower;
mod model;
mod names;
mod node_file;
mod outbound;
mod parse;
mod raw;
mod reference;
mod render;
mod route;
mod schema;
mod source;
mod structure;
mod units;
mod word;

pub use diagnostic::{Diagnostic, Diagnostics, HintExt, Hinted, Hints, Label, Severity};
pub use invalid::InvalidText;
pub use listen::parse_listen;
pub use model::{
    App, Component, DirGrant, Grants, Limits, MONOLITH, OutboundHost, Reuse, Route, SecretSource, Shape, Source,
    SqlStore,
};
pub use names::{
    ComponentName, NAME_CHARS_MAX, StoreName, check_name, check_secret_name, is_environment_name, is_secret_name, kebab,
};
pub use node_file::{FrontTls, HostFile, HostLimits, LinkAddress, Network, NodeFile, Tls, parse_node_file};
pub use parse::{Parsed, parse};
pub use reference::{node_reference_markdown, reference_markdown};
pub use render::Renderer;
pub use schema::{node_schema_json, schema_json};
pub use source::{Position, SourceFile, Span, Spanned};
pub use structure::nearest;
pub use units::{parse_duration, parse_size, show_duration, show_size};

/// The name of an app's manifest in its folder.
pub const MANIFEST_FILE: &str = "isomer.toml";
