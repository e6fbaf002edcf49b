//! Connections that are used for more than one request: which clients may use them, and what happens if the server has
//! closed one.

use std::sync::Arc;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use isomer_capabilities::outbound::{OutboundClient, OutboundLimits, OutboundNetwork, OutboundPolicy, TenantHosts};
use isomer_runtime::{Account, AccountLimits};
use tokio::sync::mpsc::UnboundedReceiver;

use crate::{Names, client, error, get, request, rule, server, text};

fn names() -> Arc<Names> {
    Names::with(&[("app.localhost", &["127.0.0.1"]), ("other.localhost", &["127.0.0.1"])])
}

fn post(uri: &str) -> http::Request<wasmtime_wasi_http::WasiBody> {
    let body = Full::new(Bytes::from_static(b"paid")).map_err(|never| match never {}).boxed_unsync();
    let mut request = request(uri, body);
    *request.method_mut() = http::Method::POST;
    request
}

/// Returns limits with timeouts that are so long that the time between two requests does not matter.
fn patient() -> OutboundLimits {
    let long = std::time::Duration::from_secs(600);
    OutboundLimits { idle_time: long, idle_time_unrepeatable: long, ..OutboundLimits::default() }
}

/// Returns the requests that the server has reported since the last call.
fn requests(lines: &mut UnboundedReceiver<String>) -> Vec<String> {
    std::iter::from_fn(|| lines.try_recv().ok()).collect()
}

#[tokio::test]
async fn the_next_request_to_the_same_host_takes_the_same_connection() {
    let (port, _) = server::counting().await;
    let names = names();
    let rules = vec![rule("app.localhost", false), rule("other.localhost", false)];
    let client = client(&names, rules.clone(), patient());
    let ask = async |request| text(client.send(request, None).await.unwrap()).await.1;
    let uri = format!("http://app.localhost:{port}/");
    assert_eq!(ask(get(&uri)).await, "1.1");
    assert_eq!(ask(post(&uri)).await, "1.2");
    assert_eq!(ask(get(&format!("{uri}x"))).await, "1.3");
    assert_eq!(names.looked_up(), ["app.localhost"], "the idle connection is used without a look-up");
    assert_eq!(ask(get(&format!("http://other.localhost:{port}/"))).await, "2.1", "another host of the same server");
    let another = self::client(&names, rules, patient());
    assert_eq!(text(another.send(get(&uri), None).await.unwrap()).await.1, "3.1", "another component");
    // A connection that is in use is not used for a second request.
    let first = client.send(get(&uri), None).await.unwrap();
    let second = client.send(get(&uri), None).await.unwrap();
    let answers = [text(first).await.1, text(second).await.1];
    assert_eq!(answers, ["1.4", "4.1"]);
}

#[tokio::test]
async fn a_connection_of_http2_is_used_again_too() {
    let names = Names::with(&[("secure.localhost", &["127.0.0.1"])]);
    let client = client(&names, vec![rule("secure.localhost", false)], patient());
    let port = server::tls_echo("h2").await;
    for path in ["/a", "/b"] {
        let answer = client.send(get(&format!("https://secure.localhost:{port}{path}")), None).await.unwrap();
        assert_eq!(text(answer).await, (200, format!("HTTP/2.0 GET {path} host=secure.localhost:{port} ")));
    }
    assert_eq!(names.looked_up().len(), 1);
}

#[tokio::test]
async fn an_unread_response_leaves_no_connection() {
    let (port, _) = server::counting().await;
    let client = client(&names(), vec![rule("app.localhost", false)], patient());
    let uri = format!("http://app.localhost:{port}/");
    drop(client.send(get(&format!("{uri}slow")), None).await.unwrap());
    assert_eq!(text(client.send(get(&uri), None).await.unwrap()).await.1, "2.1");
}

#[tokio::test]
async fn an_idempotent_request_is_sent_again() {
    let (port, mut lines) = server::counting().await;
    let client = client(&names(), vec![rule("app.localhost", false)], patient());
    let uri = format!("http://app.localhost:{port}/");
    // The server closes each connection after its response. The next request must succeed, whether or not the client
    // has noticed the closing before it sends the request.
    for number in 1..20 {
        let answer = text(client.send(get(&format!("{uri}close")), None).await.unwrap()).await;
        assert_eq!(answer, (200, format!("{number}.1")));
    }
    assert_eq!(text(client.send(get(&uri), None).await.unwrap()).await.1, "20.1");
    requests(&mut lines);
    // The server reads the request on the idle connection, and closes the connection instead of responding.
    assert_eq!(text(client.send(get(&format!("{uri}never")), None).await.unwrap()).await.1, "21.1");
    assert_eq!(requests(&mut lines), ["20 GET /never", "21 GET /never"]);
    let failed = client.send(post(&format!("{uri}never")), None).await;
    assert!(failed.is_err(), "a POST request is not sent twice");
    assert_eq!(requests(&mut lines), ["21 POST /never"]);
    // The closed connection is not used again, so the next request opens a new one.
    assert_eq!(text(client.send(get(&uri), None).await.unwrap()).await.1, "22.1");
}

#[tokio::test]
async fn a_request_that_makes_its_server_close_is_repeated_once() {
    let (port, mut lines) = server::counting().await;
    let client = client(&names(), vec![rule("app.localhost", false)], patient());
    let uri = format!("http://app.localhost:{port}/");
    let mut open = Vec::new();
    for _ in 0..3 {
        open.push(client.send(get(&uri), None).await.unwrap());
    }
    for answer in open {
        text(answer).await;
    }
    requests(&mut lines);
    // Three connections are idle. The server closes the connection over which it receives the request. The client tries
    // the most recently used connection, and then opens a new one.
    assert_eq!(text(client.send(get(&format!("{uri}never")), None).await.unwrap()).await.1, "4.1");
    assert_eq!(requests(&mut lines), ["3 GET /never", "4 GET /never"]);
}

#[tokio::test]
async fn other_requests_use_no_old_idle_connection() {
    let (port, _) = server::counting().await;
    let limits = OutboundLimits { idle_time_unrepeatable: std::time::Duration::ZERO, ..patient() };
    let client = client(&names(), vec![rule("app.localhost", false)], limits);
    let uri = format!("http://app.localhost:{port}/");
    let ask = async |request| text(client.send(request, None).await.unwrap()).await.1;
    assert_eq!(ask(get(&uri)).await, "1.1");
    assert_eq!(ask(post(&uri)).await, "2.1");
    assert_eq!(ask(get(&uri)).await, "2.2", "the most recently used connection");
}

#[tokio::test]
async fn a_host_that_was_denied_meanwhile_is_not_reached_over_an_old_connection() {
    let (port, _) = server::counting().await;
    let tenant = Arc::new(TenantHosts::new(Some(&["*.localhost".to_owned()])).unwrap());
    let network = OutboundNetwork::with(patient(), names(), rustls::RootCertStore::empty());
    let policy = OutboundPolicy::new("front", vec![rule("app.localhost", false)]);
    let client = OutboundClient::of_tenant(network, policy, tenant.clone());
    let uri = format!("http://app.localhost:{port}/");
    assert_eq!(text(client.send(get(&uri), None).await.unwrap()).await.1, "1.1");
    // `*` allows the host name only if it resolves to a public address, and not to this machine.
    tenant.set(Some(&["*".to_owned()])).unwrap();
    assert_eq!(error(client.send(get(&uri), None).await), "DestinationIpProhibited");
    tenant.set(Some(&["app.localhost".to_owned()])).unwrap();
    assert_eq!(text(client.send(get(&uri), None).await.unwrap()).await.1, "1.2");
}

#[tokio::test]
async fn idle_connections_are_bounded_and_charged() {
    let (port, _) = server::counting().await;
    let limits = OutboundLimits { idle_max: 2, ..patient() };
    let account = Account::new("t".into(), AccountLimits { memory_bytes: 300 << 10, ..AccountLimits::UNLIMITED });
    let client = client(&names(), vec![rule("app.localhost", false)], limits).charging(account.clone());
    let uri = format!("http://app.localhost:{port}/");
    let all = async |count: usize, meanwhile: usize| {
        let mut open = Vec::new();
        for _ in 0..count {
            open.push(client.send(get(&uri), None).await.unwrap());
        }
        let full = account.charge_host_memory(meanwhile).unwrap();
        for answer in open {
            assert_eq!(text(answer).await.0, 200);
        }
        full
    };
    let nothing = all(5, 0).await;
    assert_eq!(account.used().memory_bytes, 256 << 10, "two of five connections stay idle");
    let full = all(2, 150 << 10).await;
    assert_eq!(account.used().memory_bytes, (128 + 150) << 10, "the memory quota has no space for a second connection");
    drop((nothing, full));
    drop(client);
    assert_eq!(account.used().memory_bytes, 0);
}
