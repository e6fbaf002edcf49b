//! A node with many apps, of many tenants: how quickly they are deployed and come back, what they take, how they are served, and what
//! one of them feels of hostile ones.
//!
//! | file | what it measures |
//! | --- | --- |
//! | `fleet` | deploying: distinct apps, and one app for many tenants. What it deploys, the others start |
//! | `start` | the node's start with all of them |
//! | `cold` | an app's first request |
//! | `memory` | what a loaded app and a live instance take |
//! | `hosts` | requests a second over many host names, fresh instances a second |
//! | `neighbours` | a good app's latency beside hostile tenants |
//! | `peers` | a process for each app, as one would have without a node |

mod cold;
mod fleet;
mod hosts;
mod memory;
mod neighbours;
mod peers;
mod start;

use isomer_bench_node::load::percentile;

use crate::report::Series;

pub(crate) use cold::run as cold;
pub(crate) use fleet::{Fleet, run as deploy};
pub(crate) use hosts::run as hosts;
pub(crate) use memory::run as memory;
pub(crate) use neighbours::run as neighbours;
pub(crate) use start::run as start;

/// Series for the distribution of times.
fn times() -> Vec<Series> {
    ["p50", "p99", "max"].map(|what| Series::new(what, "ms")).into()
}

/// Adds the distribution of some times, in milliseconds, as one sample each.
fn add_times(series: &mut [Series], times_ms: &[f64]) {
    for (series, percent) in series.iter_mut().zip([50.0, 99.0, 100.0]) {
        series.samples.push(percentile(times_ms, percent));
    }
}

/// Milliseconds out of microseconds.
fn ms(us: &[f64]) -> Vec<f64> {
    us.iter().map(|us| us / 1e3).collect()
}
