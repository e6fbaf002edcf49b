//! Tests of which instance handles a request: a reused, new, replaced or shared one, or none if all are busy.

use std::collections::BTreeSet;

use ::http::Method;
use bytes::Bytes;
use futures::future::join_all;

use crate::harness::body::pieces;
use crate::harness::{Setup, TestNode, one, until};
use crate::wat_components;

/// Starts a node with `instances` instances. Each instance handles at most `requests` requests.
async fn node(manifest: &str, instances: u32, requests: Option<u32>) -> TestNode {
    let options = |it: &mut isomer_apps::TenancyOptions| {
        (it.instances_max, it.requests_per_instance_max) = (Some(instances), requests);
    };
    Setup::new(manifest).options(options).start().await
}

/// Sends requests to the counter, one after another. Returns the instance and the count of each response.
async fn counts(node: &TestNode, requests: usize) -> Vec<(String, u64)> {
    let mut connection = node.connect().await;
    let mut counts = Vec::new();
    for _ in 0..requests {
        let response = connection.get("/").await;
        let (instance, count) = response.ok().trim_end().split_once(" count=").expect("the response of the counter");
        counts.push((instance.to_owned(), count.parse().expect("a number")));
    }
    counts
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_is_reused() {
    let node = node(&one("counter", ""), 1, None).await;
    let counts = counts(&node, 20).await;
    for (number, (instance, count)) in counts.iter().enumerate() {
        assert_eq!((instance, *count), (&counts[0].0, number as u64 + 1));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_request_can_have_a_new_instance() {
    // There is only one slot, so an instance must have ended before the next request gets a new instance.
    for lines in ["reuse = false", "reuse = false\nconcurrency = 3"] {
        let node = node(&one("counter", lines), 1, None).await;
        let counts = counts(&node, 20).await;
        assert!(counts.iter().all(|(_, count)| *count == 1), "{counts:?}");
        let instances: BTreeSet<_> = counts.iter().map(|(instance, _)| instance).collect();
        assert_eq!(instances.len(), 20);
    }
}

/// Returns a WASI 0.2 handler that responds with status 200 plus the number of earlier requests of its instance. If the
/// expression `silent` is true, the handler does not respond.
fn counter2(silent: &str) -> Vec<u8> {
    let body = format!(
        "(local.set $status (i32.add (i32.const 200) (global.get $served)))
        (global.set $served (i32.add (global.get $served) (i32.const 1)))
        (if {silent} (then (return)))"
    );
    wat_components::handler("(global $served (mut i32) (i32.const 0))", &body)
}

/// Sends requests one after another and returns the statuses of the responses.
async fn statuses(node: &TestNode, requests: usize) -> Vec<u16> {
    let mut connection = node.connect().await;
    let mut statuses = Vec::new();
    for _ in 0..requests {
        statuses.push(connection.get("/").await.status.as_u16());
    }
    statuses
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wasi_0_2_handler_gets_new_instances_by_default() {
    for (lines, expected) in [
        ("", [200, 200, 200, 200]),
        ("reuse = false", [200, 200, 200, 200]),
        ("reuse = true", [200, 201, 202, 203]),
        ("reuse = 2", [200, 201, 200, 201]),
    ] {
        let node = Setup::new(&one("written", lines)).component("written", counter2("(i32.const 0)")).start().await;
        assert_eq!(statuses(&node, 4).await, expected, "{lines}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_without_a_response_is_not_reused() {
    // The guest behaves like a language runtime that handles one request and cannot respond to a second one.
    let silent = counter2("(i32.gt_u (global.get $served) (i32.const 1))");
    let node = Setup::new(&one("written", "reuse = true")).component("written", silent.clone()).start().await;
    assert_eq!(statuses(&node, 4).await, [200, 500, 200, 500]);
    // With the default settings, every request gets a response.
    let node = Setup::new(&one("written", "")).component("written", silent).start().await;
    assert_eq!(statuses(&node, 4).await, [200; 4]);
}

#[tokio::test(flavor = "multi_thread")]
async fn forgotten_handles_do_not_fail_requests() {
    // Each request leaks 90 handles. An instance may have 2,000.
    let leaks = "(loop $again
            (drop (call $fields))
            (local.set $number (i32.add (local.get $number) (i32.const 1)))
            (br_if $again (i32.lt_u (local.get $number) (i32.const 90))))";
    let leaks = wat_components::handler("", leaks);
    let written = Setup::new(&one("written", "reuse = true")).component("written", leaks).start().await;
    assert_eq!(statuses(&written, 50).await, [200; 50]);
    for lines in ["", "concurrency = 3"] {
        let node = node(&one("http-trap", lines), 1, None).await;
        for leak in ["fields=90", "streams=400"] {
            let mut connection = node.connect().await;
            let mut served = Vec::new();
            for _ in 0..50 {
                served.push(
                    connection.get(&format!("/leak?{leak}")).await.ok().trim_end().parse::<u32>().expect("a number"),
                );
            }
            let most = served.iter().max().expect("at least one response");
            assert!((5..40).contains(most), "{lines}, {leak}: an instance served {most} requests, of {served:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_is_replaced_after_its_last_request() {
    for lines in ["reuse = 5", "reuse = 5\nconcurrency = 3"] {
        let node = node(&one("counter", lines), 1, None).await;
        let counts = counts(&node, 15).await;
        let numbers: Vec<_> = counts.iter().map(|(_, count)| *count).collect();
        assert_eq!(numbers, [1, 2, 3, 4, 5, 1, 2, 3, 4, 5, 1, 2, 3, 4, 5], "{lines}");
        let instances: BTreeSet<_> = counts.iter().map(|(instance, _)| instance).collect();
        assert_eq!(instances.len(), 3);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_serves_one_request_at_a_time_by_default() {
    const AT_ONCE: usize = 8;
    for (lines, allowed) in [("", 1), ("concurrency = 4", 4)] {
        let node = node(&one("sleeper", lines), AT_ONCE as u32, None).await;
        // The number of requests that overlap depends on timing. It must reach the allowed number, and never exceed it.
        until("as many at once as are allowed", async || {
            let responses = join_all((0..AT_ONCE).map(|_| node.get("/?ms=50"))).await;
            let together = responses.iter().map(|response| {
                let (_, together) =
                    response.ok().trim_end().split_once("together=").expect("the response of the sleeper");
                together.parse::<usize>().expect("a number")
            });
            let most = together.max().expect("some responses");
            assert!(most <= allowed, "{most} requests at once, but only {allowed} are allowed");
            (most == allowed).then_some(())
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trap_fails_only_requests_of_the_same_instance() {
    let node = node(&one("http-trap", "concurrency = 4"), 2, None).await;
    let asleep = async |count: usize| {
        until("requests inside the guest", async || (node.output("http-trap", "stdout").len() == count).then_some(()))
            .await;
    };
    // Three sleeping requests and the request that traps use the first instance, whose concurrency is 4.
    let mut lost = Vec::new();
    for number in 1..=3 {
        let request = node.get("/sleep?ms=3600000");
        let mut request = Box::pin(request);
        tokio::select! {
            response = &mut request => panic!("{response:?}"),
            () = asleep(number) => {}
        }
        lost.push(request);
    }
    let id = node.get("/trap").await.problem(500);
    node.event("failed", |event| event["request"] == id.as_str()).await;
    for response in join_all(lost).await {
        assert!(response.status == 500 || response.status == 503, "{response:?}");
        response.problem(response.status.as_u16());
    }
    assert_eq!(node.get("/").await.ok(), "ok\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn busy_instances_queue_a_few_requests_and_refuse_the_rest() {
    for lines in ["", "concurrency = 2"] {
        let places = if lines.is_empty() { 1 } else { 2 };
        let node = node(&one("http-stream", lines), 1, None).await;
        let mut held = Vec::new();
        for _ in 0..places {
            let mut connection = node.connect().await;
            let (sender, body) = pieces();
            sender.send(Ok(Bytes::from_static(b"started"))).await.expect("the body is still read");
            let request = connection.request(Method::POST, "/echo").body(body).expect("a valid request");
            held.push((connection.send(request).await, connection, sender));
        }
        // The running requests use all of the concurrency of the only instance. A few of the further requests may wait
        // for a limited time; in the end, all further requests are refused.
        for refused in join_all((0..places + 3).map(|_| node.get("/drip?chunks=1"))).await {
            let id = refused.problem(503);
            assert_eq!(refused.header("retry-after"), "1");
            let event = node.event("failed", |event| event["request"] == id.as_str()).await;
            assert!(event["reason"].as_str().is_some_and(|reason| reason.contains("busy")), "{event}");
        }
        drop(held);
        until("a free instance", async || (node.get("/drip?chunks=1").await.status == 200).then_some(())).await;
    }
}
