//! Browser groups: makes the files with which a browser runs a group's components in a service worker.
//!
//! ```text
//! composition ──transpile──► JavaScript ──rewrite, condense──► group.js ┐
//! plan, app ────describe───────────────────────────────► description.js ├─bundle─► worker.js ┐
//! assets ───────────────────────────────────────────────────────────────┘                   ├─► WebParcel
//! composition ──transpile──► core modules ──strip, join──────────────────────► modules.bin ┘
//! ```
//!
//! The files in `assets` are the service worker. It answers the app's requests with instances of the group: it provides
//! the interfaces of WASI in [`PROVIDED`], and sends calls over seams that leave the tab to the server. The worker is
//! plain ES modules, which no other program builds.
//!
//! | file | what it owns |
//! | --- | --- |
//! | `parcel` | [`WebParcel`]: all files of a group |
//! | `description` | what the worker knows about the group |
//! | `provided` | the interfaces that the worker provides |
//! | `transpile` | a component as JavaScript |
//! | `scheduler` | the rules that make the generated scheduler event-driven |
//! | `rewrite` | applying such rules |
//! | `bundle` | joining modules into one file |
//! | `source_text`, `core_module` | making JavaScript and core modules smaller |
//!
//! The crate contains no engine and does no I/O. Its functions turn bytes into bytes.
#![forbid(unsafe_code)]

mod bundle;
mod core_module;
mod description;
mod error;
mod parcel;
mod provided;
mod rewrite;
mod scheduler;
mod source_text;
mod transpile;

pub use bundle::BundleError;
pub use description::settings;
pub use error::WebError;
pub use parcel::{WebFile, WebParcel, generator_digest};
pub use provided::PROVIDED;
pub use rewrite::RewriteError;
pub use source_text::TokenError;
pub use transpile::TranspileError;
