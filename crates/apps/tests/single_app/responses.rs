//! Tests of how the front door handles guests' responses: responses without content, interrupted responses, event
//! streams, and compressed responses.

use std::io::Read as _;

use ::http::{Method, Response};
use futures::future::join_all;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;

use crate::harness::body::whole;
use crate::harness::client::{Connection, TestResponse};
use crate::harness::{TestNode, one, start, within};

#[tokio::test(flavor = "multi_thread")]
async fn responses_without_content_have_no_body() {
    for guest in ["http-answer", "http-answer-p2"] {
        let node = start(&one(guest, "")).await;
        for mut connection in [node.connect().await, node.connect_http2().await] {
            let targets: &[(u16, &str)] = match guest {
                "http-answer" => &[
                    (204, "/?status=204&body=xyz"),
                    (204, "/?status=204&body=xyz&fields=content-length:3"),
                    (205, "/?status=205&body=xyz"),
                    (304, "/?status=304&body=xyz&fields=content-length:3|etag:%22a%22"),
                ],
                _ => &[(204, "/none")],
            };
            for (status, target) in targets {
                for method in [Method::GET, Method::HEAD] {
                    // All requests use the same connection, so that remaining bytes of one response would be read as
                    // the next response.
                    let response = connection.ask(method, target).await;
                    assert_eq!((response.status.as_u16(), response.text()), (*status, ""), "{target}");
                    let length = if *status == 205 { "0" } else { "" };
                    assert_eq!(response.header("content-length"), length, "{target}");
                    assert_eq!(response.header("transfer-encoding"), "", "{target}");
                }
            }
        }
    }
}

/// Checks that a response is cut off. Over HTTP/2, even its head may be lost by the reset of the stream.
async fn assert_cut_off(mut connection: Connection, target: &str) {
    let request = connection.request(Method::GET, target).header("accept-encoding", "gzip");
    let request = request.body(whole("")).expect("a valid request");
    let Ok(response) = within("a response", connection.try_send(request)).await else { return };
    assert_eq!(response.status(), 200, "{target}");
    let rest = within("the end", response.into_body().collect()).await;
    assert!(rest.is_err(), "{target} was not cut off");
}

/// Checks that the access log and the app's log report that the response to `target` was cut off, with the reason
/// `why`.
async fn assert_cut_off_is_logged(node: &TestNode, target: &str, why: &str) {
    let access = node.event("access", |event| event["target"] == target).await;
    let reason = access["cut_off"].as_str().unwrap_or_else(|| panic!("{access}"));
    assert!(reason.contains(why), "{target}: {access}");
    let id = access["request"].clone();
    let failed = node.event("failed", |event| event["request"] == id).await;
    assert_eq!(failed["response_cut_off"], true, "{failed}");
    assert!(failed["reason"].as_str().is_some_and(|reason| reason.contains(why)), "{failed}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_aborted_response_is_logged_with_its_reason() {
    for (guest, lines, cases) in [
        ("http-answer", "", &ANSWERS[..]),
        ("http-answer", "concurrency = 4", &ANSWERS[..]),
        ("http-answer", "compress = true", &ANSWERS[2..]),
        ("http-answer-p2", "", &ANSWERS_P2[..]),
        ("http-answer-p2", "reuse = true", &ANSWERS_P2[..]),
        // With these settings, a task other than the guest's reads the body.
        ("http-answer-p2", "reuse = true\nconcurrency = 4", &ANSWERS_P2[..]),
    ] {
        let node = start(&one(guest, lines)).await;
        for (target, why) in cases {
            for (version, connection) in [node.connect().await, node.connect_http2().await].into_iter().enumerate() {
                let mark = if target.contains('?') { '&' } else { '?' };
                let target = format!("{target}{mark}v={version}");
                assert_cut_off(connection, &target).await;
                assert_cut_off_is_logged(&node, &target, why).await;
            }
        }
        // A complete response is not reported as cut off, even in an instance with an abandoned body of an earlier
        // request.
        assert_eq!(node.get("/?body=whole&fields=content-length:5").await.status, 200);
        let whole = node.event("access", |event| event["target"] == "/?body=whole&fields=content-length:5").await;
        assert!(whole["cut_off"].is_null(), "{whole}");
        assert_eq!(whole["client"], "127.0.0.1");
    }
}

/// Targets for which the WASI 0.3 guest's response is cut off, each with a part of the logged reason.
const ANSWERS: [(&str, &str); 3] = [
    ("/?body=short&fields=content-length:100", "5 of the 100 bytes of its content-length"),
    ("/?body=too+long&fields=content-length:3", "longer than its content-length of 3 bytes"),
    ("/?body=text&trailers=error&fields=content-type:text/plain", "the guest fails on purpose"),
];

/// Targets for which the WASI 0.2 guest's response is cut off, each with a part of the logged reason.
const ANSWERS_P2: [(&str, &str); 4] = [
    ("/short", "12 of the 100 bytes"),
    ("/long", "longer than its content-length"),
    ("/drop", "not finished"),
    ("/forget", "without finishing"),
];

/// Guests that send event streams, each with lines of its manifest.
const STREAMING: [(&str, &str); 5] = [
    ("http-answer", ""),
    ("http-answer", "concurrency = 4"),
    ("http-answer", "compress = true"),
    ("http-answer-p2", ""),
    ("http-answer-p2", "reuse = true"),
];

/// Returns the target for a stream of `chunks` events. There is a pause before each event except the first.
fn events(chunks: u64, pause_ms: u64) -> String {
    format!("/events?fields=content-type:text/event-stream&body=data:+x%0A%0A&chunks={chunks}&ms={pause_ms}")
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_stream_outlives_the_request_deadline() {
    let outlives = async |(guest, lines): (&str, &str)| {
        let node = start(&one(guest, &format!("limits.request_deadline = \"1s\"\n{lines}"))).await;
        let exchange = async |mut connection: Connection| {
            let request = connection.request(Method::GET, &events(30, 50)).header("accept-encoding", "gzip");
            let response = connection.exchange(request.body(whole("")).expect("a valid request")).await;
            assert_eq!(response.ok(), "data: x\n\n".repeat(30), "{guest} {lines}");
            assert_eq!(response.header("content-encoding"), "", "an event is not held back by a compressor");
        };
        join_all([node.connect().await, node.connect_http2().await].map(exchange)).await;
        // A response that is not an event stream is cut off at the deadline.
        let other = events(1_000, 50).replace("event-stream", "plain").replace("/events", "/");
        assert_cut_off(node.connect().await, &other).await;
        assert_cut_off_is_logged(&node, &other, "deadline of 1000 ms").await;
    };
    join_all(STREAMING.map(outlives)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn head_requests_do_not_hold_event_streams() {
    let head = async |(guest, lines): (&str, &str)| {
        let node = start(&one(guest, &format!("limits.request_deadline = \"1s\"\n{lines}"))).await;
        for (version, mut connection) in [node.connect().await, node.connect_http2().await].into_iter().enumerate() {
            let target = format!("{}&v={version}", events(1_000_000, 20));
            let response = connection.ask(Method::HEAD, &target).await;
            assert_eq!((response.status.as_u16(), response.text()), (200, ""), "{guest} {lines}");
            let id = node.event("access", |event| event["target"] == target.as_str()).await["request"].clone();
            // The guest writes until the request's deadline. (An instance that concurrent requests share is the
            // exception: there, the guest notices that its response is no longer read.)
            if !lines.contains("concurrency") {
                let failed = node.event("failed", |event| event["request"] == id).await;
                assert!(failed["reason"].as_str().is_some_and(|it| it.contains("deadline of 1000 ms")), "{failed}");
            }
        }
    };
    join_all(STREAMING.map(head)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_stream_ends_at_its_own_limits() {
    let ends = async |(guest, lines): (&str, &str)| {
        for (limit, target, why) in [
            ("{ idle = \"200ms\" }", events(2, 3_600_000), "`limits.stream.idle`"),
            ("\"400ms\"", events(1_000_000, 20), "`limits.stream`"),
        ] {
            let node = start(&one(guest, &format!("limits.stream = {limit}\n{lines}"))).await;
            for mut connection in [node.connect().await, node.connect_http2().await] {
                let response = connection.get(&target).await;
                assert!(response.ok().starts_with("data: x\n\n"), "{guest} {lines}: {}", response.text());
            }
            assert_cut_off_is_logged(&node, &target, why).await;
        }
    };
    join_all(STREAMING.map(ends)).await;
}

/// Decodes the body by the `content-encoding` of the response.
fn decoded(response: &TestResponse) -> String {
    let (mut text, bytes) = (String::new(), &response.body[..]);
    match response.header("content-encoding") {
        "gzip" => flate2::read::GzDecoder::new(bytes).read_to_string(&mut text).expect("gzip"),
        "zstd" => zstd::stream::read::Decoder::new(bytes).expect("zstd").read_to_string(&mut text).expect("zstd"),
        "" => return response.text().to_owned(),
        other => panic!("{other}"),
    };
    text
}

async fn ask(connection: &mut Connection, method: Method, target: &str, accepts: &str) -> Response<Incoming> {
    let request = connection.request(method, target).header("accept-encoding", accepts);
    connection.send(request.body(whole("")).expect("a valid request")).await
}

#[tokio::test(flavor = "multi_thread")]
async fn responses_are_compressed_if_manifest_and_client_allow_it() {
    let body = "the+same+lines+".repeat(100);
    let target = format!("/?fields=content-type:text/html|etag:%22v1%22&body={body}&chunks=50");
    let (target, text) = (target.as_str(), "the same lines ".repeat(100 * 50));
    let node = start(&one("http-answer", "compress = true")).await;
    for mut connection in [node.connect().await, node.connect_http2().await] {
        for (accepts, coding) in
            [("gzip, deflate, br, zstd", "zstd"), ("gzip", "gzip"), ("br", ""), ("zstd;q=0.1, gzip", "gzip")]
        {
            let response =
                TestResponse::read(ask(&mut connection, Method::GET, target, accepts).await).await.expect("a body");
            assert_eq!(response.header("content-encoding"), coding, "{accepts}");
            assert!(decoded(&response) == text, "{accepts}");
            assert_eq!(response.header("vary"), "accept-encoding");
            assert_eq!(response.header("etag"), if coding.is_empty() { "\"v1\"" } else { "W/\"v1\"" });
            assert!(coding.is_empty() || response.body.len() * 10 < text.len(), "{} bytes", response.body.len());
            // The response to HEAD has the same header fields as the response to GET.
            let head = ask(&mut connection, Method::HEAD, target, accepts).await;
            for field in ["content-encoding", "vary", "etag"] {
                assert_eq!(head.headers().get(field), response.headers.get(field), "{accepts} {field}");
            }
            assert!(coding.is_empty() || head.headers().get("content-length").is_none());
        }
        // An encoding that the guest has chosen is left unchanged.
        for fields in [
            "content-type:image/png",
            "content-type:text/html|content-encoding:br",
            "content-type:text/html|content-length:15",
        ] {
            let target = format!("/?fields={fields}&body=the+same+lines+");
            let response =
                TestResponse::read(ask(&mut connection, Method::GET, &target, "gzip").await).await.expect("a body");
            assert_eq!(response.ok(), "the same lines ", "{fields}");
        }
    }
    let plain = start(&one("http-answer", "")).await;
    let response = ask(&mut plain.connect().await, Method::GET, target, "gzip").await;
    assert!(response.headers().get("content-encoding").is_none() && response.headers().get("vary").is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_compressor_flushes_each_chunk() {
    let node = start(&one("http-answer", "compress = true")).await;
    for coding in ["gzip", "zstd"] {
        for mut connection in [node.connect().await, node.connect_http2().await] {
            // The guest would send the second part only after an hour.
            let target = "/?fields=content-type:text/plain&body=first&chunks=2&ms=3600000";
            let mut response = ask(&mut connection, Method::GET, target, coding).await;
            let mut bytes = Vec::new();
            let decoded = loop {
                let frame = within("a piece", response.body_mut().frame())
                    .await
                    .expect("another frame")
                    .expect("the response continues");
                bytes.extend_from_slice(&frame.into_data().expect("no trailers"));
                let mut text = [0; 5];
                let read = match coding {
                    "gzip" => flate2::read::GzDecoder::new(&bytes[..]).read_exact(&mut text).is_ok(),
                    _ => zstd::stream::read::Decoder::new(&bytes[..])
                        .is_ok_and(|mut it| it.read_exact(&mut text).is_ok()),
                };
                if read {
                    break text;
                }
            };
            assert_eq!(&decoded, b"first", "{coding}");
        }
    }
}
