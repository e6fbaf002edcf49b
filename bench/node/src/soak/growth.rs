//! The growth of a node's resource usage: it is observed at regular intervals, and judged by its slope after the
//! warm-up.
//!
//! The slope is the Theil–Sen estimator: the median of the slopes between all pairs of observations. A few outliers,
//! for example while the output of a compiler process is mapped or a deployment is running, do not change it.

use std::fmt;
use std::time::Duration;

use crate::usage::Usage;

/// The first 1/`WARM_UP_PARTS` of the observations is the warm-up, in which caches fill, threads start and all code is
/// loaded.
const WARM_UP_PARTS: usize = 3;

/// The maximum growth of resident memory from the end of the warm-up to the end of the soak. The limit does not depend
/// on the duration of the soak, so a long soak allows less growth per second than a short one.
const RESIDENT_BYTES_MAX: f64 = 24.0 * 1024.0 * 1024.0;
const ANONYMOUS_BYTES_MAX: f64 = 24.0 * 1024.0 * 1024.0;
const DESCRIPTORS_MAX: f64 = 16.0;
const THREADS_MAX: f64 = 4.0;
const MAPPINGS_MAX: f64 = 256.0;
const INSTANCES_MAX: f64 = 32.0;

/// One observation of the node.
#[derive(Debug, Clone, Copy)]
pub struct Window {
    /// The time since the beginning of the soak.
    pub at: Duration,
    /// The resource usage of the process.
    pub usage: Usage,
    /// The number of live instances, as reported by the node.
    pub instances: u64,
    /// The number of correct responses so far.
    pub requests: u64,
}

/// The growth of one quantity, for example of the number of threads.
#[derive(Debug, Clone, PartialEq)]
pub struct Growth {
    /// The name of the quantity, with its unit.
    pub what: &'static str,
    /// The median of the quantity after the warm-up.
    pub median: f64,
    /// The growth from the end of the warm-up to the end of the soak: the slope times the duration.
    pub grown: f64,
    /// The limit of `grown`, in the unit of the quantity.
    pub grown_max: f64,
}

impl Growth {
    /// Returns whether the quantity has grown more than [`Growth::grown_max`].
    #[must_use]
    pub fn is_too_much(&self) -> bool {
        self.grown > self.grown_max
    }
}

impl fmt::Display for Growth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { what, median, grown, grown_max } = self;
        write!(f, "{what}: {median:.0} median, grown by {grown:.0} after the warm-up (at most {grown_max:.0})")
    }
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Usage { resident_bytes, anonymous_bytes, mappings, descriptors, threads, .. } = self.usage;
        let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        write!(
            f,
            "{:>6.1} s {:>9} responses, resident {:.1} MiB ({:.1} anonymous), {mappings} mappings, {descriptors} descriptors, \
             {threads} threads, {} instances",
            self.at.as_secs_f64(),
            self.requests,
            mib(resident_bytes),
            mib(anonymous_bytes),
            self.instances
        )
    }
}

/// Returns the growth of every quantity after the warm-up. The list is empty if there are fewer than two observations
/// after the warm-up.
#[must_use]
pub fn judge(windows: &[Window]) -> Vec<Growth> {
    let after = &windows[windows.len() / WARM_UP_PARTS..];
    let growth = |what, grown_max, read: &dyn Fn(&Window) -> u64| {
        let points: Vec<(f64, f64)> =
            after.iter().map(|window| (window.at.as_secs_f64(), read(window) as f64)).collect();
        let time = points.last().map_or(0.0, |last| last.0) - points.first().map_or(0.0, |first| first.0);
        let median = median(points.iter().map(|point| point.1).collect());
        Growth { what, median, grown: slope(&points) * time, grown_max }
    };
    if after.len() < 2 {
        return Vec::new();
    }
    vec![
        growth("resident bytes", RESIDENT_BYTES_MAX, &|window| window.usage.resident_bytes),
        growth("anonymous bytes", ANONYMOUS_BYTES_MAX, &|window| window.usage.anonymous_bytes),
        growth("descriptors", DESCRIPTORS_MAX, &|window| window.usage.descriptors),
        growth("threads", THREADS_MAX, &|window| window.usage.threads),
        growth("mappings", MAPPINGS_MAX, &|window| window.usage.mappings),
        growth("instances", INSTANCES_MAX, &|window| window.instances),
    ]
}

/// Returns the median of the slopes between all pairs of points.
fn slope(points: &[(f64, f64)]) -> f64 {
    let pairs = points.iter().enumerate().flat_map(|(at, one)| points[at + 1..].iter().map(move |other| (one, other)));
    let slopes = pairs.filter(|(one, other)| other.0 > one.0).map(|(one, other)| (other.1 - one.1) / (other.0 - one.0));
    median(slopes.collect())
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn windows(resident_mib: impl Fn(u64) -> u64) -> Vec<Window> {
        let window = |number| Window {
            at: Duration::from_secs(number),
            usage: Usage {
                resident_bytes: resident_mib(number) << 20,
                proportional_bytes: 0,
                anonymous_bytes: 0,
                mappings: 100,
                descriptors: 10,
                threads: 4,
                cpu: Duration::ZERO,
            },
            instances: 3,
            requests: number,
        };
        (0..30).map(window).collect()
    }

    fn too_much(resident_mib: impl Fn(u64) -> u64) -> bool {
        judge(&windows(resident_mib)).iter().any(Growth::is_too_much)
    }

    #[test]
    fn a_leak_is_detected_and_a_warm_up_is_no_leak() {
        assert!(too_much(|number| 50 + 2 * number), "40 MiB after the warm-up");
        assert!(!too_much(|number| 50 + 10 * number.min(9)), "all growth is in the first third");
        assert!(!too_much(|number| if number % 7 == 3 { 900 } else { 50 }), "a few observations are outliers");
        assert!(!too_much(|_| 50));
        assert!(judge(&windows(|_| 1)[..1]).is_empty());
    }
}
