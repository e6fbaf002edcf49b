//! Tests of loading and evicting apps.

use bytes::Bytes;
use futures::future::join_all;
use http::Method;
use http_body_util::BodyExt as _;
use isomer_api::AppState;
use isomer_apps::{MemoryBounds, TenancyOptions};

use crate::harness::body::pieces;
use crate::harness::{one, until, within};
use crate::world::{TestTenancy, name_in, named};

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_app_is_loaded_by_its_first_request() {
    let world = TestTenancy::of(&["a"], |_| {}).await;
    world.put("a", "one", &["one.example"], &named("one"));
    let (tenant, app) = ("a".parse().unwrap(), "one".parse().unwrap());
    assert_eq!(world.tenancy.state(&tenant, &app), Some(AppState::Idle));
    assert_eq!((world.tenancy.counts().loaded, world.repository.fetches()), (0, 0));
    for _ in 0..3 {
        assert_eq!(name_in(&world.get("one.example", "/").await), "one");
    }
    assert_eq!(world.tenancy.state(&tenant, &app), Some(AppState::Loaded));
    let counts = world.tenancy.counts();
    assert_eq!((counts.loaded, counts.loads, world.repository.fetches()), (1, 1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn least_recently_used_apps_are_evicted_and_loaded_again() {
    let world = TestTenancy::of(&["a", "b"], |options| options.loaded_max = 2).await;
    world.put("a", "one", &["one.example"], &one("kv-probe", "grants.kv = [\"default\"]"));
    world.put("b", "two", &["two.example"], &one("kv-probe", "grants.kv = [\"default\"]"));
    world.put("b", "three", &["three.example"], &named("three"));
    assert_eq!(world.post("one.example", "/set?key=a", "of one").await.ok(), "set\n");
    assert_eq!(world.post("two.example", "/set?key=a", "of two").await.ok(), "set\n");
    assert_eq!(world.get("one.example", "/get?key=a").await.ok(), "of one");
    // The guest may still be running after the client has read the response, and an app that is in use is not evicted.
    let is_busy = |tenant: &str, app: &str| world.tenancy.is_busy(&tenant.parse().unwrap(), &app.parse().unwrap());
    until("the guests to be done", async || (!is_busy("a", "one") && !is_busy("b", "two")).then_some(())).await;
    // `two` is the least recently used app now.
    assert_eq!(name_in(&world.get("three.example", "/").await), "three");
    let state = |tenant: &str, app: &str| world.tenancy.state(&tenant.parse().unwrap(), &app.parse().unwrap());
    assert_eq!(state("a", "one"), Some(AppState::Loaded));
    assert_eq!(state("b", "two"), Some(AppState::Idle));
    assert_eq!(world.tenancy.counts().evictions, 1);
    for _ in 0..5 {
        assert_eq!(world.get("two.example", "/get?key=a").await.ok(), "of two");
        assert_eq!(world.get("one.example", "/get?key=a").await.ok(), "of one");
        assert_eq!(name_in(&world.get("three.example", "/").await), "three");
        assert!(world.tenancy.counts().loaded <= 2);
    }
    let counts = world.tenancy.counts();
    assert_eq!(counts.loads, counts.evictions + 2, "{counts:?}");
    assert!(counts.evictions > 10, "{counts:?}");
    assert!(world.folder().join("a/one/kv").exists(), "each app has its own folder");
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_requests_load_an_app_once() {
    const CLIENTS: u32 = 30;
    // All requests start at the same time when the app is loaded. There are enough instances, so that no request is
    // refused.
    let world = TestTenancy::of(&["a"], |options| options.instances_max = Some(CLIENTS)).await;
    world.put("a", "one", &["one.example"], &named("one"));
    world.repository.close();
    let request = join_all((0..CLIENTS).map(|_| world.get("one.example", "/")));
    let opened = async {
        let all = async || (world.usage("a").requests_now == CLIENTS).then_some(());
        until("all requests wait for the same load", all).await;
        world.repository.open();
    };
    let (responses, ()) = futures::join!(request, opened);
    responses.iter().for_each(|response| assert_eq!(name_in(response), "one"));
    assert_eq!((world.repository.fetches(), world.tenancy.counts().loads), (1, 1));
    assert_eq!(world.usage("a").requests_now, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_load_is_logged_once_and_backs_off() {
    let world = TestTenancy::of(&["a"], |_| {}).await;
    world.put("a", "one", &["one.example"], &named("one"));
    world.put("a", "two", &["two.example"], &named("two"));
    world.repository.lose("a", "one");
    for _ in 0..20 {
        let response = world.get("one.example", "/").await;
        assert_eq!((response.status.as_u16(), response.header("content-type")), (500, "application/problem+json"));
        assert!(!response.text().contains("repository"), "the reason is not for clients: {}", response.text());
    }
    // The node waits at least a second between two attempts to load an app.
    assert!(world.repository.fetches() < 10, "{} tries", world.repository.fetches());
    let warnings = world.warnings();
    assert_eq!(warnings.len(), world.repository.fetches(), "{warnings:?}");
    assert!(
        warnings[0].contains("app `one` of tenant `a`") && warnings[0].contains("the repository has no such package")
    );
    // While the app `one` cannot be loaded, other apps are served. `one` is served as soon as its package is available.
    assert_eq!(name_in(&world.get("two.example", "/").await), "two");
    world.make("a", "one", &named("one"));
    until("the app is loaded again", async || (world.get("one.example", "/").await.status == 200).then_some(())).await;
    world.repository.lose("a", "two");
    world.deploy("a", "one", &["one.example"], &named("new")).await;
    assert_eq!(name_in(&world.get("one.example", "/").await), "new");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_overloaded_repository_is_not_a_broken_app() {
    let world = TestTenancy::of(&["a"], |_| {}).await;
    world.put("a", "one", &["one.example"], &named("one"));
    world.repository.be_busy(3);
    for _ in 0..3 {
        let response = world.get("one.example", "/").await;
        assert_eq!((response.status.as_u16(), response.header("retry-after")), (503, "1"), "{}", response.text());
    }
    // The next request immediately starts another attempt to load the app, and the log reports no failure of the app.
    assert_eq!(name_in(&world.get("one.example", "/").await), "one");
    assert_eq!((world.repository.fetches(), world.warnings()), (4, Vec::new()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_busy_app_is_not_evicted() {
    let world = TestTenancy::of(&["a"], |options| options.loaded_max = 1).await;
    world.put("a", "busy", &["busy.example"], &one("http-stream", ""));
    world.put("a", "next", &["next.example"], &named("next"));
    let mut connection = world.connect("busy.example").await;
    let (sender, body) = pieces();
    let request = connection.request(Method::POST, "/echo").body(body).expect("a valid request");
    let mut response = connection.send(request).await;
    sender.send(Ok(Bytes::from_static(b"started"))).await.expect("the body is still read");
    let first = within("the first piece", response.body_mut().frame()).await.expect("a piece").expect("a frame");
    assert_eq!(first.into_data().expect("no trailers"), "started");
    let refused = world.get("next.example", "/").await;
    assert_eq!((refused.status.as_u16(), refused.header("retry-after")), (503, "1"), "{}", refused.text());
    assert_eq!((world.tenancy.counts().loaded, world.tenancy.counts().evictions), (1, 0));
    sender.send(Ok(Bytes::from_static(b" ended"))).await.expect("the body is still read");
    drop(sender);
    let rest = within("the rest", response.into_body().collect()).await.expect("the whole response");
    assert_eq!(rest.to_bytes(), " ended");
    until("there is room", async || (world.get("next.example", "/").await.status == 200).then_some(())).await;
    assert_eq!((world.tenancy.counts().loaded, world.tenancy.counts().evictions), (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn apps_are_evicted_when_memory_is_short() {
    let bounds = MemoryBounds { resident_bytes_max: 1, available_bytes_min: 0 };
    let world = TestTenancy::of(&["a"], |options| options.memory = Some(bounds)).await;
    for app in ["one", "two", "three"] {
        world.put("a", app, &[&format!("{app}.example")], &named(app));
        assert_eq!(name_in(&world.get(&format!("{app}.example"), "/").await), app);
    }
    until("all apps are evicted", async || (world.tenancy.counts().loaded == 0).then_some(())).await;
    assert_eq!(name_in(&world.get("two.example", "/").await), "two");
    let counts = world.tenancy.counts();
    assert!(counts.evictions >= 3 && counts.loads >= 4, "{counts:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_superseded_load_does_not_serve() {
    let world = TestTenancy::of(&["a"], |_| {}).await;
    world.put("a", "one", &["one.example"], &named("old"));
    world.repository.close();
    let request = world.get("one.example", "/");
    let overtaken = async {
        world.repository.fetched(1).await;
        let (tenant, app) = ("a".parse().unwrap(), "one".parse().unwrap());
        world.tenancy.stop(&tenant, &app).unwrap();
        world.repository.open();
    };
    let (response, ()) = within("the response", async { futures::join!(request, overtaken) }).await;
    assert_eq!(response.status, 503, "{}", response.text());
    until("the loaded revision is dropped", async || (world.tenancy.counts().loaded == 0).then_some(())).await;
    assert_eq!(world.tenancy.counts().loads, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_of_a_superseded_load_wait_for_the_next() {
    let world = TestTenancy::of(&["a"], |_| {}).await;
    world.put("a", "one", &["one.example"], &named("old"));
    world.repository.close();
    let request = world.get("one.example", "/");
    let overtaken = async {
        world.repository.fetched(1).await;
        world.tenancy.unload(&"a".parse().unwrap(), &"one".parse().unwrap()).unwrap();
        world.repository.open();
    };
    let (response, ()) = within("the response", async { futures::join!(request, overtaken) }).await;
    assert_eq!(name_in(&response), "old");
    assert_eq!((world.repository.fetches(), world.tenancy.counts().loads), (2, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_loads_do_not_delay_other_tenants() {
    let greedy = (0..10).map(|number| format!("greedy-{number}")).collect::<Vec<_>>();
    let mut tenants = greedy.iter().map(String::as_str).collect::<Vec<_>>();
    tenants.push("modest");
    let world = TestTenancy::of(&tenants, |_| {}).await;
    assert!(TenancyOptions::default().loads_max < greedy.len(), "there are more apps than simultaneous loads");
    let mut hosts = Vec::new();
    for tenant in &greedy {
        for app in ["one", "two", "three"] {
            let host = format!("{app}.{tenant}.example");
            world.put(tenant, app, &[&host], &named(app));
            hosts.push(host);
        }
    }
    world.put("modest", "own", &["own.example"], &named("own"));
    world.repository.close_but_for("modest");
    let stuck = join_all(hosts.iter().map(|host| world.get(host, "/")));
    let served = async {
        world.repository.fetched(hosts.len()).await;
        assert_eq!(name_in(&world.get("own.example", "/").await), "own");
        world.repository.open();
    };
    let (stuck, ()) = within("all responses", async { futures::join!(stuck, served) }).await;
    assert!(stuck.iter().all(|response| response.status == 200));
}
