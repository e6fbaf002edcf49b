//! A client of OCI registries that pushes and pulls apps.
//!
//! | file | what it owns |
//! | --- | --- |
//! | `app` | pushing and pulling apps ([`push_app`], [`pull_app`]) |
//! | `component` | single components ([`pull_component`]) |
//! | `archive` | an app and its signatures as one file ([`write_archive`], [`read_archive`]) |
//! | `registry` | the operations on blobs and manifests of one repository ([`Registry`]) |
//! | `referrers` | artifacts that refer to another one ([`Referrer`]) |
//! | `connection` | requests: TLS, redirects, limits of time and size |
//! | `authentication` | the response to a registry's challenge: basic credentials or a token |
//! | `credentials` | the credentials in Docker's configuration |
//! | `cache` | downloaded blobs on disk, by digest ([`BlobCache`]) |
//! | `error` | the errors and their hints ([`RegistryError`]) |
//!
//! A registry, and every server to which it redirects, is treated as hostile:
//!
//! - The size of each response is known or limited before it is read, and the time to read it is limited.
//! - Bytes are hashed while they arrive, and are used only if the digest is the expected one.
//! - Redirects keep the scheme, so `https` never becomes `http`. Credentials are sent only to the registry that they
//!   belong to and to the token service that this registry names.
//! - Texts in responses are shown with control characters escaped.
//!
//! The crate `oci-client` 0.17 was considered. It reads manifests, tokens and errors of any size into memory, follows
//! redirects from `https` to `http`, has no limit for the total time of a transfer, and depends on `aws-lc-rs` and
//! `lazy_static`, which this workspace does not use.

#![forbid(unsafe_code)]

mod app;
mod archive;
mod authentication;
mod cache;
mod component;
mod connection;
mod credentials;
mod error;
mod referrers;
mod registry;

pub use app::{PulledApp, PushedApp, app_descriptor, pull_app, push_app, tag_app};
pub use archive::{ArchiveError, read_archive, write_archive};
pub use cache::BlobCache;
pub use component::{PulledComponent, pull_component, push_component};
pub use connection::{RegistryOptions, TransportSecurity};
pub use credentials::{CredentialSource, Credentials};
pub use error::RegistryError;
pub use referrers::{FoundReferrers, Referrer, ReferrerFilter, fetch_referrers};
pub use registry::{BlobAccess, Registry};
