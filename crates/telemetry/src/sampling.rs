//! The decision whether a request is traced in full.
//!
//! The front door decides once for each request, and the decision travels with the request in the sampled flag of its
//! trace context. A sampled request records all its spans, including those of calls between fused components. A request
//! that is not sampled still collects the spans that the host sees, and they are kept only if the request fails or is
//! slow.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::random::random_u64;

/// The maximum number of orders to trace the next requests that wait at a time. A further order replaces the oldest.
const ORDERS_MAX: usize = 16;

/// Which requests of an app are traced.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SamplingPolicy {
    /// The fraction of the requests that are sampled, from 0 to 1.
    pub ratio: f64,
    /// The maximum number of requests that are sampled in a second because of `ratio`.
    pub per_second_max: u32,
    /// The duration from which a request that is not sampled is kept as slow.
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
    /// The path, or the part of a path before a slash. The empty text matches all requests.
    pub path: String,
    /// The number of requests that are still to be traced.
    pub requests: u32,
}

impl TraceOrder {
    fn includes(&self, path: &str) -> bool {
        let prefix = self.path.trim_end_matches('/');
        path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }
}

/// Decides which requests of one app are sampled.
#[derive(Debug)]
pub(crate) struct Sampler(Mutex<SamplerState>);

#[derive(Debug)]
struct SamplerState {
    policy: SamplingPolicy,
    /// The start of the current second of the rate limit.
    second: Instant,
    /// The number of requests that were sampled in the current second because of the ratio.
    sampled: u32,
    orders: Vec<TraceOrder>,
}

impl Sampler {
    pub(crate) fn new(policy: SamplingPolicy) -> Self {
        Self(Mutex::new(SamplerState { policy, second: Instant::now(), sampled: 0, orders: Vec::new() }))
    }

    pub(crate) fn set_policy(&self, policy: SamplingPolicy) {
        self.lock().policy = policy;
    }

    pub(crate) fn policy(&self) -> SamplingPolicy {
        self.lock().policy
    }

    pub(crate) fn order(&self, order: TraceOrder) {
        let orders = &mut self.lock().orders;
        if orders.len() == ORDERS_MAX {
            orders.remove(0);
        }
        orders.push(order);
    }

    /// Decides whether the request for `path` that arrived at `now` is sampled.
    pub(crate) fn decide(&self, path: &str, now: Instant) -> bool {
        let mut state = self.lock();
        if let Some(position) = state.orders.iter().position(|order| order.includes(path)) {
            let order = &mut state.orders[position];
            order.requests = order.requests.saturating_sub(1);
            if order.requests == 0 {
                state.orders.remove(position);
            }
            return true;
        }
        state.decide_by_ratio(now, random_u64())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, SamplerState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl SamplerState {
    fn decide_by_ratio(&mut self, now: Instant, random: u64) -> bool {
        // Both values are at most 2⁵³, so they are exact.
        #[expect(clippy::cast_precision_loss)]
        let fraction = (random >> 11) as f64 / (1_u64 << 53) as f64;
        if fraction >= self.policy.ratio {
            return false;
        }
        if now.saturating_duration_since(self.second) >= Duration::from_secs(1) {
            self.second = now;
            self.sampled = 0;
        }
        if self.sampled >= self.policy.per_second_max {
            return false;
        }
        self.sampled += 1;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ratio_and_the_rate_limit_apply() {
        let policy = SamplingPolicy { ratio: 0.25, per_second_max: 2, ..SamplingPolicy::LOCAL };
        let sampler = Sampler::new(policy);
        let mut state = sampler.lock();
        let start = state.second;
        assert!(state.decide_by_ratio(start, 0) && !state.decide_by_ratio(start, u64::MAX / 4 * 3));
        assert!(state.decide_by_ratio(start, u64::MAX / 5));
        assert!(!state.decide_by_ratio(start, 0), "two were sampled in this second");
        assert!(state.decide_by_ratio(start + Duration::from_secs(1), 0));
        state.policy.ratio = 0.0;
        assert!(!state.decide_by_ratio(start + Duration::from_secs(2), 0));
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
    }
}
