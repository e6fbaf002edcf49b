//! Simulates requests over a given time, and records their traces in stores of traces. The clock is simulated too. The
//! requests follow from a fixed seed.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, UNIX_EPOCH};

use isomer_telemetry::{
    Attribute, RequestId, Span, SpanId, SpanKind, SpanStatus, Text, TraceFragment, TraceId, TraceSink as _, Value,
    semantics,
};
use isomer_traces::{TraceLimits, TraceStore, TraceStores};

/// The time at which the simulation starts, in seconds since the Unix epoch.
const START_S: u64 = 1_700_000_000;

const DAY_S: f64 = 86_400.0;
const NANOSECONDS: u64 = 1_000_000_000;

/// The simulated seconds after which the simulation waits until the traces are written. Otherwise, traces would be
/// dropped because the simulation is faster than the disk.
const FLUSH_S: u64 = 10;

/// The apps of a process, and how many of their requests are recorded.
#[derive(Debug, Clone)]
pub struct TraceLoad {
    /// The limits of the stores.
    pub limits: TraceLimits,
    /// The number of apps. The first one is the busy app, which gets `busy_per_s` requests; each other app gets
    /// `quiet_per_s`.
    pub apps: usize,
    /// The requests per second of the busy app, on average over a day.
    pub busy_per_s: f64,
    /// The requests per second of each app that is not the busy one.
    pub quiet_per_s: f64,
    /// The fraction of the requests that are sampled.
    pub sampled: f64,
    /// The fraction of the requests that fail. Failed requests are kept even if they are not sampled.
    pub failed: f64,
}

/// What is in the stores after the simulated time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceTotals {
    /// The number of traces that were recorded.
    pub traces: u64,
    /// The number of spans in the recorded traces.
    pub spans: u64,
    /// The number of traces that were dropped.
    pub dropped: u64,
    /// The size in bytes of all traces that were written, including those that were deleted to stay within the limits.
    pub written_bytes: u64,
    /// The size in bytes of all stores on disk.
    pub disk_bytes: u64,
}

impl TraceLoad {
    /// Returns the load of a node with 1,000 apps, one of which is busy, and with the default sampling of a node.
    #[must_use]
    pub fn node() -> Self {
        // The rate is a limit in real time, and the simulation is faster.
        let limits = TraceLimits { bytes_per_second_of_tenant: u64::MAX, ..TraceLimits::NODE };
        Self { limits, apps: 1000, busy_per_s: 100.0, quiet_per_s: 1.0 / 60.0, sampled: 0.01, failed: 0.001 }
    }

    /// Returns the load of an app under `isomer run`, where all requests are sampled.
    #[must_use]
    pub fn local() -> Self {
        let limits = TraceLimits::LOCAL;
        Self { limits, apps: 1, busy_per_s: 2.0, quiet_per_s: 0.0, sampled: 1.0, failed: 0.001 }
    }

    /// Records the traces of `seconds` simulated seconds in folders of `dir`.
    ///
    /// # Errors
    /// If the thread that writes traces cannot be started.
    pub fn record(&self, dir: &Path, seconds: u64) -> std::io::Result<TraceTotals> {
        let now_ns = Arc::new(AtomicU64::new(START_S * NANOSECONDS));
        let clock = now_ns.clone();
        let stores = TraceStores::start_with_clock(self.limits.clone(), move || {
            UNIX_EPOCH + Duration::from_nanos(clock.load(Ordering::Relaxed))
        })?;
        let opened: Vec<TraceStore> =
            (0..self.apps).map(|app| stores.open(&dir.join(app.to_string()), &Arc::default())).collect();
        let mut requests = Requests::new();
        let (mut traces, mut spans, mut written_bytes, mut before) = (0, 0, 0, 0);
        for second in 0..seconds {
            now_ns.store((START_S + second) * NANOSECONDS, Ordering::Relaxed);
            // A day begins and ends with few requests.
            let of_day = 1.0 - 0.8 * (second as f64 / DAY_S * std::f64::consts::TAU).cos();
            for (app, store) in opened.iter().enumerate() {
                let per_s = if app == 0 { self.busy_per_s * of_day } else { self.quiet_per_s };
                for _ in 0..requests.chance.count(per_s * (self.sampled + self.failed)) {
                    let is_failed = requests.chance.below(self.failed / (self.sampled + self.failed));
                    let fragment = requests.fragment((START_S + second) * NANOSECONDS, is_failed);
                    (traces, spans) = (traces + 1, spans + fragment.spans.len() as u64);
                    store.record(fragment);
                }
            }
            if second % FLUSH_S == 0 || second + 1 == seconds {
                opened.iter().take(1).for_each(TraceStore::flush);
                // If a file was deleted since `before` was measured, the total becomes too small, by less than the size
                // of a file.
                let stored = stores.stored_bytes();
                written_bytes += stored.saturating_sub(before);
                before = stored;
            }
        }
        opened.iter().take(1).for_each(TraceStore::flush);
        let drops = stores.drops();
        let dropped = drops.too_fast + drops.not_written;
        Ok(TraceTotals { traces, spans, dropped, written_bytes, disk_bytes: stores.stored_bytes() })
    }
}

/// Makes requests of the example shop.
struct Requests {
    chance: Chance,
    components: [Text; 4],
    numbers: u64,
}

impl Requests {
    fn new() -> Self {
        let shared = |name: &str| Text::from(Arc::<str>::from(name));
        let components = ["frontend", "cart", "currency", "catalog"].map(shared);
        Self { chance: Chance(1), components, numbers: 0 }
    }

    /// Returns the spans of a request that starts at `start_ns`: its own span, 2 to 12 calls, and an operation on a
    /// store in every second call.
    fn fragment(&mut self, start_ns: u64, is_failed: bool) -> TraceFragment {
        let id = self.id();
        let mut root = self.span(id, None, "GET /product/{id}", SpanKind::Server, 0, start_ns);
        root.status = if is_failed { SpanStatus::Failed("status 500".into()) } else { SpanStatus::Ok };
        set(&mut root, semantics::HTTP_METHOD, "GET");
        set(&mut root, semantics::HTTP_ROUTE, "/product/{id}");
        set(&mut root, semantics::URL_PATH, format!("/product/{:010X}", self.chance.next() >> 24));
        set(&mut root, semantics::URL_SCHEME, "http");
        set(&mut root, semantics::CLIENT_ADDRESS, format!("10.0.{}.{}", self.chance.to(256), self.chance.to(256)));
        set(&mut root, semantics::HTTP_STATUS, if is_failed { 500_u16 } else { 200_u16 });
        set(&mut root, semantics::HTTP_RESPONSE_BYTES, 1000 + self.chance.to(20_000));
        let mut spans = vec![];
        for number in 0..2 + self.chance.to(11) {
            let callee = 1 + self.chance.to(3) as usize;
            let call_id = self.id();
            let mut call =
                self.span(call_id, Some(id), "boutique:shop/catalog.get", SpanKind::Client, callee, start_ns);
            set(&mut call, semantics::RPC_SYSTEM, "isomer");
            set(&mut call, semantics::RPC_SERVICE, "boutique:shop/catalog");
            set(&mut call, semantics::RPC_METHOD, "get");
            set(&mut call, semantics::MODE, "isolated");
            set(&mut call, semantics::ARGUMENT_BYTES, 8 + self.chance.to(64));
            spans.push(call);
            if number % 2 == 0 {
                let operation_id = self.id();
                let mut operation =
                    self.span(operation_id, Some(call_id), "kv get", SpanKind::Client, callee, start_ns);
                set(&mut operation, semantics::DB_SYSTEM, "redb");
                set(&mut operation, semantics::DB_OPERATION, "get");
                set(&mut operation, semantics::DB_NAMESPACE, "carts");
                spans.push(operation);
            }
        }
        spans.push(root);
        TraceFragment {
            trace_id: TraceId::from_raw(u128::from(self.chance.next()) << 64 | u128::from(id)).expect("not zero"),
            request: RequestId::from_raw(id).expect("not zero"),
            app: None,
            is_sampled: true,
            spans,
            spans_dropped: 0,
        }
    }

    fn span(
        &mut self,
        id: u64,
        parent: Option<u64>,
        name: &'static str,
        kind: SpanKind,
        component: usize,
        start_ns: u64,
    ) -> Span {
        Span {
            id: SpanId::from_raw(id).expect("not zero"),
            parent: parent.and_then(SpanId::from_raw),
            name: name.into(),
            kind,
            component: Some(self.components[component].clone()),
            start_ns: start_ns + self.chance.to(1_000_000),
            duration_ns: 5_000 + self.chance.to(1_000_000),
            status: SpanStatus::Ok,
            attributes: Vec::with_capacity(8),
        }
    }

    /// Returns a random number that is not zero and was not returned before.
    fn id(&mut self) -> u64 {
        self.numbers += 1;
        self.chance.next() << 24 | self.numbers & 0xff_ffff | 1 << 63
    }
}

fn set(span: &mut Span, key: &'static str, value: impl Into<Value>) {
    span.attributes.push(Attribute { key: key.into(), value: value.into() });
}

/// A deterministic source of random numbers (SplitMix64).
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Returns a number from 0 to `end`, without `end`.
    fn to(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    fn below(&mut self, probability: f64) -> bool {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64 > 1.0 - probability
    }

    /// Returns a number of events whose average is `expected`.
    fn count(&mut self, expected: f64) -> u64 {
        expected as u64 + u64::from(self.below(expected.fract()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_traces_are_recorded_each_time_and_stay_within_the_limits() {
        let dir = std::env::temp_dir().join(format!("isomer-trace-day-{}", std::process::id()));
        let node = TraceLoad::node();
        let limits = TraceLimits { segment_bytes: 512 << 10, store_bytes: 1 << 20, ..node.limits };
        let load = TraceLoad { limits, apps: 3, busy_per_s: 2000.0, ..node };
        let record = || {
            let totals = load.record(&dir, 600).unwrap();
            std::fs::remove_dir_all(&dir).unwrap();
            totals
        };
        let totals = record();
        assert!(totals.traces > 1000 && totals.spans > 5 * totals.traces && totals.dropped == 0, "{totals:?}");
        assert!(totals.disk_bytes > 100_000 && totals.disk_bytes <= 3 << 20, "{totals:?}");
        let again = record();
        assert_eq!((again.traces, again.spans), (totals.traces, totals.spans));
    }
}
