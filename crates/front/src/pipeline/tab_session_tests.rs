//! Sessions of visitors who return, tabs of earlier revisions, and what one visitor can use of the log and of the memory.

use bytes::Bytes;
use http::StatusCode;
use http::uri::Scheme;
use isomer_gateway::{AppGateway, CALL_TYPE, GatewayClient, KEY_BYTES, RequestTime, SiteGateway};
use isomer_ids::PlanDigest;
use isomer_wire::{CallError, CallFailure};

use super::tab_tests::{Browser, FakeCallee, GROWS, PLAN, SHIP, Shop, frame, reply, revision};
use super::tests::World;
use super::*;
use crate::fake::{FakeResponse, target, target_with};

#[tokio::test]
async fn calls_renew_the_session_of_a_visitor_who_returns() {
    let shop = Shop::new();
    let mut browser = shop.visitor().await;
    // The token of a session that started 25 hours ago.
    let now = RequestTime::now();
    let then = RequestTime { unix: now.unix - 25 * 60 * 60, ..now };
    let client = GatewayClient { network: None, scheme: Scheme::HTTP };
    let session = shop.gateway.start_session(&client, then).expect("a session");
    let line = shop.gateway.set_cookie(&session, &Scheme::HTTP);
    let pair = line.to_str().expect("text").split(';').next().expect("a pair");
    let (name, value) = pair.split_once('=').expect("a name");
    browser.cookies.insert(name.to_owned(), value.to_owned());
    let received = browser.call(&shop, frame(SHIP, PLAN, &[])).await;
    assert_eq!(received.headers.get_all("set-cookie").iter().count(), 1);
    browser.keep(&received);
    assert_ne!(browser.cookies[name], value);
    let received = browser.call(&shop, frame(SHIP, PLAN, &[])).await;
    assert!(!received.headers.contains_key("set-cookie"), "a new token is not renewed");
    assert_eq!(browser.identity(&shop).await, session.identity().to_string());
}

#[tokio::test]
async fn one_visitor_cannot_flood_the_log() {
    let shop = Shop::new();
    let mut browser = shop.visitor().await;
    let line = format!(r#"{{"component":"frontend","level":"critical","message":"{}"}}"#, "x".repeat(8000));
    let batch = format!(r#"{{"lines":[{}]}}"#, vec![line; 8].join(","));
    let mut accepted = 0;
    for _ in 0..50 {
        accepted += usize::from(browser.post(&shop, "/_isomer/logs", &batch).await.status.is_success());
    }
    assert!((1..=2).contains(&accepted), "{accepted}");
}

#[tokio::test]
async fn a_call_whose_result_has_no_memory_is_not_reported_as_one_that_has_not_run() {
    let callee = Arc::new(FakeCallee::default());
    let (gateway, revision) = (Arc::new(AppGateway::new(&[1; KEY_BYTES])), revision(PLAN, &callee));
    let poor = RouteTarget { handler: target("frontend").handler.with_memory(64 << 10), ..target("frontend") };
    let site_gateway = SiteGateway { app: gateway, revision };
    let page = target_with("frontend", FakeResponse::Page("", ""));
    let world = World::of(|site| site.serving_tabs(site_gateway, &poor), [("/", page)], &Limits::default(), false);
    let mut browser = Browser::default();
    let session = browser.request("/_isomer/session", "application/json");
    browser.keep(&world.send_from("192.0.2.7", session, Bytes::new()).await);
    let request = browser.request("/_isomer/call", CALL_TYPE).header("isomer-revision", PLAN.to_string());
    let received = world.send_from("192.0.2.7", request, frame(GROWS, PLAN, &[0]).into()).await;
    let failure = reply(&received).expect_err("the result has no memory");
    assert!(matches!(failure, CallFailure::Lost { error: CallError::Overloaded, not_run: false, .. }), "{failure:?}");
    assert_eq!(callee.0.lock().expect("no test panics with it").len(), 1);
}

#[tokio::test]
async fn an_old_revision_is_served_while_it_is_in_memory() {
    let shop = Shop::new();
    let browser = shop.visitor().await;
    let old_plan = PlanDigest([9; 16]);
    let old = SiteGateway { app: shop.gateway.clone(), revision: revision(old_plan, &shop.callee) };
    let call = async || {
        let request = browser.request("/_isomer/call", CALL_TYPE).header("isomer-revision", old_plan.to_string());
        shop.world.send_from("192.0.2.7", request, frame(SHIP, old_plan, &[]).into()).await
    };
    // A revision that has served no client, such as one that fails its health check, gets no calls.
    assert_eq!(call().await.status, StatusCode::GONE);
    old.begin_service(Instant::now());
    assert_eq!(reply(&call().await), Ok(vec![]));
    // All requests of a tab belong to its revision, also those for its session and its log lines.
    for (path, body) in [("/_isomer/session", ""), ("/_isomer/logs", r#"{"lines":[]}"#)] {
        let request = browser.request(path, "application/json").header("isomer-revision", old_plan.to_string());
        let received = shop.world.send_from("192.0.2.7", request, Bytes::from_static(body.as_bytes())).await;
        assert!(received.status.is_success(), "{path} {}", received.status);
        let report = String::from_utf8_lossy(&received.body);
        assert!(body.len() > 2 || report.contains(&old_plan.to_string()), "{report}");
    }
    // When stores are replaced, no further call starts in earlier code, although it is in memory.
    shop.gateway.end_revisions();
    assert_eq!(call().await.status, StatusCode::GONE);
    old.begin_service(Instant::now());
    drop(old);
    assert_eq!(call().await.status, StatusCode::GONE);
}
