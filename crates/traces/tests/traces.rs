//! The store of traces: fragments are read as they were recorded, sizes are bounded, and dropped fragments are counted.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::{FutureExt as _, StreamExt as _};
use isomer_api::{TracePage, TraceQuery, TraceSummary};
use isomer_telemetry::{
    AppIdentity, Attribute, RequestId, Span, SpanId, SpanKind, SpanStatus, TraceFragment, TraceId, TraceSink as _,
    Value, semantics, unix_ns,
};
use isomer_traces::{FollowedTraces, TraceDrops, TraceKey, TraceLimits, TraceStore, TraceStoreError, TraceStores};
use tempfile::TempDir;

/// The time limit of waits, which only detects a hang.
const PATIENCE: Duration = Duration::from_secs(60);

const MILLISECOND: u64 = 1_000_000;

/// One app's store in a separate folder.
struct Setup {
    stores: TraceStores,
    store: TraceStore,
    dir: TempDir,
}

fn setup(limits: TraceLimits) -> Setup {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let stores = TraceStores::start(limits).expect("a thread");
    let store = stores.open(&dir.path().join("traces"), &Arc::default());
    Setup { stores, store, dir }
}

impl Setup {
    fn folder(&self) -> PathBuf {
        self.dir.path().join("traces")
    }

    fn files(&self) -> Vec<PathBuf> {
        let Ok(entries) = std::fs::read_dir(self.folder()) else { return Vec::new() };
        let mut files: Vec<_> = entries.map(|entry| entry.expect("an entry").path()).collect();
        files.sort();
        files
    }

    /// Opens the same store again, as after a restart.
    fn restart(self) -> Self {
        let Self { stores, store, dir } = self;
        store.flush();
        drop((store, stores));
        let stores = TraceStores::start(TraceLimits::LOCAL).expect("a thread");
        let store = stores.open(&dir.path().join("traces"), &Arc::default());
        Self { stores, store, dir }
    }
}

/// Returns the current time. Traces must not be older than the stores' limit.
fn now_ns() -> u64 {
    unix_ns(std::time::SystemTime::now())
}

fn span(id: u64, parent: Option<u64>, component: &str, start_ns: u64, duration_ns: u64) -> Span {
    Span {
        id: SpanId::from_raw(id).expect("not zero"),
        parent: parent.and_then(SpanId::from_raw),
        name: format!("work of {component}").into(),
        kind: SpanKind::Internal,
        component: Some(component.to_owned().into()),
        start_ns,
        duration_ns,
        status: SpanStatus::Ok,
        attributes: Vec::new(),
    }
}

fn set(span: &mut Span, key: &'static str, value: impl Into<Value>) {
    span.attributes.push(Attribute { key: key.into(), value: value.into() });
}

fn fragment(trace: u64, request: u64, spans: Vec<Span>) -> TraceFragment {
    TraceFragment {
        trace_id: TraceId::from_raw(trace.into()).expect("not zero"),
        request: RequestId::from_raw(request).expect("not zero"),
        app: None,
        is_sampled: true,
        spans,
        spans_dropped: 0,
    }
}

/// Returns the fragment of the request with this number, for `path`. The request took `number` milliseconds.
fn request(number: u64, path: &'static str, status: u16) -> TraceFragment {
    let mut root = span(number, None, "pages", now_ns(), number * MILLISECOND);
    root.name = format!("GET {path}").into();
    set(&mut root, semantics::HTTP_ROUTE, path);
    set(&mut root, semantics::URL_PATH, format!("{}/{number}", path.trim_end_matches('/')));
    set(&mut root, semantics::HTTP_STATUS, status);
    if status >= 500 {
        root.status = SpanStatus::Failed("the guest trapped".into());
    }
    fragment(number, number, vec![root])
}

/// Returns the requests of the traces.
fn requests(traces: &[TraceSummary]) -> Vec<u64> {
    traces.iter().map(|trace| u64::from_str_radix(&trace.request, 16).expect("a number")).collect()
}

fn query(store: &TraceStore, change: impl FnOnce(&mut TraceQuery)) -> TracePage {
    let mut query = TraceQuery::default();
    change(&mut query);
    store.query(&query).expect("the store can be read")
}

/// Returns the requests that match a query.
fn found(store: &TraceStore, change: impl FnOnce(&mut TraceQuery)) -> Vec<u64> {
    requests(&query(store, change).traces)
}

fn text(text: &str) -> Option<String> {
    Some(text.to_owned())
}

/// Returns the next trace of the stream, or `None` if the stream has ended.
fn next(followed: &mut FollowedTraces) -> Option<TraceSummary> {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(next) = followed.next().now_or_never() {
            return next;
        }
        assert!(Instant::now() < end, "no trace in time");
        std::thread::yield_now();
    }
}

#[test]
fn traces_are_listed_newest_first_in_pages() {
    let it = setup(TraceLimits::LOCAL);
    assert_eq!(query(&it.store, |_| {}), TracePage::default());
    assert!(it.files().is_empty(), "a store without traces has no file");
    for number in 1..=5 {
        it.store.record(request(number, "/cart", 200));
    }
    let first = query(&it.store, |query| query.limit = Some(2));
    assert_eq!((requests(&first.traces), first.stopped_early), (vec![5, 4], false));
    // Later traces do not change the following pages.
    it.store.record(request(6, "/cart", 200));
    let second = query(&it.store, |query| (query.limit, query.after) = (Some(2), first.next));
    let third = query(&it.store, |query| (query.limit, query.after) = (Some(2), second.next.clone()));
    assert_eq!((requests(&second.traces), requests(&third.traces), third.next), (vec![3, 2], vec![1], None));
    let all = query(&it.store, |query| query.limit = Some(6));
    assert_eq!((requests(&all.traces), all.next), (vec![6, 5, 4, 3, 2, 1], None));
    assert_eq!(all.traces[1].path.as_deref(), Some("/cart/5"));
    let TraceSummary { name, component, duration_ns, status, spans, failed, sampled, partial, .. } = &all.traces[1];
    assert_eq!((name.as_str(), component.as_deref(), *duration_ns), ("GET /cart", Some("pages"), 5 * MILLISECOND));
    assert_eq!((*status, *spans, *failed, *sampled, *partial), (Some(200), 1, false, true, false));
}

#[test]
fn conditions_select_traces() {
    let it = setup(TraceLimits::LOCAL);
    it.store.record(request(1, "/", 200));
    it.store.record(request(20, "/cart", 500));
    let mut slow = request(300, "/cart", 200);
    let mut call = span(301, Some(300), "pages", now_ns(), 5);
    let pairs = [(semantics::CALLER, "pages"), (semantics::CALLEE, "cart"), (semantics::RPC_METHOD, "add")];
    pairs.into_iter().for_each(|(key, value)| set(&mut call, key, value));
    slow.spans.insert(0, call);
    it.store.record(slow);
    let found = |change: &dyn Fn(&mut TraceQuery)| found(&it.store, change);
    assert_eq!(found(&|query| query.route = text("/cart")), [300, 20]);
    assert_eq!(found(&|query| query.path = text("/cart")), [300, 20]);
    assert_eq!(found(&|query| query.path = text("/cart/20")), [20]);
    assert_eq!(found(&|query| query.path = text("/car")), [0; 0]);
    assert_eq!(found(&|query| query.min_us = Some(20_000)), [300, 20]);
    assert_eq!(found(&|query| query.max_us = Some(20_000)), [20, 1]);
    assert_eq!(found(&|query| query.failed = true), [20]);
    assert_eq!(found(&|query| query.status = Some(200)), [300, 1]);
    assert_eq!(found(&|query| query.text = text("TRAPPED")), [20]);
    assert_eq!(found(&|query| query.callee = text("cart")), [300]);
    assert_eq!(found(&|query| (query.caller, query.function) = (text("cart"), text("add"))), [0; 0]);
    assert_eq!(found(&|query| query.attribute = text("http.response.status_code=500")), [20]);
    assert_eq!(found(&|query| query.component = text("pages")), [300, 20, 1]);
    assert_eq!(found(&|query| (query.route, query.status) = (text("/cart"), Some(200))), [300]);
    let now_ms = now_ns() / MILLISECOND;
    assert_eq!(found(&|query| query.since_ms = Some(now_ms + 60_000)), [0; 0]);
    assert_eq!(found(&|query| query.until_ms = Some(now_ms + 60_000)), [300, 20, 1]);
    assert_eq!(found(&|query| query.until_ms = Some(now_ms - 60_000)), [0; 0]);
}

#[test]
fn fragments_of_two_processes_are_one_trace() {
    let it = setup(TraceLimits::LOCAL);
    let start = now_ns();
    // The callee ends first, and fails.
    let mut work = span(7, Some(6), "payment", start + 200, 50);
    work.status = SpanStatus::Failed("no money".into());
    it.store.of_process("services").record(fragment(1, 5, vec![work]));
    let front = it.store.of_process("pages");
    let mut root = span(5, None, "pages", start, 1000);
    root.name = "GET /pay".into();
    front.record(fragment(1, 5, vec![span(6, Some(5), "pages", start + 100, 400), root]));
    // Another request of the same client, which sends the same trace id with all requests.
    front.record(fragment(1, 9, vec![span(9, None, "pages", start + 5000, 10)]));
    let all = query(&it.store, |_| {});
    assert_eq!(requests(&all.traces), [9, 5]);
    assert_eq!((all.traces[1].name.as_str(), all.traces[1].spans, all.traces[1].failed), ("GET /pay", 3, true));
    // Conditions may be met by spans of different processes.
    let both = |query: &mut TraceQuery| (query.component, query.text) = (text("pages"), text("money"));
    assert_eq!(found(&it.store, both), [5]);
    assert_eq!(found(&it.store, |query| query.failed = true), [5]);
    let of_request = it.store.get("0000000000000005".parse().expect("an id")).expect("readable").expect("a trace");
    let ids: Vec<_> = of_request.spans.iter().map(|span| (span.id.as_str(), span.process.as_deref())).collect();
    let expected = [
        ("0000000000000005", Some("pages")),
        ("0000000000000006", Some("pages")),
        ("0000000000000007", Some("services")),
    ];
    assert_eq!(ids, expected);
    let key = TraceKey::Trace(TraceId::from_raw(1).expect("not zero"));
    let whole = it.store.get(key).expect("readable").expect("a trace");
    assert_eq!((whole.spans.len(), whole.summary.name.as_str()), (4, "GET /pay"));
    assert_eq!(it.store.get(TraceKey::Trace(TraceId::from_raw(2).expect("not zero"))).expect("readable"), None);
}

#[test]
fn calls_from_other_machines_are_listed_as_partial_traces() {
    let it = setup(TraceLimits::LOCAL);
    let mut followed = it.store.follow().expect("a follower");
    it.store.record(fragment(1, 5, vec![span(7, Some(6), "payment", now_ns(), 50)]));
    it.store.record(fragment(1, 5, vec![span(8, Some(6), "payment", now_ns(), 50)]));
    // The member `services` records only a part of a trace, without the trace's first span, which another member sends.
    it.store.of_process("services").record(fragment(2, 9, vec![span(10, Some(9), "mail", now_ns(), 50)]));
    let page = query(&it.store, |query| query.component = text("payment"));
    assert_eq!((requests(&page.traces), page.traces[0].spans, page.traces[0].partial), (vec![5], 2, true));
    let names = [next(&mut followed), next(&mut followed)].map(|summary| summary.expect("a trace").name);
    assert_eq!(names, ["work of payment", "work of payment"]);
    it.store.close();
    assert_eq!(next(&mut followed), None);
}

#[test]
fn traces_survive_a_restart_and_a_torn_record() {
    let it = setup(TraceLimits::LOCAL);
    it.store.record(TraceFragment {
        app: Some(AppIdentity { tenant: "acme".into(), app: "shop".into() }),
        ..request(1, "/", 200)
    });
    it.store.record(request(2, "/", 200));
    it.store.flush();
    let [file] = &it.files()[..] else { panic!("one file") };
    let bytes = std::fs::read(file).expect("the file");
    std::fs::write(file, &bytes[..bytes.len() - 1]).expect("the file is cut off");
    let it = it.restart();
    assert_eq!(found(&it.store, |_| {}), [1]);
    it.store.record(request(3, "/", 200));
    let page = query(&it.store, |_| {});
    assert_eq!(requests(&page.traces), [3, 1]);
    assert_eq!((page.traces[1].tenant.as_deref(), page.traces[1].app.as_deref()), (Some("acme"), Some("shop")));
    assert_eq!(it.files().len(), 1);
    let it = it.restart();
    assert_eq!(found(&it.store, |_| {}), [3, 1]);
}

#[test]
fn all_stores_together_are_bounded_and_the_largest_store_loses_its_oldest_traces() {
    let limits = TraceLimits { segment_bytes: 4096, bytes: 64 << 10, query_bytes: u64::MAX, ..TraceLimits::LOCAL };
    let it = setup(limits);
    let small = it.stores.open(&it.dir.path().join("small"), &Arc::default());
    small.record(request(1, "/", 200));
    small.flush();
    for number in 1..2000 {
        it.store.record(request(number, "/cart", 200));
        if number % 50 == 0 {
            it.store.flush();
        }
    }
    let all = query(&it.store, |query| query.limit = Some(500));
    assert!(it.stores.stored_bytes() <= 64 << 10 && it.stores.stored_bytes() > 50 << 10);
    let on_disk: u64 = it.files().iter().map(|file| file.metadata().expect("metadata").len()).sum();
    assert!(on_disk <= 64 << 10);
    assert_eq!(requests(&all.traces)[0], 1999);
    assert_eq!(found(&small, |_| {}), [1]);
    assert_eq!(it.stores.drops(), TraceDrops::default());
}

#[test]
fn stores_on_disk_count_before_they_are_opened() {
    let it = setup(TraceLimits::LOCAL);
    it.store.record(request(1, "/", 200));
    let it = it.restart();
    assert_eq!(it.stores.stored_bytes(), 0);
    it.stores.add_existing(vec![it.folder(), it.dir.path().join("missing")]);
    it.stores.open(&it.dir.path().join("other"), &Arc::default()).flush();
    let on_disk = it.files()[0].metadata().expect("metadata").len();
    // The size is published after the batch that contains the flush, so `flush` may return earlier.
    let end = Instant::now() + PATIENCE;
    while it.stores.stored_bytes() != on_disk {
        assert!(Instant::now() < end, "the size was not counted in time");
        std::thread::yield_now();
    }
}

#[test]
fn old_files_are_not_read() {
    let it = setup(TraceLimits::LOCAL);
    it.store.record(request(1, "/", 200));
    it.store.flush();
    let file = std::fs::OpenOptions::new().write(true).open(&it.files()[0]).expect("the file");
    file.set_modified(std::time::SystemTime::now() - TraceLimits::LOCAL.age * 2).expect("the time is set");
    drop(file);
    let it = it.restart();
    assert_eq!(found(&it.store, |_| {}), [0; 0]);
    assert!(it.files().is_empty());
}

#[test]
fn a_query_reads_a_bounded_number_of_bytes_and_continues() {
    let limits = TraceLimits { segment_bytes: 1000, query_bytes: 2500, ..TraceLimits::LOCAL };
    let it = setup(limits);
    for number in 1..=200 {
        it.store.record(request(number, if number == 1 { "/first" } else { "/" }, 200));
        if number % 5 == 0 {
            it.store.flush();
        }
    }
    assert!(it.files().len() > 10);
    let mut page = query(&it.store, |query| query.route = text("/first"));
    let mut pages = 1;
    while page.traces.is_empty() {
        assert!(page.stopped_early && pages < 100);
        page = query(&it.store, |query| (query.route, query.after) = (text("/first"), page.next));
        pages += 1;
    }
    assert!(pages > 3);
    assert_eq!((requests(&page.traces), page.next, page.stopped_early), (vec![1], None, false));
    let mut all = Vec::new();
    let mut after = None;
    loop {
        let page = query(&it.store, |query| (query.limit, query.after) = (Some(7), after));
        all.extend(requests(&page.traces));
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(all, (1..=200).rev().collect::<Vec<_>>());
}

#[test]
fn a_full_disk_only_drops_and_counts() {
    let it = setup(TraceLimits::LOCAL);
    it.stores.leave_free(|| 0);
    it.store.record(request(1, "/", 200));
    it.store.record(request(2, "/", 200));
    assert_eq!(query(&it.store, |_| {}), TracePage::default());
    let expected = TraceDrops { too_fast: 0, not_written: 2 };
    assert_eq!((it.store.drops(), it.stores.drops()), (expected, expected));
    // A folder that cannot be written.
    let it = setup(TraceLimits::LOCAL);
    std::fs::write(it.folder(), "a file").expect("a file");
    it.store.record(request(1, "/", 200));
    assert!(matches!(it.store.query(&TraceQuery::default()), Err(TraceStoreError::Read { .. })));
    assert_eq!(it.store.drops(), TraceDrops { too_fast: 0, not_written: 1 });
    std::fs::remove_file(it.folder()).expect("the file is removed");
    it.store.record(request(2, "/", 200));
    assert_eq!(found(&it.store, |_| {}), [2]);
}

#[test]
fn followers_are_bounded_and_lose_what_they_do_not_read() {
    let it = setup(TraceLimits { followers: 2, ..TraceLimits::LOCAL });
    let mut slow = it.store.follow().expect("a follower");
    let gone = it.store.follow().expect("a follower");
    assert!(matches!(it.store.follow(), Err(TraceStoreError::Followers { most: 2 })));
    drop(gone);
    let _another = it.store.follow().expect("a follower");
    for number in 1..=400 {
        it.store.record(request(number, "/", 200));
    }
    it.store.flush();
    assert_eq!(next(&mut slow).map(|summary| summary.request), text("0000000000000001"));
    let read = 1 + std::iter::from_fn(|| slow.next().now_or_never().flatten()).count() as u64;
    assert_eq!(read + slow.lost(), 400);
    assert!(read >= 256);
    it.store.close();
    assert!(matches!(it.store.follow(), Err(TraceStoreError::Closed)));
    assert!(matches!(it.store.query(&TraceQuery::default()), Err(TraceStoreError::Closed)));
    // The store can be opened again.
    let store = it.stores.open(&it.folder(), &Arc::default());
    assert_eq!(found(&store, |query| query.limit = Some(1)), [400]);
}

#[test]
fn several_stores_are_closed_together() {
    let it = setup(TraceLimits::NODE);
    let other = it.stores.open(&it.dir.path().join("other"), &Arc::default());
    it.store.record(request(1, "/", 200));
    other.record(request(2, "/", 200));
    it.store.flush();
    it.stores.close(vec![it.folder(), it.dir.path().join("missing")]);
    assert!(matches!(it.store.query(&TraceQuery::default()), Err(TraceStoreError::Closed)));
    std::fs::remove_dir_all(it.folder()).expect("the store is removed");
    it.store.record(request(3, "/", 200));
    let store = it.stores.open(&it.folder(), &Arc::default());
    assert_eq!((found(&store, |_| {}), found(&other, |_| {})), (vec![], vec![2]));
}

#[test]
fn an_open_store_is_shared() {
    let it = setup(TraceLimits::LOCAL);
    it.stores.open(&it.folder(), &Arc::default()).record(request(1, "/", 200));
    assert_eq!(found(&it.store, |_| {}), [1]);
}
