//! Tests of the client with a real registry (`docker-registry` of Debian) and with a hostile one.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod app;
mod archive;
mod docker;
mod docker_registry;
mod fake;
mod hostile;
mod referrers;
mod tls;
