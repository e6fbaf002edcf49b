//! Sending the records of one signal to the collector.
//!
//! | file | what it owns |
//! | --- | --- |
//! | `batch` | which waiting items are sent together |
//! | `attempts` | what follows an attempt to send a batch: a pure state machine |
//! | `client` | HTTP requests to the collector, and what their responses mean |
//! | `connect` | TCP and TLS connections |
//! | `exporter` | the task that sends the batches of one signal |
//! | `failure_log` | at most one log message a minute about failures |

mod attempts;
mod batch;
mod client;
mod connect;
mod exporter;
mod failure_log;

use crate::settings::Endpoint;

pub(crate) use client::Client;
pub use connect::TlsError;
pub(crate) use exporter::{Exporter, Item};
