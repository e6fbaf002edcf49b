//! Guests that fail: the response that the client gets, the log, and the effect on other requests.

use std::collections::BTreeSet;

use ::http::Method;
use http_body_util::BodyExt as _;
use serde_json::Value;

use crate::harness::body::whole;
use crate::harness::{Setup, TestNode, one, start, until, within};

/// Waits for the event `failed` of the request `id` in the log. Returns the event.
async fn failed(node: &TestNode, id: &str) -> Value {
    node.event("failed", |event| event["request"] == id).await
}

/// Checks that the call stack of the event contains the functions `names` in this order.
#[track_caller]
fn assert_frames(event: &Value, names: &[&str]) {
    let frames: Vec<_> = event["backtrace"].as_array().expect("a call stack").iter().map(Value::to_string).collect();
    let places = names.iter().map(|name| frames.iter().position(|frame| frame.contains(name)));
    let places: Vec<_> = places.map(|place| place.unwrap_or_else(|| panic!("{names:?} in {frames:#?}"))).collect();
    assert!(places.is_sorted(), "{names:?} in {frames:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trap_is_logged_with_request_id_and_call_stack() {
    let node = start(&one("http-trap", "")).await;
    for mut connection in [node.connect().await, node.connect_http2().await] {
        let response = connection.get("/trap").await;
        let id = response.problem(500);
        assert!(!response.text().contains("unreachable"), "internals are not shown: {}", response.text());
        let event = failed(&node, &id).await;
        assert_eq!(event["component"], "http-trap");
        assert!(event["reason"].as_str().is_some_and(|reason| reason.contains("unreachable")), "{event}");
        assert_frames(&event, &["inner_function", "middle_function", "outer_function"]);
        // The trap affects neither later requests over this connection nor the node.
        assert_eq!(connection.get("/").await.ok(), "ok\n");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trap_fails_only_its_own_request() {
    const EACH: usize = 100;
    let node = Setup::new(&one("http-trap", "")).options(|it| it.instances_max = Some(2 * EACH as u32)).start().await;
    let requests = (0..2 * EACH).map(|number| {
        let node = &node;
        async move {
            if number % 2 == 0 {
                assert_eq!(node.get("/").await.ok(), "ok\n");
                None
            } else {
                Some(node.get("/trap").await.problem(500))
            }
        }
    });
    let ids: BTreeSet<_> = futures::future::join_all(requests).await.into_iter().flatten().collect();
    assert_eq!(ids.len(), EACH);
    let failed = until("all failures in the log", async || {
        let events = node.events();
        let failed = events.iter().filter(|event| event["event"] == "failed");
        let failed: BTreeSet<_> = failed.map(|event| event["request"].as_str().expect("an id").to_owned()).collect();
        (failed.len() >= EACH).then_some(failed)
    });
    assert_eq!(failed.await, ids);
}

#[tokio::test(flavor = "multi_thread")]
async fn other_failures_are_distinguished_in_the_log() {
    let node = start(&one("http-trap", "")).await;
    let id = node.get("/panic").await.problem(500);
    let has_message =
        |event: &Value| event["line"].as_str().is_some_and(|line| line.contains("the guest panics on purpose"));
    let line = node.event("output", |event| event["stream"] == "stderr" && has_message(event)).await;
    assert_eq!(line["request"], id.as_str());
    assert!(!node.output("http-trap", "stderr").iter().any(|line| line.contains('\n')));
    failed(&node, &id).await;
    let id = node.get("/exit").await.problem(500);
    assert!(failed(&node, &id).await["reason"].as_str().is_some_and(|reason| reason.contains("called exit")));
    let id = node.get("/error").await.problem(500);
    let reason = failed(&node, &id).await["reason"].clone();
    assert!(reason.as_str().is_some_and(|reason| reason.contains("the guest fails on purpose")), "{reason}");
    assert_eq!(node.get("/").await.ok(), "ok\n");
}

/// Checks that a response has status 200 and is cut off.
async fn assert_cut_off(node: &TestNode, target: &str) {
    for http2 in [false, true] {
        let mut connection = if http2 { node.connect_http2().await } else { node.connect().await };
        let request = connection.request(Method::GET, target).body(whole("")).expect("a valid request");
        let response = match within("a response", connection.try_send(request)).await {
            Ok(response) => response,
            // A reset of an HTTP/2 stream discards everything that was not sent yet, which may include the head of the
            // response.
            Err(_) if http2 => continue,
            Err(error) => panic!("the head and the first bytes are not sent: {error}"),
        };
        assert_eq!(response.status(), 200);
        let mut body = response.into_body();
        let mut read = Vec::new();
        let broken = within("the body's end", async {
            while let Some(frame) = body.frame().await {
                match frame {
                    Ok(frame) => read.extend(frame.into_data().expect("no trailers")),
                    Err(_) => return true,
                }
            }
            false
        });
        assert!(broken.await, "the body was not cut off: {:?}", String::from_utf8_lossy(&read));
        if !http2 {
            assert_eq!(String::from_utf8_lossy(&read), "first bytes\n");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_response_that_fails_midway_is_not_complete() {
    for lines in ["", "concurrency = 4"] {
        let node = start(&one("http-trap", lines)).await;
        for _ in 0..5 {
            assert_cut_off(&node, "/late").await;
        }
        let event = node.event("failed", |event| event["response_cut_off"] == true).await;
        assert_frames(&event, &["inner_function"]);
        midway_at_the_deadline(lines).await;
    }
}

async fn midway_at_the_deadline(lines: &str) {
    let node = start(&one("http-loop", &format!("limits.request_deadline = \"300ms\"\n{lines}"))).await;
    assert_cut_off(&node, "/late").await;
    let event = node.event("failed", |event| event["response_cut_off"] == true).await;
    assert!(event["reason"].as_str().is_some_and(|reason| reason.contains("within the deadline of 300 ms")), "{event}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_ends_at_its_deadline() {
    for lines in ["", "concurrency = 4"] {
        let node = start(&one("http-loop", &format!("limits.request_deadline = \"300ms\"\n{lines}"))).await;
        for target in ["/loop", "/nested", "/sleep"] {
            let response = node.get(target).await;
            let id = response.problem(504);
            let event = failed(&node, &id).await;
            assert!(event["reason"].as_str().is_some_and(|reason| reason.contains("deadline of 300 ms")), "{event}");
            // The log has a call stack only if the instance handles a single request: an instance that handles several
            // requests is stopped between two polls.
            if target == "/nested" && lines.is_empty() {
                assert_frames(&event, &["nested"]);
            }
            let access = node.event("access", |event| event["request"] == id.as_str()).await;
            let late_ms = access["took_ms"].as_f64().expect("a number") - 300.0;
            // On an idle machine, the value is about 10 ms. This test does not measure speed, so the limit is generous.
            assert!((0.0..2000.0).contains(&late_ms), "{target} ended {late_ms} ms after its deadline");
        }
        assert_eq!(node.get("/").await.ok(), "ok\n");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_has_an_exact_limit() {
    const PAGE: u64 = 64 << 10;
    // The limit is 4 MiB plus half a page (32 KiB). The tables of a small component fit into the half page, but another
    // page does not fit.
    let setup = Setup::new(&one("memory-hog", "limits.memory = \"4128KiB\""));
    let node = setup.options(|options| options.requests_per_instance_max = Some(1)).start().await;
    let before = number(node.get("/").await.ok(), "size=");
    for bytes in [0, PAGE, 10 * PAGE] {
        let response = node.get(&format!("/grow?bytes={bytes}")).await;
        assert_eq!(number(response.ok(), "grown="), bytes);
        assert_eq!(number(response.ok(), "size="), before + bytes);
    }
    let response = node.get("/grow").await;
    assert_eq!(number(response.ok(), "size="), 4 << 20);
    assert_eq!(number(response.ok(), "grown="), (4 << 20) - before);
    // A new instance can use the whole limit again.
    assert_eq!(number(node.get("/").await.ok(), "size="), before);
    node.get("/allocate?bytes=1000000").await.ok();
    let id = node.get("/allocate?bytes=8000000").await.problem(500);
    let reason = failed(&node, &id).await["reason"].clone();
    let limit = "out of memory at its limit of 4.0 MiB";
    assert!(reason.as_str().is_some_and(|reason| reason.contains(limit)), "{reason}");
}

/// Returns the number after `key` in the text `grown=N size=N`.
fn number(text: &str, key: &str) -> u64 {
    let value = text.split_whitespace().find_map(|part| part.strip_prefix(key));
    value.and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("{key} in {text}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stack_that_is_used_up_is_a_trap() {
    let node = start(&one("deep-recursion", "")).await;
    assert_eq!(node.get("/depth?n=1000").await.ok(), "depth=1000\n");
    for _ in 0..3 {
        let id = node.get("/endless").await.problem(500);
        let event = failed(&node, &id).await;
        assert!(event["reason"].as_str().is_some_and(|reason| reason.contains("stack exhausted")), "{event}");
        assert_frames(&event, &["recurse"]);
    }
    assert_eq!(node.get("/depth?n=1000").await.ok(), "depth=1000\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn long_output_is_split_and_losses_are_reported() {
    let node = start(&one("output-flood", "")).await;
    node.get("/text?line=both+streams").await.ok();
    node.event("output", |event| event["line"] == "both streams" && event["stream"] == "stdout").await;
    node.event("output", |event| event["line"] == "both streams" && event["stream"] == "stderr").await;
    // The guest writes one long line without a newline.
    assert_eq!(node.get("/stderr?bytes=1000000").await.ok(), "wrote=1000000\n");
    let pieces = until("all of the line", async || {
        let lines = node.output("output-flood", "stderr");
        (lines.iter().map(String::len).sum::<usize>() >= 1_000_000).then_some(lines)
    })
    .await;
    assert!(pieces.iter().all(|line| line.len() <= 8 << 10));
    // The guest writes lines faster than the log can. Each line must be in the log or counted as dropped.
    const LINES: u64 = 200_000;
    assert_eq!(node.get(&format!("/stdout?bytes={}&line=9", LINES * 10)).await.status, 200);
    until("an account of every line", async || {
        let events = node.events();
        let written = events.iter().filter(|event| event["stream"] == "stdout" && event["line"] == "xxxxxxxxx").count();
        let dropped = events.iter().filter_map(|event| dropped_lines(event["text"].as_str()?));
        let accesses = events.iter().filter(|event| event["event"] == "access").count();
        // Each of the three requests also adds a line to the access log, which is written or counted as dropped.
        let accounted = written as u64 + dropped.sum::<u64>() + accesses as u64;
        (accounted == LINES + 3).then_some(())
    })
    .await;
}

/// Returns the number of dropped lines that a line of the log states.
fn dropped_lines(text: &str) -> Option<u64> {
    let (number, of) = text.strip_prefix("dropped ")?.split_once(' ')?;
    of.contains(" of the log: ").then(|| number.parse().expect("a number"))
}
