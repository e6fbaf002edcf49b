//! Benchmarks of a node with many apps of many tenants.
//!
//! | file | what it measures |
//! | --- | --- |
//! | `fleet` | deployments of distinct apps, and of one app for many tenants; the other benchmarks start these apps |
//! | `start` | the start of a node with all apps |
//! | `cold` | an app's first request |
//! | `memory` | the cost of a loaded app and of a live instance |
//! | `hosts` | requests per second over many host names, new instances per second |
//! | `neighbours` | a good app's latency next to hostile tenants |
//! | `peers` | the alternative without a node: a process for each app |

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

/// Returns one empty series for each reported percentile of durations.
fn times() -> Vec<Series> {
    ["p50", "p99", "max"].map(|what| Series::new(what, "ms")).into()
}

/// Adds the percentiles of `times_ms` to `series`, as one sample of each.
fn add_times(series: &mut [Series], times_ms: &[f64]) {
    for (series, percent) in series.iter_mut().zip([50.0, 99.0, 100.0]) {
        series.samples.push(percentile(times_ms, percent));
    }
}

/// Converts microseconds to milliseconds.
fn ms(us: &[f64]) -> Vec<f64> {
    us.iter().map(|us| us / 1e3).collect()
}
