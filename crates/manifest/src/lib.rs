//! Reads and checks `isomer.toml`: the input is text, the output is a typed [`App`] or
//! [`Diagnostic`](isomer_diagnostics::Diagnostic)s. Node files ([`NodeFile`]) are read in the same steps.
//!
//! The crate is pure: it reads no file, no environment variable and no clock, and prints nothing.
//!
//! The keys are defined in one place, the types of `raw.rs`. The schema of these types (made by `schemars`) drives the
//! structural check of a manifest (`structure.rs`), is the JSON Schema for editors ([`schema_json`]) and is printed as
//! the reference of all keys ([`reference_markdown`]). So check, schema and reference cannot disagree.

#![forbid(unsafe_code)]

mod address;
mod bounds;
mod directory;
mod keyword;
mod listen_address;
mod lowering;
mod model;
mod node_file;
mod outbound;
mod parser;
mod raw;
mod raw_shapes;
mod reference;
mod route;
mod schema;
mod session;
mod spanned;
mod structure;
mod texts;
mod unclosed;
mod units;

pub use address::LinkAddress;
pub use isomer_ids::is_front_door_cookie;
pub use listen_address::parse_listen;
pub use model::{
    App, BrowserGroup, Component, ComponentLimits, ComponentSource, DirGrant, Exposure, Grants, MONOLITH, OutboundHost,
    Reuse, Route, Sampling, SecretSource, Session, Shape, SqlStoreSettings,
};
pub use node_file::{
    AddressRange, FrontTls, LinkTls, NodeFile, NodeLimits, NodeSampling, NodeSettings, OtlpExport, SignatureKeys,
    SignatureSettings, node_schema_json, parse_node_file,
};
pub use parser::{Parsed, parse};
pub use reference::{node_reference_markdown, reference_markdown};
pub use route::FRONT_HEALTH_PATH;
pub use schema::schema_json;
pub use spanned::Spanned;
pub use unclosed::unclosed_value;
pub use units::{parse_duration, parse_size, show_duration, show_size};

/// The file name of an app's manifest.
pub const MANIFEST_FILE: &str = "isomer.toml";
