//! The names and digests of the platform. Each kind of name has its own type, which checks the rule of that kind.
//!
//! Every value is checked when it is created, whether the text comes from an argument, a manifest, a request or a file.
//! So code may compare a value, put it into a path or print it without another check.
//!
//! | file | rule | types |
//! | --- | --- | --- |
//! | `kebab` | kebab names, which become parts of labels inside WebAssembly | [`ComponentName`], [`StoreName`], and the names of groups and shapes ([`check_name`]) |
//! | `label` | DNS labels, which are safe as file names and as parts of host names | [`TenantName`], [`AppName`], [`TokenName`] |
//! | `host` | host names, wildcards and IP addresses | [`HostPattern`] |
//! | `secret` | names of secrets | [`SecretName`] |
//! | `reference` | references to artifacts in OCI registries | [`OciReference`] |
//! | `variable` | names of environment variables | [`is_environment_name`] |
//! | `cookie` | cookies of the front door | [`is_front_door_cookie`] |
//! | `digest` | hashes in hexadecimal digits | [`Digest`], [`ReleaseDigest`], [`PlanDigest`], [`TokenId`] |
//!
//! The error for a text that breaks a rule is [`InvalidText`]. It states the rule and, if possible, suggests a valid
//! text. The crate does no input or output.

#![forbid(unsafe_code)]

mod cookie;
mod digest;
mod host;
mod invalid;
mod kebab;
mod label;
mod name_type;
mod reference;
mod secret;
mod variable;

pub use cookie::is_front_door_cookie;
pub use digest::{Digest, PlanDigest, ReleaseDigest, TokenId};
pub use host::{HOST_BYTES_MAX, HostPattern, is_host_label};
pub use invalid::InvalidText;
pub use kebab::{ComponentName, NAME_CHARS_MAX, NAME_PATTERN, StoreName, check_name, kebab};
pub use label::{AppName, LABEL_BYTES_MAX, TenantName, TokenName};
pub use reference::{OciReference, TAG_BYTES_MAX};
pub use secret::{SECRET_BYTES_MAX, SECRET_NAME_PATTERN, SecretName};
pub use variable::{ENVIRONMENT_PATTERN, is_environment_name};
