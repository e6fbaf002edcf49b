//! Measures the cost of loaded apps and live instances: memory, mappings, descriptors and time.
//!
//! `density [APPS]` loads that many apps (1,000 by default), each with its code in a separate file, sends a first
//! request to each app, and prints the cost. All apps run the guest `http-hello`, a real component of about 100 KB,
//! written in Rust.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a program for measurements: it prints, and panics on errors"
)]

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty};
use isomer_runtime::code::{Code, CodeCache, Key};
use isomer_runtime::engine::{Engine, PoolSizes, Slots};
use isomer_runtime::guest::OwnerSettings;
use isomer_runtime::{
    Account, Graph, Group, GroupHandle, GroupSettings, GuestRequest, HttpHandlerExport, Import, InterfaceOwner,
};
use isomer_telemetry::{DiscardEvents, RequestId, SpanContext, TraceContext, Tracer};

/// The resources that this process currently uses.
#[derive(Debug, Clone, Copy)]
struct Taken {
    rss_kib: f64,
    private_kib: f64,
    page_tables_kib: f64,
    mappings: f64,
    descriptors: f64,
}

impl Taken {
    fn now() -> Self {
        let rollup = std::fs::read_to_string("/proc/self/smaps_rollup").unwrap();
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let field = |text: &str, name: &str| -> f64 {
            let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
            line.split_whitespace().next().and_then(|number| number.parse().ok()).unwrap_or_default()
        };
        Self {
            rss_kib: field(&rollup, "Rss:"),
            private_kib: field(&rollup, "Anonymous:"),
            page_tables_kib: field(&status, "VmPTE:"),
            mappings: std::fs::read_to_string("/proc/self/maps").unwrap().lines().count() as f64,
            descriptors: std::fs::read_dir("/proc/self/fd").unwrap().count() as f64,
        }
    }

    fn print(&self, what: &str, before: &Self, count: usize) {
        let each = |now: f64, before: f64| (now - before) / count as f64;
        println!(
            "{what}: {:.1} KiB resident ({:.1} KiB anonymous), {:.1} KiB of page tables, {:.2} mappings, {:.2} descriptors",
            each(self.rss_kib, before.rss_kib),
            each(self.private_kib, before.private_kib),
            each(self.page_tables_kib, before.page_tables_kib),
            each(self.mappings, before.mappings),
            each(self.descriptors, before.descriptors),
        );
    }
}

fn print_times(what: &str, mut times: Vec<Duration>) {
    times.sort();
    let at = |part: f64| times[((times.len() - 1) as f64 * part) as usize];
    println!("{what}: p50 {:?}, p99 {:?}, longest {:?}", at(0.5), at(0.99), at(1.0));
}

fn settings(account: &Arc<Account>, requests_per_instance_max: u32) -> GroupSettings {
    GroupSettings {
        metrics: Arc::default(),
        owners: vec![OwnerSettings { component: "hello".into(), ..OwnerSettings::default() }],
        sink: Arc::new(DiscardEvents),
        account: account.clone(),
        slots: Slots { memories: 1, tables: 1, stacks: 2 },
        state_bytes: 0,
        memory_bytes: 64 << 20,
        concurrency: 1,
        instances_max: 256,
        requests_per_instance_max,
        instance_age_max: Duration::from_secs(600),
        stubs: Vec::new(),
        skeletons: Vec::new(),
        has_fused_seams: false,
    }
}

fn group(engine: &Engine, code: &Code, settings: GroupSettings) -> GroupHandle {
    let ty = code.component().component_type();
    let imports: Vec<_> = ty
        .imports(engine.wasmtime())
        .map(|(name, _)| Import {
            name: name.to_owned(),
            interface: name.to_owned(),
            owner: InterfaceOwner::Component("hello".into()),
        })
        .collect();
    let export = ty.exports(engine.wasmtime()).map(|(name, _)| name.to_owned());
    let export = export.into_iter().find(|name| name.starts_with("wasi:http/")).unwrap();
    let handlers = [HttpHandlerExport { interface: export.clone(), export }];
    let group = Group::new(engine, code, &imports, &handlers, &[], settings).unwrap();
    Graph::new(isomer_ids::PlanDigest::default(), vec![group], Tracer::default()).group(0)
}

async fn ask(group: &GroupHandle) {
    let allowed = Duration::from_secs(30);
    let body = Empty::<Bytes>::new().map_err(|never| match never {}).boxed_unsync();
    let request = GuestRequest {
        http: http::Request::builder().uri("http://hello.test/").body(body).unwrap(),
        id: RequestId::from_raw(1).unwrap(),
        span: SpanContext::unrecorded(TraceContext::start(RequestId::random().into())),
        deadline: Instant::now() + allowed,
        allowed,
        stream_allowed: allowed,
        handler: 0,
        component: "hello".into(),
        buffer_bytes: 0,
    };
    let response = group.handle(request).await.unwrap();
    assert_eq!(response.status(), 200);
    response.into_body().collect().await.unwrap();
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let apps: usize = std::env::args().nth(1).and_then(|apps| apps.parse().ok()).unwrap_or(1000);
    let folder = tempfile::tempdir().unwrap();
    let bytes = isomer_test_guests::bytes("http-hello");

    for (name, sizes) in [("one app", PoolSizes::of_one_app()), ("a node", PoolSizes::of_a_node())] {
        let before = Taken::now();
        let began = Instant::now();
        let engine = Engine::new(sizes).unwrap();
        println!("creating the engine for {name}: {:?}", began.elapsed());
        Taken::now().print("  the engine", &before, 1);
        drop(engine);
    }
    let engine = Engine::new(PoolSizes::of_a_node()).unwrap();
    let cache = CodeCache::open_kept(folder.path()).unwrap();
    let began = Instant::now();
    let first = Key::new(&engine, [&bytes[..]]);
    let code = cache.compile(&engine, &first, &bytes, b"").unwrap();
    println!("compiling a component of {} KB: {:?}", bytes.len() / 1000, began.elapsed());
    let file = folder.path().join(format!("{}.code", first.as_str()));
    println!("compiled code: {} KB", std::fs::metadata(&file).unwrap().len() / 1000);
    let keys: Vec<_> = (0..apps).map(|app| Key::new(&engine, [&app.to_le_bytes()[..]])).collect();
    for key in &keys {
        std::fs::copy(&file, folder.path().join(format!("{}.code", key.as_str()))).unwrap();
        std::fs::write(folder.path().join(format!("{}.note", key.as_str())), "").unwrap();
    }
    let account = Account::unlimited();
    ask(&group(&engine, &code, settings(&account, 1))).await;

    let tenants: Vec<_> = (0..apps).map(|_| Account::unlimited()).collect();
    let before = Taken::now();
    let shared: Vec<_> = tenants.iter().map(|tenant| group(&engine, &code, settings(tenant, 10_000))).collect();
    Taken::now().print("the same app for another tenant", &before, apps);
    drop(shared);

    let mut times = Vec::new();
    let before = Taken::now();
    let mut groups = Vec::new();
    for key in &keys {
        let began = Instant::now();
        let code = cache.load(&engine, key).unwrap();
        groups.push(group(&engine, &code, settings(&account, 10_000)));
        times.push(began.elapsed());
    }
    print_times("load and link", times);
    Taken::now().print("a loaded app without requests", &before, apps);

    let live_before = Taken::now();
    let mut times = Vec::new();
    for group in &groups {
        let began = Instant::now();
        ask(group).await;
        times.push(began.elapsed());
    }
    print_times("first response of a loaded app", times);
    println!("use of the account: {:?}", account.used());
    // The number of instances that stay live. The pool has room for 2,048 instances, and room for 128 of them is kept
    // free by evicting idle instances.
    let live = apps.min(2048 - 128);
    Taken::now().print("a live instance, in addition to its app", &live_before, live);

    let mut times = Vec::new();
    for group in &groups {
        let began = Instant::now();
        ask(group).await;
        times.push(began.elapsed());
    }
    print_times("second response", times);
    drop(groups);
    let gone = Taken::now();
    gone.print("left after an app was dropped", &before, apps);

    let mut times = Vec::new();
    for key in &keys {
        let began = Instant::now();
        let code = cache.load(&engine, key).unwrap();
        ask(&group(&engine, &code, settings(&account, 10_000))).await;
        times.push(began.elapsed());
    }
    print_times("load, link and first response", times);

    for (what, requests) in [("a new instance for each request", 1), ("one instance for all requests", 10_000)] {
        let group = group(&engine, &code, settings(&account, requests));
        let mut times = Vec::new();
        let began = Instant::now();
        for _ in 0..5000 {
            let began = Instant::now();
            ask(&group).await;
            times.push(began.elapsed());
        }
        println!("{:.0} requests/s, one after another, {what}", 5000.0 / began.elapsed().as_secs_f64());
        print_times("  time of a request", times);
    }
}
