//! Requests for the service worker and its files, and for a worker that must be withdrawn.

use bytes::Bytes;
use http::StatusCode;
use http::uri::Scheme;

use super::tab_tests::Shop;
use super::tests::{HOST, Received, World};
use super::*;
use crate::fake::target;

/// Requests the worker's script as a browser does that looks for a new version.
async fn look_for_worker(world: &World, host: &str) -> Received {
    let request = Request::builder().uri("/_isomer/worker.js").header("host", host).header("service-worker", "script");
    world.send_from("192.0.2.7", request, Bytes::new()).await
}

fn is_withdrawal(received: &Received) -> bool {
    let script = std::str::from_utf8(&received.body).expect("text");
    received.status == StatusCode::OK && script.contains("registration.unregister()") && !script.contains("import")
}

#[tokio::test]
async fn a_worker_is_withdrawn_if_its_host_has_no_files_for_tabs() {
    let shop = Shop::new();
    let served = look_for_worker(&shop.world, HOST).await;
    assert_eq!(&served.body[..], b"import \"/_isomer/web/abc/sw.js\";\n");

    // Also if the app has a route for all paths, because browsers would take its page for a broken script.
    let mut everything = Site::new();
    everything.prefix("/", target("root"));
    for world in [
        World::of(|site| site, [("/", target("root"))], &Limits::default(), false),
        World::of(|_| everything, [], &Limits::default(), false),
    ] {
        let withdrawn = look_for_worker(&world, HOST).await;
        assert!(is_withdrawal(&withdrawn), "{:?}", withdrawn.body);
        assert_eq!(withdrawn.headers["content-type"], "text/javascript; charset=utf-8");
        assert_eq!(withdrawn.headers["cache-control"], "no-cache");
        assert!(is_withdrawal(&look_for_worker(&world, "moved.example").await), "no app has the host name");
        let page = Request::builder().uri("/").header("host", "moved.example").header("service-worker", "script");
        assert_eq!(world.send_from("192.0.2.7", page, Bytes::new()).await.status, StatusCode::NOT_FOUND);
    }
}

#[tokio::test]
async fn an_app_without_a_browser_group_has_no_gateway() {
    let world = World::of(|site| site, [("/", target("root"))], &Limits::default(), false);
    let request = Request::builder().uri("/_isomer/worker.js").header("host", HOST);
    assert_eq!(world.send_from("192.0.2.7", request, Bytes::new()).await.status, StatusCode::NOT_FOUND);
    let request = Request::builder().uri("/").header("host", HOST).header("cookie", "shop_session=1");
    let received = world.send_from("192.0.2.7", request, Bytes::new()).await;
    assert!(!received.headers.contains_key("set-cookie"));
}

#[tokio::test]
async fn a_network_gets_the_files_at_a_limited_rate() {
    let shop = Shop::new();
    // The time of the flood is in the future, so no token is added while the test runs.
    let later = RequestTime { instant: Instant::now() + Duration::from_secs(3600), ..RequestTime::now() };
    let network = Some(ClientNetwork::of("192.0.2.7".parse().expect("an address")));
    let client = GatewayClient { network, scheme: Scheme::HTTP };
    while shop.gateway.admit(None, &client, 1, later).is_ok() {}
    for path in ["/_isomer/worker.js", "/_isomer/web/abc/sw.js"] {
        let from = async |address| {
            let request = Request::builder().uri(path).header("host", HOST);
            shop.world.send_from(address, request, Bytes::new()).await
        };
        let refused = from("192.0.2.7").await;
        assert_eq!(refused.status, StatusCode::TOO_MANY_REQUESTS, "{path}");
        assert!(refused.headers.contains_key("retry-after"));
        assert_eq!(from("198.51.100.1").await.status, StatusCode::OK, "{path}");
    }
}
