//! Signatures of artifacts with key pairs, in the formats of Sigstore: bundles and public keys.
//!
//! | file | what it owns |
//! | --- | --- |
//! | `key` | key pairs and public keys, as PEM files ([`SigningKey`], [`PublicKey`]) |
//! | `statement` | what is signed: an in-toto statement about an artifact ([`Statement`]) |
//! | `envelope` | the signed bytes of a statement (DSSE) |
//! | `bundle` | a statement with its signature, as one JSON text ([`sign`], [`verify`]) |
//!
//! A bundle comes from a registry or from the client of a node, so it is untrusted until a signature is verified.
//! Nothing in its statement is used before that. Only the keys that the caller trusts are accepted: the key that a
//! bundle names is only a hint.
//!
//! The keys are ECDSA P-256 with SHA-256, as those of `cosign`. Private keys are PKCS #8, unlike those of `cosign generate-key-pair`. The crate does no I/O.

#![forbid(unsafe_code)]

mod bundle;
mod envelope;
mod key;
mod statement;

pub use bundle::{BUNDLE_BYTES_MAX, BUNDLE_TYPE, BundleError, sign, unverified_key, verify};
pub use key::{KeyError, KeyId, PRIVATE_KEY_BYTES_MAX, PublicKey, SigningKey};
pub use statement::{SIGNATURE_PREDICATE, Statement, Subject};
