//! Tests of a revision that takes over from another one while requests run.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::Method;
use http_body_util::BodyExt as _;

use crate::harness::body::pieces;
use crate::harness::{one, until, within};
use crate::world::{TestTenancy, name_in, named};

#[tokio::test(flavor = "multi_thread")]
async fn no_request_fails_during_take_overs() {
    const REVISIONS: usize = 6;
    let world = TestTenancy::of(&["a"], |_| {}).await;
    world.deploy("a", "one", &["one.example"], &named("0")).await;
    let (changing, request_count) = (AtomicBool::new(true), AtomicUsize::new(0));
    let client = async || {
        let mut connection = world.connect("one.example").await;
        let mut last = 0;
        while changing.load(Ordering::Relaxed) {
            for response in [connection.get("/").await, world.get("one.example", "/").await] {
                let revision: usize = name_in(&response).parse().expect("a number");
                assert!(revision >= last, "{revision} after {last}");
                last = revision;
                request_count.fetch_add(1, Ordering::Relaxed);
            }
        }
        last
    };
    let changes = async {
        for revision in 1..=REVISIONS {
            let enough = request_count.load(Ordering::Relaxed) + 20;
            let retired = world.deploy("a", "one", &["one.example"], &named(&revision.to_string())).await;
            let retired = retired.expect("a revision was in service before");
            until("the old revision is drained", async || retired.is_drained().then_some(())).await;
            until("requests", async || (request_count.load(Ordering::Relaxed) > enough).then_some(())).await;
        }
        changing.store(false, Ordering::Relaxed);
    };
    let (a, b, c, ()) = within("all changes", async { futures::join!(client(), client(), client(), changes) }).await;
    assert_eq!([a, b, c], [REVISIONS; 3]);
    let request_count = request_count.load(Ordering::Relaxed);
    assert!(request_count > 20 * REVISIONS, "{request_count} requests");
    assert_eq!(name_in(&world.get("one.example", "/").await), REVISIONS.to_string());
    assert_eq!(world.tenancy.counts().loaded, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_standby_revision_serves_nothing_before_its_take_over() {
    let world = TestTenancy::of(&["a"], |_| {}).await;
    world.deploy("a", "one", &["one.example"], &named("old")).await;
    let started = world.start("a", "one", &named("new")).await;
    assert_eq!(name_in(&world.get("one.example", "/").await), "old");
    assert_eq!(world.tenancy.counts().loaded, 2);
    drop(started);
    assert_eq!(world.tenancy.counts().loaded, 1);
    assert_eq!(name_in(&world.get("one.example", "/").await), "old");
}

#[tokio::test(flavor = "multi_thread")]
async fn revisions_share_their_stores_while_both_run() {
    let world = TestTenancy::of(&["a"], |_| {}).await;
    let manifest = |lines: &str| one("kv-probe", &format!("grants.kv = [\"default\"]\n{lines}"));
    world.deploy("a", "one", &["one.example"], &manifest("")).await;
    assert_eq!(world.post("one.example", "/set?key=a", "one").await.ok(), "set\n");
    let started = world.start("a", "one", &manifest("limits.memory = \"32MiB\"")).await;
    assert_eq!(world.get("one.example", "/increment?key=n&delta=1").await.ok(), "1\n");
    world.tenancy.take_over(started, &crate::world::patterns(&["one.example"])).unwrap();
    assert_eq!(world.get("one.example", "/increment?key=n&delta=1").await.ok(), "2\n");
    assert_eq!(world.get("one.example", "/get?key=a").await.ok(), "one");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hold_waits_for_requests_of_all_earlier_revisions() {
    let world = TestTenancy::of(&["a"], |_| {}).await;
    let streaming = |name: &str| one("http-stream", &format!("grants.config = {{ NAME = \"{name}\" }}"));
    world.deploy("a", "one", &["one.example"], &streaming("first")).await;
    let mut connection = world.connect("one.example").await;
    let (sender, body) = pieces();
    let request = connection.request(Method::POST, "/echo").body(body).expect("a valid request");
    let mut response = connection.send(request).await;
    sender.send(Ok(Bytes::from_static(b"started"))).await.expect("the body is still read");
    within("the first piece", response.body_mut().frame()).await.expect("a piece").expect("a frame");
    // The new revision has no requests in flight; an earlier revision still has one.
    world.deploy("a", "one", &["one.example"], &streaming("second")).await;
    let (tenant, app) = ("a".parse().unwrap(), "one".parse().unwrap());
    world.tenancy.unload(&tenant, &app).unwrap();
    let held = world.tenancy.hold(&tenant, &app).expect("the app is there");
    assert!(!held.drained(Duration::ZERO).await, "a request is in flight on an earlier revision");
    drop(sender);
    within("the rest", response.into_body().collect()).await.expect("the whole response");
    assert!(held.drained(Duration::from_secs(60)).await);
    drop(held);
    assert_eq!(world.post("one.example", "/echo", "later").await.ok(), "later");
}
