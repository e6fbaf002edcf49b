//! Tests of HTTP on the front door: versions, methods, routes, problems, traces.

use ::http::Method;

use crate::harness::body::whole;
use crate::harness::client::TestResponse;
use crate::harness::{Setup, TestNode, one, start};

/// The header `Allow` in responses to the methods CONNECT and TRACE, and to `OPTIONS *`.
const ALLOW: &str = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS";

/// Returns the header fields that the guest has set, as sorted lines.
fn own_headers(response: &TestResponse) -> Vec<String> {
    let transport = ["date", "content-length", "transfer-encoding"];
    let own = response.headers.iter().filter(|(name, _)| !transport.contains(&name.as_str()));
    let mut lines: Vec<_> = own.map(|(name, value)| format!("{name}: {value:?}")).collect();
    lines.sort();
    lines
}

#[tokio::test(flavor = "multi_thread")]
async fn both_wasi_versions_serve_both_http_versions() {
    for (guest, text) in [("http-hello", "hello from WASI 0.3\n"), ("http-hello-p2", "hello from WASI 0.2\n")] {
        let node = start(&one(guest, "")).await;
        for mut connection in [node.connect().await, node.connect_http2().await] {
            for _ in 0..3 {
                let response = connection.get("/").await;
                assert_eq!(response.ok(), text);
                assert_eq!(response.header("content-type"), "text/plain; charset=utf-8");
            }
        }
        assert_eq!(node.stop().await, 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn head_responds_like_get_without_a_body() {
    for guest in ["counter", "http-hello-p2"] {
        let node = Setup::new(&one(guest, "")).options(|options| options.instances_max = Some(1)).start().await;
        for mut connection in [node.connect().await, node.connect_http2().await] {
            let before = connection.get("/").await;
            for _ in 0..3 {
                let head = connection.ask(Method::HEAD, "/").await;
                assert_eq!(head.ok(), "");
                assert_eq!(own_headers(&head), own_headers(&before));
            }
            let after = connection.get("/").await;
            if guest == "counter" {
                let (instance, count) = counted(before.ok());
                assert_eq!(counted(after.ok()), (instance, count + 4));
            }
        }
    }
}

/// Parses the counter's response, `instance=I count=N`.
fn counted(text: &str) -> (String, u64) {
    let (instance, count) = text.trim_end().split_once(" count=").expect("the response of the counter");
    (instance.to_owned(), count.parse().expect("a number"))
}

#[tokio::test(flavor = "multi_thread")]
async fn options_of_a_path_reaches_the_guest_and_options_star_does_not() {
    let node = start(&one("http-hello", "")).await;
    assert_eq!(node.connect().await.ask(Method::OPTIONS, "/").await.ok(), "hello from WASI 0.3\n");
    let mut raw = node.connect_raw().await;
    raw.write("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let head = raw.read_to("\r\n\r\n").await;
    assert!(head.starts_with("HTTP/1.1 204 No Content\r\n"), "{head}");
    assert!(head.contains(&format!("allow: {ALLOW}\r\n")), "{head}");
    // Only OPTIONS may have the target `*` (RFC 9112, section 3.2.4).
    raw.write("GET * HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let head = raw.read_to("\r\n\r\n").await;
    assert!(head.starts_with("HTTP/1.1 400 "), "{head}");
}

#[tokio::test(flavor = "multi_thread")]
async fn unsupported_methods_are_refused() {
    let node = start(&one("http-hello", "")).await;
    let response = node.connect().await.ask(Method::TRACE, "/").await;
    response.problem(405);
    assert_eq!(response.header("allow"), ALLOW);
    let mut raw = node.connect_raw().await;
    raw.write("CONNECT example.com:443 HTTP/1.1\r\nHost: example.com:443\r\n\r\n").await;
    let head = raw.read_to("\r\n\r\n").await;
    assert!(head.starts_with("HTTP/1.1 405 "), "{head}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_needs_exactly_one_host_field() {
    let node = start(&one("http-hello", "")).await;
    for (lines, status) in [
        ("GET / HTTP/1.1\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a b\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: user@a\r\n", 400),
        ("GET / HTTP/1.1\r\nHost:\r\n", 400),
        ("GET http://a/ HTTP/1.1\r\n", 400),
        ("OPTIONS * HTTP/1.1\r\n", 400),
        ("GET http://a/ HTTP/1.1\r\nHost: b\r\n", 200),
        ("GET / HTTP/1.1\r\nHost: a:80\r\n", 200),
        ("GET / HTTP/1.1\r\nHost: [::1]:80\r\n", 200),
    ] {
        let mut raw = node.connect_raw().await;
        raw.write(format!("{lines}Connection: close\r\n\r\n")).await;
        let response = raw.read_all().await;
        assert!(response.starts_with(&format!("HTTP/1.1 {status} ")), "{lines:?}: {response}");
        if status == 400 {
            assert!(response.contains("content-type: application/problem+json\r\n"), "{lines:?}: {response}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_that_are_not_http_are_refused() {
    let node = start(&one("http-hello", "")).await;
    for bytes in ["hello\r\n\r\n", "GET /\r\n\r\n", "GET / HTTP/9.9\r\n\r\n", "GET / HTTP/1.1\r\nno colon\r\n\r\n"] {
        let mut raw = node.connect_raw().await;
        raw.write(bytes).await;
        let response = raw.read_all().await;
        assert!(response.is_empty() || response.starts_with("HTTP/1.1 400 "), "{bytes:?}: {response}");
    }
    for line in
        ["Content-Length: 5\r\nContent-Length: 6\r\n", "Content-Length: -1\r\n", "Transfer-Encoding: nonsense\r\n"]
    {
        let mut raw = node.connect_raw().await;
        raw.write(format!("POST / HTTP/1.1\r\nHost: a\r\n{line}\r\nhello")).await;
        let response = raw.read_all().await;
        assert!(response.starts_with("HTTP/1.1 400 "), "{line:?}: {response}");
    }
    assert_eq!(node.get("/").await.ok(), "hello from WASI 0.3\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_longest_route_wins_and_missing_routes_are_problems() {
    let node = start(
        r#"
        [components.http-hello]
        wasm = "http-hello"
        routes = ["/hello", "/shop/..."]
        [components.counter]
        wasm = "counter"
        routes = ["/shop/cart/...", "/shop/exact"]
        "#,
    )
    .await;
    let mut connection = node.connect().await;
    for (target, guest) in [
        ("/hello", "hello"),
        ("/hello?a=b", "hello"),
        ("/shop", "hello"),
        ("/shop/", "hello"),
        ("/shop/carts", "hello"),
        ("/shop/exact/below", "hello"),
        ("/shop/cart", "instance="),
        ("/shop/cart/a/b", "instance="),
        ("/shop/exact", "instance="),
    ] {
        let response = connection.get(target).await;
        assert!(response.ok().starts_with(guest), "{target}: {}", response.text());
    }
    for target in ["/", "/hello/", "/hello/more", "/shops", "/Hello"] {
        let id = connection.get(target).await.problem(404);
        let event = node.event("access", |event| event["request"] == id.as_str()).await;
        assert_eq!((&event["status"], &event["target"]), (&404.into(), &target.into()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_health_path_belongs_to_the_platform() {
    let node = start(&one("http-trap", "")).await;
    let response = node.get("/.isomer/health").await;
    assert_eq!(response.ok(), "ok\n");
    assert_eq!(node.connect().await.ask(Method::HEAD, "/.isomer/health").await.ok(), "");
}

/// Sends a request with the header `traceparent` set to `sent`. Returns the `traceparent` of the request that the guest
/// then sends to `upstream`.
async fn traced(node: &TestNode, upstream: &mut crate::harness::upstream::Upstream, sent: Option<&str>) -> String {
    let mut connection = node.connect().await;
    let mut request = connection.request(Method::GET, &format!("/?url=http://{}/", upstream.address));
    if let Some(sent) = sent {
        request = request.header("traceparent", sent);
    }
    let response = connection.exchange(request.body(whole("")).expect("a valid request")).await;
    assert_eq!(response.ok(), "upstream\n");
    let head = upstream.seen().await;
    head.headers["traceparent"].to_str().expect("a trace is text").to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trace_is_continued_or_started() {
    for guest in ["fetch-probe", "fetch-probe-p2"] {
        let mut upstream = crate::harness::upstream::Upstream::start().await;
        let node = start(&one(guest, &format!("grants.http = [\"{}\"]", upstream.address))).await;
        let trace = "0af7651916cd43dd8448eb211c80319c";
        let sent = format!("00-{trace}-b7ad6b7169203331-01");
        let continued = traced(&node, &mut upstream, Some(&sent)).await;
        // The client is not trusted, so its sampled flag is not passed on.
        assert!(continued.starts_with(&format!("00-{trace}-")) && continued.ends_with("-00"), "{continued}");
        assert_ne!(continued, sent, "the parent is the node's own");
        let new_trace = traced(&node, &mut upstream, None).await;
        assert!(new_trace.len() == 55 && new_trace.starts_with("00-") && !new_trace.contains(trace), "{new_trace}");
        let other = traced(&node, &mut upstream, Some("nonsense")).await;
        assert!(other.len() == 55 && other[3..35] != new_trace[3..35], "{other}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pipelined_requests_are_answered_in_order() {
    let node = start(&one("http-stream", "")).await;
    let mut raw = node.connect_raw().await;
    let request = |text: &str| {
        let length = text.len();
        format!("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n{text}")
    };
    let bodies = ["first", "second!", "third!!", "fourth"];
    raw.write(bodies.map(request).concat()).await;
    for body in bodies {
        let head = raw.read_to("\r\n\r\n").await;
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
        assert_eq!(raw.read_to(body).await, body);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn http_1_0_responses_end_with_the_connection() {
    let node = start(&one("http-hello", "")).await;
    let mut raw = node.connect_raw().await;
    raw.write("GET / HTTP/1.0\r\nHost: a\r\n\r\n").await;
    let response = raw.read_all().await;
    assert!(response.starts_with("HTTP/1.0 200 ") && response.ends_with("\r\n\r\nhello from WASI 0.3\n"), "{response}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_request_is_in_the_access_log() {
    let node = start(&one("http-hello", "")).await;
    node.get("/a?b=c").await;
    let event = node.event("access", |event| event["target"] == "/a?b=c").await;
    assert_eq!(event["method"], "GET");
    assert_eq!(event["status"], 200);
    assert_eq!(event["component"], "http-hello");
    assert_eq!(event["body_bytes"], "hello from WASI 0.3\n".len());
    assert!(event["took_ms"].as_f64().is_some_and(|ms| ms > 0.0), "{event}");
}
