//! The decision whether a request is traced in full.
//!
//! The front door decides once for each request, and the decision travels with the request in the sampled flag of its
//! trace context. A sampled request records all its spans, including those of calls between fused components. A request
//! that is not sampled still collects the spans that the host sees, and they are kept only if the request fails or is
//! slow.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::random::random_u64;

/// The maximum number of [`TraceOrder`]s of an app that are not yet completed. A further order replaces the oldest.
const ORDERS_MAX: usize = 16;

/// The number of random bits that are compared with a ratio: the precision of an `f64`.
const RANDOM_BITS: u32 = 53;

/// Which requests of an app are traced.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct SamplingPolicy {
    /// The fraction of the requests that are sampled, from 0 to 1.
    pub ratio: f64,
    /// The maximum number of requests that are sampled in a second because of `ratio`, or because a trusted client has
    /// sampled them.
    pub per_second_max: u32,
    /// The minimum duration of a slow request. A slow request is traced even if it is not sampled.
    pub slow: Duration,
}

impl SamplingPolicy {
    /// Samples all requests, up to 200 a second: the policy of `isomer run` and `isomer dev`.
    pub const LOCAL: Self = Self { ratio: 1.0, per_second_max: 200, slow: Duration::from_secs(1) };

    /// Samples one request of a hundred, up to 50 a second: the policy of apps on a node.
    pub const NODE: Self = Self { ratio: 0.01, per_second_max: 50, slow: Duration::from_secs(1) };
}

/// An order to trace the next requests to a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TraceOrder {
    /// A request matches if its path is this text, or begins with this text and a slash. The empty text matches all
    /// requests.
    pub path: String,
    /// The number of requests that are still to be traced.
    pub requests: u32,
}

impl TraceOrder {
    fn includes(&self, path: &str) -> bool {
        is_path_below(path, &self.path)
    }
}

/// Returns whether `path` is `prefix` or a path below it. The empty text and `/` contain every path.
#[must_use]
pub fn is_path_below(path: &str, prefix: &str) -> bool {
    path.strip_prefix(prefix.trim_end_matches('/')).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Decides which requests of one app are sampled. Takes no lock unless a [`TraceOrder`] waits.
#[derive(Debug)]
pub(crate) struct Sampler {
    /// The probability that a request is sampled, times 2⁵³. A request is sampled if its random number, which is below
    /// 2⁵³, is below this value.
    chance: AtomicU64,
    per_second_max: AtomicU32,
    slow_ns: AtomicU64,
    start: Instant,
    /// The upper half is the current second of the rate limit, counted from `start`. The lower half is the number of
    /// requests that were sampled in this second because of the ratio.
    window: AtomicU64,
    has_orders: AtomicBool,
    orders: Mutex<Vec<TraceOrder>>,
}

impl Sampler {
    pub(crate) fn new(policy: SamplingPolicy) -> Self {
        let sampler = Self {
            chance: AtomicU64::new(0),
            per_second_max: AtomicU32::new(0),
            slow_ns: AtomicU64::new(0),
            start: Instant::now(),
            window: AtomicU64::new(0),
            has_orders: AtomicBool::new(false),
            orders: Mutex::default(),
        };
        sampler.set_policy(policy);
        sampler
    }

    pub(crate) fn set_policy(&self, policy: SamplingPolicy) {
        // A ratio that is not a number (NaN) becomes 0. The product is at most 2⁵³, which is exact.
        #[expect(clippy::cast_possible_truncation, clippy::cast_precision_loss, clippy::cast_sign_loss)]
        let chance = (policy.ratio.clamp(0.0, 1.0) * (1_u64 << RANDOM_BITS) as f64) as u64;
        self.chance.store(chance, Ordering::Relaxed);
        self.per_second_max.store(policy.per_second_max, Ordering::Relaxed);
        self.slow_ns.store(u64::try_from(policy.slow.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// Returns whether requests are sampled without an order.
    pub(crate) fn samples_by_ratio(&self) -> bool {
        self.chance.load(Ordering::Relaxed) > 0 && self.per_second_max.load(Ordering::Relaxed) > 0
    }

    /// Returns whether a request that took `duration_ns` nanoseconds is kept as slow.
    pub(crate) fn is_slow(&self, duration_ns: u64) -> bool {
        duration_ns >= self.slow_ns.load(Ordering::Relaxed)
    }

    pub(crate) fn order(&self, order: TraceOrder) {
        if order.requests == 0 {
            return;
        }
        let mut orders = self.lock();
        if orders.len() == ORDERS_MAX {
            orders.remove(0);
        }
        orders.push(order);
        self.has_orders.store(true, Ordering::Relaxed);
    }

    pub(crate) fn set_orders(&self, new: impl IntoIterator<Item = TraceOrder>) {
        let mut orders = self.lock();
        *orders = new.into_iter().filter(|order| order.requests > 0).collect();
        let excess = orders.len().saturating_sub(ORDERS_MAX);
        orders.drain(..excess);
        self.has_orders.store(!orders.is_empty(), Ordering::Relaxed);
    }

    /// Decides whether the request for `path` that arrived at `now` is sampled.
    pub(crate) fn decide(&self, path: &str, now: Instant) -> bool {
        self.has_orders.load(Ordering::Relaxed) && self.fill_order(path) || self.decide_by_ratio(now, random_u64())
    }

    /// Finds the first [`TraceOrder`] that matches `path`, and decrements the number of requests that it still traces.
    /// Returns whether there is such an order.
    fn fill_order(&self, path: &str) -> bool {
        let mut orders = self.lock();
        let Some(position) = orders.iter().position(|order| order.includes(path)) else { return false };
        orders[position].requests -= 1;
        if orders[position].requests == 0 {
            orders.remove(position);
            self.has_orders.store(!orders.is_empty(), Ordering::Relaxed);
        }
        true
    }

    fn decide_by_ratio(&self, now: Instant, random: u64) -> bool {
        random >> (u64::BITS - RANDOM_BITS) < self.chance.load(Ordering::Relaxed) && self.is_within_rate(now)
    }

    /// Counts a sampled request that arrived at `now`. Returns `false` if the maximum for the second is reached.
    pub(crate) fn is_within_rate(&self, now: Instant) -> bool {
        let second = now.saturating_duration_since(self.start).as_secs() << 32;
        let max = u64::from(self.per_second_max.load(Ordering::Relaxed));
        let counted = self.window.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |window| {
            // A request that arrived in an earlier second is counted in the current one.
            let window = window.max(second);
            (window & u64::from(u32::MAX) < max).then(|| window + 1)
        });
        counted.is_ok()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<TraceOrder>> {
        self.orders.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ratio_and_the_rate_limit_apply() {
        let policy = SamplingPolicy { ratio: 0.25, per_second_max: 2, ..SamplingPolicy::LOCAL };
        let sampler = Sampler::new(policy);
        let start = sampler.start;
        assert!(sampler.decide_by_ratio(start, 0) && !sampler.decide_by_ratio(start, u64::MAX / 4 * 3));
        assert!(sampler.is_within_rate(start), "the flag of a trusted client counts, too");
        assert!(
            !sampler.is_within_rate(start) && !sampler.decide_by_ratio(start, 0),
            "two were sampled in this second"
        );
        assert!(sampler.decide_by_ratio(start + Duration::from_secs(1), 0));
        sampler.set_policy(SamplingPolicy { ratio: 0.0, ..policy });
        assert!(!sampler.decide_by_ratio(start + Duration::from_secs(2), 0));
        sampler.set_policy(SamplingPolicy { ratio: 1.0, ..policy });
        assert!(sampler.decide_by_ratio(start + Duration::from_secs(2), u64::MAX));
    }

    #[test]
    fn paths_contain_the_paths_below_them() {
        for (path, prefix, expected) in [
            ("/cart", "/cart", true),
            ("/cart", "/cart/", true),
            ("/cart/7", "/cart", true),
            ("/carts", "/cart", false),
            ("/", "/cart", false),
            ("/cart", "/", true),
            ("/cart", "", true),
        ] {
            assert_eq!(is_path_below(path, prefix), expected, "{path} {prefix}");
        }
    }

    #[test]
    fn ordered_requests_are_sampled_whatever_the_ratio() {
        let sampler = Sampler::new(SamplingPolicy { ratio: 0.0, ..SamplingPolicy::LOCAL });
        sampler.order(TraceOrder { path: "/cart".to_owned(), requests: 2 });
        let now = Instant::now();
        let decided = ["/", "/carts", "/cart/1", "/cart", "/cart"].map(|path| sampler.decide(path, now));
        assert_eq!(decided, [false, false, true, true, false]);
        for number in 0..2 * ORDERS_MAX {
            sampler.order(TraceOrder { path: format!("/{number}"), requests: 1 });
        }
        assert!(!sampler.decide("/0", now) && sampler.decide("/20", now));
        sampler.set_orders([TraceOrder { path: "/mail".to_owned(), requests: 1 }]);
        assert_eq!(["/21", "/mail", "/mail"].map(|path| sampler.decide(path, now)), [false, true, false]);
        sampler.order(TraceOrder { path: String::new(), requests: 1 });
        sampler.set_orders([]);
        assert!(!sampler.decide("/", now), "the orders were replaced");
    }
}
