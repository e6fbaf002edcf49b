//! What a node keeps about itself, so that it comes back as it was: tenants, apps, revisions and the parts that they are made of.
//!
//! Invariant: after a crash at any moment, each app has the revision that it had before or the one that replaces it, whole.

#![forbid(unsafe_code)]
