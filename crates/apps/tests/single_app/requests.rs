//! Tests of how the front door changes requests before a guest gets them: their target, scheme, client address, and
//! transfer coding.

use std::net::SocketAddr;
use std::sync::Arc;

use ::http::Method;
use arc_swap::ArcSwap;
use isomer_apps::AppFront;
use isomer_front::{IpNetwork, Limits, Proxies, bind};
use isomer_observe::{Format, Log};

use crate::harness::body::whole;
use crate::harness::front::{TestFront, site};
use crate::harness::log::MemoryLog;
use crate::harness::raw::RawConnection;
use crate::harness::{one, start};

/// Starts a front door that serves `guest` and trusts the proxies with the addresses `trusted`.
async fn behind(guest: &str, trusted: &[&str]) -> (tempfile::TempDir, TestFront) {
    let (kept, site) = site(&one(guest, "")).await;
    let network = |text: &&str| IpNetwork { address: text.parse().expect("an address"), prefix: 32 };
    let proxies = Proxies { trusted: trusted.iter().map(network).collect(), proxy_protocol: false };
    let log = Log::start(MemoryLog::default(), Format::Json, true).expect("the log starts");
    let listener = bind(SocketAddr::from(([127, 0, 0, 1], 0))).await.expect("port 0 is always free");
    let front = AppFront::new(Limits::default(), Arc::new(ArcSwap::new(site)), log).with_proxies(proxies);
    (kept, TestFront::serve(front.with_listener(listener, None).expect("the socket listens")))
}

/// Sends the bytes `request`, after which the server must close the connection. Returns the complete response.
async fn response(mut raw: RawConnection, request: &str) -> String {
    raw.write(request).await;
    raw.read_all().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_without_a_path_means_the_root() {
    for guest in ["http-head", "http-head-p2"] {
        let node = start(&one(guest, "")).await;
        for (target, seen) in [
            ("http://shop.example?q=1", "/?q=1"),
            ("http://shop.example:80?a=/b?c", "/?a=/b?c"),
            ("http://shop.example", "/"),
            ("http://shop.example/", "/"),
            ("/?q=1", "/?q=1"),
        ] {
            let request = format!("GET {target} HTTP/1.1\r\nHost: shop.example\r\nConnection: close\r\n\r\n");
            let response = response(node.connect_raw().await, &request).await;
            assert!(response.contains(&format!(" {seen} host=")), "{guest} {target}: {response}");
        }
        node.event("access", |event| event["target"] == "/?a=/b?c").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn https_needs_a_secure_connection() {
    let (_kept, front) = behind("http-head", &[]).await;
    let ask = |target: &str| format!("GET {target} HTTP/1.1\r\nHost: shop.example\r\nConnection: close\r\n\r\n");
    for (target, status) in [
        ("https://shop.example/", 421),
        ("HTTPS://shop.example?q", 421),
        ("ftp://shop.example/", 400),
        ("http://shop.example/", 200),
        ("HTTP://shop.example/", 200),
    ] {
        let response = response(front.connect_raw().await, &ask(target)).await;
        assert!(response.starts_with(&format!("HTTP/1.1 {status} ")), "{target}: {response}");
    }
    let https = || ::http::Request::builder().uri("https://shop.example/").body(whole("")).expect("a valid request");
    front.connect_http2().await.exchange(https()).await.problem(421);
    // A trusted proxy reports that its client has used TLS.
    let (_kept, front) = behind("http-head", &["127.0.0.1"]).await;
    let received = response(front.connect_raw().await, &ask("https://shop.example/")).await;
    assert!(received.contains("\r\nhttps shop.example / host="), "{received}");
    assert!(front.connect_http2().await.exchange(https()).await.ok().starts_with("https "));
    let proto = "GET / HTTP/1.1\r\nHost: shop.example\r\nX-Forwarded-Proto: https\r\nConnection: close\r\n\r\n";
    let received = response(front.connect_raw().await, proto).await;
    assert!(received.contains("\r\nhttps shop.example / host="), "{received}");
}

#[tokio::test(flavor = "multi_thread")]
async fn http_1_0_needs_no_host() {
    for guest in ["http-answer-p2", "http-head"] {
        let node = start(&one(guest, "")).await;
        for request in ["GET /authority HTTP/1.0\r\n\r\n", "HEAD /authority HTTP/1.0\r\n\r\n"] {
            let response = response(node.connect_raw().await, request).await;
            assert!(response.starts_with("HTTP/1.0 200 "), "{guest} {request:?}: {response}");
            // A request without a host name is for the address that its client has connected to.
            let is_head = request.starts_with("HEAD");
            assert!(is_head || response.contains(&node.address.to_string()), "{guest}: {response}");
        }
        for request in ["GET / HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n", "GET / HTTP/1.0\r\nHost: a b\r\n\r\n"] {
            let response = response(node.connect_raw().await, request).await;
            assert!(response.starts_with("HTTP/1.0 400 "), "{request:?}: {response}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn equivalent_paths_have_the_same_route() {
    let lines = "[components.http-head]\nwasm = \"http-head\"\nroutes = [\"/caf%c3%a9\", \"/~user/...\", \"/a%2Fb\"]\n";
    let node = start(lines).await;
    let mut connection = node.connect().await;
    for target in ["/caf%C3%A9", "/caf%c3%a9", "/c%61f%C3%a9?q=%7e", "/%7euser/x", "/~user", "/~%75ser/%2e", "/a%2fb"] {
        let response = connection.get(target).await;
        // The guest gets the target exactly as the client has sent it.
        assert!(response.ok().contains(&format!(" {target} host=")), "{target}: {}", response.text());
    }
    for target in ["/cafe", "/a/b", "/%2Fuser", "/caf%25C3%25A9", "/CAF%C3%A9"] {
        connection.get(target).await.problem(404);
    }
    assert_eq!(connection.get("/%2eisomer/h%65alth").await.ok(), "ok\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unread_body_closes_the_connection() {
    let node = start(&one("http-hello", "")).await;
    let waits = |target: &str| {
        format!("POST {target} HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-Continue\r\n\r\n")
    };
    let received = response(node.connect_raw().await, &waits("/")).await;
    assert!(received.starts_with("HTTP/1.1 200 OK\r\n") && received.contains("connection: close\r\n"), "{received}");
    let none = start("[components.http-hello]\nwasm = \"http-hello\"\nroutes = [\"/hello\"]\n").await;
    let received = response(none.connect_raw().await, &waits("/")).await;
    assert!(received.starts_with("HTTP/1.1 404 ") && received.contains("connection: close\r\n"), "{received}");
    // The guest gets the complete body, and the connection can be used for the next request.
    let node = start(&one("http-stream", "")).await;
    let mut raw = node.connect_raw().await;
    for _ in 0..2 {
        raw.write(waits("/sum")).await;
        assert_eq!(raw.read_to("\r\n\r\n").await, "HTTP/1.1 100 Continue\r\n\r\n");
        raw.write("\u{1}\u{2}\u{3}\u{4}\u{5}").await;
        let head = raw.read_to("\r\n\r\n").await;
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n") && !head.contains("close"), "{head}");
        raw.read_to("0\r\n\r\n").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn unsupported_transfer_codings_are_refused() {
    let node = start(&one("http-stream", "")).await;
    for (lines, status) in [
        ("Transfer-Encoding: gzip, chunked", 501),
        ("Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked", 501),
        ("Transfer-Encoding: chunked, chunked", 501),
        ("Transfer-Encoding: identity, chunked", 501),
        ("Transfer-Encoding: Chunked", 200),
    ] {
        let request =
            format!("POST /echo HTTP/1.1\r\nHost: a\r\n{lines}\r\nConnection: close\r\n\r\n2\r\nhi\r\n0\r\n\r\n");
        let received = response(node.connect_raw().await, &request).await;
        assert!(received.starts_with(&format!("HTTP/1.1 {status} ")), "{lines}: {received}");
        assert!(status == 200 || received.contains("connection: close\r\n"), "{lines}: {received}");
    }
}

/// Sends a request with the given header fields. Returns the header fields about the request's origin that the guest
/// sees.
async fn seen(front: &TestFront, fields: &[(&str, &str)], http2: bool) -> Vec<String> {
    let mut connection = if http2 { front.connect_http2().await } else { front.connect_http1().await };
    let mut request = connection.request(Method::GET, "/fields");
    for (name, value) in fields {
        request = request.header(*name, *value);
    }
    let response = connection.exchange(request.body(whole("")).expect("a valid request")).await;
    let is_about = |line: &&str| line.starts_with("forwarded") || line.starts_with("x-");
    let mut lines: Vec<_> = response.ok().lines().filter(is_about).map(str::to_owned).collect();
    lines.sort();
    lines
}

#[tokio::test(flavor = "multi_thread")]
async fn forwarding_headers_of_clients_are_not_trusted() {
    let own = [
        ("X-Forwarded-For", "192.0.2.1"),
        ("x-forwarded-proto", "https"),
        ("x-forwarded-host", "bank.example"),
        ("x-forwarded-port", "443"),
        ("x-real-ip", "192.0.2.1"),
        ("forwarded", "for=192.0.2.1;proto=https"),
        ("x-own", "stays"),
    ];
    let (_kept, front) = behind("http-answer", &["127.0.0.9"]).await;
    let host = front.address;
    let direct = [
        format!("forwarded: for=127.0.0.1;host=\"{host}\";proto=http"),
        "x-forwarded-for: 127.0.0.1".to_owned(),
        format!("x-forwarded-host: {host}"),
        "x-forwarded-proto: http".to_owned(),
        "x-own: stays".to_owned(),
    ];
    for http2 in [false, true] {
        assert_eq!(seen(&front, &own, http2).await, direct);
        assert_eq!(seen(&front, &[], http2).await, direct[..4]);
    }
    let (_kept, front) = behind("http-answer", &["127.0.0.1"]).await;
    let through = [
        "forwarded: for=192.0.2.1;host=\"bank.example\";proto=https",
        "x-forwarded-for: 192.0.2.1",
        "x-forwarded-host: bank.example",
        "x-forwarded-port: 443",
        "x-forwarded-proto: https",
        "x-own: stays",
        "x-real-ip: 192.0.2.1",
    ];
    for http2 in [false, true] {
        assert_eq!(seen(&front, &own, http2).await, through);
        // The client's address is the last untrusted one. Earlier entries are ignored, because the client itself may
        // have added them.
        let list = seen(&front, &[("x-forwarded-for", "10.0.0.1, 192.0.2.7, 127.0.0.1")], http2).await;
        assert_eq!(list[1], "x-forwarded-for: 192.0.2.7");
    }
}
