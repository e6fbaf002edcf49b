//! The names and digests of the platform: one type for each, with the one rule that its text obeys.
//!
//! A value of these types was checked when it was created, whether it came from an argument, a manifest, a request or a
//! file. Code that has one may compare it, put it into a path or print it without another check.
//!
//! | file | rule | types |
//! | --- | --- | --- |
//! | `kebab` | kebab names, which become parts of labels inside WebAssembly | [`ComponentName`], [`StoreName`], and the names of groups and shapes ([`check_name`]) |
//! | `label` | DNS labels, which are safe as file names and as parts of host names | [`TenantName`], [`AppName`], [`TokenName`] |
//! | `host` | host names, wildcards and IP addresses | [`HostPattern`] |
//! | `secret` | names of secrets | [`SecretName`] |
//! | `variable` | names of environment variables | [`is_environment_name`] |
//! | `digest` | hashes in hexadecimal digits | [`Digest`], [`ReleaseDigest`], [`PlanDigest`], [`TokenId`] |
//!
//! Texts that break a rule are refused with [`InvalidText`], which names the rule and, if possible, suggests a valid
//! text. The crate is pure.

#![forbid(unsafe_code)]

mod digest;
mod host;
mod invalid;
mod kebab;
mod label;
mod name_type;
mod secret;
mod variable;

pub use digest::{Digest, PlanDigest, ReleaseDigest, TokenId};
pub use host::{HOST_BYTES_MAX, HostPattern, is_host_label};
pub use invalid::InvalidText;
pub use kebab::{ComponentName, NAME_CHARS_MAX, NAME_PATTERN, StoreName, check_name, kebab};
pub use label::{AppName, LABEL_BYTES_MAX, TenantName, TokenName};
pub use secret::{SECRET_BYTES_MAX, SECRET_NAME_PATTERN, SecretName};
pub use variable::{ENVIRONMENT_PATTERN, is_environment_name};
