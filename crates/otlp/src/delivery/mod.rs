//! Sending the records of one signal to the collector.
//!
//! | file | what it owns |
//! | --- | --- |
//! | `batch` | which waiting items are sent together |
//! | `attempts` | what follows an attempt to send a batch: a pure state machine |
//! | `client` | HTTP requests to the collector, and what their responses mean |
//! | `connect` | TCP and TLS connections |
//! | `sender` | sending one encoded batch until it is accepted or dropped |
//! | `exporter` | the task that sends the batches of traces or logs |
//! | `metrics_exporter` | the task that sends metrics at intervals |
//! | `failure_log` | at most one log message a minute about failures |

mod attempts;
mod batch;
mod client;
mod connect;
mod exporter;
mod failure_log;
mod metrics_exporter;
mod sender;

use crate::settings::Endpoint;

pub(crate) use client::Client;
pub use connect::TlsError;
pub(crate) use exporter::{Exporter, Item};
pub(crate) use metrics_exporter::MetricsExporter;
